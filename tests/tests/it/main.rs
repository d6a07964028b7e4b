//! Whole-system tests: real processes, real QUIC and TLS, a real workload that keeps a log.
//!
//! One binary, so that it links once. Each module is a promise of the product.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that indexes what is not there has failed, and says where"
)]

mod acme;
mod authorization;
mod bad_input;
mod browser;
mod cli;
mod cluster;
mod crash;
mod explain;
mod joining;
mod main_job;
mod matrix;
mod moving;
mod networks;
mod propagation;
mod protocols;
mod public_tls;
mod revocation;
mod rogues;
mod rolling;
mod rules;
mod secrets;
mod sign_in;
mod spa;
mod split_edge;
mod streams;
mod trust;
mod trust_boundary;
mod verify;
