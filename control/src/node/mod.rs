//! This control node among the others: its own certificate for the node port, its row in the table of nodes, and whom
//! it trusts now.
//!
//! Nothing here is shared between control nodes; what they share is the installation's ([`crate::installation`],
//! [`crate::signer`]).

pub(crate) mod identity;
pub(crate) mod row;
mod trust;

use std::sync::Mutex;

use mezusphere_model::document::TrustDoc;
use mezusphere_pki::{CurrentIdentity, CurrentTrust, NodeIdentity, Trust, TrustError};

/// What this process is on the node port.
pub(crate) struct Node {
    /// Its own certificate, renewed by its jobs.
    pub(crate) identity: CurrentIdentity,
    /// Whom it trusts, kept current by its jobs.
    pub(crate) trust: CurrentTrust,
    /// What `trust` was made from.
    known: Mutex<TrustDoc>,
}

impl Node {
    /// A node with this certificate, which trusts what `doc` says.
    pub(crate) fn new(identity: NodeIdentity, doc: TrustDoc) -> Result<Self, TrustError> {
        let trust = Trust::from_doc(&doc)?;
        Ok(Self {
            identity: CurrentIdentity::new(identity),
            trust: CurrentTrust::new(trust),
            known: Mutex::new(doc),
        })
    }

    /// Whom it trusts now.
    pub(crate) fn trusted(&self) -> std::sync::Arc<Trust> {
        self.trust.get()
    }
}
