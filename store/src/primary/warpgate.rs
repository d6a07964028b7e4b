//! Warpgates that enrolled, and the tunnels edges report.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{ApiKeyId, EdgeId, EnvironmentId, ProjectId, ServiceAccountId, WarpgateId};

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Most tunnels listed of one environment.
pub const TUNNELS_LISTED_MAX: usize = 1000;

/// A warpgate that enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarpgateRow {
    /// Its id, in its certificate.
    pub id: WarpgateId,
    /// Whose.
    pub project: ProjectId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// The account whose key it enrolled with.
    pub account: ServiceAccountId,
    /// The key.
    pub key: ApiKeyId,
    /// The host it runs on, as it said.
    pub hostname: String,
    /// Its version, as it said.
    pub agent: String,
    /// When it first enrolled.
    pub created_at: Timestamp,
    /// When it last enrolled or renewed.
    pub enrolled_at: Timestamp,
    /// When its certificate ends.
    pub not_after: Timestamp,
}

/// A tunnel at an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelRow {
    /// Which warpgate.
    pub warpgate: WarpgateId,
    /// At which edge.
    pub edge: EdgeId,
    /// Whose.
    pub project: ProjectId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// From where it dials.
    pub remote: String,
    /// Its version.
    pub agent: String,
    /// Upstream names it declared.
    pub upstreams: Vec<String>,
    /// Connected now, or gone.
    pub connected: bool,
    /// Since when.
    pub since: Timestamp,
}

/// Adds a warpgate, or notes that one enrolled again; `created_at` stays.
///
/// # Errors
/// Conflict if the id belongs to another project or environment.
pub async fn put(tx: &mut Tx, row: &WarpgateRow) -> Result<(), WriteError> {
    todo!()
}

/// A project's warpgate.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: WarpgateId,
) -> Result<Option<WarpgateRow>, StoreError> {
    todo!()
}

/// An environment's warpgates by id, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
    page: &PageRequest,
) -> Result<Paged<WarpgateRow>, StoreError> {
    todo!()
}

/// Notes a tunnel that came or went; a report older than what is known changes nothing.
///
/// # Errors
/// Not found: the warpgate in this project and environment, or the edge.
pub async fn report_tunnel(tx: &mut Tx, row: &TunnelRow) -> Result<(), WriteError> {
    todo!()
}

/// An environment's tunnels, connected ones first; at most [`TUNNELS_LISTED_MAX`].
pub async fn list_tunnels(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Vec<TunnelRow>, StoreError> {
    todo!()
}

/// Marks every tunnel of an edge as gone: the edge has just started and holds none.
pub async fn edge_started(tx: &mut Tx, edge: EdgeId) -> Result<(), StoreError> {
    todo!()
}
