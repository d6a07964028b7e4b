//! How following the feed goes, for readiness, metrics and people: per partition and in sum.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::document::Partition;

use super::Shared;
use crate::feed::Head;

/// Longest text of a fault, in bytes: a source's words are cut to it.
const FAULT_LEN_MAX: usize = 300;

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Rounds that ended with the whole copy up to date.
    pub rounds: u64,
    /// Entries applied.
    pub entries: u64,
    /// Partitions fetched anew.
    pub snapshots: u64,
    /// Documents that came with them.
    pub documents: u64,
    /// Rounds that failed, and partitions that failed by themselves.
    pub failures: u64,
    /// Times the whole copy was begun anew: damage, a full disk, or another life of the primary.
    pub begun_anew: u64,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: Timestamp,
    /// What, for people.
    pub why: String,
}

/// How following goes, in sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Whether it still follows. It ends by itself only if the replica's writing thread did.
    pub running: bool,
    /// How long ago the whole copy was known to be up to date; `None`: never. See [`super::Replica::age`].
    pub age: Option<Duration>,
    /// Partitions the source has, as last heard.
    pub partitions: usize,
    /// Of these, those that have not reached their end.
    pub behind: usize,
    /// Of these, those being fetched anew.
    pub fetching: usize,
    /// Of these, those that failed by themselves when last tried.
    pub failing: usize,
    /// Entries the partition that is furthest behind lacks.
    pub lag_max: u64,
    /// Why the last round failed; `None` once a round has ended well.
    pub fault: Option<Fault>,
    /// Counts.
    pub followed: Followed,
}

/// How following one partition goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub partition: Partition,
    /// Its end at the source, as last heard.
    pub end: u64,
    /// How far the copy is; 0: nowhere, or being fetched anew.
    pub applied: u64,
    /// How long ago it was known to be up to date; `None`: never.
    pub age: Option<Duration>,
    /// Why it could not be brought up to date when last tried; `None`: it could.
    pub fault: Option<Fault>,
}

impl PartitionStatus {
    /// Entries it lacks.
    pub fn lag(&self) -> u64 {
        self.end.saturating_sub(self.applied)
    }
}

/// What the follower notes and others read.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    followed: Followed,
    fault: Option<Fault>,
    ends: HashMap<Partition, u64>,
    faults: HashMap<Partition, Fault>,
}

impl Notes {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something.
    pub(super) fn count(&self, what: impl FnOnce(&mut Followed)) {
        what(&mut self.inner().followed);
    }

    /// What the source has.
    pub(super) fn heard(&self, heads: &[Head]) {
        let mut inner = self.inner();
        inner.ends = heads.iter().map(|head| (head.partition, head.cursor.revision)).collect();
        let there: HashSet<_> = heads.iter().map(|head| head.partition).collect();
        inner.faults.retain(|partition, _| there.contains(partition));
    }

    /// The copy of a partition has come this far, which the source may not have said yet.
    pub(super) fn reached(&self, partition: Partition, revision: u64) {
        let mut inner = self.inner();
        inner.faults.remove(&partition);
        if let Some(end) = inner.ends.get_mut(&partition) {
            *end = revision.max(*end);
        }
    }

    /// A round ended well.
    pub(super) fn well(&self) {
        self.inner().fault = None;
    }

    /// A round failed.
    pub(super) fn failed(&self, at: Timestamp, why: &impl ToString) {
        let mut inner = self.inner();
        inner.followed.failures += 1;
        inner.fault = Some(fault(at, why));
    }

    /// A partition failed by itself.
    pub(super) fn partition_failed(&self, partition: Partition, at: Timestamp, why: &impl ToString) {
        let mut inner = self.inner();
        inner.followed.failures += 1;
        inner.faults.insert(partition, fault(at, why));
    }

    pub(super) fn followed(&self) -> Followed {
        self.inner().followed
    }

    pub(super) fn status(&self, shared: &Shared, running: bool) -> FollowerStatus {
        let inner = self.inner();
        let (mut behind, mut fetching, mut lag_max) = (0, 0, 0);
        for (partition, end) in &inner.ends {
            let position = shared.position(*partition);
            fetching += usize::from(position.is_none());
            let lag = end.saturating_sub(position.map_or(0, |position| position.cursor.revision));
            behind += usize::from(lag > 0);
            lag_max = lag.max(lag_max);
        }
        FollowerStatus {
            running,
            age: shared.contact.oldest().map(|moment| moment.age(&shared.clock)),
            partitions: inner.ends.len(),
            behind,
            fetching,
            failing: inner.faults.len(),
            lag_max,
            fault: inner.fault.clone(),
            followed: inner.followed,
        }
    }

    pub(super) fn partitions(&self, shared: &Shared) -> Vec<PartitionStatus> {
        let inner = self.inner();
        let mut all: Vec<_> = inner
            .ends
            .iter()
            .map(|(partition, end)| PartitionStatus {
                partition: *partition,
                end: *end,
                applied: shared.position(*partition).map_or(0, |position| position.cursor.revision),
                age: shared.contact.of(*partition).map(|moment| moment.age(&shared.clock)),
                fault: inner.faults.get(partition).cloned(),
            })
            .collect();
        all.sort_unstable_by_key(|status| status.partition);
        all
    }
}

fn fault(at: Timestamp, why: &impl ToString) -> Fault {
    let mut why = why.to_string();
    why.truncate(why.floor_char_boundary(FAULT_LEN_MAX));
    Fault { at, why }
}
