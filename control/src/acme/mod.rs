//! Public certificates from a certificate authority (ACME, RFC 8555): ordered with the first route of a host, renewed in
//! time, without anybody's hand.
//!
//! ```text
//!  waiting ──try──▶ ordering ──order, challenge, proof, certificate──▶ valid ──renewal due──▶ ordering …
//!                      │ ▲                                                │
//!                      ▼ │ back-off                                      (the old certificate stays in use
//!                     failed                                              until a new one is stored)
//! ```
//!
//! What is wanted is a row per set of names ([`mezusphere_store::primary::acme`]); whoever holds the lease of
//! [`Job::Acme`](crate::lease::Job) works at the rows that are due. When that is, is decided by pure functions
//! ([`schedule`], [`budget`]); an order is driven by [`order`], which can be cut off anywhere and goes on from what is
//! written down. Edges answer the challenges, which reach them by the feed; a DNS record is set by the operator's program
//! ([`dns`]). Which hosts want a certificate is [`crate::certificate`]'s.

mod account;
mod answer;
mod budget;
mod config;
pub(crate) mod dns;
pub(crate) mod engine;
pub(crate) mod failure;
pub(crate) mod hook;
pub(crate) mod job;
mod open;
mod order;
mod prove;
mod schedule;
mod settle;
pub(crate) mod wanted;
mod window;
mod wire;

pub use config::{AcmeChallenge, AcmeConfig, AcmeConfigError, AcmeDirectory, AcmeExternalAccount};
pub(crate) use job::run;

/// What tests of control as a whole look at.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::budget::FAILURES_MAX;

    /// Codes of failed tries.
    pub(crate) fn fault_codes() -> Vec<&'static str> {
        super::failure::Fault::ALL.iter().map(|fault| fault.code()).collect()
    }
}
