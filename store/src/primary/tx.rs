//! A transaction: queries, changes, and what is published and audited with them.
//!
//! The only file that hands the product's SQL to a driver. SQL text is the same for every database: `$1` placeholders, what
//! SQLite and PostgreSQL have in common. What is published and audited is kept here until the commit and
//! written then ([`super::commit`]).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use mezusphere_model::document::{Document, DocumentKey, Partition};
use mezusphere_model::id::{OrganizationId, ProjectId};
use mezusphere_model::seal::Seal;
use mezusphere_model::{Clock, Entropy, Timestamp};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Postgres, Sqlite};

use super::audit::AuditEntry;
use super::commit::Pending;
use super::error::{StoreError, WriteError, may_be_tried_again, store_error, write_error};
use super::postgres::transaction::PgTx;
use super::value::{Row, Value, args};

/// Most documents one transaction publishes or retracts: a role held by as many signed-in users can change.
pub const PUBLISH_MAX: usize = 50_000;

/// The database's own transaction.
pub(super) enum Inner {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(Box<PgTx>),
}

/// A statement that failed.
pub(super) struct Failed {
    pub(super) why: StoreError,
    /// The whole transaction may be tried again.
    pub(super) again: bool,
}

/// A read transaction: everything read in it is of one moment.
pub struct ReadTx {
    pub(super) inner: Inner,
    pub(super) clock: Clock,
    pub(super) seal: Arc<dyn Seal>,
    /// The tenant this transaction is confined to; `None`: it sees the whole installation.
    pub(super) confined: Option<(OrganizationId, Option<ProjectId>)>,
    /// Set by the first statement that failed: PostgreSQL can commit nothing after one, so no database may.
    pub(super) failed: Option<Failed>,
}

/// A write transaction.
pub struct Tx {
    pub(super) read: ReadTx,
    pub(super) entropy: Entropy,
    pub(super) pending: Pending,
}

impl std::fmt::Debug for ReadTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadTx")
    }
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl Deref for Tx {
    type Target = ReadTx;

    fn deref(&self) -> &ReadTx {
        &self.read
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut ReadTx {
        &mut self.read
    }
}

impl ReadTx {
    /// The time now, on the primary's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether it runs in PostgreSQL, beside others that write.
    pub(super) fn is_postgres(&self) -> bool {
        matches!(self.inner, Inner::Postgres(_))
    }

    /// Confines the rest of this transaction to an organization, or to one project of it: the second wall behind the
    /// tenant's id in every query. Nothing of another tenant can be read or written any more, whatever a query says.
    ///
    /// Call it once the caller's permission has been checked and the tenant is known. It can be narrowed further,
    /// never widened. In PostgreSQL row-level security enforces it; SQLite has no such wall, there it is only noted.
    ///
    /// A user, a sign-in or a directory concerns every project of an organization: confine changes of those to the
    /// organization only. What stays visible besides: nodes, settings, leases and the platform's partition of the
    /// feed, which every change of a site needs.
    ///
    /// # Errors
    /// [`StoreError::Confined`] if the transaction is confined to another tenant already.
    pub async fn confine(
        &mut self,
        organization: OrganizationId,
        project: Option<ProjectId>,
    ) -> Result<(), StoreError> {
        let fits = match self.confined {
            None => true,
            Some((within, None)) => within == organization,
            Some((within, only)) => within == organization && only == project,
        };
        if !fits {
            return Err(StoreError::Confined);
        }
        if self.is_postgres() {
            let scope = if project.is_some() { "project" } else { "organization" };
            self.row(
                "SELECT set_config('mezusphere.scope', $1, true),
                        set_config('mezusphere.organization', $2, true),
                        set_config('mezusphere.project', COALESCE($3, ''), true)",
                args![scope, organization, project],
            )
            .await?;
        }
        self.confined = Some((organization, project));
        Ok(())
    }

    /// All rows of an answer. Every query says itself how many that can be.
    pub(super) async fn rows(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let answer = match &mut self.inner {
            Inner::Sqlite(tx) => sqlite(sql, args)
                .fetch_all(&mut **tx)
                .await
                .map(|rows| rows.into_iter().map(Row::Sqlite).collect::<Vec<_>>()),
            Inner::Postgres(tx) => tx
                .run(async |connection| postgres(sql, args).fetch_all(connection).await)
                .await
                .map(|rows| rows.into_iter().map(Row::Postgres).collect()),
        };
        answer.map_err(|why| self.fail(&why))
    }

    /// The one row of an answer, if there is one.
    pub(super) async fn row(
        &mut self,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        let answer = match &mut self.inner {
            Inner::Sqlite(tx) => {
                sqlite(sql, args).fetch_optional(&mut **tx).await.map(|row| row.map(Row::Sqlite))
            }
            Inner::Postgres(tx) => tx
                .run(async |connection| postgres(sql, args).fetch_optional(connection).await)
                .await
                .map(|row| row.map(Row::Postgres)),
        };
        answer.map_err(|why| self.fail(&why))
    }

    /// Runs a statement; says how many rows it changed.
    async fn run(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64, sqlx::Error> {
        match &mut self.inner {
            Inner::Sqlite(tx) => sqlite(sql, args).execute(&mut **tx).await.map(|done| done.rows_affected()),
            Inner::Postgres(tx) => tx
                .run(async |connection| postgres(sql, args).execute(connection).await)
                .await
                .map(|done| done.rows_affected()),
        }
    }

    fn fail(&mut self, why: &sqlx::Error) -> StoreError {
        let error = store_error(why);
        self.failed.get_or_insert_with(|| Failed { why: error.clone(), again: may_be_tried_again(why) });
        error
    }

    /// Whether the transaction failed in a way that lets it be tried again.
    pub(super) fn may_be_tried_again(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.again)
    }

    /// Refuses what concerns all projects of an organization in a transaction that sees only one of them: it would be
    /// done by half.
    pub(super) fn need_whole_organization(&self) -> Result<(), StoreError> {
        match self.confined {
            Some((_, Some(_))) => Err(StoreError::Confined),
            Some((_, None)) | None => Ok(()),
        }
    }

    /// Ends it without writing anything.
    pub(super) async fn give_up(self) {
        match self.inner {
            Inner::Sqlite(tx) => {
                if let Err(why) = tx.rollback().await {
                    tracing::warn!(%why, "A transaction could not be rolled back; its connection does so before its next use");
                }
            }
            Inner::Postgres(tx) => tx.roll_back().await,
        }
    }
}

impl Tx {
    /// The primary's randomness, for ids made inside a transaction.
    pub fn entropy(&self) -> &Entropy {
        &self.entropy
    }

    /// Publishes a document: followers get it once the transaction is committed, in the order of these calls.
    /// Of several for one key in a transaction only the last is published.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] past [`PUBLISH_MAX`] documents or [`crate::feed::DOCUMENT_LEN_MAX`] bytes.
    pub fn publish(&mut self, partition: Partition, document: &Document) -> Result<(), StoreError> {
        self.pending.publish(partition, document)
    }

    /// Removes a document from the feed; nothing happens if it is not there.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] past [`PUBLISH_MAX`] documents.
    pub fn retract(&mut self, partition: Partition, key: DocumentKey) -> Result<(), StoreError> {
        self.pending.retract(partition, key)
    }

    /// Appends to the organization's audit log, in the same transaction.
    pub fn audit(&mut self, entry: AuditEntry) {
        self.pending.audit(entry);
    }

    /// Runs a statement that changes rows; says how many.
    pub(super) async fn execute(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64, StoreError> {
        let answer = self.read.run(sql, args).await;
        answer.map_err(|why| self.read.fail(&why))
    }

    /// Sets the page cache of SQLite's write connection, in KiB, until it is set again; in PostgreSQL there is none to set.
    pub(super) async fn sqlite_cache(&mut self, kib: i64) -> Result<(), StoreError> {
        let answer = match &mut self.read.inner {
            Inner::Sqlite(tx) => {
                sqlx::query(AssertSqlSafe(format!("PRAGMA cache_size = -{kib}"))).execute(&mut **tx).await
            }
            Inner::Postgres(_) => return Ok(()),
        };
        answer.map(drop).map_err(|why| self.read.fail(&why))
    }

    /// Inserts rows; `parent` is what they refer to, for the error when that is not there. Says how many.
    pub(super) async fn insert(
        &mut self,
        parent: &'static str,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<u64, WriteError> {
        let answer = self.read.run(sql, args).await;
        answer.map_err(|why| {
            self.read.fail(&why);
            write_error(&why, parent)
        })
    }

    /// Changes the one row of `what`; none is an error.
    pub(super) async fn change(
        &mut self,
        what: &'static str,
        sql: &'static str,
        args: Vec<Value>,
    ) -> Result<(), WriteError> {
        match self.insert(what, sql, args).await? {
            0 => Err(WriteError::NotFound { what }),
            _ => Ok(()),
        }
    }
}

/// A query with its parameters. A forgotten parameter would silently be NULL in SQLite.
fn sqlite(sql: &'static str, args: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    debug_assert_eq!(placeholders(sql), args.len(), "parameters of: {sql}");
    let query = sqlx::query(sql);
    args.into_iter().fold(query, |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
    })
}

/// The same for PostgreSQL, which is told the type of each parameter.
fn postgres(sql: &'static str, args: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    let query = sqlx::query(sql);
    args.into_iter().fold(query, |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
    })
}

/// The highest `$n` in a statement.
fn placeholders(sql: &str) -> usize {
    let number = |rest: &str| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().unwrap_or(0)
    };
    sql.split('$').skip(1).map(number).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_counted_by_their_highest_number() {
        assert_eq!(placeholders("SELECT 1"), 0);
        assert_eq!(placeholders("UPDATE t SET a = $2, b=$11 WHERE id = $1"), 11);
    }
}
