//! The primary as the source of its own feed, for followers in the same process and for the edge link.

use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::link::Answer;
use serde_json::value::RawValue;

use super::error::StoreError;
use super::migrate::read_epoch_text;
use super::open::Pools;
use super::value::{Row, args};
use super::{Primary, ReadTx};
use crate::feed::{
    AppliedReport, BATCH_LEN_MAX, Changes, Cursor, Digest, Entry, Epoch, FeedError, FeedSource, Filed, Head,
    SnapshotPage, Wake,
};

/// Bytes of documents in one answer, besides the first: a batch of large sites stays within memory.
const ANSWER_LEN_MAX: usize = 4 * 1024 * 1024;

/// Rows read from the database at a time while an answer is put together.
const STEP: usize = 100;

impl FeedSource for Primary {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        Box::pin(async move {
            let (epoch, rows) = self
                .read(async |tx| {
                    let epoch = self.epoch_now(tx).await?;
                    let rows = tx
                        .rows(
                            "SELECT partition, revision, digest FROM feed_heads ORDER BY partition",
                            args![],
                        )
                        .await?;
                    Ok::<_, StoreError>((epoch, rows))
                })
                .await?;
            rows.iter()
                .map(|row| Ok(Head { partition: row.get("partition")?, cursor: cursor(epoch, row)? }))
                .collect()
        })
    }

    fn snapshot(
        &self,
        partition: Partition,
        after: Option<DocumentKey>,
        max: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        Box::pin(async move {
            self.read(async |tx| {
                let epoch = self.epoch_now(tx).await?;
                let (cursor, _) = head(tx, epoch, partition).await?;
                let mut page = SnapshotPage { cursor, documents: Vec::new(), more: false };
                let mut last = after.unwrap_or_else(|| DocumentKey::from_text(""));
                let max = max.clamp(1, BATCH_LEN_MAX);
                let mut len = 0;
                loop {
                    let rows = tx
                        .rows(
                            "SELECT key, body, sealed FROM feed_entries
                             WHERE partition = $1 AND is_current = 1 AND key > $2
                               AND (body IS NOT NULL OR sealed IS NOT NULL)
                             ORDER BY key LIMIT $3",
                            args![partition, &last, STEP],
                        )
                        .await?;
                    for row in &rows {
                        if page.documents.len() == max || len >= ANSWER_LEN_MAX {
                            page.more = true;
                            return Ok(page);
                        }
                        let key: DocumentKey = row.get("key")?;
                        if let Some(body) = body(tx, partition, &key, row)? {
                            len += body.get().len();
                            page.documents.push(Filed { key: key.clone(), body });
                        }
                        last = key;
                    }
                    if rows.len() < STEP {
                        return Ok(page);
                    }
                }
            })
            .await
        })
    }

    fn changes(
        &self,
        partition: Partition,
        since: Cursor,
        max: usize,
    ) -> Answer<'_, Result<Changes, FeedError>> {
        Box::pin(async move {
            self.read(async |tx| {
                let epoch = self.epoch_now(tx).await?;
                let (head, pruned_to) = head(tx, epoch, partition).await?;
                if since == head {
                    return Ok(Changes::Entries { entries: Vec::new(), more: false });
                }
                if !fits(tx, partition, since, head, pruned_to).await? {
                    return Ok(Changes::StartOver);
                }
                let mut entries: Vec<Entry> = Vec::new();
                let max = max.clamp(1, BATCH_LEN_MAX);
                let (mut at, mut len) = (since.revision, 0);
                loop {
                    let rows = tx
                        .rows(
                            "SELECT revision, key, body, sealed, digest FROM feed_entries
                             WHERE partition = $1 AND revision > $2 ORDER BY revision LIMIT $3",
                            args![partition, at, STEP],
                        )
                        .await?;
                    for row in &rows {
                        if entries.len() == max || len >= ANSWER_LEN_MAX {
                            return Ok(Changes::Entries { entries, more: true });
                        }
                        let key: DocumentKey = row.get("key")?;
                        let body = body(tx, partition, &key, row)?;
                        len += body.as_ref().map_or(0, |body| body.get().len());
                        at = row.get("revision")?;
                        entries.push(Entry { revision: at, key, body, digest: Digest(row.get("digest")?) });
                    }
                    if rows.len() < STEP {
                        return Ok(Changes::Entries { entries, more: false });
                    }
                }
            })
            .await
        })
    }

    fn applied(&self, reports: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        Box::pin(async move {
            self.take_reports(reports);
            Ok(())
        })
    }

    fn wake(&self) -> Wake {
        self.0.bell.listen()
    }
}

impl Primary {
    /// The epoch at the moment of a transaction: in PostgreSQL another node may have begun a new one.
    async fn epoch_now(&self, tx: &mut ReadTx) -> Result<Epoch, StoreError> {
        if matches!(self.0.pools, Pools::Sqlite { .. }) {
            return Ok(self.epoch());
        }
        let row = tx.row("SELECT value FROM meta WHERE name = 'epoch'", args![]).await?;
        let row = row.ok_or_else(|| StoreError::Damaged("the epoch is missing".to_owned()))?;
        let epoch = read_epoch_text(&row.get::<String>("value")?)?;
        self.set_epoch(epoch);
        Ok(epoch)
    }
}

impl From<StoreError> for FeedError {
    fn from(why: StoreError) -> Self {
        match why {
            StoreError::Damaged(detail) => Self::Damaged(detail),
            other => Self::Away(other.to_string()),
        }
    }
}

fn cursor(epoch: Epoch, row: &Row) -> Result<Cursor, StoreError> {
    Ok(Cursor { epoch, revision: row.get("revision")?, digest: Digest(row.get("digest")?) })
}

/// A partition's end and how far it was pruned; a partition nothing was ever published in ends at 0.
async fn head(tx: &mut ReadTx, epoch: Epoch, partition: Partition) -> Result<(Cursor, u64), StoreError> {
    let row = tx
        .row("SELECT revision, digest, pruned_to FROM feed_heads WHERE partition = $1", args![partition])
        .await?;
    match row {
        Some(row) => Ok((cursor(epoch, &row)?, row.get("pruned_to")?)),
        None => Ok((Cursor { epoch, revision: 0, digest: Digest::EMPTY }, 0)),
    }
}

/// Whether the changes since a cursor can be told: it is of this life, not before what is kept, and what it saw last is
/// what stands there.
async fn fits(
    tx: &mut ReadTx,
    partition: Partition,
    since: Cursor,
    head: Cursor,
    pruned_to: u64,
) -> Result<bool, StoreError> {
    if since.epoch != head.epoch || since.revision >= head.revision || since.revision < pruned_to {
        return Ok(false);
    }
    if since.revision == 0 {
        return Ok(since.digest == Digest::EMPTY);
    }
    let row = tx
        .row(
            "SELECT digest FROM feed_entries WHERE partition = $1 AND revision = $2",
            args![partition, since.revision],
        )
        .await?;
    Ok(row.map(|row| row.get::<[u8; 32]>("digest")).transpose()? == Some(since.digest.0))
}

fn body(
    tx: &ReadTx,
    partition: Partition,
    key: &DocumentKey,
    row: &Row,
) -> Result<Option<Box<RawValue>>, FeedError> {
    tx.open_body(partition, key, row)?
        .map(|text| {
            RawValue::from_string(text)
                .map_err(|why| FeedError::Damaged(format!("document {}: {why}", key.as_str())))
        })
        .transpose()
}
