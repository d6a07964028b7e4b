//! Why a try to get a certificate failed, in words for people: a stable code, what happened, and what to do.
//!
//! The authority's own words are quoted, cut to one line: they come from outside.

use std::time::Duration;

/// Longest quotation of an authority's words, in characters.
const QUOTED_LEN_MAX: usize = 300;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The authority cannot be reached, is slow, or fails by its own fault.
    Unreachable,
    /// It answers what no authority should.
    Nonsense,
    /// It wants fewer requests.
    RateLimited,
    /// Our own limits say wait.
    Budget,
    /// It does not certify this name: its policy, or a CAA record.
    Refused,
    /// It does not find the name in DNS.
    Dns,
    /// It does not reach an edge under the name.
    Connection,
    /// It reached somebody under the name, who did not prove that the name is ours.
    Validation,
    /// It offers no challenge that can be answered here.
    NoChallenge,
    /// It wants another account, or none of ours.
    Account,
    /// The DNS hook failed.
    Hook,
    /// Edges did not take the challenge in time.
    Edges,
    /// What it issued cannot be used.
    Certificate,
    /// The database did not take it.
    Store,
}

impl Fault {
    /// Every fault.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 14] = [
        Self::Unreachable,
        Self::Nonsense,
        Self::RateLimited,
        Self::Budget,
        Self::Refused,
        Self::Dns,
        Self::Connection,
        Self::Validation,
        Self::NoChallenge,
        Self::Account,
        Self::Hook,
        Self::Edges,
        Self::Certificate,
        Self::Store,
    ];

    /// Its stable code.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "acme.unreachable",
            Self::Nonsense => "acme.nonsense",
            Self::RateLimited => "acme.rate_limited",
            Self::Budget => "acme.budget",
            Self::Refused => "acme.refused",
            Self::Dns => "acme.dns",
            Self::Connection => "acme.connection",
            Self::Validation => "acme.validation",
            Self::NoChallenge => "acme.no_challenge",
            Self::Account => "acme.account",
            Self::Hook => "acme.hook",
            Self::Edges => "acme.edges",
            Self::Certificate => "acme.certificate",
            Self::Store => "acme.store",
        }
    }

    /// What to do about it.
    pub(crate) const fn hint(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "nothing to do if it is brief; else check that this host reaches the authority over https"
            }
            Self::Nonsense => "check --acme: it must be the URL of a directory (RFC 8555)",
            Self::RateLimited => "wait; while trying things out use --acme letsencrypt-staging",
            Self::Budget => "wait: the time of the next try is when the authority may be asked again",
            Self::Refused => {
                "check the name's CAA records, and whether the authority certifies names like it"
            }
            Self::Dns => "let the name's A or AAAA records lead to an edge",
            Self::Connection => {
                "let the name lead to an edge, with port 443 open to the world, and 80 for http-01 (--http)"
            }
            Self::Validation => "let the name lead to edges of this installation and to nobody else",
            Self::NoChallenge => {
                "allow another challenge with --acme-challenge; wildcards need --acme-dns-hook"
            }
            Self::Account => "check --acme-agree-tos, --acme-email and the --acme-eab-… flags",
            Self::Hook => "run the hook by hand with the same arguments and look at what it prints",
            Self::Edges => "see which edges are away with: mezusphere edge list",
            Self::Certificate => "nothing to do if it is once; else choose another authority",
            Self::Store => "look at the disk and at the server's log",
        }
    }

    /// Whether the authority looked and did not find the name ours: what it counts against the name.
    pub(crate) const fn is_failed_validation(self) -> bool {
        matches!(self, Self::Dns | Self::Connection | Self::Validation)
    }
}

/// A try that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What kind.
    pub(crate) fault: Fault,
    /// One sentence, without a full stop.
    pub(crate) text: String,
    /// How long the authority wants to be left alone.
    pub(crate) wait: Option<Duration>,
    /// The order cannot come to an end any more.
    pub(crate) is_order_over: bool,
}

impl Failure {
    /// A failure after which the same order may go on.
    pub(crate) fn new(fault: Fault, text: impl Into<String>) -> Self {
        Self { fault, text: text.into(), wait: None, is_order_over: false }
    }

    /// After it the order is of no use.
    #[must_use]
    pub(crate) fn ends_order(mut self) -> Self {
        self.is_order_over = true;
        self
    }

    /// With what the authority said of when to come back.
    #[must_use]
    pub(crate) fn after(mut self, wait: Option<Duration>) -> Self {
        self.wait = self.wait.max(wait);
        self
    }
}

/// An outsider's words as part of one line: without control characters, cut to [`QUOTED_LEN_MAX`].
pub(crate) fn quoted(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(QUOTED_LEN_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_its_own_code_and_a_next_step() {
        let codes: BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.code()).collect();
        assert_eq!(codes.len(), Fault::ALL.len());
        for fault in Fault::ALL {
            assert!(fault.code().starts_with("acme.") && !fault.hint().is_empty(), "{fault:?}");
        }
    }

    #[test]
    fn r25_an_authoritys_words_are_one_short_line() {
        assert_eq!(quoted("a\r\nb\t\u{1b}[31m  c"), "a b [31m c");
        let long = "ä".repeat(1000);
        assert_eq!(quoted(&long).chars().count(), QUOTED_LEN_MAX + 1);
    }
}
