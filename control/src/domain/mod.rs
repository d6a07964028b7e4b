//! Custom domains: who may have one. A project that asks for a host gets a claim; the host is its own once the DNS holds the
//! record that the claim names, which only who holds the domain can publish.
//!
//! Owns the claim's record, what a look at the DNS finds ([`look`]), what follows from it ([`settle`]), who has a host that two
//! projects want ([`contest`]), and the job that looks ([`run`]). Asking, listing and withdrawing are [`crate::use_case::host`]'s.

mod contest;
mod job;
mod look;
#[cfg(test)]
pub(crate) mod name_server;
mod resolver;
mod settle;
mod turn;

use std::time::Duration;

use mezusphere_model::{Entropy, Host};

pub(crate) use contest::over_at;
pub(crate) use job::{LOOKS_AT_ONCE, run};
pub(crate) use look::{Finding, look};
pub(crate) use resolver::{LookupError, Resolver};
pub(crate) use settle::{Looker, Settled, settle};
pub(crate) use turn::Turns;

use crate::Shared;
use crate::config::CustomDomains;

/// How long a claim waits for its record: over a weekend, and for whoever else must be asked to change the DNS.
pub(crate) const CLAIM_TTL: Duration = Duration::from_hours(7 * 24);

/// Before the first look: a record asked for before it was published is remembered as missing by resolvers, often for an hour.
pub(crate) const FIRST_LOOK: Duration = Duration::from_mins(1);

/// In front of the host, so that the record stands beside whatever the host itself has, a CNAME too.
const LABEL: &str = "_mezusphere";

/// In front of the token, so that people know later what the record was for.
const MARK: &str = "mezusphere-verify=";

/// The name of the TXT record that proves a host.
pub(crate) fn record(host: &Host) -> String {
    format!("{LABEL}.{host}")
}

/// What that record must say.
pub(crate) fn value(token: &str) -> String {
    format!("{MARK}{token}")
}

/// A token that nobody has: 160 random bits, in letters and digits that every DNS form takes.
pub(crate) fn token(entropy: &Entropy) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let drawn = entropy.bytes::<32>();
    drawn
        .iter()
        .map(|byte| char::from(ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'a')))
        .collect()
}

/// Whether this host must be proven before it is published.
pub(crate) fn needs_proof(shared: &Shared, host: &Host) -> bool {
    let local = host.as_str() == "localhost" || host.as_str().ends_with(".localhost");
    shared.config.custom_domains == CustomDomains::Verified && !local
}

/// Until the next look after this many that found nothing: often while somebody sits in front of it, then as DNS changes spread.
pub(crate) fn wait(attempts: u32) -> Duration {
    match attempts {
        0..=9 => Duration::from_secs(30),
        10..=20 => Duration::from_mins(5),
        _ => Duration::from_mins(30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_different_each_time_and_plain() {
        let entropy = Entropy::counting();
        let (one, two) = (token(&entropy), token(&entropy));
        assert_ne!(one, two);
        for token in [one, two] {
            assert_eq!(token.len(), 32);
            assert!(token.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{token}");
        }
    }

    #[test]
    fn looks_grow_rarer_and_never_stop_before_the_claim_does() {
        let waits: Vec<_> = (0..40).map(wait).collect();
        assert!(waits.is_sorted());
        assert!(waits.iter().all(|wait| *wait < CLAIM_TTL / 10));
    }
}
