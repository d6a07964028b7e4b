//! The installation's trust, attacked: who gets in, who does not, and with which alert (R19, R20).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod arbitrary;
mod handshake;
mod issuing;
mod known;
mod lineage;
mod matrix;
mod possession;
mod public;
mod retired;
mod rogue;
mod rotation;
mod world;
