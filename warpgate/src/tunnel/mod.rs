//! Tunnels: one connection to each edge of the bundle, dialled from here and kept for ever; over QUIC where that works, over
//! TCP where it does not.
//!
//! ```text
//! edges        follows the bundle's list: starts and dismisses supervisors
//! supervisor   dial, stay, replace, dial again; one for each edge
//! race         QUIC or TCP, and what was learnt for the next time
//! quic, tcp    the way to an edge over each       proxy, proxied   which HTTP proxy, and how it is spoken to
//! dial         Hello → Welcome → proof            control          the control stream's I/O
//! live         a tunnel that is up                probe            when it is to be proven again
//! connection   QUIC or HTTP/2                     stream, http2    their streams, alike for exchanges
//! turns        who writes when over TCP
//! upstreams    which there are and how they do, as each edge is told
//! failure      why there is no tunnel, in sentences
//! again        when an edge is dialled again      status           how the edges are doing
//! endpoint     the one UDP socket and its transport settings
//! ```
//!
//! Which edges there are is the bundle's word, and who is trusted is too.

mod again;
mod connection;
mod control;
mod dial;
mod edges;
mod endpoint;
mod failure;
mod http2;
mod live;
mod probe;
pub(crate) mod proxied;
mod proxy;
mod quic;
mod race;
mod status;
mod stream;
mod supervisor;
pub(crate) mod tcp;
mod transport;
mod turns;
mod upstreams;

use std::sync::Arc;

use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EdgeId, WarpgateId};
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::{CurrentIdentity, NodeIdentity, Role};
use tokio::sync::watch;

pub use again::{Doubt, Doubts};
pub use edges::keep_all;
pub use endpoint::{Air, Network};
pub(crate) use proxy::Proxy;
pub use proxy::{ProxyError, ProxySettings};
pub use status::{Connected, EdgeState, Status};
pub(crate) use stream::{RecvEnd, RecvHalf, SendEnd, SendHalf};
pub use transport::Transport;

use crate::bundle::{Offered, Rejected};
use crate::exchange::Gate;
use crate::output::{Event, Reporter};
use crate::routes;

/// What all tunnels share.
pub struct Shared {
    /// Where exchanges go.
    pub gate: Arc<Gate>,
    /// The socket.
    pub network: Network,
    /// Our certificate; tunnels dialled after a renewal use the new one.
    pub identity: CurrentIdentity,
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
    /// What edges say that only control can settle.
    pub doubts: Doubts,
}

impl Shared {
    /// Which instance we are, as our certificate says.
    pub fn instance(&self) -> Option<WarpgateId> {
        match self.identity.get().name().role {
            Role::Warpgate { id, .. } => Some(id),
            Role::Edge(_) | Role::Control(_) => None,
        }
    }

    /// Uses this certificate from now on: every edge is dialled again with it.
    pub fn renewed(&self, identity: NodeIdentity) {
        self.identity.replace(identity);
        self.status.send_modify(Status::start_over);
        self.renewals.send_modify(|count| *count += 1);
    }

    fn set_state(&self, edge: EdgeId, state: EdgeState) {
        self.status.send_modify(|status| {
            status.edges.insert(edge, state);
        });
    }

    fn note(&self, edge: EdgeId, change: impl FnOnce(&mut Connected)) {
        self.status.send_if_modified(|status| match status.edges.get_mut(&edge) {
            Some(EdgeState::Connected(tunnel)) => {
                change(tunnel);
                true
            }
            _ => false,
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
                if let Some(event) = routes::changes(&before, &now, &self.gate.declared()) {
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
