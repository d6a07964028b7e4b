//! Opening a PostgreSQL: what is refused, what is said then, and that a password is never part of it.

use std::time::{Duration, Instant};

use mezusphere_model::Entropy;
use mezusphere_model::clock::ManualClock;
use mezusphere_store::Primary;
use mezusphere_store::primary::{OpenError, PostgresConfig, project};

use crate::on_postgres;
use crate::postgres::fresh;
use crate::support::{START, Store, seal};

async fn open(config: PostgresConfig) -> Result<Primary, OpenError> {
    Primary::open_postgres(config, ManualClock::at(START).clock(), Entropy::counting(), seal()).await
}

/// The URL's parts: user and password, server, database.
fn parts(url: &str) -> (String, String, String) {
    let rest = url.strip_prefix("postgres://").unwrap();
    let (user, rest) = rest.rsplit_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    (user.to_owned(), server.to_owned(), database.to_owned())
}

#[tokio::test]
async fn several_nodes_that_start_at_once_make_one_schema_and_one_epoch() {
    let Some(database) = fresh().await else { return };
    let starts = [(); 4].map(|()| tokio::spawn(open(database.config())));
    let mut epochs = Vec::new();
    for start in starts {
        let primary = start.await.unwrap().unwrap();
        epochs.push(primary.epoch());
        primary.close().await;
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1);
    database.remove().await;
}

#[tokio::test]
async fn what_one_node_wrote_the_next_one_reads() {
    let Some(database) = fresh().await else { return };
    let first = Store::postgres(database.config()).await;
    let tenant = first.tenant("shop").await;
    let second = open(database.config()).await.unwrap();
    assert!(second.read(async |tx| project::get(tx, tenant.project).await).await.unwrap().is_some());
    database.remove().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let Some(database) = fresh().await else { return };
    open(database.config()).await.unwrap().close().await;
    database.sql("INSERT INTO schema_versions VALUES (99, 'future', 0)").await;
    let why = open(database.config()).await.unwrap_err();
    assert!(matches!(why, OpenError::Newer { found: 99, known: 1..99, .. }), "{why:?}");
    database.remove().await;
}

#[tokio::test]
async fn a_database_of_another_product_is_refused_and_left_as_it_is() {
    for theirs in [
        "CREATE TABLE t (x INT)",
        "CREATE VIEW v AS SELECT 1 AS x",
        "CREATE TABLE meta (name TEXT, value TEXT); CREATE TABLE schema_versions (version BIGINT)",
        "CREATE TABLE meta (id INT); CREATE TABLE schema_versions (id INT)",
        "CREATE TABLE meta (name TEXT, value TEXT); INSERT INTO meta VALUES ('product', 'theirs');
         CREATE TABLE schema_versions (version BIGINT)",
    ] {
        let Some(database) = fresh().await else { return };
        database.sql(theirs).await;
        let why = open(database.config()).await.unwrap_err();
        assert!(matches!(why, OpenError::Foreign { .. }), "{theirs}: {why:?}");
        let mut connection = database.connect().await;
        let tables: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = 'projects'",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!(tables, 0);
        drop(connection);
        database.remove().await;
    }
}

#[tokio::test]
async fn a_role_without_rights_is_told_what_is_lacking() {
    let Some(database) = fresh().await else { return };
    database.sql("CREATE SCHEMA theirs; REVOKE ALL ON SCHEMA theirs FROM PUBLIC").await;
    let why =
        open(PostgresConfig::parse(&format!("{}?options=-csearch_path%3Dnowhere", database.url())).unwrap())
            .await
            .unwrap_err();
    assert!(matches!(why, OpenError::Rights { .. }), "{why:?}");
    // The tables are there, and one of them may not be written.
    open(database.config()).await.unwrap().close().await;
    database.sql("REVOKE INSERT ON users FROM CURRENT_USER").await;
    let why = open(database.config()).await.unwrap_err();
    assert!(matches!(&why, OpenError::Rights { detail, .. } if detail.contains("users")), "{why:?}");
    database.remove().await;
}

#[tokio::test]
async fn text_in_another_encoding_is_refused() {
    let Some(database) = fresh().await else { return };
    let (user, server, name) = parts(&database.url());
    let other = format!("{name}_latin1");
    database
        .sql(&format!(
            "CREATE DATABASE {other} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ))
        .await;
    let why = open(PostgresConfig::parse(&format!("postgres://{user}@{server}/{other}")).unwrap())
        .await
        .unwrap_err();
    assert!(matches!(&why, OpenError::Encoding { found, .. } if found == "LATIN1"), "{why:?}");
    database.sql(&format!("DROP DATABASE {other} WITH (FORCE)")).await;
    database.remove().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_named_and_the_password_is_not() {
    let Some(database) = fresh().await else { return };
    let (_, server, name) = parts(&database.url());
    let rows = [
        (format!("postgres://someone:canary@127.0.0.1:1/{name}"), "127.0.0.1:1"),
        (format!("postgres://someone:canary@{server}/{name}_nowhere"), server.as_str()),
        (format!("postgres://nobody_at_all:canary@{server}/{name}"), server.as_str()),
    ];
    for (url, place) in rows {
        let why = open(PostgresConfig::parse(&url).unwrap()).await.err();
        // A server that trusts everybody lets any role in that exists; these do not.
        let why = why.unwrap_or_else(|| panic!("{place} let in a role that is not there"));
        let known = matches!(why, OpenError::Unreachable { .. } | OpenError::Refused { .. });
        assert!(known, "{why:?}");
        let text = format!("{why} {why:?}");
        assert!(text.contains(place), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
    database.remove().await;
}

#[tokio::test]
async fn of_several_hosts_the_one_that_takes_writes_is_used() {
    on_postgres(async |db: Store| drop(db)).await; // a server is there, or its absence is said
    let Some(database) = fresh().await else { return };
    let (user, server, name) = parts(&database.url());
    // The first does not answer; the second does.
    let url = format!("postgres://{user}@127.0.0.1:1,{server}/{name}?target_session_attrs=read-write");
    let primary = open(PostgresConfig::parse(&url).unwrap()).await.unwrap();
    let read =
        primary.read(async |tx| project::get(tx, mezusphere_model::id::ProjectId::from_bits(1)).await).await;
    assert_eq!(read.unwrap(), None);
    primary.close().await;
    // One that is read-only for this role is as good as a standby.
    database.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let why = open(PostgresConfig::parse(&url).unwrap()).await.unwrap_err();
    assert!(matches!(why, OpenError::ReadOnly { .. } | OpenError::Unreachable { .. }), "{why:?}");
    let alone = format!("postgres://{user}@{server}/{name}");
    let why = open(PostgresConfig::parse(&alone).unwrap()).await.unwrap_err();
    assert!(matches!(why, OpenError::ReadOnly { .. }), "{why:?}");
    database.remove().await;
}

/// A server that takes the connection and never says a word.
#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = PostgresConfig::parse(&format!("postgres://me:canary@{address}/mezu")).unwrap();
    config.connect_timeout = Duration::from_millis(300);
    let began = Instant::now();
    let why = open(config).await.unwrap_err();
    assert!(matches!(why, OpenError::Unreachable { .. }), "{why:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(listener);
}

#[tokio::test]
async fn a_dropped_database_says_unavailable_and_not_damaged() {
    let Some(database) = fresh().await else { return };
    let db = Store::postgres(database.config()).await;
    let tenant = db.tenant("shop").await;
    database.remove().await;
    let why = db.primary.read(async |tx| project::get(tx, tenant.project).await).await.unwrap_err();
    assert!(matches!(why, mezusphere_store::StoreError::Unavailable(_)), "{why:?}");
}
