//! Setting and removing DNS records for dns-01: the seam between the engine and whoever can write to a zone.
//!
//! What stands behind it here is a program the operator gives ([`super::hook`]).

use std::pin::Pin;

use serde::{Deserialize, Serialize};

/// A record to be there while an authority looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DnsRecord {
    /// The name of the TXT record: `_acme-challenge.` and the name to be certified, without `*.`.
    pub(crate) name: String,
    /// Its value. Not a secret: it is made to be published.
    pub(crate) value: String,
}

/// What was said while it was done, for the time-line; shortened to
/// [`TEXT_LEN_MAX`](mezusphere_store::primary::acme::TEXT_LEN_MAX) there.
pub(crate) type DnsOutput = String;

/// A call of a hook.
pub(crate) type DnsFuture<'a> = Pin<Box<dyn Future<Output = Result<DnsOutput, DnsError>> + Send + 'a>>;

/// Sets and removes records. A call takes bounded time (2 minutes), and may be dropped before its end; what it has
/// started must end then.
pub(crate) trait DnsHook: Send + Sync {
    /// Puts the record there, beside others of the same name. Returns once every server of the zone has it, or says so.
    /// May be called again for one that is there.
    fn present<'a>(&'a self, record: &'a DnsRecord) -> DnsFuture<'a>;

    /// Takes the record away. May be called for one that is not there.
    fn cleanup<'a>(&'a self, record: &'a DnsRecord) -> DnsFuture<'a>;
}

/// Why a record was not set or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsError {
    /// It could not be started.
    #[error("the DNS hook cannot be started: {0}")]
    NotStarted(String),
    /// It said that it failed.
    #[error("the DNS hook failed ({status}): {output}")]
    Failed {
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// It took too long.
    #[error("the DNS hook did not end within {seconds} s: {output}")]
    TooSlow {
        /// How long it was waited for.
        seconds: u64,
        /// The end of what it printed.
        output: String,
    },
}
