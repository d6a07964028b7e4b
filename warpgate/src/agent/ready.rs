//! When "Ready" may be said: one edge has a tunnel and a probe went through it, from the edge and back.

use std::sync::Arc;

use tokio::time::timeout;

use crate::limits::OTHER_EDGES_WAIT_MAX;
use crate::output::{Event, UpstreamState};
use crate::routes;
use crate::tunnel::Shared;

/// Waits for the proof, then tells routes and readiness once.
pub(super) async fn announce(shared: Arc<Shared>) {
    let mut status = shared.status.subscribe();
    // The sender lives in `shared`, so this ends only with a proof.
    drop(status.wait_for(|status| status.round_trip().is_some()).await);
    drop(timeout(OTHER_EDGES_WAIT_MAX, status.wait_for(crate::tunnel::Status::all_known)).await);
    let trusted = Arc::clone(&shared.gate.bundles.current());
    let revision = trusted.revision();
    let lines = routes::probed(trusted, shared.gate.declared()).await;
    let mut down: Vec<&str> = lines
        .iter()
        .filter(|line| line.target.is_none() || matches!(line.state, Some(UpstreamState::Down { .. })))
        .map(|line| line.upstream.as_str())
        .collect();
    down.sort_unstable();
    down.dedup();
    let (count, upstreams_down) = (lines.len(), down.len());
    let now = status.borrow().clone();
    shared.reporter.tell(Event::Routes { revision, routes: lines });
    shared.reporter.tell(Event::Ready {
        edges: now.connected(),
        edges_total: now.edges.len(),
        routes: count,
        upstreams_down,
        round_trip_us: now.round_trip().map_or(0, |trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)),
    });
}
