//! Operators: users of the installation's directory who administer it, an organization or a project.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{OrganizationId, ProjectId, UserId};
use mezusphere_model::slug::Name;

use super::{ReadTx, StoreError, Tx, WriteError};

/// Most grants of one operator, and most operators listed of one scope.
pub const GRANTS_MAX: usize = 1000;

/// What a grant covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    Installation,
    /// An organization with its projects.
    Organization(OrganizationId),
    /// A project.
    Project(ProjectId),
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRow {
    /// Who.
    pub user: UserId,
    /// Where.
    pub scope: Scope,
    /// What they are there: `owner`, `admin`, `viewer`…; the meaning is control's.
    pub role: Name,
    /// Since when.
    pub granted_at: Timestamp,
}

/// Gives a grant; one that exists is left as it is.
pub async fn grant(tx: &mut Tx, row: &GrantRow) -> Result<(), WriteError> {
    todo!()
}

/// Takes a grant away.
pub async fn revoke(tx: &mut Tx, user: UserId, scope: Scope, role: &Name) -> Result<(), WriteError> {
    todo!()
}

/// What an operator has been given; at most [`GRANTS_MAX`].
pub async fn held_by(tx: &mut ReadTx, user: UserId) -> Result<Vec<GrantRow>, StoreError> {
    todo!()
}

/// Who has been given exactly this scope; at most [`GRANTS_MAX`].
pub async fn list(tx: &mut ReadTx, scope: Scope) -> Result<Vec<GrantRow>, StoreError> {
    todo!()
}
