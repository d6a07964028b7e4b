//! How the edges are doing: which have a tunnel, and whether a probe came back through it.

use std::collections::BTreeMap;
use std::time::Duration;

use mezusphere_model::id::EdgeId;

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

    /// Nothing is known any more of edges that failed: they are tried with something new.
    pub(super) fn start_over(&mut self) {
        for state in self.edges.values_mut().filter(|state| **state == EdgeState::Failed) {
            *state = EdgeState::Dialling;
        }
    }
}
