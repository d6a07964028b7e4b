//! What every database must do: each test runs on a fresh one of every engine in [`ENGINES`].
//!
//! Another database joins by adding a row there and an arm to [`Engine::fresh`].
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail as the test does: by a panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod audit_log;
mod feed_log;
mod hand_offs;
mod opening;
mod sessions;
mod tenants;
mod upkeep;

use support::Store;

/// The databases there are.
const ENGINES: [Engine; 1] = [Engine::Sqlite];

#[derive(Clone, Copy, Debug)]
enum Engine {
    Sqlite,
}

impl Engine {
    async fn fresh(self) -> Store {
        match self {
            Self::Sqlite => Store::sqlite().await,
        }
    }
}

/// Runs a test on a fresh database of each engine.
async fn on_each(test: impl AsyncFn(Store)) {
    for engine in ENGINES {
        test(engine.fresh().await).await;
    }
}
