//! Connections to whichever host takes writes.
//!
//! Bounded in number and in waiting. A connection is used by one transaction at a time and comes back only after that
//! has ended cleanly; any doubt closes it. A connection that died while idle shows at the first statement, which is why
//! [`Pool::acquire`] is asked again by whoever could not begin.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::config::{Host, PostgresConfig};

/// How long an idle connection is kept: an idle node holds none.
const IDLE_MAX: Duration = Duration::from_mins(5);

/// How long a connection is used at all, so that one opened to a host that lost its role to another goes away.
const LIFE_MAX: Duration = Duration::from_mins(30);

/// How much longer than the server's own bound a statement is waited for: then the network is broken, not the statement.
const NETWORK_GRACE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug)]
pub(in crate::primary) enum NoConnection {
    /// All were in use for the whole wait.
    Busy,
    /// The pool was closed.
    Closed,
    /// No host accepted: what the last one said.
    Unreachable { host: String, why: sqlx::Error },
    /// Hosts answered, and none takes writes.
    NoneWritable,
}

/// The connections.
pub(in crate::primary) struct Pool {
    hosts: Vec<Host>,
    /// The host that took writes last: asked first.
    favourite: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
    permits: Arc<Semaphore>,
    closed: AtomicBool,
    acquire_timeout: Duration,
    connect_timeout: Duration,
    /// How long the answer to a statement is waited for.
    pub(super) answer_timeout: Duration,
}

struct Idle {
    connection: PgConnection,
    born_at: Instant,
    since: Instant,
}

/// A connection in use. Dropped without [`Lent::give_back`] it is closed, which ends whatever was going on in it.
pub(in crate::primary) struct Lent {
    pub(in crate::primary) connection: PgConnection,
    born_at: Instant,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    /// Returns it for the next one to use.
    pub(super) fn give_back(self) {
        let Self { connection, born_at, pool, _permit: permit } = self;
        let now = Instant::now();
        if !pool.closed.load(Ordering::Acquire) && now.duration_since(born_at) < LIFE_MAX {
            pool.idle().push(Idle { connection, born_at, since: now });
        }
        drop(permit);
    }

    /// How long the answer to a statement is waited for.
    pub(super) fn answer_timeout(&self) -> Duration {
        self.pool.answer_timeout
    }
}

impl Pool {
    pub(super) fn new(config: &PostgresConfig) -> Arc<Self> {
        Arc::new(Self {
            hosts: config.hosts(),
            favourite: AtomicUsize::new(0),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(config.connections.max(2) as usize)),
            closed: AtomicBool::new(false),
            acquire_timeout: config.acquire_timeout,
            connect_timeout: config.connect_timeout,
            answer_timeout: config.statement_timeout + NETWORK_GRACE,
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection: an idle one, or a new one. Waits at most `acquire_timeout` for its turn, and then for the hosts.
    pub(in crate::primary) async fn acquire(self: &Arc<Self>) -> Result<Lent, NoConnection> {
        let permit = tokio::time::timeout(self.acquire_timeout, Arc::clone(&self.permits).acquire_owned());
        let permit = match permit.await {
            Err(_) => return Err(NoConnection::Busy),
            Ok(Err(_)) => return Err(NoConnection::Closed),
            Ok(Ok(permit)) => permit,
        };
        let now = Instant::now();
        let usable = {
            let mut idle = self.idle();
            idle.retain(|one| {
                now.duration_since(one.since) < IDLE_MAX && now.duration_since(one.born_at) < LIFE_MAX
            });
            idle.pop()
        };
        let (connection, born_at) = match usable {
            Some(idle) => (idle.connection, idle.born_at),
            None => (self.connect().await?, now),
        };
        Ok(Lent { connection, born_at, pool: Arc::clone(self), _permit: permit })
    }

    /// Closes what is idle: called when the server went away or changed its role, which all of them share.
    pub(super) fn forget_idle(&self) {
        self.idle().clear();
    }

    /// A new connection to a host that takes writes; each host has `connect_timeout`.
    pub(super) async fn connect(&self) -> Result<PgConnection, NoConnection> {
        let first = self.favourite.load(Ordering::Relaxed);
        let mut last = NoConnection::NoneWritable;
        for at in (0..self.hosts.len()).map(|n| (first + n) % self.hosts.len()) {
            let Some(host) = self.hosts.get(at) else { continue };
            match tokio::time::timeout(self.connect_timeout, greet(&host.options)).await {
                Ok(Ok(Some(connection))) => {
                    self.favourite.store(at, Ordering::Relaxed);
                    return Ok(connection);
                }
                Ok(Ok(None)) => {
                    tracing::debug!(host = %host.name, "This PostgreSQL takes no writes");
                    // "None takes writes" is said only if nothing worse was found.
                    if !matches!(last, NoConnection::Unreachable { .. }) {
                        last = NoConnection::NoneWritable;
                    }
                }
                Ok(Err(why)) => last = NoConnection::Unreachable { host: host.name.clone(), why },
                Err(_) => {
                    let why = std::io::Error::new(
                        std::io::ErrorKind::TimedOut,
                        format!("no answer within {} s", self.connect_timeout.as_secs()),
                    );
                    last = NoConnection::Unreachable { host: host.name.clone(), why: why.into() };
                }
            }
        }
        Err(last)
    }

    /// How to reach the host that took writes last.
    pub(super) fn favourite(&self) -> Option<PgConnectOptions> {
        self.hosts.get(self.favourite.load(Ordering::Relaxed)).map(|host| host.options.clone())
    }

    /// Closes all connections; those in use are closed when they come back.
    pub(in crate::primary) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for one in idle {
            // A polite goodbye spares the server a log line; it is not waited for long.
            let bye = tokio::time::timeout(Duration::from_secs(1), one.connection.close());
            if let Ok(Err(why)) = bye.await {
                tracing::debug!(%why, "A connection was closed by the other side first");
            }
        }
    }
}

/// Connects and asks whether this session may write (`target_session_attrs=read-write`); `None`: it may not.
async fn greet(options: &PgConnectOptions) -> Result<Option<PgConnection>, sqlx::Error> {
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    let row = sqlx::query(
        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS closed",
    )
    .fetch_one(&mut connection)
    .await?;
    if row.try_get::<bool, _>("closed")? {
        connection.close().await?;
        return Ok(None);
    }
    Ok(Some(connection))
}
