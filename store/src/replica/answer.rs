//! What a source's answers must look like before anything of them is used.
//!
//! Whether changes follow what is here (order, gaps, digests) is checked where they are applied. Here: sizes, order of
//! pages, and answers that lead nowhere. A limit that is exceeded is the source's fault: the primary's own limits are lower.

use std::collections::HashSet;

use mezusphere_model::document::DocumentKey;
use serde_json::value::RawValue;

use crate::feed::{BATCH_LEN_MAX, Cursor, DOCUMENT_LEN_MAX, Entry, Epoch, FeedError, Head, SnapshotPage};

/// Partitions of one feed: a hundred times the projects a large installation has.
const PARTITIONS_MAX: usize = 200_000;

/// Longest document key, in bytes: a certificate's with the longest host name is under 280.
const KEY_LEN_MAX: usize = 512;

/// Bytes of documents in one answer: what a primary sends at most (4 MiB besides the first document), and room to spare.
const ANSWER_LEN_MAX: usize = 8 * 1024 * 1024;

fn damaged(what: &str) -> FeedError {
    FeedError::Damaged(what.to_owned())
}

/// All partitions' ends: no partition twice, and all of one life of the primary, which it returns.
pub(super) fn heads(heads: &[Head]) -> Result<Option<Epoch>, FeedError> {
    if heads.len() > PARTITIONS_MAX {
        return Err(damaged("too many partitions"));
    }
    let partitions: HashSet<_> = heads.iter().map(|head| head.partition).collect();
    if partitions.len() != heads.len() {
        return Err(damaged("a partition has two ends"));
    }
    let epoch = heads.first().map(|head| head.cursor.epoch);
    if heads.iter().any(|head| Some(head.cursor.epoch) != epoch) {
        return Err(damaged("partitions of different epochs"));
    }
    Ok(epoch)
}

/// A page of a snapshot: keys ascend from `after`, the end never moves back from that of the `first` page, and
/// there is only more after something.
pub(super) fn page(
    page: &SnapshotPage,
    after: Option<&DocumentKey>,
    first: Option<Cursor>,
) -> Result<(), FeedError> {
    sizes(page.documents.iter().map(|document| (&document.key, Some(&*document.body))))?;
    let keys = after.into_iter().chain(page.documents.iter().map(|document| &document.key));
    if !keys.is_sorted_by(|a, b| a < b) {
        return Err(damaged("a snapshot in the wrong order"));
    }
    if first.is_some_and(|first| first.epoch != page.cursor.epoch || first.revision > page.cursor.revision) {
        return Err(damaged("a snapshot that went back"));
    }
    leads_on(page.more, page.documents.len())
}

/// A batch of changes.
pub(super) fn entries(entries: &[Entry], more: bool) -> Result<(), FeedError> {
    sizes(entries.iter().map(|entry| (&entry.key, entry.body.as_deref())))?;
    leads_on(more, entries.len())
}

fn leads_on(more: bool, len: usize) -> Result<(), FeedError> {
    if more && len == 0 { Err(damaged("more was promised after nothing")) } else { Ok(()) }
}

fn sizes<'a>(
    documents: impl ExactSizeIterator<Item = (&'a DocumentKey, Option<&'a RawValue>)>,
) -> Result<(), FeedError> {
    if documents.len() > BATCH_LEN_MAX {
        return Err(damaged("more documents than were asked for"));
    }
    let mut total = 0;
    for (key, body) in documents {
        let len = body.map_or(0, |body| body.get().len());
        if key.as_str().len() > KEY_LEN_MAX || len > DOCUMENT_LEN_MAX {
            return Err(damaged("a document that is too large"));
        }
        total += len;
    }
    if total > ANSWER_LEN_MAX { Err(damaged("an answer that is too large")) } else { Ok(()) }
}
