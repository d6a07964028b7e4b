//! Following the feed: a snapshot of each partition, then changes since, for ever.

use std::sync::Arc;

use mezusphere_model::Entropy;

use super::Replica;
use crate::feed::FeedSource;

/// A task that keeps a replica up to date. Dropping it ends the task.
#[derive(Debug)]
pub struct Follower(());

/// How the follower is doing; for metrics and for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Rounds that ended with the copy up to date.
    pub rounds: u64,
    /// Entries applied.
    pub entries: u64,
    /// Partitions fetched anew.
    pub snapshots: u64,
    /// Rounds that failed and were tried again.
    pub failures: u64,
}

impl Replica {
    /// Starts the task that follows `source` into this replica, on the current tokio runtime. `name` goes into reports.
    pub fn follow(self: &Arc<Self>, source: Arc<dyn FeedSource>, name: String, entropy: Entropy) -> Follower {
        todo!()
    }
}

impl Follower {
    /// Waits until every partition has been brought up to date at least once since the start.
    pub async fn caught_up(&self) {
        todo!()
    }

    /// How it is doing.
    pub fn followed(&self) -> Followed {
        todo!()
    }

    /// Ends the task, waits for it, and writes what it applied to the disk.
    pub async fn stop(self) {
        todo!()
    }
}
