//! The replica: an edge's copy of the feed on its own disk, from which it decides without asking.
//!
//! Can be rebuilt from the feed at any time: damage costs a resync, never a wrong decision. A value that
//! cannot be read counts as missing, and its partition is fetched anew.

mod follow;
mod open;

pub use follow::{Followed, Follower};
pub use open::{OpenError, ReadError, Replica};

/// What changed in the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These documents.
    Keys(std::sync::Arc<[ChangedKey]>),
    /// More than can be told, or a partition was fetched anew: read everything again.
    Everything,
    /// The replica is gone.
    Closed,
}

/// A document that was replaced or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    /// In which partition.
    pub partition: mezusphere_model::document::Partition,
    /// Which document.
    pub key: mezusphere_model::document::DocumentKey,
}
