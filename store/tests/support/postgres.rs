//! Fresh databases in the PostgreSQL that `MEZU_TEST_POSTGRES` names, each for one test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use mezusphere_store::primary::PostgresConfig;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

/// Numbers the databases of one process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A database of one test.
pub(crate) struct Database {
    server: String,
    name: String,
}

/// Makes one; `None` where PostgreSQL is left out on purpose.
pub(crate) async fn fresh() -> Option<Database> {
    if std::env::var_os("MEZU_SKIP_POSTGRES").is_some_and(|skip| skip == "1") {
        return None;
    }
    let server = std::env::var("MEZU_TEST_POSTGRES").expect(
        "MEZU_TEST_POSTGRES is not set: run scripts/test, which starts a PostgreSQL, or set MEZU_SKIP_POSTGRES=1",
    );
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    // Unique among test processes, also those of earlier runs.
    #[allow(clippy::disallowed_methods, reason = "a name for a database, nothing that a test looks at")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let name = format!("mezu_test_{}_{n}_{now}", std::process::id());
    let database = Database { server, name };
    database.admin(&format!("CREATE DATABASE {} TEMPLATE template0", database.name)).await;
    Some(database)
}

impl Database {
    /// Its URL, with the password.
    pub(crate) fn url(&self) -> String {
        let (start, _) = self.server.rsplit_once('/').unwrap();
        format!("{start}/{}", self.name)
    }

    /// How a primary opens it: with few connections and short waits.
    pub(crate) fn config(&self) -> PostgresConfig {
        let mut config = PostgresConfig::parse(&self.url()).unwrap();
        config.connections = 6;
        config.connect_timeout = Duration::from_secs(10);
        config
    }

    /// A connection of one's own.
    pub(crate) async fn connect(&self) -> PgConnection {
        self.url().parse::<PgConnectOptions>().unwrap().disable_statement_logging().connect().await.unwrap()
    }

    /// Runs SQL in it.
    pub(crate) async fn sql(&self, sql: &str) {
        let mut connection = self.connect().await;
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Runs SQL beside it.
    async fn admin(&self, sql: &str) {
        let options = self.server.parse::<PgConnectOptions>().unwrap();
        let mut connection = options.disable_statement_logging().connect().await.unwrap();
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Drops it, whoever is still connected. The server's own vacuum may be at work there, which only the server's owner
    /// may end: it is waited for.
    pub(crate) async fn remove(self) {
        const TRIES: u32 = 100;
        let options = self.server.parse::<PgConnectOptions>().unwrap();
        let mut connection = options.disable_statement_logging().connect().await.unwrap();
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        for n in 1..=TRIES {
            match connection.execute(AssertSqlSafe(drop.as_str())).await {
                Ok(_) => break,
                Err(why) if n == TRIES => panic!("{drop}: {why}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        connection.close().await.unwrap();
    }
}
