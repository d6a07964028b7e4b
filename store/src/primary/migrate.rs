//! The schema and its versions.
//!
//! A migration is a file in `store/migrations`, run once, in one transaction with the note that it ran.
//! Expand, then contract: a migration adds, so that the version before it can still work with the result; what has become
//! useless is removed by a later release.

use std::path::Path;

use mezusphere_model::{Clock, Entropy};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::StoreError;
use super::open::{APPLICATION_ID, OpenError};
use crate::feed::Epoch;

/// Every migration in order; its place in the list, from 1, is the schema version it leads to.
const MIGRATIONS: [(&str, &str); 2] = [
    ("first", include_str!("../../migrations/0001_first.sql")),
    ("cluster", include_str!("../../migrations/0002_cluster.sql")),
];

/// Brings the schema up to date; returns the database's epoch.
pub(super) async fn run(
    path: &Path,
    connection: &mut SqliteConnection,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Epoch, OpenError> {
    let failed = |why: sqlx::Error| OpenError::from_sqlx(path, &why);
    let id: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(failed)?;
    if id != APPLICATION_ID {
        prepare(connection, entropy).await.map_err(failed)?;
    }
    let found: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM schema_versions")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    for (version, (name, sql)) in (1_i64..).zip(MIGRATIONS) {
        if version > found {
            apply(connection, version, name, sql, clock).await.map_err(failed)?;
            tracing::info!(version, name, "Upgraded the database schema");
        }
    }
    read_epoch(connection).await.map_err(failed)?.ok_or_else(|| OpenError::Damaged {
        path: path.to_owned(),
        detail: "its epoch is missing".to_owned(),
    })
}

/// What a database has before its first migration: our mark, the list of versions, and an epoch.
async fn prepare(connection: &mut SqliteConnection, entropy: &Entropy) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    tx.execute(AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}"))).await?;
    tx.execute(
        "CREATE TABLE schema_versions (
             version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL);
         CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);",
    )
    .await?;
    sqlx::query("INSERT INTO meta (name, value) VALUES ('epoch', $1)")
        .bind(epoch_text(Epoch(u128::from_be_bytes(entropy.bytes()))))
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

async fn apply(
    connection: &mut SqliteConnection,
    version: i64,
    name: &'static str,
    sql: &'static str,
    clock: &Clock,
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    tx.execute(sql).await?;
    sqlx::query("INSERT INTO schema_versions (version, name, applied_at) VALUES ($1, $2, $3)")
        .bind(version)
        .bind(name)
        .bind(clock.now().as_micros())
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

async fn read_epoch(connection: &mut SqliteConnection) -> Result<Option<Epoch>, sqlx::Error> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = 'epoch'").fetch_optional(connection).await?;
    Ok(text.and_then(|text| u128::from_str_radix(&text, 16).ok()).map(Epoch))
}

/// An epoch as it is kept.
pub(super) fn epoch_text(epoch: Epoch) -> String {
    format!("{:032x}", epoch.0)
}

/// An epoch as it was kept.
pub(super) fn read_epoch_text(text: &str) -> Result<Epoch, StoreError> {
    u128::from_str_radix(text, 16)
        .map(Epoch)
        .map_err(|why| StoreError::Damaged(format!("an epoch reads {text}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_file_is_in_the_list_under_its_number() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut files: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let listed: Vec<_> = MIGRATIONS
            .iter()
            .enumerate()
            .map(|(at, (name, _))| format!("{:04}_{name}.sql", at + 1))
            .collect();
        assert_eq!(files, listed);
    }
}
