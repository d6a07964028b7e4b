//! The edge's request path and tunnels, end to end: requests as the listeners hand them over, a real QUIC connection to a
//! warpgate that behaves as each test wants, and a control and a replica that can fail.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod documents;
mod link;
mod shop;
mod tcp_warpgate;
mod warpgate;
mod world;

mod cost;
mod cut_off;
mod demands;
mod evicting;
mod fairness;
mod forwarding;
mod interim;
mod limits;
mod logging;
mod over_tcp;
mod refusing;
mod relaying;
mod renewing;
mod reporting;
mod revoking;
mod rules;
mod signing_in;
mod switching;
mod trying_again;
mod tunnels;
mod two_edges;
