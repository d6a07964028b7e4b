//! Projects: the border between tenants.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, OrganizationId, ProjectId};
use mezusphere_model::slug::Slug;

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its id.
    pub id: ProjectId,
    /// Whose.
    pub organization: OrganizationId,
    /// Where its end users live.
    pub directory: DirectoryId,
    /// Its short name, unique in the installation because it is a label of its hosts.
    pub slug: Slug,
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Adds a project.
pub async fn insert(tx: &mut Tx, row: &ProjectRow) -> Result<(), WriteError> {
    todo!()
}

/// The project with this id, whoever owns it: for callers that hold a credential of the project itself.
pub async fn get(tx: &mut ReadTx, id: ProjectId) -> Result<Option<ProjectRow>, StoreError> {
    todo!()
}

/// The project with this slug, whoever owns it. The permission check comes next, on the row's organization and id.
pub async fn find(tx: &mut ReadTx, slug: &Slug) -> Result<Option<ProjectRow>, StoreError> {
    todo!()
}

/// An organization's projects by slug; the key of a page is a slug.
pub async fn list(
    tx: &mut ReadTx,
    organization: OrganizationId,
    page: &PageRequest,
) -> Result<Paged<ProjectRow>, StoreError> {
    todo!()
}

/// The projects of all organizations by slug: for operators of the installation and for jobs.
pub async fn list_all(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<ProjectRow>, StoreError> {
    todo!()
}

/// Changes the name for people. Call [`super::site::publish`] for each environment after it.
pub async fn rename(
    tx: &mut Tx,
    organization: OrganizationId,
    id: ProjectId,
    name: &str,
) -> Result<(), WriteError> {
    todo!()
}

/// Removes a project with all it owns. Retracts every document of its partition.
pub async fn delete(tx: &mut Tx, organization: OrganizationId, id: ProjectId) -> Result<(), WriteError> {
    todo!()
}
