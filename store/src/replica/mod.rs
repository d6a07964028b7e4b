//! The replica: an edge's copy of the feed on its own disk, from which it decides without asking.
//!
//! Can be rebuilt from the feed at any time: damage costs a resync, never a wrong decision. A value that
//! cannot be read counts as missing, and its partition is fetched anew. What cannot be seen
//! in one value (a document that vanished, or came back) is noticed by a fingerprint over each partition when the replica is opened.
//!
//! [`Replica`] reads, on the caller's thread. [`Replica::follow`] starts the task that asks a
//! [`FeedSource`](crate::feed::FeedSource); what it gets is written by one thread of the replica's own, in small batches, so that
//! readers on I/O threads wait microseconds for them.

mod apply;
mod change;
mod disk;
mod follow;
mod open;
mod read;
mod record;
mod stage;
#[cfg(test)]
#[cfg(feature = "primary")]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use mezusphere_model::document::Partition;
use mezusphere_model::seal::Seal;
use mezusphere_model::{Clock, Timestamp};
use tokio::sync::Notify;

pub use change::{Changed, ChangedKey, Changes};
pub use follow::{Followed, Follower};
pub use open::OpenError;
pub use read::ReadError;

use crate::lock::DirLock;
use apply::Op;
use change::Teller;
use disk::{Disk, DiskError};
use record::Position;

/// An edge's copy of the feed. Share it in an `Arc`.
///
/// Dropping the last one ends its writing thread and waits until what was applied is on the disk.
pub struct Replica {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    ops: Option<mpsc::SyncSender<Op>>,
    writer: Option<JoinHandle<()>>,
    /// Released last.
    _lock: DirLock,
}

/// What readers, the writing thread and the follower share.
struct Shared {
    disk: Disk,
    seal: Arc<dyn Seal>,
    clock: Clock,
    /// How far each partition has come; `None` while one is fetched anew. What it still holds is read meanwhile: each
    /// document in it was true not long ago, and a site that vanished for a moment would be an outage.
    positions: RwLock<HashMap<Partition, Option<Position>>>,
    /// When the copy was last known to be up to date, in microseconds; [`NEVER`] if it never was.
    contact: AtomicI64,
    teller: Teller,
    damage: Mutex<Damage>,
    damage_found: Notify,
}

const NEVER: i64 = i64::MIN;

/// What must be fetched anew.
#[derive(Debug, Default)]
struct Damage {
    /// These partitions: a value of theirs was bad.
    partitions: BTreeSet<Partition>,
    /// The whole database, for this reason.
    all: Option<DiskError>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replica")
    }
}

impl Replica {
    /// The revision this copy has reached in a partition; 0: none, or it is being fetched anew. Memory only.
    pub fn revision(&self, partition: Partition) -> u64 {
        self.shared.position(partition).map_or(0, |position| position.cursor.revision)
    }

    /// How long ago this copy was last known to be up to date; `None`: never. Memory only.
    ///
    /// Survives a restart, a minute too old at most: the time of the last contact is on the disk.
    pub fn age(&self) -> Option<Duration> {
        match self.shared.contact.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(self.shared.clock.now().since(Timestamp::from_micros(at))),
        }
    }

    /// A listener for changes. What changed before this call is not told: subscribe first, then read.
    pub fn subscribe(&self) -> Changes {
        self.shared.teller.listen()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.ops = None; // the writing thread ends when nobody can send to it
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("The replica's writing thread panicked");
        }
    }
}

impl Shared {
    fn position(&self, partition: Partition) -> Option<Position> {
        self.positions.read().unwrap_or_else(PoisonError::into_inner).get(&partition).copied().flatten()
    }

    /// Where a partition stands; `None`: it is being fetched anew.
    fn set_position(&self, partition: Partition, position: Option<Position>) {
        self.positions.write().unwrap_or_else(PoisonError::into_inner).insert(partition, position);
    }

    /// A partition is gone.
    fn forget_position(&self, partition: Partition) {
        self.positions.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    fn damage(&self) -> MutexGuard<'_, Damage> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value of this partition was bad: the follower fetches the partition anew.
    fn damaged_value(&self, partition: Partition) {
        if self.damage().partitions.insert(partition) {
            tracing::warn!(%partition, "A value in the replica is damaged; its partition is fetched anew");
            self.damage_found.notify_one();
        }
    }

    /// The database is bad: the follower has it begun anew.
    fn damaged_disk(&self, why: DiskError) {
        let mut damage = self.damage();
        if damage.all.is_none() {
            damage.all = Some(why);
            drop(damage);
            self.damage_found.notify_one();
        }
    }
}
