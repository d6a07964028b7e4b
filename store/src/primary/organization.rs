//! Organizations: the owners of projects.

use mezusphere_model::Timestamp;
use mezusphere_model::id::OrganizationId;
use mezusphere_model::slug::Slug;

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationRow {
    /// Its id.
    pub id: OrganizationId,
    /// Its short name, unique in the installation.
    pub slug: Slug,
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Adds an organization.
pub async fn insert(tx: &mut Tx, row: &OrganizationRow) -> Result<(), WriteError> {
    todo!()
}

/// The organization with this id.
pub async fn get(tx: &mut ReadTx, id: OrganizationId) -> Result<Option<OrganizationRow>, StoreError> {
    todo!()
}

/// The organization with this slug.
pub async fn find(tx: &mut ReadTx, slug: &Slug) -> Result<Option<OrganizationRow>, StoreError> {
    todo!()
}

/// All organizations by slug; the key of a page is a slug.
pub async fn list(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<OrganizationRow>, StoreError> {
    todo!()
}

/// Changes the name for people.
pub async fn rename(tx: &mut Tx, id: OrganizationId, name: &str) -> Result<(), WriteError> {
    todo!()
}
