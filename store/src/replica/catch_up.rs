//! One partition brought up to date: a snapshot if need be, then changes until its end.
//!
//! Nothing a source answers is used before [`answer`] and the writing thread have checked it, and every way to keep
//! this busy for ever has a limit here, after which the partition has failed and others have their turn.

use std::sync::mpsc::TrySendError;
use std::time::Duration;

use mezusphere_model::document::Partition;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer;
use super::apply::{ApplyError, Op, Reply};
use super::follow::Run;
use super::record::Position;
use super::{Replica, Shared};
use crate::feed::{BATCH_LEN_MAX, Changes, Cursor, FeedError};

/// A source that has not answered a question by then is away: the link has its own, shorter waits; this is for one that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the writing thread may have no room for an order, and how often that is looked at.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
const ROOM_EVERY: Duration = Duration::from_millis(1);

/// How often a partition may turn out not to fit in one go before that counts as a failure, so that a source that
/// contradicts itself is not asked without pause.
const RESTARTS_MAX: u32 = 3;

/// Batches of changes in one go, 64 000 changes: then other partitions have their turn.
const BATCHES_MAX: u32 = 64;

/// Documents in one partition: twenty times the sessions of a large project. A snapshot without end must not fill the disk.
const DOCUMENTS_MAX: usize = 4_000_000;

/// Why a partition or a round was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("the feed is away: no answer in {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the partition does not fit however often it is fetched")]
    Restless,
    #[error("the partition's changes do not end")]
    Endless,
    #[error("the replica's writing thread is behind")]
    Behind,
    #[error("the replica is being closed, or its writing thread has ended")]
    Closed,
}

impl FollowError {
    /// Whether it says something of the one partition only: the others can be followed.
    pub(super) fn is_of_one_partition(&self) -> bool {
        match self {
            Self::Feed(FeedError::Damaged(_))
            | Self::Apply(ApplyError::Diverged)
            | Self::Restless
            | Self::Endless => true,
            Self::Feed(FeedError::Away(_))
            | Self::Timeout
            | Self::Apply(ApplyError::Disk(_))
            | Self::Behind
            | Self::Closed => false,
        }
    }
}

/// How far following changes came.
enum Reached {
    /// To the end, which is here.
    End(Cursor),
    /// Nowhere: the changes do not fit to what is here.
    Misfit,
}

impl Run {
    pub(super) fn shared(&self) -> &Shared {
        &self.replica.shared
    }

    /// A source's answer, if it comes in time.
    pub(super) async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, FeedError>>,
    ) -> Result<T, FollowError> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        Ok(answer.map_err(|_| FollowError::Timeout)??)
    }

    /// Brings a partition up to date; nothing is asked if it already is at `end`, and it is only done if it reached that.
    pub(super) async fn catch_up(
        &mut self,
        partition: Partition,
        end: Option<Cursor>,
    ) -> Result<(), FollowError> {
        for _ in 0..=RESTARTS_MAX {
            let Some(Position { cursor, .. }) = self.shared().position(partition) else {
                self.snapshot(partition).await?;
                continue;
            };
            if end == Some(cursor) {
                return Ok(());
            }
            if let Reached::End(reached) = self.follow_from(partition, cursor).await? {
                // Another digest at the same place, or an end short of the one announced: it contradicts itself.
                let short = |end: Cursor| {
                    reached.revision < end.revision || (reached.revision == end.revision && reached != end)
                };
                if !end.is_some_and(short) {
                    return Ok(());
                }
            }
            tracing::warn!(%partition, "The replica and the feed have parted ways; fetching the partition anew");
            self.snapshot(partition).await?;
        }
        Err(FollowError::Restless)
    }

    /// Applies changes until there are no more.
    async fn follow_from(
        &mut self,
        partition: Partition,
        mut cursor: Cursor,
    ) -> Result<Reached, FollowError> {
        for _ in 0..BATCHES_MAX {
            let changes = self.answer(self.source.changes(partition, cursor, BATCH_LEN_MAX)).await?;
            let Changes::Entries { entries, more } = changes else { return Ok(Reached::Misfit) };
            answer::entries(&entries, more)?;
            let Some(last) = entries.last() else { return Ok(Reached::End(cursor)) };
            cursor = Cursor { epoch: cursor.epoch, revision: last.revision, digest: last.digest };
            let count = entries.len() as u64;
            match self.replica.order(|reply| Op::Entries(partition, entries, reply)).await {
                Ok(()) => {
                    self.notes.count(|followed| followed.entries += count);
                    self.moved(partition);
                }
                Err(FollowError::Apply(ApplyError::Diverged)) => return Ok(Reached::Misfit),
                Err(why) => return Err(why),
            }
            if !more {
                return Ok(Reached::End(cursor));
            }
        }
        Err(FollowError::Endless)
    }

    /// Fetches a partition anew. What it held stays readable meanwhile, and goes as the pages pass over it.
    pub(super) async fn snapshot(&mut self, partition: Partition) -> Result<(), FollowError> {
        self.notes.count(|followed| followed.snapshots += 1);
        let (mut after, mut first, mut count) = (None, None, 0);
        loop {
            let asked = self.source.snapshot(partition, after.clone(), BATCH_LEN_MAX);
            let page = self.answer(asked).await?;
            answer::page(&page, after.as_ref(), first)?;
            let documents = page.documents.len();
            count += documents;
            if self.epoch.is_some_and(|epoch| epoch != page.cursor.epoch) || count > DOCUMENTS_MAX {
                return Err(FollowError::Restless);
            }
            // Changes are followed from where the first page was read: later pages may be newer, never older.
            let cursor = *first.get_or_insert(page.cursor);
            let (more, next) = (page.more, page.documents.last().map(|document| document.key.clone()));
            self.replica.order(|reply| Op::Page(partition, after, page, cursor, reply)).await?;
            self.notes.count(|followed| followed.documents += documents as u64);
            if !more {
                self.moved(partition);
                return Ok(());
            }
            after = next;
        }
    }
}

impl Replica {
    /// Has the writing thread do something and waits for it. While the queue is full of what others gave it, this waits,
    /// at most [`ROOM_TIMEOUT`].
    pub(super) async fn order(&self, op: impl FnOnce(Reply) -> Op) -> Result<(), FollowError> {
        let ops = self.ops.as_ref().ok_or(FollowError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let (mut op, until) = (op(reply), Instant::now() + ROOM_TIMEOUT);
        loop {
            match ops.try_send(op) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return Err(FollowError::Closed),
                Err(TrySendError::Full(_)) if Instant::now() >= until => return Err(FollowError::Behind),
                Err(TrySendError::Full(back)) => op = back,
            }
            tokio::time::sleep(ROOM_EVERY).await;
        }
        Ok(answer.await.map_err(|_| FollowError::Closed)??)
    }

    /// Lets the writing thread see to the age, unless it is busy: the next time will do.
    pub(super) fn mind_the_age(&self) -> Result<(), FollowError> {
        let ops = self.ops.as_ref().ok_or(FollowError::Closed)?;
        match ops.try_send(Op::Age) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(FollowError::Closed),
        }
    }
}
