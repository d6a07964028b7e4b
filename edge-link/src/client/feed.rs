//! The link as [`FeedSource`]: each question of a follower as one of the wire. The digests in the answers are the
//! primary's own; the follower checks them over the raw documents.

use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::link::Answer;
use mezusphere_store::feed::{
    AppliedReport, Changes, Cursor, Entry, FeedError, FeedSource, Filed, Head, SnapshotPage, Wake,
};

use super::LinkClient;
use super::ask::AskError;
use crate::limits::{HEADS_MAX, REPORTS_MAX};
use crate::wire::{Applied, AppliedAt, Changed, ChangesSince, Endpoint, Heads, Nothing, Page, SnapshotOf};

impl From<AskError> for FeedError {
    fn from(why: AskError) -> Self {
        match why {
            AskError::Away(words) => Self::Away(words),
            AskError::Refused(words) | AskError::Damaged(words) | AskError::Nonsense(words) => {
                Self::Damaged(words)
            }
        }
    }
}

/// The heads of an answer. Kinds of partitions this edge does not know are skipped, and so is what no edge may hold.
pub(super) fn read_heads(Heads { heads }: Heads) -> Result<Vec<Head>, FeedError> {
    if heads.len() > HEADS_MAX {
        return Err(FeedError::Damaged(format!("{} partitions are more than {HEADS_MAX}", heads.len())));
    }
    let known = heads.into_iter().filter_map(|head| {
        let partition = head.partition.parse().ok().filter(|partition| *partition != Partition::Control)?;
        Some(Head { partition, cursor: head.at.into() })
    });
    Ok(known.collect())
}

impl FeedSource for LinkClient {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        Box::pin(async move {
            let heads = read_heads(self.shared.ask(Endpoint::Heads, &Nothing {}).await?)?;
            self.shared.heard_heads(&heads);
            Ok(heads)
        })
    }

    fn snapshot(
        &self,
        partition: Partition,
        after: Option<DocumentKey>,
        max: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        Box::pin(async move {
            let question = SnapshotOf { partition, after, max };
            let page: Page = self.shared.ask(Endpoint::Snapshot, &question).await?;
            let documents = page.documents.into_iter().map(Filed::from).collect();
            Ok(SnapshotPage { cursor: page.at.into(), documents, more: page.more })
        })
    }

    fn changes(
        &self,
        partition: Partition,
        since: Cursor,
        max: usize,
    ) -> Answer<'_, Result<Changes, FeedError>> {
        Box::pin(async move {
            let question = ChangesSince { partition, since: since.into(), max };
            let changed: Changed = self.shared.ask(Endpoint::Changes, &question).await?;
            if changed.start_over {
                return Ok(Changes::StartOver);
            }
            let entries = changed.entries.into_iter().map(Entry::from).collect();
            Ok(Changes::Entries { entries, more: changed.more })
        })
    }

    fn applied(&self, reports: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        Box::pin(async move {
            let mut reports: Vec<AppliedAt> = reports
                .into_iter()
                .map(|report| AppliedAt {
                    partition: report.partition,
                    at: report.cursor.into(),
                    time: report.at,
                })
                .collect();
            while !reports.is_empty() {
                let rest = reports.split_off(reports.len().min(REPORTS_MAX));
                let Nothing {} = self.shared.ask(Endpoint::Applied, &Applied { reports }).await?;
                reports = rest;
            }
            Ok(())
        })
    }

    fn wake(&self) -> Wake {
        self.shared.bell.listen()
    }
}
