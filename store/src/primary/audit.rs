//! The audit log: append-only, one hash chain per organization.
//!
//! An entry's hash is SHA-256 over the hash before it and the entry as canonical JSON (keys sorted, no spaces).
//! Entries are appended when the transaction commits, in the order of the [`super::Tx::audit`] calls.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{OrganizationId, ProjectId};

use super::{PageRequest, Paged, ReadTx, StoreError};

/// Something worth keeping. Never holds a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// In whose log; the installation's own organization for what concerns all.
    pub organization: OrganizationId,
    /// In which project, if in one.
    pub project: Option<ProjectId>,
    /// Who: a user's, service account's or node's id, or `local` for the machine's own operator.
    pub actor: String,
    /// What they did: `project.create`, `api_key.revoke`, `sign_in`….
    pub action: String,
    /// To what: an id.
    pub target: String,
    /// From which address, if from one.
    pub address: Option<String>,
    /// More, as JSON.
    pub detail: serde_json::Value,
}

/// An entry as kept.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// What happened.
    pub entry: AuditEntry,
    /// Its number in the organization's log, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Hash over it and all before.
    pub hash: [u8; 32],
}

/// What checking a chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditVerdict {
    /// Every entry fits the one before.
    Intact {
        /// How many there are.
        entries: u64,
        /// Hash of the last; compare it with one noted elsewhere to know that none was cut off the end.
        last: [u8; 32],
    },
    /// Something was altered, removed or put in.
    Broken {
        /// The first number that does not fit.
        sequence: u64,
    },
}

/// An organization's log, newest first; the key of a page is a number.
pub async fn list(
    tx: &mut ReadTx,
    organization: OrganizationId,
    page: &PageRequest,
) -> Result<Paged<AuditRow>, StoreError> {
    todo!()
}

/// Checks an organization's whole chain.
pub async fn verify(tx: &mut ReadTx, organization: OrganizationId) -> Result<AuditVerdict, StoreError> {
    todo!()
}
