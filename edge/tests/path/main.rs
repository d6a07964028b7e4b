//! The edge's request path and tunnels, end to end: requests as the listeners hand them over, a real QUIC connection to a
//! warpgate that behaves as each test wants, and a control and a replica that can fail.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod documents;
mod link;
mod shop;
mod warpgate;
mod world;

mod cost;
mod cut_off;
mod evicting;
mod forwarding;
mod logging;
mod refusing;
mod relaying;
mod renewing;
mod reporting;
mod signing_in;
mod trying_again;
mod tunnels;
mod two_edges;
