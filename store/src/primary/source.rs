//! The primary as the source of its own feed, for followers in the same process and for the edge link.

use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::link::Answer;

use super::Primary;
use crate::feed::{AppliedReport, Changes, Cursor, FeedError, FeedSource, Head, SnapshotPage, Wake};

impl FeedSource for Primary {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        todo!()
    }
    fn snapshot(
        &self,
        partition: Partition,
        after: Option<DocumentKey>,
        max: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        todo!()
    }
    fn changes(
        &self,
        partition: Partition,
        since: Cursor,
        max: usize,
    ) -> Answer<'_, Result<Changes, FeedError>> {
        todo!()
    }
    fn applied(&self, reports: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        todo!()
    }
    fn wake(&self) -> Wake {
        todo!()
    }
}
