//! The warpgate as a whole: its program, its tunnels and its exchanges, against a platform that does what each test says.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod support;

mod check;
mod cli;
mod demands;
mod deploy;
mod edges;
mod evicted;
mod exchange;
mod fallback;
mod known;
mod lies;
mod life;
mod local;
mod protocols;
mod reload;
mod rotation;
mod settings;
mod start;
mod upgrades;
mod upstreams;
mod ways;
mod weather;
