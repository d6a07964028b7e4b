//! Who is connected: every authenticated connection with its edge and its end. The port looks at all of them several times
//! a second, so that eviction, the end of a certificate and that of the CA behind it close what is open (R20).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mezusphere_model::clock::{Clock, Timestamp};
use mezusphere_model::id::EdgeId;
use mezusphere_pki::{CurrentTrust, Peer};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::ConnectedEdge;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Link,
    Splice,
}

struct Live {
    edge: EdgeId,
    peer: Peer,
    kind: Kind,
    remote: SocketAddr,
    ends_at: Timestamp,
    dead: CancellationToken,
}

#[derive(Default)]
struct Table {
    next: u64,
    live: BTreeMap<u64, Live>,
    /// Since when an edge has had a link without a gap.
    since: BTreeMap<EdgeId, Timestamp>,
}

/// All authenticated connections.
pub(super) struct Register {
    table: Mutex<Table>,
    trust: CurrentTrust,
    clock: Clock,
    closed: AtomicU64,
}

/// A connection's entry; leaves the register when dropped.
pub(super) struct Registered {
    register: Arc<Register>,
    number: u64,
    /// Cancelled when the connection must end at once.
    pub(super) dead: CancellationToken,
}

impl Register {
    pub(super) fn new(trust: CurrentTrust, clock: Clock) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), trust, clock, closed: AtomicU64::new(0) })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection of `edge`, which ends with the peer's certificate and ours, whichever is first. Of `max`
    /// links the oldest makes room, because the edge has moved on; of splices none does, and this one is refused.
    pub(super) fn enter(
        self: &Arc<Self>,
        edge: EdgeId,
        peer: Peer,
        own_end: Timestamp,
        kind: Kind,
        remote: SocketAddr,
        max: usize,
    ) -> Option<Registered> {
        let now = self.clock.now();
        let mut table = self.table();
        let same: Vec<u64> = {
            let of_edge = table.live.iter().filter(|(_, live)| live.edge == edge && live.kind == kind);
            of_edge.map(|(number, _)| *number).collect()
        };
        if same.len() >= max {
            match kind {
                Kind::Splice => return None,
                Kind::Link => {
                    if let Some(oldest) = same.first().and_then(|number| table.live.get(number)) {
                        oldest.dead.cancel();
                    }
                }
            }
        }
        let number = table.next;
        table.next += 1;
        let dead = CancellationToken::new();
        let ends_at = peer.not_after.min(own_end);
        let live = Live { edge, peer, kind, remote, ends_at, dead: dead.clone() };
        table.live.insert(number, live);
        if kind == Kind::Link {
            table.since.entry(edge).or_insert(now);
        }
        Some(Registered { register: Arc::clone(self), number, dead })
    }

    /// Ends the connections of evicted edges, those whose certificate has ended, and those whose certificate's CA was
    /// retired.
    pub(super) fn look(&self) {
        let trust = self.trust.get();
        let now = self.clock.now();
        for live in self.table().live.values().filter(|live| !live.dead.is_cancelled()) {
            let why = match trust.refuses(&live.peer) {
                Some(why) => why.to_string(),
                None if now > live.ends_at => "its certificate ended".to_owned(),
                None => continue,
            };
            info!(edge = %live.edge, kind = ?live.kind, why, "A connection of an edge is closed");
            self.closed.fetch_add(1, Ordering::Relaxed);
            live.dead.cancel();
        }
    }

    pub(super) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, kind: Kind) -> usize {
        self.table().live.values().filter(|live| live.kind == kind).count()
    }

    /// The edges with a link.
    pub(super) fn edges(&self) -> Vec<ConnectedEdge> {
        let table = self.table();
        let mut edges: BTreeMap<EdgeId, ConnectedEdge> = BTreeMap::new();
        // In order of their numbers, so that the newest link is last.
        for live in table.live.values().filter(|live| live.kind == Kind::Link) {
            let since = table.since.get(&live.edge).copied().unwrap_or_default();
            let first = ConnectedEdge { edge: live.edge, remote: live.remote, since, links: 0, splices: 0 };
            let edge = edges.entry(live.edge).or_insert(first);
            edge.remote = live.remote;
            edge.links += 1;
        }
        for live in table.live.values().filter(|live| live.kind == Kind::Splice) {
            if let Some(edge) = edges.get_mut(&live.edge) {
                edge.splices += 1;
            }
        }
        edges.into_values().collect()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut table = self.register.table();
        let Some(gone) = table.live.remove(&self.number) else { return };
        let is_linked = table.live.values().any(|live| live.edge == gone.edge && live.kind == Kind::Link);
        if !is_linked {
            table.since.remove(&gone.edge);
        }
    }
}
