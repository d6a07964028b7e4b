//! Tunnels: one QUIC connection to each edge of the bundle, dialled from here and kept for ever.
//!
//! ```text
//! endpoint     the one UDP socket and its transport settings
//! dial         address → QUIC → Hello → Welcome          control   the control stream's I/O
//! live         a tunnel that is up                       failure   why one is not, in sentences
//! supervisor   dial, stay, replace, dial again; one for each edge
//! ```
//!
//! Which edges there are is the bundle's word, and who is trusted is too.

mod control;
mod dial;
mod endpoint;
mod failure;
mod live;
mod supervisor;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::bundle::{EdgeAddress, SignedBundle};
use mezusphere_model::id::{EdgeId, WarpgateId};
use mezusphere_model::slug::Slug;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::CurrentIdentity;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use endpoint::Network;

use crate::bundle::{Offered, Rejected};
use crate::exchange::Gate;
use crate::output::{Event, Reporter};
use crate::routes;
use supervisor::Supervisor;

/// What all tunnels share.
pub struct Shared {
    /// Where exchanges go.
    pub gate: Arc<Gate>,
    /// The socket.
    pub network: Network,
    /// Our certificate; tunnels dialled after a renewal use the new one.
    pub identity: CurrentIdentity,
    /// Which instance this is.
    pub instance: WarpgateId,
    /// What Hello declares.
    pub upstream_names: Vec<Slug>,
    /// Grows with each renewal of the certificate.
    pub renewals: watch::Sender<u64>,
    /// Tells the time.
    pub clock: Clock,
    /// Jitter and nonces.
    pub entropy: Entropy,
    /// Where news go.
    pub reporter: Reporter,
    /// How each edge is doing.
    pub status: watch::Sender<Status>,
    /// Rung when an edge says that our key or our place is gone, so that control is asked.
    pub doubt: Notify,
}

/// How the edges are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Each edge of the bundle.
    pub edges: BTreeMap<EdgeId, EdgeState>,
}

/// How one edge is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeState {
    /// Nothing is known yet.
    Dialling,
    /// There is a tunnel.
    Connected {
        /// How long a probe took through it, once one came back.
        round_trip: Option<Duration>,
    },
    /// There is none; it is dialled again.
    Failed,
}

impl Status {
    /// Edges with a tunnel.
    pub fn connected(&self) -> usize {
        self.edges.values().filter(|state| matches!(state, EdgeState::Connected { .. })).count()
    }

    /// The quickest probe that came back.
    pub fn round_trip(&self) -> Option<Duration> {
        let trips = self.edges.values().filter_map(|state| match state {
            EdgeState::Connected { round_trip } => *round_trip,
            EdgeState::Dialling | EdgeState::Failed => None,
        });
        trips.min()
    }

    /// Whether every edge was tried, and there is no tunnel at all.
    pub fn all_failed(&self) -> bool {
        !self.edges.is_empty() && self.edges.values().all(|state| *state == EdgeState::Failed)
    }

    /// Whether no edge is left of which nothing is known.
    pub fn all_known(&self) -> bool {
        self.edges.values().all(|state| *state != EdgeState::Dialling)
    }
}

impl Shared {
    fn set_state(&self, edge: EdgeId, state: EdgeState) {
        self.status.send_modify(|status| {
            status.edges.insert(edge, state);
        });
    }

    fn forget_state(&self, edge: EdgeId) {
        self.status.send_modify(|status| {
            status.edges.remove(&edge);
        });
    }

    fn tell(&self, event: Event) {
        self.reporter.tell(event);
    }

    /// Puts a bundle in force if it is newer and control signed it, and tells what is different then.
    pub fn take_bundle(&self, signed: SignedBundle) {
        match self.gate.bundles.offer(signed) {
            Ok(Offered::Taken { before }) => {
                let now = Arc::clone(&self.gate.bundles.current());
                if let Some(event) = routes::changes(&before, &now, self.gate.declared()) {
                    self.tell(event);
                }
            }
            Ok(Offered::Known) | Err(Rejected::Older { .. }) => {}
            Err(why) => self.reporter.tell_failure("bundle", |repeats| {
                let more = if repeats == 0 { String::new() } else { format!(" ({repeats} more in 5 min)") };
                Event::Note { text: format!("a new bundle is not used, the one before stays: {why}{more}") }
            }),
        }
    }
}

/// What a supervisor is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orders {
    Stay,
    /// Finish what runs, within this time.
    Drain(Duration),
}

struct Supervised {
    address: EdgeAddress,
    orders: watch::Sender<Orders>,
}

/// Keeps a supervisor for each edge of the bundle until `stop` says for how long what runs may finish; resolves
/// when all tunnels are closed.
pub async fn keep_all(shared: Arc<Shared>, mut stop: watch::Receiver<Option<Duration>>) {
    let mut bundles = shared.gate.bundles.changes();
    if shared.gate.bundles.current().edges.is_empty() {
        let text = "the environment has no edge to connect to; waiting for one".to_owned();
        shared.tell(Event::Note { text });
    }
    let mut running: HashMap<EdgeId, Supervised> = HashMap::new();
    let mut tasks = JoinSet::new();
    let grace = loop {
        bundles.mark_unchanged();
        follow_bundle(&shared, &mut running, &mut tasks);
        tokio::select! {
            stopped = stop.wait_for(Option::is_some) => {
                break stopped.ok().and_then(|grace| *grace).unwrap_or_default();
            }
            Ok(()) = bundles.changed() => {}
            Some(_) = tasks.join_next() => {}
        }
    };
    for supervised in running.values() {
        supervised.orders.send_replace(Orders::Drain(grace));
    }
    while tasks.join_next().await.is_some() {}
}

/// Starts supervisors for new edges and dismisses those of edges that left the bundle.
fn follow_bundle(shared: &Arc<Shared>, running: &mut HashMap<EdgeId, Supervised>, tasks: &mut JoinSet<()>) {
    let trusted = Arc::clone(&shared.gate.bundles.current());
    running.retain(|id, supervised| {
        let stays = trusted.edges.iter().any(|edge| edge.id == *id && *edge == supervised.address);
        if !stays {
            let event = Event::EdgeLeft {
                edge: id.to_string(),
                name: supervised.address.name.clone(),
                message: "the edge left the environment, or moved".to_owned(),
            };
            shared.tell(event);
            // An evicted edge is closed by its tunnel, which judges it by the same bundle.
            supervised.orders.send_replace(Orders::Drain(crate::limits::DRAIN_GRACE));
        }
        stays
    });
    for edge in &trusted.edges {
        running.entry(edge.id).or_insert_with(|| {
            let (orders, taken) = watch::channel(Orders::Stay);
            shared.set_state(edge.id, EdgeState::Dialling);
            tasks.spawn(Supervisor::new(Arc::clone(shared), edge.clone(), taken).run());
            Supervised { address: edge.clone(), orders }
        });
    }
}
