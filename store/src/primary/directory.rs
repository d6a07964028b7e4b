//! Directories: where end users live. One belongs to an organization, or to one project of it.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, OrganizationId, ProjectId};

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryRow {
    /// Its id.
    pub id: DirectoryId,
    /// Whose.
    pub organization: OrganizationId,
    /// The only project it serves; `None`: any project of the organization may use it.
    pub project: Option<ProjectId>,
    /// Its name, unique in the organization.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Adds a directory. Its project may be added later in the same transaction.
pub async fn insert(tx: &mut Tx, row: &DirectoryRow) -> Result<(), WriteError> {
    todo!()
}

/// An organization's directory.
pub async fn get(
    tx: &mut ReadTx,
    organization: OrganizationId,
    id: DirectoryId,
) -> Result<Option<DirectoryRow>, StoreError> {
    todo!()
}

/// An organization's directories by name; the key of a page is a name.
pub async fn list(
    tx: &mut ReadTx,
    organization: OrganizationId,
    page: &PageRequest,
) -> Result<Paged<DirectoryRow>, StoreError> {
    todo!()
}
