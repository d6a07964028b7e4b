//! Roles of a project, what they permit, and who holds them.

use mezusphere_model::Timestamp;
use mezusphere_model::id::ProjectId;
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Most roles of one project.
pub const ROLES_MAX: usize = 200;

/// Most permissions of one role.
pub const PERMISSIONS_MAX: usize = 200;

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRow {
    /// Whose.
    pub project: ProjectId,
    /// Its name, unique in the project.
    pub name: Name,
    /// What it is for.
    pub description: String,
    /// What it permits, sorted.
    pub permissions: Vec<Name>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Adds a role.
///
/// # Errors
/// [`StoreError::TooLarge`] past [`ROLES_MAX`] or [`PERMISSIONS_MAX`].
pub async fn insert(tx: &mut Tx, row: &RoleRow) -> Result<(), WriteError> {
    todo!()
}

/// A project's role.
pub async fn get(tx: &mut ReadTx, project: ProjectId, name: &Name) -> Result<Option<RoleRow>, StoreError> {
    todo!()
}

/// A project's roles by name; at most [`ROLES_MAX`].
pub async fn list(tx: &mut ReadTx, project: ProjectId) -> Result<Vec<RoleRow>, StoreError> {
    todo!()
}

/// Replaces description and permissions. Publishes the principals of those who hold it anew.
pub async fn update(
    tx: &mut Tx,
    project: ProjectId,
    name: &Name,
    description: &str,
    permissions: &[Name],
) -> Result<(), WriteError> {
    todo!()
}

/// Removes a role and takes it from everybody. Publishes the principals of those who held it anew.
pub async fn delete(tx: &mut Tx, project: ProjectId, name: &Name) -> Result<(), WriteError> {
    todo!()
}

/// Gives somebody a role; nothing happens if they have it. Publishes their principal anew.
///
/// # Errors
/// Not found: the role; the subject, if it is neither a user of the project's directory nor a service account of the project.
pub async fn grant(
    tx: &mut Tx,
    project: ProjectId,
    subject: Subject,
    role: &Name,
) -> Result<(), WriteError> {
    todo!()
}

/// Takes a role from somebody. Publishes their principal anew.
pub async fn revoke(
    tx: &mut Tx,
    project: ProjectId,
    subject: Subject,
    role: &Name,
) -> Result<(), WriteError> {
    todo!()
}

/// The roles somebody holds in a project, sorted.
pub async fn held_by(
    tx: &mut ReadTx,
    project: ProjectId,
    subject: Subject,
) -> Result<Vec<Name>, StoreError> {
    todo!()
}

/// Who holds a role, by id; the key of a page is an id.
pub async fn holders(
    tx: &mut ReadTx,
    project: ProjectId,
    role: &Name,
    page: &PageRequest,
) -> Result<Paged<Subject>, StoreError> {
    todo!()
}
