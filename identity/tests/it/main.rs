//! The parts of identity together, over a real SQLite.

#![expect(clippy::unwrap_used, reason = "clippy's allowance for tests does not reach their helpers")]

mod account;
mod first_sign_in;
mod key;
mod sign_in;
mod world;
