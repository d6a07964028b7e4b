//! Hosts an environment answers on: its endpoint, and custom domains.

use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::{Host, Timestamp};

use super::{ReadTx, StoreError, Tx, WriteError};

/// Most hosts of one environment.
pub const HOSTS_MAX: usize = 100;

/// What kind of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// Made with the environment, under the applications domain.
    Endpoint,
    /// Brought by the customer.
    Custom,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// The name, unique in the installation.
    pub host: Host,
    /// Whose.
    pub project: ProjectId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// What kind.
    pub kind: HostKind,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Adds a host. Call [`super::site::publish`] after it.
pub async fn insert(tx: &mut Tx, row: &HostRow) -> Result<(), WriteError> {
    todo!()
}

/// Whose host this is, in the whole installation: a public fact, for the login host to know where a user comes from.
pub async fn find(tx: &mut ReadTx, host: &Host) -> Result<Option<HostRow>, StoreError> {
    todo!()
}

/// An environment's hosts, the endpoint first; at most [`HOSTS_MAX`].
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Vec<HostRow>, StoreError> {
    todo!()
}

/// Removes a host. Call [`super::site::publish`] after it.
pub async fn delete(tx: &mut Tx, project: ProjectId, host: &Host) -> Result<(), WriteError> {
    todo!()
}
