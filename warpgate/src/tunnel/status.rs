//! How the edges are doing: which have a tunnel that was proven to work, over what, since when.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::EdgeId;

use super::transport::Transport;

/// How the edges are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Each edge of the bundle.
    pub edges: BTreeMap<EdgeId, EdgeState>,
}

/// How one edge is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeState {
    /// Nothing is known yet.
    Dialling,
    /// There is a tunnel, and a probe went through it.
    Connected(Connected),
    /// There is none; it is dialled again.
    Failed {
        /// Why, a stable dotted word.
        code: String,
        /// Why, a sentence without a full stop.
        message: String,
    },
}

/// A tunnel that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// What carries it.
    pub transport: Transport,
    /// The edge's end, or the proxy's that leads there.
    pub remote: SocketAddr,
    /// When it was made.
    pub since: Timestamp,
    /// How long the latest probe took from the edge to here and back.
    pub round_trip: Duration,
    /// When that probe came back.
    pub proven_at: Timestamp,
    /// Whether the latest probe is overdue: traffic may not get through.
    pub doubtful: bool,
}

impl EdgeState {
    /// The tunnel, if there is one.
    pub const fn connected(&self) -> Option<&Connected> {
        match self {
            Self::Connected(connected) => Some(connected),
            Self::Dialling | Self::Failed { .. } => None,
        }
    }
}

impl Status {
    /// Edges with a tunnel.
    pub fn connected(&self) -> usize {
        self.edges.values().filter_map(EdgeState::connected).count()
    }

    /// The quickest probe that came back.
    pub fn round_trip(&self) -> Option<Duration> {
        self.edges.values().filter_map(EdgeState::connected).map(|tunnel| tunnel.round_trip).min()
    }

    /// Whether every edge was tried, and there is no tunnel at all.
    pub fn all_failed(&self) -> bool {
        !self.edges.is_empty() && self.edges.values().all(|state| matches!(state, EdgeState::Failed { .. }))
    }

    /// Nothing is known any more of edges that failed: they are tried with something new.
    pub(super) fn start_over(&mut self) {
        for state in self.edges.values_mut().filter(|state| matches!(state, EdgeState::Failed { .. })) {
            *state = EdgeState::Dialling;
        }
    }
}
