//! The end of a write transaction: the audit log, then the feed, then the commit.
//!
//! Both are written last, so that the rows every writer needs (chain heads, partition heads) are locked
//! briefly and always in the same order: audit heads by organization, then for each partition in sorted order its head
//! and its entries. Whoever holds a partition's head is alone in it until the commit, so revisions commit in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mezusphere_model::document::{Document, DocumentKey, Partition};

use super::audit::{self, AuditEntry};
use super::error::{StoreError, store_error};
use super::postgres::transaction::CommitFailed;
use super::secret;
use super::tx::{Inner, PUBLISH_MAX, Tx};
use super::value::args;
use crate::feed::{DOCUMENT_LEN_MAX, Digest, holds_keys};

/// What a transaction will write at its end.
#[derive(Default)]
pub(super) struct Pending {
    feed: BTreeMap<Partition, Entries>,
    /// Partitions whose documents all go; nothing else is written in them.
    cleared: Vec<Partition>,
    count: usize,
    audit: Vec<AuditEntry>,
}

/// What will be written in one partition: a body, or `None` to remove the document.
#[derive(Default)]
struct Entries {
    in_order: Vec<(DocumentKey, Option<String>)>,
    /// Where the last entry of each key is; the ones before it are not written.
    last: HashMap<DocumentKey, usize>,
}

impl Entries {
    fn push(&mut self, key: DocumentKey, body: Option<String>) {
        self.last.insert(key.clone(), self.in_order.len());
        self.in_order.push((key, body));
    }

    fn get(&self, key: &DocumentKey) -> Option<&Option<String>> {
        self.in_order.get(*self.last.get(key)?).map(|(_, body)| body)
    }

    fn into_last_of_each(self) -> impl Iterator<Item = (DocumentKey, Option<String>)> {
        let Self { in_order, last } = self;
        in_order
            .into_iter()
            .enumerate()
            .filter(move |(at, (key, _))| last.get(key) == Some(at))
            .map(|(_, entry)| entry)
    }
}

/// Where partitions stand after a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published(BTreeMap<Partition, u64>);

impl Published {
    /// The partition's revision after the commit, if the transaction changed anything in it.
    pub fn revision(&self, partition: Partition) -> Option<u64> {
        self.0.get(&partition).copied()
    }

    pub(super) fn partitions(&self) -> Arc<[Partition]> {
        self.0.keys().copied().collect()
    }
}

/// Why a transaction was not committed, and whether the same one may be tried again.
pub(super) struct NotCommitted {
    pub(super) why: StoreError,
    pub(super) again: bool,
}

impl Pending {
    pub(super) fn publish(&mut self, partition: Partition, document: &Document) -> Result<(), StoreError> {
        let body = serde_json::to_string(document)
            .map_err(|why| StoreError::Damaged(format!("a document cannot be written: {why}")))?;
        if body.len() > DOCUMENT_LEN_MAX {
            return Err(StoreError::TooLarge(format!(
                "a document of {} bytes; {DOCUMENT_LEN_MAX} are allowed",
                body.len()
            )));
        }
        self.file(partition, document.key(), Some(body))
    }

    pub(super) fn retract(&mut self, partition: Partition, key: DocumentKey) -> Result<(), StoreError> {
        self.file(partition, key, None)
    }

    fn file(
        &mut self,
        partition: Partition,
        key: DocumentKey,
        body: Option<String>,
    ) -> Result<(), StoreError> {
        self.count += 1;
        if self.count > PUBLISH_MAX {
            return Err(StoreError::TooLarge(format!("more than {PUBLISH_MAX} documents in one change")));
        }
        self.feed.entry(partition).or_default().push(key, body);
        Ok(())
    }

    pub(super) fn clear(&mut self, partition: Partition) {
        self.cleared.push(partition);
    }

    pub(super) fn audit(&mut self, entry: AuditEntry) {
        self.audit.push(entry);
    }

    /// Whether a document will be there after this transaction, as far as it says itself.
    pub(super) fn state_of(&self, partition: Partition, key: &DocumentKey) -> Option<bool> {
        if self.cleared.contains(&partition) {
            return Some(false);
        }
        self.feed.get(&partition)?.get(key).map(Option::is_some)
    }

    /// Keys this transaction publishes or retracts in a partition.
    pub(super) fn keys(&self, partition: Partition) -> impl Iterator<Item = &DocumentKey> {
        self.feed.get(&partition).into_iter().flat_map(|entries| entries.last.keys())
    }

    /// Partitions this transaction publishes in.
    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.feed.keys().copied().collect()
    }
}

impl Tx {
    /// Writes what is pending and commits. An error leaves nothing written, unless it says that it does not know.
    pub(super) async fn finish(mut self) -> Result<Published, NotCommitted> {
        let written = self.write_pending().await;
        let again = self.read.may_be_tried_again();
        let failed = self.read.failed.take().map(|failed| failed.why);
        let published = match (written, failed) {
            (Ok(published), None) => published,
            (Ok(_), Some(why)) | (Err(why), _) => {
                self.read.give_up().await;
                return Err(NotCommitted { why, again });
            }
        };
        match self.read.inner {
            Inner::Sqlite(tx) => {
                tx.commit().await.map_err(|why| NotCommitted { why: store_error(&why), again: false })?;
            }
            Inner::Postgres(tx) => tx.commit().await.map_err(|why| match why {
                CommitFailed::Not { why, again } => NotCommitted { why, again },
                CommitFailed::Unknown(why) => {
                    NotCommitted { why: StoreError::OutcomeUnknown(why), again: false }
                }
            })?,
        }
        Ok(published)
    }

    /// Writes what is pending.
    async fn write_pending(&mut self) -> Result<Published, StoreError> {
        let pending = std::mem::take(&mut self.pending);
        audit::append(self, pending.audit).await?;
        let mut published = Published::default();
        let mut partitions: Vec<_> = pending.feed.keys().chain(&pending.cleared).copied().collect();
        partitions.sort_unstable();
        partitions.dedup();
        let mut feed = pending.feed;
        for partition in partitions {
            let revision = if pending.cleared.contains(&partition) {
                Some(self.clear_partition(partition).await?)
            } else {
                let entries = feed.remove(&partition).unwrap_or_default();
                self.write_entries(partition, entries).await?
            };
            if let Some(revision) = revision {
                published.0.insert(partition, revision);
            }
        }
        Ok(published)
    }

    /// Locks the partition's head, making it if this is the partition's first change.
    async fn lock_head(&mut self, partition: Partition) -> Result<(u64, Digest), StoreError> {
        self.execute(
            "INSERT INTO feed_heads (partition, revision, digest, pruned_to) VALUES ($1, 0, $2, 0)
             ON CONFLICT (partition) DO NOTHING",
            args![partition, Digest::EMPTY.0],
        )
        .await?;
        let head = self
            .row(
                "UPDATE feed_heads SET revision = revision WHERE partition = $1 RETURNING revision, digest",
                args![partition],
            )
            .await?
            .ok_or_else(|| StoreError::Damaged(format!("partition {partition} has no head")))?;
        Ok((head.get("revision")?, Digest(head.get("digest")?)))
    }

    /// Appends entries; `None` if there was nothing to do.
    async fn write_entries(
        &mut self,
        partition: Partition,
        entries: Entries,
    ) -> Result<Option<u64>, StoreError> {
        let (before, mut digest) = self.lock_head(partition).await?;
        let mut revision = before;
        for (key, body) in entries.into_last_of_each() {
            let superseded = self
                .execute(
                    "UPDATE feed_entries SET is_current = 0
                     WHERE partition = $1 AND key = $2 AND is_current = 1",
                    args![partition, &key],
                )
                .await?;
            if superseded == 0 && body.is_none() {
                continue; // retracting what is not there
            }
            revision += 1;
            digest = digest.then(revision, &key, body.as_deref());
            let (body, sealed) = self.read.close_body(partition, &key, body);
            self.execute(
                "INSERT INTO feed_entries (partition, revision, key, body, sealed, digest, is_current)
                 VALUES ($1, $2, $3, $4, $5, $6, 1)",
                args![partition, revision, &key, body, sealed, digest.0],
            )
            .await?;
        }
        if revision == before {
            return Ok(None);
        }
        self.execute(
            "UPDATE feed_heads SET revision = $2, digest = $3 WHERE partition = $1",
            args![partition, revision, digest.0],
        )
        .await?;
        Ok(Some(revision))
    }

    /// Removes all entries of a partition at once: every follower's cursor is then behind what is kept, so it starts
    /// over and finds nothing.
    async fn clear_partition(&mut self, partition: Partition) -> Result<u64, StoreError> {
        let (before, digest) = self.lock_head(partition).await?;
        let revision = before + 1;
        let digest = digest.then(revision, &DocumentKey::from_text(""), None);
        self.execute("DELETE FROM feed_entries WHERE partition = $1", args![partition]).await?;
        self.execute(
            "UPDATE feed_heads SET revision = $2, digest = $3, pruned_to = $2 WHERE partition = $1",
            args![partition, revision, digest.0],
        )
        .await?;
        Ok(revision)
    }
}

impl super::ReadTx {
    /// A body as it is written: in the clear, or sealed if its kind holds keys.
    fn close_body(
        &self,
        partition: Partition,
        key: &DocumentKey,
        body: Option<String>,
    ) -> (Option<String>, Option<Vec<u8>>) {
        match body {
            Some(body) if holds_keys(key.as_str()) => {
                (None, Some(self.seal.seal(&context(partition, key), body.as_bytes())))
            }
            other => (other, None),
        }
    }

    /// A body as it was published; `None` for a tombstone.
    pub(super) fn open_body(
        &self,
        partition: Partition,
        key: &DocumentKey,
        row: &super::value::Row,
    ) -> Result<Option<String>, StoreError> {
        match row.opt::<Vec<u8>>("sealed")? {
            None => row.opt("body"),
            Some(sealed) => {
                let opened = secret::open(&*self.seal, &context(partition, key), &sealed)?;
                String::from_utf8(opened)
                    .map(Some)
                    .map_err(|_| StoreError::Damaged(format!("document {} is not text", key.as_str())))
            }
        }
    }
}

pub(super) fn context(partition: Partition, key: &DocumentKey) -> String {
    format!("feed/{partition}/{}", key.as_str())
}
