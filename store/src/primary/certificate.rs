//! Certificates the internal CA issued: who got which, until when.

use mezusphere_model::Timestamp;
use mezusphere_model::id::ProjectId;

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// An issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedRow {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// The SPIFFE URI in it, or the first DNS name of a public one.
    pub name: String,
    /// The tenant, if it was issued to a warpgate.
    pub project: Option<ProjectId>,
    /// From when it is good.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// When it was issued.
    pub issued_at: Timestamp,
}

/// Notes a certificate.
pub async fn insert(tx: &mut Tx, row: &IssuedRow) -> Result<(), WriteError> {
    todo!()
}

/// Certificates issued for a name, newest first.
pub async fn list_of(tx: &mut ReadTx, name: &str) -> Result<Vec<IssuedRow>, StoreError> {
    todo!()
}

/// All issued certificates by time of issue and fingerprint; the key of a page is opaque. For operators of the installation.
pub async fn list(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<IssuedRow>, StoreError> {
    todo!()
}
