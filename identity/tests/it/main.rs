//! The parts of identity together, over a real SQLite.

#![expect(clippy::unwrap_used, reason = "clippy's allowance for tests does not reach their helpers")]

mod abuse;
mod account;
mod change_email;
mod change_password;
mod first_sign_in;
mod history;
mod invitation;
mod key;
mod recovery;
mod session;
mod sign_in;
mod sign_up;
mod step_up;
mod verify_email;
mod world;
