//! What one edge gives to a project: nothing kept means no limit.

use mezusphere_model::id::ProjectId;
use mezusphere_model::rules::ProjectQuota;

use super::value::{args, json};
use super::{ReadTx, StoreError, Tx, WriteError};

/// A project's quota.
pub async fn get(tx: &mut ReadTx, project: ProjectId) -> Result<ProjectQuota, StoreError> {
    let row = tx.row("SELECT document FROM project_quotas WHERE project = $1", args![project]).await?;
    row.map_or(Ok(ProjectQuota::default()), |row| row.json("document"))
}

/// Changes a project's quota. Call [`super::site::publish`] for each environment after it.
///
/// # Errors
/// Not found: the project.
pub async fn set(tx: &mut Tx, project: ProjectId, quota: &ProjectQuota) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "project",
        "INSERT INTO project_quotas (project, document, updated_at)
         SELECT id, $2, $3 FROM projects WHERE id = $1
         ON CONFLICT (project) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at",
        args![project, json(quota)?, now],
    )
    .await
}
