//! Peers that misbehave on purpose: an upstream that answers what no HTTP server should, and a warpgate that has a
//! certificate in order and nothing else.
//!
//! They only act. What must come of it, and that nobody else notices, is said in `tests/it/rogues.rs`.

pub mod upstream;
pub mod warpgate;
