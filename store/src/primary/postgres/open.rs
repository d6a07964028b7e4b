//! Opening a PostgreSQL: can it be reached, is it one of ours, what version, and may this role use it.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::{Clock, Entropy};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

use super::config::PostgresConfig;
use super::pool::{NoConnection, Pool};
use crate::feed::Epoch;
use crate::primary::migrate::{
    FIRST_TABLES, MIGRATIONS, Migration, epoch_text, known, new_epoch, read_epoch_text,
};
use crate::primary::{OpenError, dialect};

/// The oldest server that works: the first whose vacuum and failover this was tried with.
const VERSION_MIN: i32 = 140_000;

/// Marks a database as one of ours, in `meta`.
const PRODUCT: &str = "mezusphere";

/// Advisory lock of whoever brings the schema up to date: "mezu" twice.
pub(in crate::primary) const MIGRATION_LOCK: i64 = 0x6d65_7a75_6d65_7a75;

/// How long another node may take to bring the schema up to date.
const MIGRATION_WAIT_MAX: Duration = Duration::from_mins(2);

/// Between two looks whether the other node is done.
const MIGRATION_POLL: Duration = Duration::from_millis(100);

/// What stands in a database's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::primary) enum Found {
    /// Nothing.
    Empty,
    /// One of ours, of this version.
    Ours(i64),
}

/// Connects, checks, and brings the schema up to date.
pub(in crate::primary) async fn open(
    config: &PostgresConfig,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<(Arc<Pool>, Epoch), OpenError> {
    let (pool, mut connection) = connect(config).await?;
    let place = config.place();
    let epoch = migrate(&place, &mut connection, clock, entropy).await?;
    rights(&place, &mut connection).await?;
    close(connection).await;
    Ok((pool, epoch))
}

/// Connects and checks the server, not what is in it.
pub(in crate::primary) async fn connect(
    config: &PostgresConfig,
) -> Result<(Arc<Pool>, PgConnection), OpenError> {
    let place = config.place();
    let pool = Pool::new(config);
    let mut connection = pool.connect().await.map_err(|why| no_connection(&place, why))?;
    let failed = |why: sqlx::Error| failed(&place, &why);
    let row = connection
        .fetch_one(
            "SELECT current_setting('server_version_num')::int AS version,
                    current_setting('server_encoding') AS encoding, current_schema() AS schema",
        )
        .await
        .map_err(failed)?;
    let version: i32 = row.try_get("version").map_err(failed)?;
    if version < VERSION_MIN {
        return Err(OpenError::TooOld { place, found: version / 10_000, needed: VERSION_MIN / 10_000 });
    }
    let encoding: String = row.try_get("encoding").map_err(failed)?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { place, found: encoding });
    }
    if row.try_get::<Option<String>, _>("schema").map_err(failed)?.is_none() {
        let detail = "no schema of its search path is there or may be used".to_owned();
        return Err(OpenError::Rights { place, detail });
    }
    Ok((pool, connection))
}

/// What is in the database, without changing anything.
pub(in crate::primary) async fn look(place: &str, connection: &mut PgConnection) -> Result<Found, OpenError> {
    let failed = |why: sqlx::Error| failed(place, &why);
    // Without what extensions brought: monitoring puts views everywhere.
    let row = connection
        .fetch_one(
            "SELECT COUNT(*) AS all_of_them,
                    COUNT(*) FILTER (WHERE c.relname IN ('schema_versions', 'meta')) AS ours
             FROM pg_class c
             WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
               AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                               AND d.objid = c.oid AND d.deptype = 'e')",
        )
        .await
        .map_err(failed)?;
    let count = |row: &PgRow, column| row.try_get::<i64, _>(column).map_err(failed);
    if count(&row, "all_of_them")? == 0 {
        return Ok(Found::Empty);
    }
    let foreign = || OpenError::Foreign { place: place.to_owned() };
    if count(&row, "ours")? != 2 {
        return Err(foreign());
    }
    // Two tables of these names may be somebody else's: then they have other columns.
    let product: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'product'")
        .fetch_optional(&mut *connection)
        .await
        .map_err(|why| if code(&why).as_deref() == Some("42703") { foreign() } else { failed(why) })?;
    if product.as_deref() != Some(PRODUCT) {
        return Err(foreign());
    }
    sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM schema_versions")
        .fetch_one(connection)
        .await
        .map(Found::Ours)
        .map_err(failed)
}

/// Brings the schema up to date; one node at a time.
async fn migrate(
    place: &str,
    connection: &mut PgConnection,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Epoch, OpenError> {
    let failed = |why: sqlx::Error| failed(place, &why);
    let mut found = look(place, connection).await?;
    if found != Found::Ours(known()) {
        newer(place, found)?;
        lock(place, connection).await?;
        // Another node may have done it meanwhile.
        found = look(place, connection).await?;
        newer(place, found)?;
        upgrade(connection, found, clock, new_epoch(entropy)).await.map_err(failed)?;
        sqlx::query("SELECT pg_advisory_unlock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    epoch(place, connection).await
}

/// Brings what was found up to date, each step in a transaction; an empty database begins this epoch.
async fn upgrade(
    connection: &mut PgConnection,
    found: Found,
    clock: &Clock,
    epoch: Epoch,
) -> Result<(), sqlx::Error> {
    let found = match found {
        Found::Empty => {
            let mut tx = connection.begin().await?;
            prepare(&mut tx, epoch).await?;
            tx.commit().await?;
            0
        }
        Found::Ours(version) => version,
    };
    for (version, migration) in (1_i64..).zip(MIGRATIONS) {
        if version > found {
            let mut tx = connection.begin().await?;
            apply(&mut tx, version, &migration, clock).await?;
            tx.commit().await?;
            tracing::info!(version, name = migration.name, "Upgraded the database schema");
        }
    }
    Ok(())
}

/// Makes the whole schema in an empty database, within a transaction of the caller's.
pub(in crate::primary) async fn make(
    connection: &mut PgConnection,
    clock: &Clock,
    epoch: Epoch,
) -> Result<(), sqlx::Error> {
    prepare(connection, epoch).await?;
    for (version, migration) in (1_i64..).zip(MIGRATIONS) {
        apply(connection, version, &migration, clock).await?;
    }
    Ok(())
}

fn newer(place: &str, found: Found) -> Result<(), OpenError> {
    match found {
        Found::Ours(found) if found > known() => {
            Err(OpenError::Newer { place: place.to_owned(), found, known: known() })
        }
        _ => Ok(()),
    }
}

async fn lock(place: &str, connection: &mut PgConnection) -> Result<(), OpenError> {
    let waited = tokio::time::timeout(MIGRATION_WAIT_MAX, async {
        loop {
            let held: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
                .bind(MIGRATION_LOCK)
                .fetch_one(&mut *connection)
                .await?;
            if held {
                return Ok(());
            }
            tokio::time::sleep(MIGRATION_POLL).await;
        }
    });
    match waited.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(failed(place, &why)),
        Err(_) => Err(OpenError::Failed {
            place: place.to_owned(),
            detail: format!(
                "another node has been changing its schema for {} s",
                MIGRATION_WAIT_MAX.as_secs()
            ),
        }),
    }
}

async fn prepare(tx: &mut PgConnection, epoch: Epoch) -> Result<(), sqlx::Error> {
    tx.execute(AssertSqlSafe(dialect::postgres(FIRST_TABLES))).await?;
    sqlx::query("INSERT INTO meta (name, value) VALUES ('product', $1), ('epoch', $2)")
        .bind(PRODUCT)
        .bind(epoch_text(epoch))
        .execute(tx)
        .await
        .map(drop)
}

async fn apply(
    tx: &mut PgConnection,
    version: i64,
    migration: &Migration,
    clock: &Clock,
) -> Result<(), sqlx::Error> {
    // A migration may look at every row, for as long as that takes.
    tx.execute("SET LOCAL statement_timeout = 0; SET LOCAL mezusphere.scope = 'installation'").await?;
    tx.execute(AssertSqlSafe(dialect::postgres(migration.sql))).await?;
    if !migration.postgres.is_empty() {
        tx.execute(migration.postgres).await?;
    }
    sqlx::query("INSERT INTO schema_versions (version, name, applied_at) VALUES ($1, $2, $3)")
        .bind(version)
        .bind(migration.name)
        .bind(clock.now().as_micros())
        .execute(tx)
        .await
        .map(drop)
}

/// The epoch of a database of ours.
pub(in crate::primary) async fn epoch(
    place: &str,
    connection: &mut PgConnection,
) -> Result<Epoch, OpenError> {
    let damaged = |detail: String| OpenError::Damaged { place: place.to_owned(), detail };
    let text: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'epoch'")
        .fetch_optional(connection)
        .await
        .map_err(|why| failed(place, &why))?;
    let text = text.ok_or_else(|| damaged("its epoch is missing".to_owned()))?;
    read_epoch_text(&text).map_err(|why| damaged(why.to_string()))
}

/// Whether the role may do what is needed, and whether the walls between tenants hold it.
async fn rights(place: &str, connection: &mut PgConnection) -> Result<(), OpenError> {
    let failed = |why: sqlx::Error| failed(place, &why);
    let lacking: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
         WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
           AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                    AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if let Some(tables) = lacking {
        let detail = format!("its role may not read and write these tables: {tables}");
        return Err(OpenError::Rights { place: place.to_owned(), detail });
    }
    let row = connection
        .fetch_one(
            "SELECT rolname::text AS name, rolsuper OR rolbypassrls AS unwalled FROM pg_roles WHERE rolname = current_user",
        )
        .await
        .map_err(failed)?;
    if row.try_get("unwalled").map_err(failed)? {
        let role: String = row.try_get("name").map_err(failed)?;
        tracing::warn!(
            role,
            "PostgreSQL's row-level security does not hold this role: it is a superuser or has BYPASSRLS. Use a role of its own, so that the second wall between tenants stands"
        );
    }
    Ok(())
}

pub(in crate::primary) async fn close(connection: PgConnection) {
    if let Err(why) = connection.close().await {
        tracing::debug!(%why, "A connection was closed by the other side first");
    }
}

fn code(why: &sqlx::Error) -> Option<String> {
    why.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// What an error means while a PostgreSQL is opened.
pub(in crate::primary) fn failed(place: &str, why: &sqlx::Error) -> OpenError {
    let (place, detail) = (place.to_owned(), why.to_string());
    match code(why).as_deref() {
        Some("42501") => OpenError::Rights { place, detail },
        Some("25006") => OpenError::ReadOnly { place },
        Some(code) if code.starts_with("28") || code == "3D000" => OpenError::Refused { place, detail },
        Some(_) => OpenError::Failed { place, detail },
        None => OpenError::Unreachable { place, detail },
    }
}

fn no_connection(place: &str, why: NoConnection) -> OpenError {
    let place = place.to_owned();
    match why {
        NoConnection::NoneWritable => OpenError::ReadOnly { place },
        NoConnection::Unreachable { host, why } => match failed(&place, &why) {
            OpenError::Unreachable { place, detail } => {
                OpenError::Unreachable { place, detail: format!("{host}: {detail}") }
            }
            other => other,
        },
        NoConnection::Busy | NoConnection::Closed => {
            OpenError::Unreachable { place, detail: "no connection is free".to_owned() }
        }
    }
}
