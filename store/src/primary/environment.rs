//! Environments of a project: where routes live and warpgates connect.

use mezusphere_model::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::slug::Slug;

use super::value::{Row, args};
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

fn read(row: &Row) -> Result<EnvironmentRow, StoreError> {
    Ok(EnvironmentRow {
        id: row.get("id")?,
        project: row.get("project")?,
        slug: row.get("slug")?,
        site_revision: row.get("site_revision")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds an environment.
///
/// # Errors
/// [`StoreError::TooLarge`] past [`ENVIRONMENTS_MAX`].
pub async fn insert(tx: &mut Tx, row: &EnvironmentRow) -> Result<(), WriteError> {
    let count =
        tx.row("SELECT COUNT(*) AS n FROM environments WHERE project = $1", args![row.project]).await?;
    super::within(count, ENVIRONMENTS_MAX, "environments in a project")?;
    tx.insert(
        "project",
        "INSERT INTO environments (id, project, slug, site_revision, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![row.id, row.project, &row.slug, row.site_revision, row.created_at],
    )
    .await
    .map(drop)
}

/// A project's environment.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: EnvironmentId,
) -> Result<Option<EnvironmentRow>, StoreError> {
    let row = tx.row("SELECT * FROM environments WHERE project = $1 AND id = $2", args![project, id]).await?;
    row.as_ref().map(read).transpose()
}

/// A project's environment by slug.
pub async fn find(
    tx: &mut ReadTx,
    project: ProjectId,
    slug: &Slug,
) -> Result<Option<EnvironmentRow>, StoreError> {
    let row =
        tx.row("SELECT * FROM environments WHERE project = $1 AND slug = $2", args![project, slug]).await?;
    row.as_ref().map(read).transpose()
}

/// A project's environments by slug; at most [`ENVIRONMENTS_MAX`].
pub async fn list(tx: &mut ReadTx, project: ProjectId) -> Result<Vec<EnvironmentRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM environments WHERE project = $1 ORDER BY slug LIMIT $2",
            args![project, ENVIRONMENTS_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Removes an environment with its hosts, routes, warpgates and the keys that are good for it alone.
/// Retracts its site, its bundle and those keys.
pub async fn delete(tx: &mut Tx, project: ProjectId, id: EnvironmentId) -> Result<(), WriteError> {
    let keys = tx
        .rows("SELECT id FROM api_keys WHERE project = $1 AND environment = $2", args![project, id])
        .await?;
    tx.change("environment", "DELETE FROM environments WHERE project = $1 AND id = $2", args![project, id])
        .await?;
    let partition = Partition::Project(project);
    for key in keys {
        tx.retract(partition, DocumentKey::api_key(key.get("id")?))?;
    }
    tx.retract(partition, DocumentKey::site(id))?;
    tx.retract(partition, DocumentKey::bundle(id))?;
    Ok(())
}
