//! Opening the primary: whose the directory is, whether the database is one of ours, and what version.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mezusphere_model::seal::Seal;
use mezusphere_model::{Clock, Entropy};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Semaphore;

use super::applied::Reports;
use super::error::is_damage;
use super::postgres::bell::CrossBell;
use super::postgres::pool::Pool;
use super::postgres::{self, PostgresConfig};
use super::{Primary, migrate};
use crate::feed::{Bell, Epoch};
use crate::lock::{DirLock, DirLockError};

/// Name of the database file in the data directory.
const FILE: &str = "primary.db";

/// Name of the file whose lock means ownership of the data directory.
const LOCK: &str = "primary.lock";

/// Marks a database file as one of ours (SQLite's `application_id`): "mezu".
pub(super) const APPLICATION_ID: i64 = 0x6d65_7a75;

/// Connections for reading: a node asks rarely, and each costs a thread and up to [`CACHE_KIB`] of memory.
const READ_CONNECTIONS: u32 = 3;

/// Page cache of one connection, in KiB. Opened lazily, so that an idle node has few.
pub(super) const CACHE_KIB: i64 = 1024;

/// How long SQLite waits for a lock of another connection. Readers and the one writer never block each other in WAL
/// mode; this covers a backup tool that copies the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a transaction waits for a connection before the caller is told that the database is busy.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Transactions that may wait for the write connection; more are refused at once. At ~1000 transactions/s these take about a second.
const WRITERS_WAITING_MAX: usize = 1000;

/// Readers that may wait or run.
const READERS_WAITING_MAX: usize = 1000;

/// The log is cut to this size at a checkpoint, in bytes; one large transaction may make it grow.
const WAL_LEN_MAX: i64 = 16 * 1024 * 1024;

/// Why a primary cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the data directory.
    #[error("the data directory {} is in use by {}", path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that holds it, if it said so.
        holder: Option<u32>,
    },
    /// The directory or the database file cannot be created or written.
    #[error("cannot write to {}: {source}", path.display())]
    Unwritable {
        /// What cannot be written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A newer version of the product made or upgraded this database.
    #[error("{place} is of schema {found}; this version understands {known} at most")]
    Newer {
        /// The database: a file's path, or where a PostgreSQL is.
        place: String,
        /// Its schema version.
        found: i64,
        /// The newest this version knows.
        known: i64,
    },
    /// It is a database, but not one of ours.
    #[error("{place} is not a database of this product")]
    Foreign {
        /// The database.
        place: String,
    },
    /// It is damaged, or not a database at all.
    #[error("{place} is damaged: {detail}")]
    Damaged {
        /// The database.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Its content lives in a PostgreSQL now.
    #[error("{} was moved to {to}", path.display())]
    Moved {
        /// The database file.
        path: PathBuf,
        /// Where to, without user and password.
        to: String,
    },
    /// No connection to PostgreSQL.
    #[error("{place} cannot be reached: {detail}")]
    Unreachable {
        /// Where it is, without user and password.
        place: String,
        /// What was said last.
        detail: String,
    },
    /// PostgreSQL answered and lets this role, password or database name not in.
    #[error("{place} refused the connection: {detail}")]
    Refused {
        /// Where it is.
        place: String,
        /// What it said.
        detail: String,
    },
    /// The role lacks rights.
    #[error("{place} does not allow what is needed: {detail}")]
    Rights {
        /// Where it is.
        place: String,
        /// What is lacking.
        detail: String,
    },
    /// All servers of the URL are standbys, or read-only.
    #[error("{place} takes no writes: it is a standby, or read-only")]
    ReadOnly {
        /// Where it is.
        place: String,
    },
    /// The PostgreSQL is of an old version.
    #[error("{place} is PostgreSQL {found}; {needed} is the oldest that works")]
    TooOld {
        /// Where it is.
        place: String,
        /// Its major version.
        found: i32,
        /// The oldest that works.
        needed: i32,
    },
    /// The database does not keep text as UTF-8.
    #[error("{place} keeps text as {found}; UTF8 is needed")]
    Encoding {
        /// Where it is.
        place: String,
        /// What it keeps text as.
        found: String,
    },
    /// Anything else the database said while it was opened.
    #[error("cannot open {place}: {detail}")]
    Failed {
        /// The database.
        place: String,
        /// What the database said.
        detail: String,
    },
}

impl OpenError {
    pub(super) fn from_sqlite(path: &Path, why: &sqlx::Error) -> Self {
        let place = path.display().to_string();
        if is_damage(why) {
            Self::Damaged { place, detail: why.to_string() }
        } else {
            Self::Failed { place, detail: why.to_string() }
        }
    }
}

/// What all clones of a [`Primary`] share.
pub(super) struct Shared {
    pub(super) pools: Pools,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
    pub(super) seal: Arc<dyn Seal>,
    pub(super) epoch: Mutex<Epoch>,
    pub(super) bell: Bell,
    pub(super) reports: Reports,
    /// Whether reports are about to be written.
    pub(super) flushing: AtomicBool,
    /// Everything was moved to a PostgreSQL: nothing is written here any more.
    pub(super) moved: AtomicBool,
    pub(super) writers: Arc<Semaphore>,
    pub(super) readers: Arc<Semaphore>,
    /// Of a SQLite's directory; released last.
    _lock: Option<DirLock>,
}

/// The database's connections.
pub(super) enum Pools {
    Sqlite { write: SqlitePool, read: SqlitePool },
    Postgres { pool: Arc<Pool>, cross: CrossBell },
}

impl Primary {
    /// Opens `<dir>/primary.db`, creating directory and database if missing, and brings the schema up to date.
    ///
    /// Owns the directory for as long as any clone lives: a second process gets [`OpenError::Locked`].
    /// `seal` closes what is secret in it (CA keys, certificate keys, cookie keys).
    pub async fn open_sqlite(
        dir: &Path,
        clock: Clock,
        entropy: Entropy,
        seal: Arc<dyn Seal>,
    ) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: dir.to_owned(), source };
        let lock = DirLock::take(dir, LOCK).map_err(|why| match why {
            DirLockError::Held(holder) => OpenError::Locked { path: dir.to_owned(), holder },
            DirLockError::Io(source) => unwritable(source),
        })?;
        let path = dir.join(FILE);
        // Made here and not by SQLite, so that only its owner can read it; the log beside it gets the same mode.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| OpenError::Unwritable { path: path.clone(), source })?;

        let plain = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .thread_name(|n| format!("sqlite-{n}"))
            .disable_statement_logging();
        check_ours(&path, &plain).await?;

        let options = plain
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("cache_size", (-CACHE_KIB).to_string())
            .pragma("journal_size_limit", WAL_LEN_MAX.to_string())
            .pragma("trusted_schema", "OFF");
        let failed = |why: sqlx::Error| OpenError::from_sqlite(&path, &why);
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .max_lifetime(None)
                .idle_timeout(None)
                .test_before_acquire(false)
        };
        let write = pool().max_connections(1).connect_with(options.clone()).await.map_err(failed)?;
        let epoch = {
            let mut connection = write.acquire().await.map_err(failed)?;
            migrate::run(&path, &mut connection, &clock, &entropy).await?
        };
        let read =
            pool().max_connections(READ_CONNECTIONS).connect_lazy_with(options.pragma("query_only", "ON"));
        let pools = Pools::Sqlite { write, read };
        Ok(Self::new(pools, Bell::new(), epoch, clock, entropy, seal, Some(lock)))
    }

    /// Opens a PostgreSQL and brings its schema up to date; of several nodes that start at once, one does.
    ///
    /// Several processes may have it open. Of the hosts in the URL the one that takes writes is used, and looked for
    /// again whenever it went away or became a standby.
    ///
    /// The role should be one of its own, neither superuser nor with BYPASSRLS: row-level security, the second wall
    /// between tenants, does not hold those, and a warning says so. No acknowledged write is lost as long as the server
    /// is not; to survive the loss of a server it needs a synchronous standby.
    pub async fn open_postgres(
        config: PostgresConfig,
        clock: Clock,
        entropy: Entropy,
        seal: Arc<dyn Seal>,
    ) -> Result<Self, OpenError> {
        let (pool, epoch) = postgres::open::open(&config, &clock, &entropy).await?;
        let bell = Bell::new();
        let cross = CrossBell::start(&pool, bell.clone(), &entropy);
        Ok(Self::new(Pools::Postgres { pool, cross }, bell, epoch, clock, entropy, seal, None))
    }

    fn new(
        pools: Pools,
        bell: Bell,
        epoch: Epoch,
        clock: Clock,
        entropy: Entropy,
        seal: Arc<dyn Seal>,
        lock: Option<DirLock>,
    ) -> Self {
        Self(Arc::new(Shared {
            pools,
            clock,
            entropy,
            seal,
            epoch: Mutex::new(epoch),
            bell,
            reports: Reports::default(),
            flushing: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            writers: Arc::new(Semaphore::new(WRITERS_WAITING_MAX)),
            readers: Arc::new(Semaphore::new(READERS_WAITING_MAX)),
            _lock: lock,
        }))
    }
}

/// Refuses a file that is not ours before anything in it is changed: switching to WAL is a change.
async fn check_ours(path: &Path, options: &SqliteConnectOptions) -> Result<(), OpenError> {
    let failed = |why: sqlx::Error| OpenError::from_sqlite(path, &why);
    let mut connection = options.connect().await.map_err(failed)?;
    let id = pragma(&mut connection, "PRAGMA application_id").await.map_err(failed)?;
    let tables = pragma(&mut connection, "SELECT COUNT(*) FROM sqlite_schema").await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    if id == APPLICATION_ID || (id == 0 && tables == 0) {
        Ok(())
    } else {
        Err(OpenError::Foreign { place: path.display().to_string() })
    }
}

async fn pragma(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(sql).fetch_one(connection).await
}
