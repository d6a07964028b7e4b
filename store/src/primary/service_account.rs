//! Service accounts: machines of a project.

use mezusphere_model::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition, Status};
use mezusphere_model::id::{ProjectId, ServiceAccountId};
use mezusphere_model::identity::Subject;

use super::value::{Row, args};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError, principal};

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountRow {
    /// Its id.
    pub id: ServiceAccountId,
    /// Whose.
    pub project: ProjectId,
    /// Its name, unique in the project.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it may act.
    pub status: Status,
    /// Grows with every change; the store raises it.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

fn read(row: &Row) -> Result<ServiceAccountRow, StoreError> {
    Ok(ServiceAccountRow {
        id: row.get("id")?,
        project: row.get("project")?,
        name: row.get("name")?,
        description: row.get("description")?,
        status: row.get("status")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds a service account.
pub async fn insert(tx: &mut Tx, row: &ServiceAccountRow) -> Result<(), WriteError> {
    tx.insert(
        "project",
        "INSERT INTO service_accounts (id, project, name, description, status, version, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![
            row.id,
            row.project,
            row.name.as_str(),
            row.description.as_str(),
            row.status,
            row.version,
            row.created_at
        ],
    )
    .await
    .map(drop)
}

/// A project's service account.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: ServiceAccountId,
) -> Result<Option<ServiceAccountRow>, StoreError> {
    let row =
        tx.row("SELECT * FROM service_accounts WHERE project = $1 AND id = $2", args![project, id]).await?;
    row.as_ref().map(read).transpose()
}

/// A project's service account by name.
pub async fn find(
    tx: &mut ReadTx,
    project: ProjectId,
    name: &str,
) -> Result<Option<ServiceAccountRow>, StoreError> {
    let row = tx
        .row("SELECT * FROM service_accounts WHERE project = $1 AND name = $2", args![project, name])
        .await?;
    row.as_ref().map(read).transpose()
}

/// A project's service accounts by name, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    page: &PageRequest,
) -> Result<Paged<ServiceAccountRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM service_accounts WHERE project = $1 AND name > $2 ORDER BY name LIMIT $3",
            args![project, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.name.clone()))
}

/// Suspends it or lets it act again. Publishes its principal anew if it is published.
pub async fn set_status(
    tx: &mut Tx,
    project: ProjectId,
    id: ServiceAccountId,
    status: Status,
) -> Result<(), WriteError> {
    tx.change(
        "service account",
        "UPDATE service_accounts SET status = $3 WHERE project = $1 AND id = $2",
        args![project, id, status],
    )
    .await?;
    principal::changed_in(tx, project, Subject::ServiceAccount(id)).await
}

/// Removes it with its keys and roles. Retracts its keys and principal.
pub async fn delete(tx: &mut Tx, project: ProjectId, id: ServiceAccountId) -> Result<(), WriteError> {
    let keys =
        tx.rows("SELECT id FROM api_keys WHERE project = $1 AND account = $2", args![project, id]).await?;
    tx.change(
        "service account",
        "DELETE FROM service_accounts WHERE project = $1 AND id = $2",
        args![project, id],
    )
    .await?;
    let partition = Partition::Project(project);
    for key in keys {
        tx.retract(partition, DocumentKey::api_key(key.get("id")?))?;
    }
    Ok(tx.retract(partition, DocumentKey::principal(Subject::ServiceAccount(id)))?)
}
