//! When "Ready" may be said: one edge has a tunnel and a probe went through it, from the edge and back. Afterwards
//! it is told how many edges have a tunnel, whenever that has changed for good.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::limits::{EDGE_COUNT_SETTLES, PROBE_MAX};
use crate::output::{Event, RouteLine, UpstreamState};
use crate::routes;
use crate::tunnel::{Shared, Status};

/// How many edges have a tunnel, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EdgeCount {
    connected: usize,
    total: usize,
}

impl From<&Status> for EdgeCount {
    fn from(status: &Status) -> Self {
        Self { connected: status.connected(), total: status.edges.len() }
    }
}

/// Waits for the proof, then tells routes and readiness once. What was told of the edges.
pub(super) async fn announce(shared: &Shared) -> EdgeCount {
    let mut status = shared.status.subscribe();
    // The sender lives in `shared`, so this ends only with a proof.
    drop(status.wait_for(|status| status.round_trip().is_some()).await);
    let trusted = Arc::clone(&shared.gate.bundles.current());
    let revision = trusted.revision();
    let lines = routes::probed(trusted, &shared.gate.declared()).await;
    let is_silent = |line: &&RouteLine| matches!(line.state, Some(UpstreamState::Down { .. }));
    let is_down = |line: &&RouteLine| line.target.is_none() || is_silent(line);
    let upstreams: BTreeSet<&str> = lines.iter().map(|line| line.upstream.as_str()).collect();
    let down: BTreeSet<&str> = lines.iter().filter(is_down).map(|line| line.upstream.as_str()).collect();
    let unanswered: BTreeSet<String> =
        lines.iter().filter(is_silent).filter_map(|line| line.target.clone()).collect();
    look_for(shared, &lines.iter().filter(is_silent).map(|line| line.upstream.as_str()).collect()).await;
    let (count, upstreams, upstreams_down) = (lines.len(), upstreams.len(), down.len());
    let now = status.borrow().clone();
    let edges = EdgeCount::from(&now);
    shared.reporter.tell(Event::Routes { revision, routes: lines });
    shared.reporter.tell(Event::Ready {
        edges: edges.connected,
        edges_total: edges.total,
        routes: count,
        upstreams,
        upstreams_down,
        unanswered: unanswered.into_iter().collect(),
        round_trip_us: now.round_trip().map_or(0, |trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)),
    });
    edges
}

/// Lets the upstreams that did not answer be known for that, so that they are asked again and it is told when they are back.
async fn look_for(shared: &Shared, silent: &BTreeSet<&str>) {
    let upstreams = shared.gate.upstreams();
    let silent = upstreams.iter().filter(|(name, _)| silent.contains(name.as_str()));
    // What is found is noted in each of them.
    drop(join_all(silent.map(|(_, upstream)| upstream.reach(PROBE_MAX))).await);
}

/// Tells the number of edges whenever it has stayed different from `told` for [`EDGE_COUNT_SETTLES`].
pub(super) async fn tell_edge_count(shared: &Shared, mut told: EdgeCount) -> Infallible {
    let mut status = shared.status.subscribe();
    loop {
        // The sender lives in `shared`.
        drop(status.wait_for(|status| EdgeCount::from(status) != told).await);
        let now = EdgeCount::from(&*status.borrow_and_update());
        let differs = status.wait_for(|status| EdgeCount::from(status) != now);
        if timeout(EDGE_COUNT_SETTLES, differs).await.is_err() {
            shared.reporter.tell(Event::Edges { connected: now.connected, total: now.total });
            told = now;
        }
    }
}
