//! Following the feed: a snapshot of each partition, then changes since, for ever.
//!
//! A round asks for all partitions' ends and brings each up to date. Between rounds the source's wake tells which
//! partitions changed; that is a hint only, and a round comes every [`POLL_EVERY`] anyway. Each batch is written before the next
//! is asked for, so memory is bounded by one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use mezusphere_model::Entropy;
use mezusphere_model::document::Partition;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::apply::{ApplyError, Op, Reply};
use super::{Replica, record::Position};
use crate::feed::{AppliedReport, BATCH_LEN_MAX, Changes, Cursor, FeedError, FeedSource, Head, Wake, Woken};

/// A round comes this often whatever the wake says; so old is a copy at most that says it is up to date.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// The first wait after a failed round, and the longest; in between it doubles, with full jitter.
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// How often a partition may turn out not to fit in one go before that counts as a failure, so that a source that
/// contradicts itself is not asked without pause.
const RESTARTS_MAX: u32 = 3;

/// Reports sent in one message.
const REPORTS_MAX: usize = 1000;

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

#[derive(Debug, Default)]
struct Counters {
    entries: AtomicU64,
    snapshots: AtomicU64,
    failures: AtomicU64,
}

/// A task that keeps a replica up to date. Dropping it ends the task.
#[derive(Debug)]
pub struct Follower {
    replica: Arc<Replica>,
    task: JoinHandle<()>,
    counters: Arc<Counters>,
    /// Rounds that ended well.
    rounds: watch::Receiver<u64>,
}

/// Why a partition or a round was not brought up to date.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("partition {0} does not fit however often it is fetched")]
    Restless(Partition),
    #[error("the replica's writing thread is behind")]
    Behind,
    #[error("the replica is being closed")]
    Closed,
}

impl Replica {
    /// Starts the task that follows `source` into this replica, on the current tokio runtime. `name` goes into reports.
    ///
    /// One follower at a time: two would undo each other's snapshots.
    pub fn follow(self: &Arc<Self>, source: Arc<dyn FeedSource>, name: String, entropy: Entropy) -> Follower {
        let counters = Arc::new(Counters::default());
        let (done, rounds) = watch::channel(0);
        let mut run = Run {
            replica: Arc::clone(self),
            source,
            name,
            entropy,
            counters: Arc::clone(&counters),
            done,
            reported: HashSet::new(),
            begun_anew: false,
        };
        let task = tokio::spawn(async move { run.forever().await });
        Follower { replica: Arc::clone(self), task, counters, rounds }
    }
}

impl Follower {
    /// Waits until every partition has been brought up to date at least once since the start.
    pub async fn caught_up(&self) {
        let mut rounds = self.rounds.clone();
        drop(rounds.wait_for(|rounds| *rounds > 0).await); // an error means that the task has ended
    }

    /// How it is doing.
    pub fn followed(&self) -> Followed {
        Followed {
            rounds: *self.rounds.borrow(),
            entries: self.counters.entries.load(Ordering::Relaxed),
            snapshots: self.counters.snapshots.load(Ordering::Relaxed),
            failures: self.counters.failures.load(Ordering::Relaxed),
        }
    }

    /// Ends the task and writes what it applied to the disk.
    pub async fn stop(mut self) {
        self.task.abort();
        if let Err(why) = (&mut self.task).await
            && !why.is_cancelled()
        {
            tracing::error!(%why, "Following the feed ended early");
        }
        if let Err(why) = self.replica.order(Op::Flush).await {
            tracing::warn!(%why, "The replica could not be written to the disk");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Replica {
    /// Has the writing thread do something and waits for it.
    async fn order(&self, op: impl FnOnce(Reply) -> Op) -> Result<(), FollowError> {
        let (reply, answer) = oneshot::channel();
        self.send(op(reply))?;
        Ok(answer.await.map_err(|_| FollowError::Closed)??)
    }

    fn send(&self, op: Op) -> Result<(), FollowError> {
        let ops = self.ops.as_ref().ok_or(FollowError::Closed)?;
        ops.try_send(op).map_err(|why| match why {
            TrySendError::Full(_) => FollowError::Behind,
            TrySendError::Disconnected(_) => FollowError::Closed,
        })
    }
}

struct Run {
    replica: Arc<Replica>,
    source: Arc<dyn FeedSource>,
    name: String,
    entropy: Entropy,
    counters: Arc<Counters>,
    done: watch::Sender<u64>,
    /// Partitions whose position the source has heard of since the last failure.
    reported: HashSet<Partition>,
    /// The database was begun anew, and listeners have not been told to read everything again.
    begun_anew: bool,
}

impl Run {
    async fn forever(&mut self) {
        let mut back_off = BACK_OFF_MIN;
        let mut wake = self.source.wake();
        loop {
            match self.round(&mut wake).await {
                Ok(()) => back_off = BACK_OFF_MIN,
                Err(FollowError::Closed) => return,
                Err(why) => {
                    tracing::warn!(%why, "The feed could not be followed; trying again");
                    self.counters.failures.fetch_add(1, Ordering::Relaxed);
                    self.reported.clear();
                    let wait = u64::try_from(back_off.as_millis()).unwrap_or(u64::MAX);
                    tokio::time::sleep(Duration::from_millis(self.entropy.below(wait + 1))).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    /// Brings everything up to date, then what wakes until the next round is due.
    async fn round(&mut self, wake: &mut Wake) -> Result<(), FollowError> {
        self.mend().await?;
        // The time before the question: what the source says is at least as new.
        let asked_at = self.replica.shared.clock.now();
        let heads = self.source.heads().await?;
        self.remove_others(&heads).await?;
        for head in &heads {
            self.catch_up(head.partition, Some(head.cursor)).await?;
        }
        self.report(heads.iter().map(|head| head.partition)).await?;
        self.contact(asked_at)?;
        if std::mem::take(&mut self.begun_anew) {
            self.replica.shared.teller.everything();
        }
        self.done.send_modify(|rounds| *rounds += 1);

        let due = tokio::time::sleep(POLL_EVERY);
        tokio::pin!(due);
        let replica = Arc::clone(&self.replica);
        loop {
            let woken = tokio::select! {
                () = &mut due => return Ok(()),
                () = replica.shared.damage_found.notified() => return Ok(()),
                woken = wake.woken() => woken,
            };
            match woken {
                Woken::Changed(partitions) => {
                    for partition in partitions.iter().copied() {
                        self.catch_up(partition, None).await?;
                    }
                    self.report(partitions.iter().copied()).await?;
                }
                Woken::Anything => return Ok(()),
                Woken::Closed => {
                    // Polling goes on; a source that is gone for good answers so itself.
                    due.as_mut().await;
                    *wake = self.source.wake();
                    return Ok(());
                }
            }
        }
    }

    /// Fetches anew what readers found damaged.
    async fn mend(&mut self) -> Result<(), FollowError> {
        let damage = std::mem::take(&mut *self.replica.shared.damage());
        if let Some(why) = damage.all {
            self.begun_anew = true;
            self.replica.order(|reply| Op::Anew(why, reply)).await.inspect_err(|_| {
                self.replica.shared.damaged_disk(why);
            })?;
            return Ok(());
        }
        for partition in damage.partitions {
            self.snapshot(partition).await.inspect_err(|_| {
                self.replica.shared.damage().partitions.insert(partition);
            })?;
        }
        Ok(())
    }

    /// Removes partitions the source does not have.
    async fn remove_others(&mut self, heads: &[Head]) -> Result<(), FollowError> {
        let there: HashSet<Partition> = heads.iter().map(|head| head.partition).collect();
        let ours: Vec<Partition> = {
            let positions = self.replica.shared.positions.read();
            let positions = positions.unwrap_or_else(std::sync::PoisonError::into_inner);
            positions.keys().copied().filter(|partition| !there.contains(partition)).collect()
        };
        for partition in ours {
            self.replica.order(|reply| Op::Remove(partition, reply)).await?;
        }
        Ok(())
    }

    /// Brings a partition up to date; nothing is asked if it already is at `end`.
    async fn catch_up(&mut self, partition: Partition, end: Option<Cursor>) -> Result<(), FollowError> {
        for _ in 0..=RESTARTS_MAX {
            let Some(Position { cursor, .. }) = self.replica.shared.position(partition) else {
                self.snapshot(partition).await?;
                continue;
            };
            if end == Some(cursor) || self.follow_from(partition, cursor).await? {
                return Ok(());
            }
            self.snapshot(partition).await?;
        }
        Err(FollowError::Restless(partition))
    }

    /// Applies changes until there are no more; `false`: the cursor does not fit.
    async fn follow_from(&mut self, partition: Partition, mut cursor: Cursor) -> Result<bool, FollowError> {
        loop {
            let changes = self.source.changes(partition, cursor, BATCH_LEN_MAX).await?;
            let Changes::Entries { entries, more } = changes else { return Ok(false) };
            let Some(last) = entries.last() else { return Ok(true) };
            cursor = Cursor { epoch: cursor.epoch, revision: last.revision, digest: last.digest };
            let count = entries.len() as u64;
            match self.replica.order(|reply| Op::Entries(partition, entries, reply)).await {
                Ok(()) => {
                    self.counters.entries.fetch_add(count, Ordering::Relaxed);
                    self.reported.remove(&partition);
                }
                Err(FollowError::Apply(ApplyError::Diverged)) => {
                    tracing::warn!(%partition, "The replica and the feed have parted ways; fetching the partition anew");
                    return Ok(false);
                }
                Err(why) => return Err(why),
            }
            if !more {
                return Ok(true);
            }
        }
    }

    /// Fetches a partition anew. What it held stays readable meanwhile, and goes as the pages pass over it.
    async fn snapshot(&mut self, partition: Partition) -> Result<(), FollowError> {
        self.counters.snapshots.fetch_add(1, Ordering::Relaxed);
        let (mut after, mut first) = (None, None);
        loop {
            let page = self.source.snapshot(partition, after.clone(), BATCH_LEN_MAX).await?;
            // Changes are followed from where the first page was read: later pages may be newer, never older.
            let cursor = *first.get_or_insert(page.cursor);
            if page.cursor.epoch != cursor.epoch {
                return Err(FollowError::Restless(partition));
            }
            let (more, next) = (page.more, page.documents.last().map(|document| document.key.clone()));
            self.replica.order(|reply| Op::Page(partition, after, page, cursor, reply)).await?;
            if !more {
                self.reported.remove(&partition);
                return Ok(());
            }
            after = next;
        }
    }

    /// Tells the source how far partitions are that it has not heard of yet.
    async fn report(&mut self, partitions: impl Iterator<Item = Partition>) -> Result<(), FollowError> {
        let at = self.replica.shared.clock.now();
        let mut reports = Vec::new();
        for partition in partitions {
            let Some(position) = self.replica.shared.position(partition) else { continue };
            if self.reported.insert(partition) {
                let cursor = position.cursor;
                reports.push(AppliedReport { follower: self.name.clone(), partition, cursor, at });
            }
            if reports.len() == REPORTS_MAX {
                self.source.applied(std::mem::take(&mut reports)).await?;
            }
        }
        if !reports.is_empty() {
            self.source.applied(reports).await?;
        }
        Ok(())
    }

    fn contact(&self, at: mezusphere_model::Timestamp) -> Result<(), FollowError> {
        self.replica.shared.contact.store(at.as_micros(), Ordering::Release);
        self.replica.send(Op::Contact(at))
    }
}
