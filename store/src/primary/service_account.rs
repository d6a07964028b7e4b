//! Service accounts: machines of a project.

use mezusphere_model::Timestamp;
use mezusphere_model::document::Status;
use mezusphere_model::id::{ProjectId, ServiceAccountId};

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

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

/// Adds a service account.
pub async fn insert(tx: &mut Tx, row: &ServiceAccountRow) -> Result<(), WriteError> {
    todo!()
}

/// A project's service account.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: ServiceAccountId,
) -> Result<Option<ServiceAccountRow>, StoreError> {
    todo!()
}

/// A project's service account by name.
pub async fn find(
    tx: &mut ReadTx,
    project: ProjectId,
    name: &str,
) -> Result<Option<ServiceAccountRow>, StoreError> {
    todo!()
}

/// A project's service accounts by name, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    page: &PageRequest,
) -> Result<Paged<ServiceAccountRow>, StoreError> {
    todo!()
}

/// Suspends it or lets it act again. Publishes its principal anew if it is published.
pub async fn set_status(
    tx: &mut Tx,
    project: ProjectId,
    id: ServiceAccountId,
    status: Status,
) -> Result<(), WriteError> {
    todo!()
}

/// Removes it with its keys and roles. Retracts its keys and principal.
pub async fn delete(tx: &mut Tx, project: ProjectId, id: ServiceAccountId) -> Result<(), WriteError> {
    todo!()
}
