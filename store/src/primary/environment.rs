//! Environments of a project: where routes live and warpgates connect.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::slug::Slug;

use super::{ReadTx, StoreError, Tx, WriteError};

/// Most environments of one project.
pub const ENVIRONMENTS_MAX: usize = 100;

/// An environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentRow {
    /// Its id.
    pub id: EnvironmentId,
    /// Whose.
    pub project: ProjectId,
    /// Its short name, unique in the project.
    pub slug: Slug,
    /// Revision of its published site; grows with [`super::site::publish`].
    pub site_revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Adds an environment.
///
/// # Errors
/// [`StoreError::TooLarge`] past [`ENVIRONMENTS_MAX`].
pub async fn insert(tx: &mut Tx, row: &EnvironmentRow) -> Result<(), WriteError> {
    todo!()
}

/// A project's environment.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: EnvironmentId,
) -> Result<Option<EnvironmentRow>, StoreError> {
    todo!()
}

/// A project's environment by slug.
pub async fn find(
    tx: &mut ReadTx,
    project: ProjectId,
    slug: &Slug,
) -> Result<Option<EnvironmentRow>, StoreError> {
    todo!()
}

/// A project's environments by slug; at most [`ENVIRONMENTS_MAX`].
pub async fn list(tx: &mut ReadTx, project: ProjectId) -> Result<Vec<EnvironmentRow>, StoreError> {
    todo!()
}

/// Removes an environment with its hosts, routes and warpgates. Retracts its site and bundle.
pub async fn delete(tx: &mut Tx, project: ProjectId, id: EnvironmentId) -> Result<(), WriteError> {
    todo!()
}
