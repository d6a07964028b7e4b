//! Operators: users of the installation's directory who administer it, an organization or a project.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{OrganizationId, ProjectId, UserId};
use mezusphere_model::slug::Name;

use super::value::{Column, IntoValue, Row, Value, args};
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

/// How the whole installation is written.
const INSTALLATION: &str = "installation";

impl IntoValue for Scope {
    const NULL: Value = Value::Text(None);
    fn into_value(self) -> Value {
        match self {
            Self::Installation => INSTALLATION.into_value(),
            Self::Organization(id) => id.into_value(),
            Self::Project(id) => id.into_value(),
        }
    }
}

impl Column for Scope {
    fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
        let Some(text) = String::read(row, column)? else { return Ok(None) };
        if text == INSTALLATION {
            return Ok(Some(Self::Installation));
        }
        text.parse()
            .map(Self::Organization)
            .or_else(|_| text.parse().map(Self::Project))
            .map(Some)
            .map_err(|_| StoreError::Damaged(format!("{column}: unknown scope {text}")))
    }
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

fn read(row: &Row) -> Result<GrantRow, StoreError> {
    Ok(GrantRow {
        user: row.get("user_id")?,
        scope: row.get("scope")?,
        role: row.get("role")?,
        granted_at: row.get("granted_at")?,
    })
}

/// Gives a grant; one that exists is left as it is.
pub async fn grant(tx: &mut Tx, row: &GrantRow) -> Result<(), WriteError> {
    tx.insert(
        "user",
        "INSERT INTO operator_grants (user_id, scope, role, granted_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (user_id, scope, role) DO NOTHING",
        args![row.user, row.scope, &row.role, row.granted_at],
    )
    .await
    .map(drop)
}

/// Takes a grant away.
pub async fn revoke(tx: &mut Tx, user: UserId, scope: Scope, role: &Name) -> Result<(), WriteError> {
    tx.change(
        "grant",
        "DELETE FROM operator_grants WHERE user_id = $1 AND scope = $2 AND role = $3",
        args![user, scope, role],
    )
    .await
}

/// What an operator has been given; at most [`GRANTS_MAX`].
pub async fn held_by(tx: &mut ReadTx, user: UserId) -> Result<Vec<GrantRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM operator_grants WHERE user_id = $1 ORDER BY scope, role LIMIT $2",
            args![user, GRANTS_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Who has been given exactly this scope; at most [`GRANTS_MAX`].
pub async fn list(tx: &mut ReadTx, scope: Scope) -> Result<Vec<GrantRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM operator_grants WHERE scope = $1 ORDER BY user_id, role LIMIT $2",
            args![scope, GRANTS_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}
