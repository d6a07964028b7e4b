//! The pages as a browser meets them: handlers over a real SQLite, under a clock that stands still.

mod account;
mod browser;
mod by_mail;
mod defence;
mod first_sign_in;
mod looks;
mod sign_in;
mod sign_out;
mod step_up;
mod trouble;
mod world;
