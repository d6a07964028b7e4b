//! The schema and its versions.
//!
//! A migration is a file in `store/migrations`, run once, in one transaction with the note that it ran.
//! Expand, then contract: a migration adds, so that the version before it can still work with the result; what has become
//! useless is removed by a later release. Both engines have the same versions; `….postgres.sql` is what only
//! PostgreSQL has of one.

use std::path::Path;

use mezusphere_model::{Clock, Entropy};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::StoreError;
use super::open::{APPLICATION_ID, OpenError};
use crate::feed::Epoch;

/// One step of the schema.
pub(super) struct Migration {
    pub(super) name: &'static str,
    /// For both engines; [`super::dialect`] turns it into PostgreSQL's words.
    pub(super) sql: &'static str,
    /// Run after it in PostgreSQL alone.
    pub(super) postgres: &'static str,
}

/// Every migration in order; its place in the list, from 1, is the schema version it leads to.
pub(super) const MIGRATIONS: [Migration; 13] = [
    Migration { name: "first", sql: include_str!("../../migrations/0001_first.sql"), postgres: "" },
    Migration {
        name: "cluster",
        sql: include_str!("../../migrations/0002_cluster.sql"),
        postgres: include_str!("../../migrations/0002_cluster.postgres.sql"),
    },
    Migration {
        name: "quotas",
        sql: include_str!("../../migrations/0003_quotas.sql"),
        postgres: include_str!("../../migrations/0003_quotas.postgres.sql"),
    },
    Migration {
        name: "directories",
        sql: include_str!("../../migrations/0004_directories.sql"),
        postgres: include_str!("../../migrations/0004_directories.postgres.sql"),
    },
    Migration {
        name: "mails",
        sql: include_str!("../../migrations/0005_mails.sql"),
        postgres: include_str!("../../migrations/0005_mails.postgres.sql"),
    },
    Migration {
        name: "links",
        sql: include_str!("../../migrations/0006_links.sql"),
        postgres: include_str!("../../migrations/0006_links.postgres.sql"),
    },
    Migration {
        name: "acme",
        sql: include_str!("../../migrations/0007_acme.sql"),
        postgres: include_str!("../../migrations/0007_acme.postgres.sql"),
    },
    Migration { name: "issuers", sql: include_str!("../../migrations/0008_issuers.sql"), postgres: "" },
    Migration {
        name: "claims",
        sql: include_str!("../../migrations/0009_claims.sql"),
        postgres: include_str!("../../migrations/0009_claims.postgres.sql"),
    },
    Migration { name: "seen", sql: include_str!("../../migrations/0010_seen.sql"), postgres: "" },
    Migration { name: "acme_ends", sql: include_str!("../../migrations/0011_acme_ends.sql"), postgres: "" },
    Migration { name: "contests", sql: include_str!("../../migrations/0012_contests.sql"), postgres: "" },
    Migration {
        name: "display_name",
        sql: include_str!("../../migrations/0013_display_name.sql"),
        postgres: "",
    },
];

/// The newest version this program knows.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// What a database has before its first migration: the list of versions, and a few facts, of which the epoch is one.
pub(super) const FIRST_TABLES: &str = "CREATE TABLE schema_versions (
         version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL);
     CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);";

/// Brings a SQLite file up to date; returns the database's epoch.
pub(super) async fn run(
    path: &Path,
    connection: &mut SqliteConnection,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Epoch, OpenError> {
    let failed = |why: sqlx::Error| OpenError::from_sqlite(path, &why);
    let id: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(failed)?;
    if id != APPLICATION_ID {
        prepare(connection, entropy).await.map_err(failed)?;
    }
    let found: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM schema_versions")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if found > known() {
        return Err(OpenError::Newer { place: path.display().to_string(), found, known: known() });
    }
    let moved: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'moved_to'")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    if let Some(to) = moved {
        return Err(OpenError::Moved { path: path.to_owned(), to });
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS) {
        if version > found {
            apply(connection, version, &migration, clock).await.map_err(failed)?;
            tracing::info!(version, name = migration.name, "Upgraded the database schema");
        }
    }
    read_epoch(connection).await.map_err(failed)?.ok_or_else(|| OpenError::Damaged {
        place: path.display().to_string(),
        detail: "its epoch is missing".to_owned(),
    })
}

async fn prepare(connection: &mut SqliteConnection, entropy: &Entropy) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    tx.execute(AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}"))).await?;
    tx.execute(FIRST_TABLES).await?;
    sqlx::query("INSERT INTO meta (name, value) VALUES ('epoch', $1)")
        .bind(epoch_text(new_epoch(entropy)))
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

async fn apply(
    connection: &mut SqliteConnection,
    version: i64,
    migration: &Migration,
    clock: &Clock,
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    tx.execute(migration.sql).await?;
    sqlx::query("INSERT INTO schema_versions (version, name, applied_at) VALUES ($1, $2, $3)")
        .bind(version)
        .bind(migration.name)
        .bind(clock.now().as_micros())
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

async fn read_epoch(connection: &mut SqliteConnection) -> Result<Option<Epoch>, sqlx::Error> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = 'epoch'").fetch_optional(connection).await?;
    Ok(text.and_then(|text| read_epoch_text(&text).ok()))
}

/// The epoch of a database that begins.
pub(super) fn new_epoch(entropy: &Entropy) -> Epoch {
    Epoch(u128::from_be_bytes(entropy.bytes()))
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
        let mut listed: Vec<_> = MIGRATIONS
            .iter()
            .enumerate()
            .flat_map(|(at, migration)| {
                let stem = format!("{:04}_{}", at + 1, migration.name);
                let extra = (!migration.postgres.is_empty()).then(|| format!("{stem}.postgres.sql"));
                extra.into_iter().chain([format!("{stem}.sql")])
            })
            .collect();
        listed.sort();
        assert_eq!(files, listed);
    }
}
