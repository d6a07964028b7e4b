//! Whole-system tests: real processes, real QUIC and TLS, a real workload that keeps a log.
//!
//! One binary, so that it links once. Each module is a promise of the product.

mod bad_input;
mod browser;
mod crash;
mod main_job;
mod protocols;
mod trust_boundary;
