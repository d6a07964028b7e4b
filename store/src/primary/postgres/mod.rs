//! PostgreSQL as the primary's engine: connections, transactions, opening, and waking other nodes.
//!
//! [`config`] reads the URL; [`pool`] keeps connections to whichever of its hosts takes writes; [`transaction`] runs one
//! transaction on one of them; [`open`] says whether the database is one of ours; [`bell`] tells other nodes what
//! changed. SQL of the product stays in the files of its objects, the same text for both engines.

pub(super) mod bell;
mod config;
pub(super) mod open;
pub(super) mod pool;
pub(super) mod transaction;

pub use config::{PostgresConfig, PostgresUrlError};
