//! Moving a live installation from SQLite to PostgreSQL: everything, once, verified before it counts.
//!
//! The one SQLite writer is held from the first row to the last word: reads go on, writers wait (and are told that the
//! database is busy after their usual wait). All of it is one transaction in the target: schema, rows ([`copy`]), and
//! the checks. Epoch, revisions and digests stay, so that followers just go on. Then the SQLite is marked as moved, and
//! opening it says so.
//!
//! The way back, before anything has been written to PostgreSQL: stop everything, and remove the mark,
//! `DELETE FROM meta WHERE name = 'moved_to'` in `primary.db`. Afterwards there is none: the file knows nothing of what
//! came later.

mod copy;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use super::audit::{self, AuditVerdict};
use super::error::{StoreError, store_error};
use super::open::{OpenError, Pools};
use super::organization;
use super::postgres::open::{self as target, Found};
use super::postgres::pool::Pool;
use super::postgres::transaction::{CommitFailed, PgTx, Purpose};
use super::tx::Inner;
use super::value::args;
use super::{PageRequest, PostgresConfig, Primary, ReadTx};
use crate::feed::Epoch;

/// What has been done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferStep<'a> {
    /// A table is being copied; so many of its rows are over.
    Copying {
        /// Which.
        table: &'a str,
        /// Rows so far.
        rows: u64,
    },
    /// A table is read back from the target and compared.
    Comparing {
        /// Which.
        table: &'a str,
    },
    /// Audit chains and ends of the feed are checked in the target.
    Checking,
}

/// What was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferReport {
    /// Where to, without user and password.
    pub to: String,
    /// Each table and how many rows it has on both sides.
    pub tables: Vec<(String, u64)>,
    /// Organizations whose audit chains are whole in the target.
    pub audit_chains: u64,
    /// Partitions of the feed that end where they ended.
    pub partitions: u64,
    /// The life of the database, which goes on.
    pub epoch: Epoch,
}

/// Why nothing was moved, or what is not known.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Only a SQLite can be moved.
    #[error("this installation is on PostgreSQL already")]
    NotSqlite,
    /// It has been moved before.
    #[error("this installation was moved already")]
    Moved,
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] OpenError),
    /// There is an installation in the target: another one, or this one from an earlier move.
    #[error("{place} already holds {}", if *.same { "this installation, from an earlier move" } else { "another installation" })]
    NotEmpty {
        /// Where it is.
        place: String,
        /// It is of the same life as this one.
        same: bool,
    },
    /// Another node is working on the target.
    #[error("{0} is being set up by another node")]
    TargetBusy(String),
    /// The SQLite could not be read.
    #[error("the source could not be read: {0}")]
    Source(StoreError),
    /// The target failed on the way; nothing is left in it.
    #[error("the target failed: {0}")]
    Failed(StoreError),
    /// What arrived is not what was sent; nothing is left in the target.
    #[error("what arrived in the target differs: {0}")]
    Differs(String),
    /// The target went away while it committed. The SQLite is not marked as moved and goes on; look into the target, and
    /// empty it before another try.
    #[error("it is not known whether the target has everything: {0}")]
    OutcomeUnknown(String),
    /// The target has everything, but the SQLite could not be marked as moved: do not start with it again.
    #[error("everything was moved, but the source could not be marked: {0}")]
    NotMarked(StoreError),
}

impl Primary {
    /// Copies everything into an empty PostgreSQL, verifies it, and marks this SQLite as moved.
    ///
    /// Nothing can be written here any more after that, by this process or the next; reads go on until it is closed. If
    /// this future is dropped before it is done, nothing has happened.
    pub async fn transfer_to(
        &self,
        config: &PostgresConfig,
        progress: &mut (dyn FnMut(TransferStep<'_>) + Send),
    ) -> Result<TransferReport, TransferError> {
        let place = config.place();
        if matches!(self.0.pools, Pools::Postgres { .. }) {
            return Err(TransferError::NotSqlite);
        }
        // The target first: what cannot be used must not make writers wait.
        let pool = self.empty_target(config).await?;
        let mut source = match self.begin_write(1).await.map_err(TransferError::Source)? {
            Inner::Sqlite(tx) => tx,
            Inner::Postgres(_) => return Err(TransferError::NotSqlite),
        };
        let tx = PgTx::begin(&pool, Purpose::Transfer).await.map_err(TransferError::Failed)?;
        let mut target = self.read_tx(Inner::Postgres(Box::new(tx)));
        let copied = self.copy_and_check(&place, &mut source, &mut target, progress).await;
        let report = match copied {
            Ok(report) => report,
            Err(why) => {
                target.give_up().await;
                pool.close().await;
                return Err(why);
            }
        };
        let mark = sqlx::query("INSERT INTO meta (name, value) VALUES ('moved_to', $1)").bind(&place);
        mark.execute(&mut *source).await.map_err(|why| TransferError::Source(store_error(&why)))?;
        let Inner::Postgres(tx) = target.inner else { return Err(TransferError::NotSqlite) };
        // A task of its own: a caller who goes away between the two commits would leave two installations alive.
        let shared = Arc::clone(&self.0);
        let commits = tokio::spawn(async move {
            tx.commit().await.map_err(|why| match why {
                CommitFailed::Not { why, .. } => TransferError::Failed(why),
                CommitFailed::Unknown(why) => TransferError::OutcomeUnknown(why),
            })?;
            // Writers that wait behind this one must not write what nobody will read.
            shared.moved.store(true, Ordering::Release);
            source.commit().await.map_err(|why| TransferError::NotMarked(store_error(&why)))
        });
        commits.await.map_err(|why| TransferError::OutcomeUnknown(why.to_string()))??;
        pool.close().await;
        tracing::info!(to = %place, "The installation was moved to PostgreSQL");
        Ok(report)
    }

    /// Connections to the target, if it is empty and usable.
    async fn empty_target(&self, config: &PostgresConfig) -> Result<Arc<Pool>, TransferError> {
        let place = config.place();
        let (pool, mut connection) = target::connect(config).await?;
        let found = target::look(&place, &mut connection).await?;
        let same = match found {
            Found::Empty => None,
            Found::Ours(_) => Some(target::epoch(&place, &mut connection).await? == self.epoch()),
        };
        target::close(connection).await;
        match same {
            None => Ok(pool),
            Some(same) => Err(TransferError::NotEmpty { place, same }),
        }
    }

    async fn copy_and_check(
        &self,
        place: &str,
        source: &mut sqlx::SqliteConnection,
        target: &mut ReadTx,
        progress: &mut (dyn FnMut(TransferStep<'_>) + Send),
    ) -> Result<TransferReport, TransferError> {
        self.make_schema(place, target).await?;
        let mut tables = Vec::new();
        for table in copy::tables(source).await.map_err(|why| TransferError::Source(store_error(&why)))? {
            let rows = copy::table(&table, source, target, progress).await?;
            tables.push((table.name, rows));
        }
        progress(TransferStep::Checking);
        let audit_chains = audit_chains(target).await?;
        let partitions = feed_ends(target).await?;
        Ok(TransferReport { to: place.to_owned(), tables, audit_chains, partitions, epoch: self.epoch() })
    }

    /// Makes the schema in the target's transaction, with this database's epoch.
    async fn make_schema(&self, place: &str, target: &mut ReadTx) -> Result<(), TransferError> {
        let tx = postgres(target)?;
        let locked = tx
            .run(async |connection| {
                let row =
                    sqlx::query("SELECT pg_try_advisory_xact_lock($1) AS held").bind(target::MIGRATION_LOCK);
                row.fetch_one(connection).await?.try_get::<bool, _>("held")
            })
            .await
            .map_err(|why| failed(&why))?;
        if !locked {
            return Err(TransferError::TargetBusy(place.to_owned()));
        }
        // Somebody may have come between the first look and the lock.
        let found = tx.run(async |connection| Ok(target::look(place, connection).await)).await;
        if found.map_err(|why| failed(&why))?? != Found::Empty {
            return Err(TransferError::TargetBusy(place.to_owned()));
        }
        let (clock, epoch) = (self.0.clock.clone(), self.epoch());
        let made = tx.run(async |connection| target::make(connection, &clock, epoch).await).await;
        made.map_err(|why| match target::failed(place, &why) {
            OpenError::Rights { place, detail } => OpenError::Rights { place, detail }.into(),
            _ => failed(&why),
        })
    }
}

/// The target's own transaction.
fn postgres(target: &mut ReadTx) -> Result<&mut PgTx, TransferError> {
    match &mut target.inner {
        Inner::Postgres(tx) => Ok(tx),
        Inner::Sqlite(_) => Err(TransferError::NotSqlite),
    }
}

fn failed(why: &sqlx::Error) -> TransferError {
    TransferError::Failed(store_error(why))
}

/// Checks every organization's audit chain in the target.
async fn audit_chains(target: &mut ReadTx) -> Result<u64, TransferError> {
    let mut page = PageRequest::first();
    let mut checked = 0;
    loop {
        let found = organization::list(target, &page).await.map_err(TransferError::Failed)?;
        for row in &found.rows {
            match audit::verify(target, row.id).await.map_err(TransferError::Failed)? {
                AuditVerdict::Intact { .. } => checked += 1,
                AuditVerdict::Broken { sequence } => {
                    return Err(TransferError::Differs(format!(
                        "the audit log of {} is broken at entry {sequence}; it may have been before",
                        row.slug
                    )));
                }
            }
        }
        match found.next {
            Some(next) => page = PageRequest::after(next),
            None => return Ok(checked),
        }
    }
}

/// Checks that every partition ends with the entry its head names.
async fn feed_ends(target: &mut ReadTx) -> Result<u64, TransferError> {
    let row = target
        .row(
            "SELECT COUNT(*) AS n, COUNT(*) FILTER (
                 WHERE h.revision > h.pruned_to AND NOT EXISTS (
                     SELECT 1 FROM feed_entries e
                     WHERE e.partition = h.partition AND e.revision = h.revision AND e.digest = h.digest)) AS wrong
             FROM feed_heads h",
            args![],
        )
        .await
        .map_err(TransferError::Failed)?;
    let (all, wrong) = match row {
        Some(row) => (
            row.get::<u64>("n").map_err(TransferError::Failed)?,
            row.get::<u64>("wrong").map_err(TransferError::Failed)?,
        ),
        None => (0, 0),
    };
    if wrong > 0 {
        return Err(TransferError::Differs(format!("{wrong} partitions of the feed do not end as they did")));
    }
    Ok(all)
}

/// Runs one statement in the target.
async fn execute(target: &mut ReadTx, sql: &str) -> Result<(), TransferError> {
    postgres(target)?
        .run(async |connection| connection.execute(AssertSqlSafe(sql)).await.map(drop))
        .await
        .map_err(|why| failed(&why))
}
