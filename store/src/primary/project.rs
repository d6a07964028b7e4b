//! Projects: the border between tenants.

use mezusphere_model::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{DirectoryId, OrganizationId, ProjectId};
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Slug;

use super::value::{Row, args};
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

pub(super) fn read(row: &Row) -> Result<ProjectRow, StoreError> {
    Ok(ProjectRow {
        id: row.get("id")?,
        organization: row.get("organization")?,
        directory: row.get("directory")?,
        slug: row.get("slug")?,
        name: row.get("name")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds a project.
///
/// # Errors
/// Not found: the directory, if it is another organization's or serves another project.
pub async fn insert(tx: &mut Tx, row: &ProjectRow) -> Result<(), WriteError> {
    let added = tx
        .insert(
            "directory",
            "INSERT INTO projects (id, organization, directory, slug, name, created_at)
             SELECT $1, organization, id, $4, $5, $6 FROM directories
             WHERE organization = $2 AND id = $3 AND (project IS NULL OR project = $1)",
            args![row.id, row.organization, row.directory, &row.slug, row.name.as_str(), row.created_at],
        )
        .await?;
    if added == 0 { Err(WriteError::NotFound { what: "directory" }) } else { Ok(()) }
}

/// The project with this id, whoever owns it: for callers that hold a credential of the project itself.
pub async fn get(tx: &mut ReadTx, id: ProjectId) -> Result<Option<ProjectRow>, StoreError> {
    let row = tx.row("SELECT * FROM projects WHERE id = $1", args![id]).await?;
    row.as_ref().map(read).transpose()
}

/// The project with this slug, whoever owns it. The permission check comes next, on the row's organization and id.
pub async fn find(tx: &mut ReadTx, slug: &Slug) -> Result<Option<ProjectRow>, StoreError> {
    let row = tx.row("SELECT * FROM projects WHERE slug = $1", args![slug]).await?;
    row.as_ref().map(read).transpose()
}

/// An organization's projects by slug; the key of a page is a slug.
pub async fn list(
    tx: &mut ReadTx,
    organization: OrganizationId,
    page: &PageRequest,
) -> Result<Paged<ProjectRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM projects WHERE organization = $1 AND slug > $2 ORDER BY slug LIMIT $3",
            args![organization, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.slug.to_string()))
}

/// The projects of all organizations by slug: for operators of the installation and for jobs.
pub async fn list_all(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<ProjectRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM projects WHERE slug > $1 ORDER BY slug LIMIT $2",
            args![page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.slug.to_string()))
}

/// Changes the name for people. Call [`super::site::publish`] for each environment after it.
pub async fn rename(
    tx: &mut Tx,
    organization: OrganizationId,
    id: ProjectId,
    name: &str,
) -> Result<(), WriteError> {
    tx.change(
        "project",
        "UPDATE projects SET name = $3 WHERE organization = $1 AND id = $2",
        args![organization, id, name],
    )
    .await
}

/// What holds a project to its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// Users of the directory hold roles in the project.
    Roles,
    /// Users of the directory are signed in to the project.
    Sessions,
    /// The directory serves this project alone, and has users: they would be lost.
    Users,
}

/// What holds a project to its directory, if anything does.
pub async fn held_by(tx: &mut ReadTx, row: &ProjectRow) -> Result<Option<HeldBy>, StoreError> {
    let now = tx.now();
    let roles = tx.row("SELECT 1 AS one FROM user_roles WHERE project = $1 LIMIT 1", args![row.id]).await?;
    if roles.is_some() {
        return Ok(Some(HeldBy::Roles));
    }
    let sessions = tx
        .row(
            "SELECT 1 AS one FROM sessions WHERE project = $1 AND ended_at IS NULL AND expires_at > $2 LIMIT 1",
            args![row.id, now],
        )
        .await?;
    if sessions.is_some() {
        return Ok(Some(HeldBy::Sessions));
    }
    let users = tx
        .row(
            "SELECT 1 AS one FROM users u JOIN directories d ON d.id = u.directory
             WHERE d.id = $1 AND d.project IS NOT NULL LIMIT 1",
            args![row.directory],
        )
        .await?;
    Ok(users.map(|_| HeldBy::Users))
}

/// Gives a project another directory; the one it had alone goes. Ask [`held_by`] first. Retracts sessions that are over.
///
/// # Errors
/// Not found: the directory, if it is another organization's or serves another project.
pub async fn set_directory(tx: &mut Tx, row: &ProjectRow, directory: DirectoryId) -> Result<(), WriteError> {
    tx.need_whole_organization()?;
    tx.change(
        "directory",
        "UPDATE projects SET directory = $3 WHERE organization = $1 AND id = $2
           AND EXISTS (SELECT 1 FROM directories d WHERE d.organization = $1 AND d.id = $3
                       AND (d.project IS NULL OR d.project = $2))",
        args![row.organization, row.id, directory],
    )
    .await?;
    if row.directory != directory {
        // Those that are over and not pruned yet: they would go with the old directory's users, unretracted.
        let left = tx
            .rows("DELETE FROM sessions WHERE project = $1 RETURNING token_hash, user_id", args![row.id])
            .await?;
        let partition = Partition::Project(row.id);
        for session in &left {
            tx.retract(partition, DocumentKey::session(&session.get("token_hash")?))?;
            tx.retract(partition, DocumentKey::principal(Subject::User(session.get("user_id")?)))?;
        }
        tx.execute(
            "DELETE FROM directories WHERE id = $1 AND project = $2
               AND NOT EXISTS (SELECT 1 FROM users WHERE users.directory = directories.id)",
            args![row.directory, row.id],
        )
        .await?;
    }
    Ok(())
}

/// Removes a project with all it owns: environments, roles, accounts, and its directory with the users if that serves no
/// other project. Retracts every document of its partition.
pub async fn delete(tx: &mut Tx, organization: OrganizationId, id: ProjectId) -> Result<(), WriteError> {
    tx.change("project", "DELETE FROM projects WHERE organization = $1 AND id = $2", args![organization, id])
        .await?;
    tx.execute("DELETE FROM operator_grants WHERE scope = $1", args![id]).await?;
    tx.execute("DELETE FROM directories WHERE project = $1", args![id]).await?;
    tx.pending.clear(Partition::Project(id));
    Ok(())
}
