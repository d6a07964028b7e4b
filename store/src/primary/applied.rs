//! What each follower of the feed has applied, as every control node knows it.
//!
//! A follower reports after each change; a row is written only when something changed, and by one process at most
//! every [`FLUSH_EVERY`]: until then the newest reports are in memory. Readers see both.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mezusphere_model::document::Partition;

use super::migrate::{epoch_text, read_epoch_text};
use super::value::{Row, args};
use super::{Primary, ReadTx, StoreError, Tx};
use crate::feed::{AppliedReport, Cursor, Digest};

/// Reports wait at most this long in memory before they are written, so that a busy feed costs one write per second.
pub const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Reports kept in memory: followers times partitions. Beyond it new ones are not kept; whoever waits for them waits on.
const REPORTS_MAX: usize = 100_000;

/// Rows written in one transaction, so that a writer never waits long for reports.
const FLUSH_MAX: usize = 1000;

/// Rows of one answer.
const LISTED_MAX: usize = 10_000;

fn read(row: &Row) -> Result<AppliedReport, StoreError> {
    Ok(AppliedReport {
        follower: row.get("follower")?,
        partition: row.get("partition")?,
        cursor: Cursor {
            epoch: read_epoch_text(&row.get::<String>("epoch")?)?,
            revision: row.get("revision")?,
            digest: Digest(row.get("digest")?),
        },
        at: row.get("at")?,
    })
}

/// Writes a report; one that is older than what is known changes nothing.
pub(super) async fn put(tx: &mut Tx, report: &AppliedReport) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO applied (follower, partition, epoch, revision, digest, at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (follower, partition) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision,
             digest = excluded.digest, at = excluded.at
         WHERE applied.at <= excluded.at",
        args![
            report.follower.as_str(),
            report.partition,
            epoch_text(report.cursor.epoch),
            report.cursor.revision,
            report.cursor.digest.0,
            report.at
        ],
    )
    .await
    .map(drop)
}

/// What the followers of a partition have applied, as written; at most 10 000 rows.
/// [`super::Primary::applied_by`] knows up to a second more.
pub async fn of_partition(tx: &mut ReadTx, partition: Partition) -> Result<Vec<AppliedReport>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM applied WHERE partition = $1 ORDER BY follower LIMIT $2",
            args![partition, LISTED_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// What a follower has applied, as written; at most 10 000 rows.
pub async fn by_follower(tx: &mut ReadTx, follower: &str) -> Result<Vec<AppliedReport>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM applied WHERE follower = $1 ORDER BY partition LIMIT $2",
            args![follower, LISTED_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Forgets a follower that will not come back; nothing happens if it is not known. Whoever waits for all followers does
/// not wait for it any more.
pub async fn forget(tx: &mut Tx, follower: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM applied WHERE follower = $1", args![follower]).await.map(drop)
}

impl Primary {
    /// The newest report of each follower of a partition, as far as this node or any other has written it or this one
    /// has heard it.
    pub async fn applied_by(&self, partition: Partition) -> Result<Vec<AppliedReport>, StoreError> {
        let written = self.read(async |tx| of_partition(tx, partition).await).await?;
        Ok(self.0.reports.merged(partition, written))
    }

    /// Takes reports in, and has them written within [`FLUSH_EVERY`].
    pub(super) fn take_reports(&self, reports: Vec<AppliedReport>) {
        if !self.0.reports.take(reports) || self.0.flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        // The task ends by itself within a second, and does not keep the database open meanwhile.
        let shared = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(FLUSH_EVERY).await;
            let Some(shared) = shared.upgrade() else { return };
            shared.flushing.store(false, Ordering::Release);
            Self(shared).flush_reports().await;
        });
    }

    /// Writes what was heard and not written yet. What cannot be written now is written with the next report.
    pub(super) async fn flush_reports(&self) {
        loop {
            let reports = self.0.reports.unwritten();
            if reports.is_empty() {
                return;
            }
            let written = self
                .write(async |tx| {
                    for report in &reports {
                        put(tx, report).await?;
                    }
                    Ok::<_, StoreError>(())
                })
                .await;
            match written {
                Ok(()) => self.0.reports.wrote(&reports),
                Err(why) => {
                    tracing::warn!(%why, "What followers applied could not be written down");
                    return;
                }
            }
        }
    }
}

/// The newest reports this process heard, and which of them are not written yet.
#[derive(Default)]
pub(super) struct Reports(Mutex<HashMap<(String, Partition), Heard>>);

struct Heard {
    report: AppliedReport,
    written: bool,
}

impl Reports {
    /// Takes reports in; says whether any of them is to be written.
    pub(super) fn take(&self, reports: Vec<AppliedReport>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = false;
        for report in reports {
            let key = (report.follower.clone(), report.partition);
            let room = known.len() < REPORTS_MAX;
            match known.get_mut(&key) {
                Some(heard) if heard.report.cursor == report.cursor => {}
                Some(heard) => {
                    *heard = Heard { report, written: false };
                    fresh = true;
                }
                None if room => {
                    known.insert(key, Heard { report, written: false });
                    fresh = true;
                }
                None => {}
            }
        }
        fresh
    }

    /// Some that are not written yet, as many as one transaction takes.
    pub(super) fn unwritten(&self) -> Vec<AppliedReport> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = known.values().filter(|heard| !heard.written);
        open.take(FLUSH_MAX).map(|heard| heard.report.clone()).collect()
    }

    /// These are written now, unless newer ones came meanwhile.
    pub(super) fn wrote(&self, reports: &[AppliedReport]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for report in reports {
            if let Some(heard) = known.get_mut(&(report.follower.clone(), report.partition))
                && heard.report == *report
            {
                heard.written = true;
            }
        }
    }

    /// What is known of a partition: of each follower the newer of what is written and what was heard.
    pub(super) fn merged(&self, partition: Partition, written: Vec<AppliedReport>) -> Vec<AppliedReport> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: HashMap<String, AppliedReport> =
            written.into_iter().map(|report| (report.follower.clone(), report)).collect();
        // What was written and is gone again was forgotten on purpose.
        for heard in known.values().filter(|heard| heard.report.partition == partition) {
            match all.get_mut(&heard.report.follower) {
                Some(row) if row.at <= heard.report.at => *row = heard.report.clone(),
                Some(_) => {}
                None if heard.written => {}
                None => {
                    all.insert(heard.report.follower.clone(), heard.report.clone());
                }
            }
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by(|a, b| a.follower.cmp(&b.follower));
        all
    }
}
