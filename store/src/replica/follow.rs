//! Following the feed: a snapshot of each partition, then changes since, for ever.
//!
//! A round asks for all partitions' ends and brings each up to date. Between rounds the source's wake tells which
//! partitions changed; that is a hint only, and a round comes every [`POLL_EVERY`] anyway. Each batch is written before the next
//! is asked for, so memory is bounded by one. A partition that cannot be followed is tried again after a back-off of its
//! own while the others go on.
//!
//! The source hears of what is on the disk, not of what is only applied: it may retire what an older copy would need.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Entropy;
use mezusphere_model::document::Partition;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Replica;
use super::answer;
use super::apply::Op;
use super::back_off::BackOff;
use super::catch_up::FollowError;
use super::contact::Moment;
use super::disk::Leave;
use super::status::{Followed, FollowerStatus, Notes, PartitionStatus};
use crate::feed::{AppliedReport, Cursor, Epoch, FeedError, FeedSource, Head, Wake, Woken};

/// A round comes this often whatever the wake says; so old is a copy at most that says it is up to date.
pub const POLL_EVERY: Duration = Duration::from_secs(5);

/// The longest wait after a failed round.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// The longest wait before a partition that failed by itself is tried again: each try may fetch all of it.
const PARTITION_BACK_OFF_MAX: Duration = Duration::from_mins(1);

/// What was applied is reported this much later, so that a busy partition costs few writes to the disk.
const REPORT_AFTER: Duration = Duration::from_millis(200);

/// Reports sent in one message.
const REPORTS_MAX: usize = 1000;

/// A task that keeps a replica up to date. Dropping it ends the task.
#[derive(Debug)]
pub struct Follower {
    replica: Arc<Replica>,
    task: JoinHandle<()>,
    notes: Arc<Notes>,
    /// Rounds that ended well.
    rounds: watch::Receiver<u64>,
}

impl Replica {
    /// Starts the task that follows `source` into this replica, on the current tokio runtime. `name` goes into reports.
    ///
    /// One follower at a time: two would undo each other's snapshots.
    pub fn follow(self: &Arc<Self>, source: Arc<dyn FeedSource>, name: String, entropy: Entropy) -> Follower {
        let notes = Arc::new(Notes::default());
        let (done, rounds) = watch::channel(0);
        let mut run = Run {
            replica: Arc::clone(self),
            source,
            notes: Arc::clone(&notes),
            epoch: None,
            name,
            entropy,
            done,
            retries: HashMap::new(),
            // What was applied before the last end may never have been told, or told to a control node that forgot it.
            unreported: self.shared.partitions().into_iter().collect(),
            report_at: None,
            begun_anew: false,
        };
        let task = tokio::spawn(async move { run.forever().await });
        Follower { replica: Arc::clone(self), task, notes, rounds }
    }
}

impl Follower {
    /// Waits until every partition has been brought up to date at least once since the start.
    pub async fn caught_up(&self) {
        let mut rounds = self.rounds.clone();
        drop(rounds.wait_for(|rounds| *rounds > 0).await); // an error means that the task has ended
    }

    /// Counts of what it did.
    pub fn followed(&self) -> Followed {
        self.notes.followed()
    }

    /// How it goes, in sum: for readiness and metrics. Looks at every partition in memory; not for the request path.
    pub fn status(&self) -> FollowerStatus {
        self.notes.status(&self.replica.shared, !self.task.is_finished())
    }

    /// How it goes with each partition, for people. As dear as [`Follower::status`].
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        self.notes.partitions(&self.replica.shared)
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

/// The task's own state.
pub(super) struct Run {
    pub(super) replica: Arc<Replica>,
    pub(super) source: Arc<dyn FeedSource>,
    pub(super) notes: Arc<Notes>,
    /// The life of the primary that the last answer was of.
    pub(super) epoch: Option<Epoch>,
    name: String,
    entropy: Entropy,
    done: watch::Sender<u64>,
    /// Partitions that failed by themselves.
    retries: HashMap<Partition, Retry>,
    /// Partitions whose position the source has not heard of.
    unreported: BTreeSet<Partition>,
    /// When to report them.
    report_at: Option<Instant>,
    /// The database was begun anew, and listeners have not been told to read everything again.
    begun_anew: bool,
}

struct Retry {
    at: Instant,
    back_off: BackOff,
}

impl Run {
    async fn forever(&mut self) {
        let mut back_off = BackOff::up_to(BACK_OFF_MAX);
        let mut wake = self.source.wake();
        loop {
            let round = self.round(&mut wake).await;
            let aged = self.replica.mind_the_age();
            match round.and(aged) {
                Ok(()) => back_off.reset(),
                Err(why) => {
                    self.notes.failed(self.shared().clock.now(), &why);
                    if matches!(why, FollowError::Closed) {
                        tracing::error!(%why, "The feed is not followed any more");
                        return;
                    }
                    tracing::warn!(%why, "The feed could not be followed; trying again");
                    // A source that was away may have forgotten what it heard.
                    self.unreported.extend(self.replica.shared.partitions());
                    tokio::time::sleep(back_off.wait(&self.entropy)).await;
                }
            }
        }
    }

    /// Brings everything up to date, then what wakes until the next round is due.
    async fn round(&mut self, wake: &mut Wake) -> Result<(), FollowError> {
        // The time before the question: what the source says is at least as new.
        let asked_at = Moment::now(&self.shared().clock);
        let heads = self.answer(self.source.heads()).await?;
        let epoch = answer::heads(&heads)?;
        self.refuse_nothing(epoch, &heads)?;
        self.epoch = epoch;
        self.notes.heard(&heads);
        self.leave_what_is_lost().await?;
        self.remove_others(&heads).await?;
        let late = self.bring_up(&heads).await?;
        self.shared().contact.all_but(asked_at, late.iter().copied(), &self.shared().clock);
        self.notes.well();
        if std::mem::take(&mut self.begun_anew) {
            self.shared().teller.everything();
        }
        if late.is_empty() {
            self.notes.count(|followed| followed.rounds += 1);
            self.done.send_modify(|rounds| *rounds += 1);
        }
        self.replica.mind_the_age()?;
        self.report().await?;
        self.until_next_round(wake).await
    }

    /// Goes on with what wakes, until the next round is due.
    async fn until_next_round(&mut self, wake: &mut Wake) -> Result<(), FollowError> {
        let poll = Instant::now() + POLL_EVERY;
        let due = self.retries.values().map(|retry| retry.at).chain([poll]).min().unwrap_or(poll);
        let replica = Arc::clone(&self.replica);
        loop {
            let report_at = self.report_at.unwrap_or(due).min(due);
            let woken = tokio::select! {
                () = tokio::time::sleep_until(report_at) => {
                    if report_at >= due {
                        return Ok(());
                    }
                    self.report().await?;
                    continue;
                }
                () = replica.shared.damage_found.notified() => return Ok(()),
                woken = wake.woken() => woken,
            };
            let mut changed = BTreeSet::new();
            let mut next = Some(woken);
            while let Some(woken) = next {
                match woken {
                    Woken::Changed(partitions) => changed.extend(partitions.iter().copied()),
                    Woken::Anything => return Ok(()),
                    Woken::Closed => {
                        // Polling goes on; a source that is gone for good answers so itself.
                        tokio::time::sleep_until(due).await;
                        *wake = self.source.wake();
                        return Ok(());
                    }
                }
                next = wake.already();
            }
            for partition in changed {
                if self.shared().standing(partition).is_none() {
                    return Ok(()); // whether there is such a partition the source tells, not the hint
                }
                self.visit(partition, None).await?;
            }
            if Instant::now() >= due {
                return Ok(()); // hints without pause must not put off the round
            }
        }
    }

    /// Refuses a feed that lacks what no primary ever takes back: it would empty the copy.
    fn refuse_nothing(&self, epoch: Option<Epoch>, heads: &[Head]) -> Result<(), FeedError> {
        let ours = self.shared().position(Partition::Platform).map(|position| position.cursor.epoch);
        let there = heads.iter().any(|head| head.partition == Partition::Platform);
        if ours.is_some() && !there && (epoch.is_none() || epoch == ours) {
            return Err(FeedError::Damaged("the platform's partition is missing".to_owned()));
        }
        Ok(())
    }

    /// Leaves a database that has failed, or that is of another life of the primary. Only now, when the source has
    /// answered: without it there would be nothing to serve from.
    async fn leave_what_is_lost(&mut self) -> Result<(), FollowError> {
        let damage = std::mem::take(&mut *self.shared().damage());
        let foreign = self.epoch.is_some_and(|epoch| self.is_of_another_life(epoch));
        if let Some(why) = damage.all.or(foreign.then_some(Leave::Foreign)) {
            tracing::warn!(?why, "The replica is begun anew");
            self.begun_anew = true;
            self.retries.clear();
            self.unreported.clear();
            self.replica.order(|reply| Op::Anew(why, reply)).await.inspect_err(|_| {
                self.shared().damaged_disk(why);
            })?;
            self.notes.count(|followed| followed.begun_anew += 1);
            if why == Leave::Foreign {
                // What readers keep decoded must go at once; what failed may be used until it is here again.
                self.shared().teller.everything();
            }
            return Ok(());
        }
        for partition in damage.partitions {
            // Without a position it is fetched anew, now or whenever that goes well.
            self.shared().lose_position(partition);
        }
        Ok(())
    }

    fn is_of_another_life(&self, epoch: Epoch) -> bool {
        self.shared().partitions().into_iter().any(|partition| {
            self.shared().position(partition).is_some_and(|position| position.cursor.epoch != epoch)
        })
    }

    /// Removes partitions the source does not have.
    async fn remove_others(&mut self, heads: &[Head]) -> Result<(), FollowError> {
        let there: HashSet<Partition> = heads.iter().map(|head| head.partition).collect();
        self.retries.retain(|partition, _| there.contains(partition));
        self.unreported.retain(|partition| there.contains(partition));
        for partition in self.shared().partitions() {
            if !there.contains(&partition) {
                self.replica.order(|reply| Op::Remove(partition, reply)).await?;
            }
        }
        Ok(())
    }

    /// Brings every partition up to date; tells those it could not, and whether they had ever been whole.
    async fn bring_up(&mut self, heads: &[Head]) -> Result<Vec<(Partition, bool)>, FollowError> {
        let mut late = Vec::new();
        for head in heads {
            if !self.visit(head.partition, Some(head.cursor)).await? {
                let standing = self.shared().standing(head.partition).unwrap_or_default();
                late.push((head.partition, standing.was_whole));
            }
        }
        Ok(late)
    }

    /// Brings a partition up to date, unless it is not its time yet; says whether it is now.
    async fn visit(&mut self, partition: Partition, end: Option<Cursor>) -> Result<bool, FollowError> {
        if self.retries.get(&partition).is_some_and(|retry| retry.at > Instant::now()) {
            return Ok(false);
        }
        match self.catch_up(partition, end).await {
            Ok(()) => {
                self.retries.remove(&partition);
                let revision = self.replica.revision(partition);
                self.notes.reached(partition, revision);
                Ok(true)
            }
            // It has come further, and others have their turn; then it goes on at once.
            Err(FollowError::Endless) => {
                let fresh = Retry { at: Instant::now(), back_off: BackOff::up_to(PARTITION_BACK_OFF_MAX) };
                self.retries.insert(partition, fresh);
                self.notes.reached(partition, self.replica.revision(partition));
                Ok(false)
            }
            Err(why) if why.is_of_one_partition() => {
                tracing::warn!(%partition, %why, "A partition could not be followed; trying again");
                self.notes.partition_failed(partition, self.shared().clock.now(), &why);
                let fresh = Retry { at: Instant::now(), back_off: BackOff::up_to(PARTITION_BACK_OFF_MAX) };
                let retry = self.retries.entry(partition).or_insert(fresh);
                retry.at = Instant::now() + retry.back_off.wait(&self.entropy);
                Ok(false)
            }
            Err(why) => Err(why),
        }
    }

    /// The copy of a partition has moved: the source is to hear of it.
    pub(super) fn moved(&mut self, partition: Partition) {
        self.unreported.insert(partition);
        self.report_at.get_or_insert_with(|| Instant::now() + REPORT_AFTER);
    }

    /// Tells the source how far partitions are on the disk that it has not heard of yet. If it does not take that, the
    /// copy is none the worse: it is told later.
    async fn report(&mut self) -> Result<(), FollowError> {
        self.report_at = None;
        if self.unreported.is_empty() {
            return Ok(());
        }
        let at = self.shared().clock.now();
        let reports: Vec<_> = std::mem::take(&mut self.unreported)
            .into_iter()
            .filter_map(|partition| {
                let cursor = self.shared().position(partition)?.cursor;
                Some(AppliedReport { follower: self.name.clone(), partition, cursor, at })
            })
            .collect();
        self.replica.order(Op::Flush).await?;
        for some in reports.chunks(REPORTS_MAX) {
            if let Err(why) = self.answer(self.source.applied(some.to_vec())).await {
                tracing::warn!(%why, "The feed does not take reports; trying again");
                self.notes.failed(at, &why);
                self.unreported.extend(reports.iter().map(|report| report.partition));
                self.report_at = Some(Instant::now() + POLL_EVERY);
                break;
            }
        }
        Ok(())
    }
}
