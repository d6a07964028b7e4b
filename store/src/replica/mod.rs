//! The replica: an edge's copy of the feed on its own disk, from which it decides without asking.
//!
//! Can be rebuilt from the feed at any time: damage costs a resync, never a wrong decision. A value that
//! cannot be read counts as missing, and its partition is fetched anew. What cannot be seen
//! in one value (a document that vanished, or came back) is noticed by a fingerprint over each partition when the replica is
//! opened after anything but an orderly end.
//!
//! [`Replica`] reads, on the caller's thread. [`Replica::follow`] starts the task that asks a
//! [`FeedSource`](crate::feed::FeedSource); what it gets is written by one thread of the replica's own, in small batches, so that
//! readers on I/O threads wait microseconds for them.

mod answer;
mod apply;
mod back_off;
mod catch_up;
mod change;
mod contact;
mod disk;
mod follow;
mod fuzzed;
mod kept;
mod open;
mod read;
mod record;
mod reseal;
mod stage;
mod status;
#[cfg(test)]
#[cfg(feature = "primary")]
mod tests;
mod whole;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use mezusphere_model::Clock;
use mezusphere_model::document::Partition;
use mezusphere_model::seal::Seal;
use tokio::sync::Notify;

pub use change::{Changed, ChangedKey, Changes};
pub use follow::{Follower, POLL_EVERY};
#[doc(hidden)]
pub use fuzzed::check_record;
pub use kept::KEPT_LEN_MAX;
pub use open::OpenError;
pub use read::ReadError;
pub use reseal::NotResealed;
pub use status::{Fault, Followed, FollowerStatus, PartitionStatus};

use crate::lock::DirLock;
use apply::Op;
use change::Teller;
use contact::Contact;
use disk::{Disk, Leave};
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
    /// Whose copy it is; `None`: that was not asked. Written into each new database.
    owner: Option<String>,
    standings: RwLock<HashMap<Partition, Standing>>,
    contact: Contact,
    teller: Teller,
    damage: Mutex<Damage>,
    damage_found: Notify,
}

/// How a partition's copy stands.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// How far it has come; `None` while it is fetched anew. What it still holds is read meanwhile: each document in it was
    /// true not long ago, and a site that vanished for a moment would be an outage.
    position: Option<Position>,
    /// Whether it has been whole since the database was begun. Before that, what is missing may just not be here yet.
    was_whole: bool,
}

/// What must be fetched anew.
#[derive(Debug, Default)]
struct Damage {
    /// These partitions: a value of theirs was bad.
    partitions: BTreeSet<Partition>,
    /// The whole database, for this reason.
    all: Option<Leave>,
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

    /// How long ago this whole copy was last known to be up to date; `None`: never, or nobody can tell. Memory only.
    ///
    /// Up to date means: the source named the ends of all its partitions, and the copy reached every one of them; the
    /// age counts from before that question was asked. So one partition that cannot be followed makes the whole copy old:
    /// [`Replica::age_of`] tells them apart. An up-to-date copy is never older than the poll interval (5 s) and a round.
    ///
    /// A restart goes on counting from the last real contact, a minute too old at most, as long as a follower ran. A wall clock set
    /// forward makes the copy older until the next contact; one set back does not make it younger, and over a restart makes the age unknown.
    pub fn age(&self) -> Option<Duration> {
        self.shared.contact.oldest().map(|moment| moment.age(&self.shared.clock))
    }

    /// As [`Replica::age`], of one partition; `None` also for a partition that is not here. Memory only.
    pub fn age_of(&self, partition: Partition) -> Option<Duration> {
        self.shared.standing(partition)?;
        self.shared.contact.of(partition).map(|moment| moment.age(&self.shared.clock))
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
    fn standing(&self, partition: Partition) -> Option<Standing> {
        self.standings.read().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    /// How far a partition has come; `None`: nowhere, or it is being fetched anew.
    fn position(&self, partition: Partition) -> Option<Position> {
        self.standing(partition)?.position
    }

    /// A partition is exactly at this position now.
    fn set_position(&self, partition: Partition, position: Position) {
        let standing = Standing { position: Some(position), was_whole: true };
        self.standings.write().unwrap_or_else(PoisonError::into_inner).insert(partition, standing);
    }

    /// A partition is being fetched anew.
    fn lose_position(&self, partition: Partition) {
        self.standings
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(partition)
            .or_default()
            .position = None;
    }

    /// A partition is gone.
    fn forget_position(&self, partition: Partition) {
        self.standings.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// Every partition there is something of.
    fn partitions(&self) -> Vec<Partition> {
        self.standings.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
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
    fn damaged_disk(&self, why: impl Into<Leave>) {
        let mut damage = self.damage();
        if damage.all.is_none() {
            damage.all = Some(why.into());
            drop(damage);
            self.damage_found.notify_one();
        }
    }
}
