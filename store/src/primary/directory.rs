//! Directories: where end users live. One belongs to an organization, or to one project of it.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, OrganizationId, ProjectId};

use super::value::{Row, args};
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

fn read(row: &Row) -> Result<DirectoryRow, StoreError> {
    Ok(DirectoryRow {
        id: row.get("id")?,
        organization: row.get("organization")?,
        project: row.opt("project")?,
        name: row.get("name")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds a directory. Its project may be added later in the same transaction.
pub async fn insert(tx: &mut Tx, row: &DirectoryRow) -> Result<(), WriteError> {
    tx.insert(
        "organization",
        "INSERT INTO directories (id, organization, project, name, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![row.id, row.organization, row.project, row.name.as_str(), row.created_at],
    )
    .await
    .map(drop)
}

/// An organization's directory.
pub async fn get(
    tx: &mut ReadTx,
    organization: OrganizationId,
    id: DirectoryId,
) -> Result<Option<DirectoryRow>, StoreError> {
    let row = tx
        .row("SELECT * FROM directories WHERE organization = $1 AND id = $2", args![organization, id])
        .await?;
    row.as_ref().map(read).transpose()
}

/// An organization's directories by name; the key of a page is a name.
pub async fn list(
    tx: &mut ReadTx,
    organization: OrganizationId,
    page: &PageRequest,
) -> Result<Paged<DirectoryRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM directories WHERE organization = $1 AND name > $2 ORDER BY name LIMIT $3",
            args![organization, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.name.clone()))
}
