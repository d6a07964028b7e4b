//! Sockets, and what becomes of each connection: the ClientHello decides (design §4).
//!
//! Owns accepting on TCP and UDP, the choice of a TLS configuration, connection limits, threads and draining.
//! What is said on a connection afterwards belongs to [`crate::http`] (clients) and [`crate::tunnel`]
//! (warpgates).

pub mod decide;
pub mod drain;
pub mod hello;
