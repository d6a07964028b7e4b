//! Certificates of nodes: issued under the name control decided, and noted.

use std::time::Duration;

use mezusphere_pki::authority::IssueError;
use mezusphere_pki::{IssuedLeaf, Role, SpiffeName};
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::certificate::{self, IssuedRow};
use mezusphere_store::{StoreError, WriteError};

use crate::Shared;
use crate::digest::{hex, sha256};
use crate::installation::Installation;

/// Why a node gets no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeafError {
    /// The request is malformed, or its sender does not hold the key.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The database did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for LeafError {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl Shared {
    /// Certifies a node's key for a life of `ttl`. Whether it may have one is the caller's to ask, in this transaction.
    pub(crate) async fn issue_leaf(
        &self,
        tx: &mut Tx,
        csr_der: &[u8],
        role: Role,
        ttl: Duration,
    ) -> Result<IssuedLeaf, LeafError> {
        let ca = self.ca(tx).await?;
        let name = SpiffeName::new(ca.issuing.trust_domain().clone(), role);
        let leaf = ca.issuing.issue(csr_der, &name, tx.now(), ttl)?;
        note_issued(tx, &self.installation, &leaf, &name).await?;
        Ok(leaf)
    }
}

/// Notes a leaf in the table of certificates issued, and a node's in the audit log. A warpgate's stands there with its
/// enrollment, in its organization's.
pub(crate) async fn note_issued(
    tx: &mut Tx,
    installation: &Installation,
    leaf: &IssuedLeaf,
    name: &SpiffeName,
) -> Result<(), WriteError> {
    let Some(certificate) = leaf.chain.first() else { return Ok(()) };
    let project = match name.role {
        Role::Warpgate { project, .. } => Some(project),
        Role::Edge(_) | Role::Control(_) => None,
    };
    let row = IssuedRow {
        fingerprint: sha256(certificate),
        name: name.to_string(),
        project,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        issued_at: tx.now(),
        issuer: Some(leaf.issuer),
    };
    certificate::insert(tx, &row).await?;
    if project.is_none() {
        audit_issued(tx, installation, &row);
    }
    Ok(())
}

/// Notes a certificate of the installation's own in the audit log.
pub(crate) fn audit_issued(tx: &mut Tx, installation: &Installation, row: &IssuedRow) {
    tx.audit(AuditEntry {
        organization: installation.organization,
        project: None,
        actor: "ca".to_owned(),
        action: "certificate.issue".to_owned(),
        target: row.name.clone(),
        address: None,
        detail: serde_json::json!({
            "sha256": hex(&row.fingerprint),
            "ca": row.issuer.map(|issuer| hex(&issuer)),
            "until": row.not_after.to_string(),
        }),
    });
}
