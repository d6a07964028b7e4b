//! The warpgate: dials out to edges, decides every request again on control's signed word, and forwards it.
//!
//! Owns the tunnel's near end: enrollment and renewal of its own certificate, the verified environment
//! bundle, one tunnel per edge, the second decision on every exchange, and the connection to the upstream.
//! Leaves the wire format to `tunnel_proto`, certificates to `mezusphere_pki`, and the words of routes
//! and policy to `mezusphere_model`. Trusts no edge: an edge may lie about anything it says (R6).
//!
//! A first reading: [`exchange`] (the way of one request), [`bundle`] (what is trusted), [`tunnel`]
//! (how edges are reached), [`agent`] (how it all hangs together).
//!
//! All I/O runs on one current-thread runtime: with two threads the same work takes twice the CPU, because every
//! request crosses between them.

pub mod agent;
pub mod backoff;
pub mod bundle;
pub mod check;
pub mod config;
pub mod enroll;
pub mod exchange;
pub mod exit;
pub mod key;
pub mod limits;
pub mod local;
pub mod notify;
pub mod output;
pub mod resolve;
pub mod routes;
pub mod service;
pub mod state;
pub mod tunnel;
pub mod upstream;

mod validity;

/// What this program calls itself to others.
pub const AGENT: &str = concat!("warpgate/", env!("CARGO_PKG_VERSION"));
