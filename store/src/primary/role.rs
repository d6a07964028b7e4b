//! Roles of a project, what they permit, and who holds them.

use mezusphere_model::Timestamp;
use mezusphere_model::id::ProjectId;
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;

use super::value::{Row, args};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError, principal};

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

async fn read(tx: &mut ReadTx, row: &Row) -> Result<RoleRow, StoreError> {
    let (project, name): (ProjectId, Name) = (row.get("project")?, row.get("name")?);
    let permissions = tx
        .rows(
            "SELECT permission FROM role_permissions WHERE project = $1 AND role = $2 ORDER BY permission LIMIT $3",
            args![project, &name, PERMISSIONS_MAX],
        )
        .await?;
    Ok(RoleRow {
        project,
        name,
        description: row.get("description")?,
        permissions: permissions.iter().map(|row| row.get("permission")).collect::<Result<_, _>>()?,
        created_at: row.get("created_at")?,
    })
}

async fn permit(
    tx: &mut Tx,
    project: ProjectId,
    role: &Name,
    permissions: &[Name],
) -> Result<(), WriteError> {
    if permissions.len() > PERMISSIONS_MAX {
        return Err(
            StoreError::TooLarge(format!("{PERMISSIONS_MAX} permissions in a role are allowed")).into()
        );
    }
    for permission in permissions {
        tx.insert(
            "role",
            "INSERT INTO role_permissions (project, role, permission) VALUES ($1, $2, $3)
             ON CONFLICT (project, role, permission) DO NOTHING",
            args![project, role, permission],
        )
        .await?;
    }
    Ok(())
}

/// Adds a role.
///
/// # Errors
/// [`StoreError::TooLarge`] past [`ROLES_MAX`] or [`PERMISSIONS_MAX`].
pub async fn insert(tx: &mut Tx, row: &RoleRow) -> Result<(), WriteError> {
    let count = tx.row("SELECT COUNT(*) AS n FROM roles WHERE project = $1", args![row.project]).await?;
    super::within(count, ROLES_MAX, "roles in a project")?;
    tx.insert(
        "project",
        "INSERT INTO roles (project, name, description, created_at) VALUES ($1, $2, $3, $4)",
        args![row.project, &row.name, row.description.as_str(), row.created_at],
    )
    .await?;
    permit(tx, row.project, &row.name, &row.permissions).await
}

/// A project's role.
pub async fn get(tx: &mut ReadTx, project: ProjectId, name: &Name) -> Result<Option<RoleRow>, StoreError> {
    let row = tx.row("SELECT * FROM roles WHERE project = $1 AND name = $2", args![project, name]).await?;
    match row {
        Some(row) => read(tx, &row).await.map(Some),
        None => Ok(None),
    }
}

/// A project's roles by name; at most [`ROLES_MAX`].
pub async fn list(tx: &mut ReadTx, project: ProjectId) -> Result<Vec<RoleRow>, StoreError> {
    let rows = tx
        .rows("SELECT * FROM roles WHERE project = $1 ORDER BY name LIMIT $2", args![project, ROLES_MAX])
        .await?;
    let mut roles = Vec::with_capacity(rows.len());
    for row in &rows {
        roles.push(read(tx, row).await?);
    }
    Ok(roles)
}

/// Replaces description and permissions. Publishes the principals of those who hold it anew.
pub async fn update(
    tx: &mut Tx,
    project: ProjectId,
    name: &Name,
    description: &str,
    permissions: &[Name],
) -> Result<(), WriteError> {
    tx.change(
        "role",
        "UPDATE roles SET description = $3 WHERE project = $1 AND name = $2",
        args![project, name, description],
    )
    .await?;
    tx.execute("DELETE FROM role_permissions WHERE project = $1 AND role = $2", args![project, name]).await?;
    permit(tx, project, name, permissions).await?;
    let holders = principal::raise_holders(tx, project, name).await?;
    principal::refresh(tx, project, holders).await
}

/// Removes a role and takes it from everybody. Publishes the principals of those who held it anew.
pub async fn delete(tx: &mut Tx, project: ProjectId, name: &Name) -> Result<(), WriteError> {
    let holders = principal::raise_holders(tx, project, name).await?;
    tx.change("role", "DELETE FROM roles WHERE project = $1 AND name = $2", args![project, name]).await?;
    principal::refresh(tx, project, holders).await
}

/// Gives somebody a role; nothing happens if they have it. Publishes their principal anew.
///
/// # Errors
/// Not found: the role; the subject, if it is neither a user of the project's directory nor a service account of the project.
pub async fn grant(tx: &mut Tx, project: ProjectId, subject: Subject, role: &Name) -> Result<(), WriteError> {
    get(tx, project, role).await?.ok_or(WriteError::NotFound { what: "role" })?;
    principal::load(tx, project, subject).await?.ok_or(WriteError::NotFound { what: noun(subject) })?;
    let now = tx.now();
    let added = match subject {
        Subject::User(user) => {
            tx.insert(
                "role",
                "INSERT INTO user_roles (project, user_id, role, granted_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (project, user_id, role) DO NOTHING",
                args![project, user, role, now],
            )
            .await?
        }
        Subject::ServiceAccount(account) => {
            tx.insert(
                "role",
                "INSERT INTO service_account_roles (project, account, role, granted_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (project, account, role) DO NOTHING",
                args![project, account, role, now],
            )
            .await?
        }
    };
    if added > 0 { principal::changed_in(tx, project, subject).await } else { Ok(()) }
}

/// Takes a role from somebody. Publishes their principal anew.
pub async fn revoke(
    tx: &mut Tx,
    project: ProjectId,
    subject: Subject,
    role: &Name,
) -> Result<(), WriteError> {
    match subject {
        Subject::User(user) => {
            tx.change(
                "role of this user",
                "DELETE FROM user_roles WHERE project = $1 AND user_id = $2 AND role = $3",
                args![project, user, role],
            )
            .await?;
        }
        Subject::ServiceAccount(account) => {
            tx.change(
                "role of this service account",
                "DELETE FROM service_account_roles WHERE project = $1 AND account = $2 AND role = $3",
                args![project, account, role],
            )
            .await?;
        }
    }
    principal::changed_in(tx, project, subject).await
}

/// The roles somebody holds in a project, sorted.
pub async fn held_by(tx: &mut ReadTx, project: ProjectId, subject: Subject) -> Result<Vec<Name>, StoreError> {
    let rows = match subject {
        Subject::User(user) => {
            tx.rows(
                "SELECT role FROM user_roles WHERE project = $1 AND user_id = $2 ORDER BY role LIMIT $3",
                args![project, user, ROLES_MAX],
            )
            .await?
        }
        Subject::ServiceAccount(account) => {
            tx.rows(
                "SELECT role FROM service_account_roles WHERE project = $1 AND account = $2 ORDER BY role LIMIT $3",
                args![project, account, ROLES_MAX],
            )
            .await?
        }
    };
    rows.iter().map(|row| row.get("role")).collect()
}

/// Who holds a role, by id; the key of a page is an id.
pub async fn holders(
    tx: &mut ReadTx,
    project: ProjectId,
    role: &Name,
    page: &PageRequest,
) -> Result<Paged<Subject>, StoreError> {
    let rows = tx
        .rows(
            "SELECT holder FROM (
                 SELECT user_id AS holder FROM user_roles WHERE project = $1 AND role = $2
                 UNION ALL
                 SELECT account AS holder FROM service_account_roles WHERE project = $1 AND role = $2
             ) AS holders WHERE holder > $3 ORDER BY holder LIMIT $4",
            args![project, role, page.start(), page.fetch()],
        )
        .await?;
    let holders = rows.iter().map(|row| row.get("holder")).collect::<Result<_, _>>()?;
    Ok(page.cut(holders, Subject::to_string))
}

fn noun(subject: Subject) -> &'static str {
    match subject {
        Subject::User(_) => "user",
        Subject::ServiceAccount(_) => "service account",
    }
}
