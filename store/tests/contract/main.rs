//! What every database must do: each test runs on a fresh one of every engine in [`ENGINES`].
//!
//! PostgreSQL's URL comes from `MEZU_TEST_POSTGRES` (`scripts/test` sets it); without it its rows fail, unless
//! `MEZU_SKIP_POSTGRES=1` says that they are left out on purpose.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "the helpers of a test fail as the test does: by a panic"
)]

#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod audit_log;
mod certificates;
mod claims;
mod directories;
mod feed_log;
mod hand_offs;
mod links;
mod mails;
mod moving;
mod nodes;
mod opening;
mod people;
mod postgres_only;
mod postgres_opening;
mod resealing;
mod sessions;
mod step_ups;
mod tenants;
mod upkeep;

use support::Store;

/// The databases there are.
const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

#[derive(Clone, Copy, Debug)]
enum Engine {
    Sqlite,
    Postgres,
}

/// Runs a test on a fresh database of each engine.
async fn on_each(test: impl AsyncFn(Store)) {
    for engine in ENGINES {
        eprintln!("on {engine:?}"); // shown with a failure: which of them it was
        match engine {
            Engine::Sqlite => test(Store::sqlite().await).await,
            Engine::Postgres => on_postgres(&test).await,
        }
    }
}

/// Runs a test on a fresh PostgreSQL database, which is dropped afterwards.
async fn on_postgres(test: impl AsyncFn(Store)) {
    let Some(database) = postgres::fresh().await else { return };
    test(Store::postgres(database.config()).await).await;
    database.remove().await;
}
