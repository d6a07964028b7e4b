//! What is told about a PostgreSQL: the URL, and how long anything there may take.
//!
//! The URL is libpq's (`postgres://user:password@host1,host2/database?sslmode=verify-full`). The driver knows one
//! host, so several are split here; `target_session_attrs` and `connect_timeout` are ours too. The password never
//! leaves this file but to the driver: [`PostgresConfig::place`] is what messages name.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

/// Most hosts in a URL: a primary and its standbys.
const HOSTS_MAX: usize = 8;

/// A PostgreSQL, and the bounds on using it.
#[derive(Clone)]
pub struct PostgresConfig {
    hosts: Vec<Host>,
    database: String,
    /// Connections of this process; another one listens for changes. Every control node has its own.
    pub connections: u32,
    /// How long a transaction waits for one of them before the caller is told that the database is busy.
    pub acquire_timeout: Duration,
    /// How long one host may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long a statement may run.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// How long a transaction may stand still before the server ends it: its owner is gone or stuck.
    pub idle_in_transaction_timeout: Duration,
    /// After so long without a word the server asks whether this side still lives, every third of it, three times.
    pub keep_alive: Duration,
}

/// One server of a URL, and how to reach it.
#[derive(Clone)]
pub(super) struct Host {
    /// `host:port`, for messages.
    pub(super) name: String,
    pub(super) options: PgConnectOptions,
}

/// Why a text is not the URL of a PostgreSQL. Never repeats the text: a password may be in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostgresUrlError {
    /// It does not start like one.
    #[error("a PostgreSQL is named by a URL that starts with postgres://")]
    Scheme,
    /// No host, no database, a bad port or parameter.
    #[error("the PostgreSQL URL cannot be used: {0}")]
    Unusable(String),
    /// It asks for a session that need not take writes.
    #[error(
        "control needs a PostgreSQL that takes writes: leave target_session_attrs out, or say read-write"
    )]
    ReadOnlyWanted,
}

impl PostgresConfig {
    /// Reads a URL; all bounds are the defaults.
    pub fn parse(url: &str) -> Result<Self, PostgresUrlError> {
        let unusable = |why: &str| PostgresUrlError::Unusable(why.to_owned());
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or(PostgresUrlError::Scheme)?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
        let query = Query::read(query)?;
        let database = path.trim_start_matches('/').to_owned();
        if database.is_empty() {
            return Err(unusable("it names no database, as in postgres://host/database"));
        }
        let names: Vec<&str> = hosts.split(',').collect();
        if names.len() > HOSTS_MAX {
            return Err(unusable(&format!("at most {HOSTS_MAX} hosts")));
        }
        let at = if user.is_empty() { "" } else { "@" };
        let mut parsed = Vec::with_capacity(names.len());
        for name in names {
            if name.is_empty() && query.driver.iter().all(|part| !part.starts_with("host=")) {
                return Err(unusable("it names no host"));
            }
            let single = format!("postgres://{user}{at}{name}/{database}?{}", query.driver.join("&"));
            // The driver's message may hold parts of the URL, so it is not passed on.
            let options = PgConnectOptions::from_str(&single)
                .map_err(|_| unusable("a host, port or parameter in it cannot be read"))?;
            let name = match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => format!("{}:{}", options.get_host(), options.get_port()),
            };
            parsed.push(Host { name, options });
        }
        Ok(Self {
            hosts: parsed,
            database,
            connections: 16,
            acquire_timeout: Duration::from_secs(10),
            connect_timeout: query.connect_timeout.unwrap_or(Duration::from_secs(5)),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(30),
        })
    }

    /// Where it is, without user and password: `postgres://db1.example:5432,db2.example:5432/mezusphere`.
    pub fn place(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|host| host.name.as_str()).collect();
        format!("postgres://{}/{}", hosts.join(","), self.database)
    }

    /// The servers, with what every session is told.
    pub(super) fn hosts(&self) -> Vec<Host> {
        let millis = |time: Duration| time.as_millis().to_string();
        let third = (self.keep_alive.as_secs() / 3).max(1).to_string();
        let settings = [
            ("statement_timeout", millis(self.statement_timeout)),
            ("lock_timeout", millis(self.lock_timeout)),
            ("idle_in_transaction_session_timeout", millis(self.idle_in_transaction_timeout)),
            ("tcp_keepalives_idle", self.keep_alive.as_secs().max(1).to_string()),
            ("tcp_keepalives_interval", third),
            ("tcp_keepalives_count", "3".to_owned()),
        ];
        let mut hosts = self.hosts.clone();
        for host in &mut hosts {
            host.options =
                host.options.clone().application_name("mezusphere").options(settings.iter().cloned());
        }
        hosts
    }
}

impl std::fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresConfig({})", self.place())
    }
}

impl PartialEq for PostgresConfig {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

/// The part after `?`: what is ours, and what the driver understands.
struct Query<'a> {
    driver: Vec<&'a str>,
    connect_timeout: Option<Duration>,
}

impl<'a> Query<'a> {
    fn read(text: &'a str) -> Result<Self, PostgresUrlError> {
        let mut query = Self { driver: Vec::new(), connect_timeout: None };
        for part in text.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("target_session_attrs", "read-write" | "primary")) => {}
                Some(("target_session_attrs", _)) => return Err(PostgresUrlError::ReadOnlyWanted),
                Some(("connect_timeout", seconds)) => {
                    let seconds: u64 = seconds.parse().map_err(|_| {
                        PostgresUrlError::Unusable("connect_timeout is a number of seconds".to_owned())
                    })?;
                    query.connect_timeout = Some(Duration::from_secs(seconds.clamp(1, 60)));
                }
                _ => query.driver.push(part),
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_one_host_or_several() {
        let rows = [
            ("postgres://u:p@db/mezu", "postgres://db:5432/mezu"),
            ("postgresql://u@db:6000/mezu?sslmode=require", "postgres://db:6000/mezu"),
            (
                "postgres://u:p@h1,h2:6001,[::1]:6002/mezu?target_session_attrs=read-write",
                "postgres://h1:5432,h2:6001,[::1]:6002/mezu",
            ),
            ("postgres://u:p%40ss@db/mezu?connect_timeout=2", "postgres://db:5432/mezu"),
            ("postgres://u:p@ss@db/mezu", "postgres://db:5432/mezu"),
        ];
        for (url, place) in rows {
            let config = PostgresConfig::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!(config.place(), place, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_repeating_it() {
        for url in [
            "mysql://u:hidden@db/mezu",
            "postgres://u:hidden@db",
            "postgres://u:hidden@/mezu",
            "postgres://u:hidden@db:99999/mezu",
            "postgres://u:hidden@db/mezu?sslmode=hidden",
            "postgres://u:hidden@db/mezu?connect_timeout=hidden",
            "postgres://u:hidden@db/mezu?target_session_attrs=any",
            "postgres://u:hidden@1,2,3,4,5,6,7,8,9/mezu",
            "",
        ] {
            let why = PostgresConfig::parse(url).expect_err(url);
            assert!(!why.to_string().contains("hidden"), "{url}: {why}");
        }
    }

    #[test]
    fn a_password_does_not_show() {
        let config = PostgresConfig::parse("postgres://me:hidden@db/mezu").unwrap();
        assert!(!format!("{config:?} {}", config.place()).contains("hidden"));
        assert!(!format!("{:?}", config.hosts().first().map(|host| &host.name)).contains("hidden"));
    }
}
