//! One transaction on one connection.
//!
//! It ends by [`PgTx::commit`] or [`PgTx::roll_back`]; dropped in any other way, its connection is closed, and the
//! server rolls it back. Every answer is waited for only so long: a network that swallows packets looks like a
//! statement that never ends.

use std::future::Future;
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use super::pool::{Lent, NoConnection, Pool};
use crate::primary::StoreError;
use crate::primary::error::{ends_the_connection, store_error};

/// What a transaction is for, which decides how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::primary) enum Purpose {
    /// Everything read is of one moment. Never fails for others' sake.
    Read,
    /// Serializable; the number says which attempt this is, from 1.
    Write(u32),
    /// Filling an empty database: for as long as it takes, and alone because nobody else knows of it.
    Transfer,
}

/// From this attempt on a writer is alone: those before it only queued among themselves.
const ALONE_FROM: u32 = 4;

/// Table nothing is ever written in: its lock is the queue of writers that met each other.
///
/// A table lock and not an advisory lock: `LOCK TABLE` takes no snapshot, so what a serializable transaction reads
/// after it waited is of after the wait. Taking an advisory lock is a query, and would freeze the view before the wait.
const QUEUE: &str = "write_queue";

impl Purpose {
    /// What begins the transaction, in one round trip. It sees the whole installation until it is confined; a
    /// session that says nothing sees nothing.
    fn begin(self) -> String {
        let scope = "SET LOCAL mezusphere.scope = 'installation'";
        match self {
            Self::Read => format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {scope}"),
            Self::Transfer => {
                format!(
                    "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; {scope}"
                )
            }
            Self::Write(attempt) => {
                let mode = match attempt {
                    0 | 1 => "ACCESS SHARE",
                    attempt if attempt < ALONE_FROM => "EXCLUSIVE",
                    _ => "ACCESS EXCLUSIVE",
                };
                format!("BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE {QUEUE} IN {mode} MODE; {scope}")
            }
        }
    }
}

/// A running transaction.
pub(in crate::primary) struct PgTx {
    lent: Lent,
    pool: Arc<Pool>,
    /// The connection must not be used by anybody after this.
    broken: bool,
}

/// How a commit went wrong.
pub(in crate::primary) enum CommitFailed {
    /// Nothing was written; `again`: the same change may be tried again.
    Not { why: StoreError, again: bool },
    /// The answer was lost.
    Unknown(String),
}

impl PgTx {
    /// Begins one. Idle connections that turn out to be dead are passed over.
    pub(in crate::primary) async fn begin(pool: &Arc<Pool>, purpose: Purpose) -> Result<Self, StoreError> {
        let sql = purpose.begin();
        let mut fresh = false;
        loop {
            let lent = pool.acquire().await.map_err(|why| no_connection(&why))?;
            let mut tx = Self { lent, pool: Arc::clone(pool), broken: false };
            let begun =
                tx.run(async |connection| connection.execute(AssertSqlSafe(sql.as_str())).await).await;
            match begun {
                Ok(_) => return Ok(tx),
                Err(why) if tx.broken && !fresh => {
                    tracing::debug!(%why, "A connection to PostgreSQL has died; connecting anew");
                    // The others were opened to the same server: the next one is new.
                    pool.forget_idle();
                    fresh = true;
                }
                Err(why) => return Err(store_error(&why)),
            }
        }
    }

    /// Runs something on the connection, waiting for the answer only so long.
    pub(in crate::primary) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let within = self.lent.answer_timeout();
        // A future dropped half-way leaves an answer on the wire for the next statement to find.
        let whole = std::mem::replace(&mut self.broken, true);
        let answer = bounded(within, work(&mut self.lent.connection)).await;
        self.broken = whole || answer.as_ref().is_err_and(ends_the_connection);
        answer
    }

    /// Commits.
    pub(in crate::primary) async fn commit(mut self) -> Result<(), CommitFailed> {
        match self.run(async |connection| connection.execute("COMMIT").await).await {
            Ok(_) => {
                self.lent.give_back();
                Ok(())
            }
            Err(why) => {
                let failed = commit_failed(&why);
                if !self.broken && matches!(failed, CommitFailed::Not { .. }) {
                    self.lent.give_back(); // the server has rolled back
                }
                Err(failed)
            }
        }
    }

    /// Gives it up.
    pub(in crate::primary) async fn roll_back(mut self) {
        if self.broken {
            self.pool.forget_idle();
            return;
        }
        let rolled_back = self.run(async |connection| connection.execute("ROLLBACK").await).await;
        if let Err(why) = rolled_back {
            tracing::debug!(%why, "A transaction could not be rolled back; its connection is closed");
            return;
        }
        self.lent.give_back();
    }
}

async fn bounded<T>(
    within: std::time::Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(within, answer).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", within.as_secs());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text)))
    })
}

/// The server says that it did not commit, or says nothing: only the first is certain.
fn commit_failed(why: &sqlx::Error) -> CommitFailed {
    let code = why.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        // Met another transaction: nothing was written.
        Some("40001" | "40P01") => CommitFailed::Not { why: store_error(why), again: true },
        // Going down, or told to stop waiting for a standby: the commit may be on its disk.
        Some(code) if code.starts_with("57") || code.starts_with("08") || code.starts_with("XX") => {
            CommitFailed::Unknown(why.to_string())
        }
        // A constraint that is checked at the end, a full disk: refused.
        Some(_) => CommitFailed::Not { why: store_error(why), again: false },
        None => CommitFailed::Unknown(why.to_string()),
    }
}

/// What having no connection means to a caller.
pub(in crate::primary) fn no_connection(why: &NoConnection) -> StoreError {
    StoreError::Unavailable(match why {
        NoConnection::Busy => "too many others are waiting for it".to_owned(),
        NoConnection::Closed => "it was closed".to_owned(),
        NoConnection::Unreachable { host, why } => format!("{host} cannot be reached: {why}"),
        NoConnection::NoneWritable => "no PostgreSQL of the list takes writes now".to_owned(),
    })
}
