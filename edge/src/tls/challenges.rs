//! What this edge answers certificate authorities that ask whether a name is ours (RFC 8555 §8.3, RFC 8737).
//!
//! Any edge may be asked, whatever it serves otherwise. Control writes the challenges, the feed brings them; here
//! they are kept decoded, the certificates of tls-alpn-01 made, so that an answer costs no disk and no key.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mezusphere_model::document::AcmeChallengeDoc;
use mezusphere_model::{Clock, Host, Platform, Timestamp};
use mezusphere_pki::acme::tls_alpn_server_config;
use rustls::ServerConfig;
use tracing::warn;

/// Most challenges kept: as many names at once as public authorities let one account ask for, and more.
pub const CHALLENGES_MAX: usize = 1024;

/// Where authorities look (RFC 8555 §8.3).
pub const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// Whether a request asks what nobody but the installation may answer: whose a name below its own domains is.
///
/// Whoever serves an application there could otherwise obtain a certificate for its name, and keep it when the name is
/// another project's.
pub fn is_ours_alone(platform: &Platform, host: &Host, path: &str) -> bool {
    path.starts_with(CHALLENGE_PATH)
        && [&platform.apps, &platform.base].into_iter().any(|domain| host == domain || host.is_below(domain))
}

/// Every open challenge. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct ChallengeTable {
    /// http-01, by token.
    by_token: HashMap<Box<str>, Arc<AcmeChallengeDoc>>,
    /// tls-alpn-01: of several for one host the one that ends last.
    by_host: HashMap<Host, Certified>,
}

#[derive(Clone, Debug)]
struct Certified {
    challenge: Arc<AcmeChallengeDoc>,
    config: Arc<ServerConfig>,
}

impl ChallengeTable {
    /// The table of `documents` that are open now; certificates made for `last` are used again.
    pub fn build(documents: Vec<AcmeChallengeDoc>, last: &Self, clock: &Clock) -> Self {
        let now = clock.now();
        let mut table = Self::default();
        let mut open: Vec<_> = documents.into_iter().filter(|challenge| challenge.expires_at > now).collect();
        if open.len() > CHALLENGES_MAX {
            warn!(open = open.len(), kept = CHALLENGES_MAX, "Too many challenges are open");
            open.sort_by_key(|challenge| std::cmp::Reverse(challenge.expires_at));
            open.truncate(CHALLENGES_MAX);
        }
        for challenge in open {
            table.add(Arc::new(challenge), |challenge| {
                last.certified(challenge).or_else(|| {
                    let made = tls_alpn_server_config(&challenge.host, &challenge.key_authorization, clock);
                    made.map(Arc::new)
                        .inspect_err(|error| {
                            warn!(host = %challenge.host, %error, "A challenge's certificate cannot be made");
                        })
                        .ok()
                })
            });
        }
        table
    }

    /// The body of the answer to http-01: the key authorization of the challenge with this token, for this host.
    pub fn key_authorization(&self, host: &Host, token: &str, now: Timestamp) -> Option<&str> {
        let challenge = self.by_token.get(token)?;
        (challenge.host == *host && challenge.expires_at > now)
            .then_some(challenge.key_authorization.as_str())
    }

    /// Whether a tls-alpn-01 challenge is open for this host.
    pub fn asks_for(&self, host: &Host, now: Timestamp) -> bool {
        self.by_host.get(host).is_some_and(|certified| certified.challenge.expires_at > now)
    }

    /// What answers tls-alpn-01 for this host: a handshake and nothing after it.
    pub fn config(&self, host: &Host, now: Timestamp) -> Option<Arc<ServerConfig>> {
        let certified = self.by_host.get(host).filter(|certified| certified.challenge.expires_at > now)?;
        Some(Arc::clone(&certified.config))
    }

    /// How many challenges are open.
    pub fn len(&self) -> usize {
        self.by_token.len()
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    fn add(
        &mut self,
        challenge: Arc<AcmeChallengeDoc>,
        certify: impl FnOnce(&AcmeChallengeDoc) -> Option<Arc<ServerConfig>>,
    ) {
        let ends_later = |there: &Certified| there.challenge.expires_at >= challenge.expires_at;
        if !self.by_host.get(&challenge.host).is_some_and(ends_later)
            && let Some(config) = certify(&challenge)
        {
            let certified = Certified { challenge: Arc::clone(&challenge), config };
            self.by_host.insert(challenge.host.clone(), certified);
        }
        self.by_token.insert(challenge.token.as_str().into(), challenge);
    }

    /// The certificate made for exactly this challenge.
    fn certified(&self, challenge: &AcmeChallengeDoc) -> Option<Arc<ServerConfig>> {
        let there = self.by_host.get(&challenge.host).filter(|there| *there.challenge == *challenge)?;
        Some(Arc::clone(&there.config))
    }
}

/// The challenges in use. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<ArcSwap<ChallengeTable>>);

impl Challenges {
    /// The table in use.
    pub fn table(&self) -> arc_swap::Guard<Arc<ChallengeTable>> {
        self.0.load()
    }

    /// Answers `documents` from now on. Makes keys: not on an I/O thread.
    pub fn replace(&self, documents: Vec<AcmeChallengeDoc>, clock: &Clock) {
        let table = ChallengeTable::build(documents, &self.0.load(), clock);
        self.0.store(Arc::new(table));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mezusphere_model::clock::ManualClock;

    use super::*;

    fn challenge(host: &str, token: &str, expires_at: i64) -> AcmeChallengeDoc {
        AcmeChallengeDoc {
            host: Host::parse(host).unwrap(),
            token: token.to_owned(),
            key_authorization: format!("{token}.thumbprint"),
            expires_at: Timestamp::from_seconds(expires_at),
        }
    }

    #[test]
    fn a_challenge_is_answered_for_its_host_until_it_ends() {
        let hand = ManualClock::at(Timestamp::from_seconds(100));
        let clock = hand.clock();
        let documents = vec![
            challenge("shop.example", "one", 200),
            challenge("shop.example", "two", 300),
            challenge("gone.example", "three", 100),
        ];
        let table = ChallengeTable::build(documents, &ChallengeTable::default(), &clock);
        assert_eq!(table.len(), 2, "one that has ended is not kept");
        let (shop, blog) = (Host::parse("shop.example").unwrap(), Host::parse("blog.example").unwrap());
        let rows = [
            (&shop, "one", 199, Some("one.thumbprint")),
            (&shop, "two", 199, Some("two.thumbprint")),
            (&shop, "one", 200, None),
            (&shop, "three", 99, None),
            (&shop, "on", 99, None),
            (&blog, "one", 99, None),
        ];
        for (host, token, now, expected) in rows {
            let now = Timestamp::from_seconds(now);
            assert_eq!(table.key_authorization(host, token, now), expected, "{host} {token} {now}");
        }
        let at = Timestamp::from_seconds;
        assert!(table.asks_for(&shop, at(299)) && !table.asks_for(&shop, at(300)), "the later one counts");
        assert!(!table.asks_for(&blog, at(0)));
        assert!(table.config(&shop, at(299)).is_some() && table.config(&shop, at(300)).is_none());
    }

    #[test]
    fn r20_what_is_asked_of_names_below_the_installations_domains_is_for_it_alone() {
        let platform = Platform::development(8443).unwrap();
        let path = "/.well-known/acme-challenge/token";
        let rows = [
            ("shop.localhost", path, true),
            ("a.b.localhost", path, true),
            ("console.mezu.localhost", path, true),
            ("mezu.localhost", path, true),
            ("localhost", path, true),
            ("shop.example", path, false),
            ("notlocalhost", path, false),
            ("shop.localhost", "/.well-known/security.txt", false),
            ("shop.localhost", "/", false),
        ];
        for (host, path, expected) in rows {
            assert_eq!(is_ours_alone(&platform, &Host::parse(host).unwrap(), path), expected, "{host}{path}");
        }
    }

    #[test]
    fn a_certificate_is_made_once_for_a_challenge() {
        let hand = ManualClock::at(Timestamp::from_seconds(100));
        let clock = hand.clock();
        let shop = Host::parse("shop.example").unwrap();
        let challenges = Challenges::default();
        let config = || challenges.table().config(&shop, clock.now()).unwrap();
        challenges.replace(vec![challenge("shop.example", "one", 200)], &clock);
        let first = config();
        hand.advance(Duration::from_secs(1));
        challenges.replace(
            vec![challenge("shop.example", "one", 200), challenge("blog.example", "b", 200)],
            &clock,
        );
        assert!(Arc::ptr_eq(&first, &config()));
        challenges.replace(vec![challenge("shop.example", "two", 200)], &clock);
        assert!(!Arc::ptr_eq(&first, &config()), "another challenge is another certificate");
    }

    #[test]
    fn r23_no_more_challenges_are_kept_than_the_limit() {
        let clock = ManualClock::at(Timestamp::from_seconds(1)).clock();
        // One host, so that one certificate is made.
        let count = i64::try_from(CHALLENGES_MAX).unwrap() + 5;
        let documents =
            (0..count).rev().map(|n| challenge("shop.example", &n.to_string(), 100 + n)).collect();
        let table = ChallengeTable::build(documents, &ChallengeTable::default(), &clock);
        assert_eq!(table.len(), CHALLENGES_MAX);
    }
}
