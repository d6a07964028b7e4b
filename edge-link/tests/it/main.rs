//! Both ends of the edge link as a pair, over real TLS on loopback.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod entry;
mod eviction;
mod fail_over;
mod fake;
mod feed;
mod join;
mod limits;
mod nonsense;
mod rejoin;
mod renewal;
mod rogue;
mod roles;
mod round_trip;
mod shutdown;
mod splice;
mod world;
