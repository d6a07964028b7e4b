//! Jobs that must run once in an installation with several control nodes: whoever holds the lease runs them.
//!
//! A lease is taken in the transaction that works, and prolonged in each of a job's transactions; a node that slept
//! past the end finds another token there and stops (a fencing token), so nothing it believed is written any more.

use std::time::Duration;

use mezusphere_store::StoreError;
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::lease::{self, Lease};

use crate::Shared;

/// How long a lease is good without being prolonged: longer than any one transaction, and short enough that the jobs of
/// a node that died are taken over soon.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(30);

/// What is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Renewing what signs bundles.
    Signer,
    /// Bringing bundles and endpoints into line.
    Bundles,
    /// Renewing public certificates.
    Certificates,
    /// Publishing what concerns the whole installation, as time passes.
    Platform,
    /// Removing what is over.
    Prune,
    /// Sending mail.
    Mail,
    /// Replacing the CA.
    Rotation,
    /// Making the keys that sign assertions follow one another.
    AssertionKeys,
    /// Sealing anew what a master key sealed that is to go.
    Reseal,
    /// Looking for the DNS records of custom domains.
    Domains,
    /// Ordering public certificates.
    Acme,
}

impl Job {
    const fn name(self) -> &'static str {
        match self {
            Self::Signer => "control/signer",
            Self::Bundles => "control/bundles",
            Self::Certificates => "control/certificates",
            Self::Platform => "control/platform",
            Self::Prune => "control/prune",
            Self::Mail => "control/mail",
            Self::Rotation => "control/rotation",
            Self::AssertionKeys => "control/assertion-keys",
            Self::Reseal => "control/reseal",
            Self::Domains => "control/domains",
            Self::Acme => "control/acme",
        }
    }
}

impl Shared {
    /// Takes or prolongs a job's lease; `None`: another control node is at it.
    pub(crate) async fn take_lease(&self, tx: &mut Tx, job: Job) -> Result<Option<Lease>, StoreError> {
        lease::acquire(tx, job.name(), &self.config.node.id.to_string(), LEASE_TTL).await
    }

    /// Prolongs a lease. `false`: it ended meanwhile, and whatever was begun under it must not go on.
    pub(crate) async fn keep_lease(&self, tx: &mut Tx, held: &Lease) -> Result<bool, StoreError> {
        let lease = lease::acquire(tx, &held.name, &held.holder, LEASE_TTL).await?;
        Ok(lease.is_some_and(|lease| lease.token == held.token))
    }
}
