//! The replica, following a real primary in the same process.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail as the test does: by a panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod figures;
mod following;
mod keeping;
mod kills;
mod made;
mod nonsense;
mod places;
mod reading;
mod sled_kills;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Clock;
use mezusphere_model::document::Partition;
use mezusphere_store::Replica;
use mezusphere_store::feed::FeedSource;
use mezusphere_store::replica::Follower;

use support::{Store, seal};

/// A copy of a store's feed, and the task that keeps it.
struct Copy {
    replica: Arc<Replica>,
    follower: Follower,
}

fn dir_of(store: &Store) -> PathBuf {
    store.dir.path().join("replica")
}

fn open(dir: &Path, clock: Clock) -> Arc<Replica> {
    Arc::new(Replica::open(dir, clock, seal()).unwrap())
}

/// A replica in the store's own directory that follows it and is up to date.
async fn copy_of(store: &Store) -> Copy {
    copy_from(store, Arc::new(store.primary.clone())).await
}

async fn copy_from(store: &Store, source: Arc<dyn FeedSource>) -> Copy {
    let replica = open(&dir_of(store), store.hand.clock());
    let follower = replica.follow(source, "edg_test".to_owned(), store.entropy.clone());
    within(follower.caught_up()).await;
    Copy { replica, follower }
}

impl Copy {
    /// Stops following and closes the replica.
    async fn close(self) {
        self.follower.stop().await;
        drop(Arc::into_inner(self.replica).expect("nobody else has it open"));
    }
}

/// Waits, but not for ever.
async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it takes too long")
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never happened: {what}");
}

/// Waits until the copy has reached the primary's end in a partition.
async fn level(store: &Store, replica: &Replica, partition: Partition) {
    let heads = store.primary.heads().await.unwrap();
    let end = heads.iter().find(|head| head.partition == partition).map_or(0, |head| head.cursor.revision);
    until("the copy is level with the primary", || replica.revision(partition) >= end).await;
}
