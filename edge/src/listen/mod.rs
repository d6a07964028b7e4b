//! Sockets, and what becomes of each connection: the ClientHello decides (design §4).
//!
//! Owns accepting on TCP and UDP, the choice of a TLS configuration, connection limits, threads and draining.
//! Whoever has shown nothing yet gives way to others ([`crowd`]), so that nobody is kept out by the silent.
//! What is said on a connection afterwards belongs to [`crate::http`] (clients) and [`crate::tunnel`]
//! (warpgates).
//!
//! A first reading: [`decide`] (what a connection is for), `tcp` and `quic` (the two halves of the port), `door` (one
//! TCP connection), `splice` (those that are control's), [`edge`] (the threads they run on, and how it all ends).

pub mod admission;
pub mod cid;
pub mod counters;
pub mod decide;
pub mod drain;
pub mod edge;
pub mod hello;
pub mod select;

pub(crate) mod crowd;
pub(crate) mod door;
pub(crate) mod turns;

mod arrival;
mod certificates;
mod paced;
mod packets;
mod plain;
mod quic;
mod shared;
mod socket;
mod splice;
mod tcp;
mod worker;
mod wrong_scheme;

#[cfg(test)]
mod tests;
