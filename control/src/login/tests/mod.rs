//! The pages as a browser meets them: handlers over a real SQLite, under a clock that stands still.

mod browser;
mod defence;
mod first_sign_in;
mod sign_in;
mod sign_out;
mod world;
