//! Routes of an environment, in the order they were written.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{EnvironmentId, ProjectId, RouteId};
use mezusphere_model::route::RouteDoc;

use super::{ReadTx, StoreError, Tx, WriteError};

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    /// The route as published.
    pub doc: RouteDoc,
    /// Whose.
    pub project: ProjectId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// Its place in the order; regular expressions are tried in it.
    pub position: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Adds a route at the end. Call [`super::site::publish`] after it.
///
/// # Errors
/// Path and methods taken in this environment; [`StoreError::TooLarge`] past
/// [`ROUTES_MAX`](mezusphere_model::route::ROUTES_MAX).
pub async fn insert(
    tx: &mut Tx,
    project: ProjectId,
    environment: EnvironmentId,
    doc: &RouteDoc,
) -> Result<RouteRow, WriteError> {
    todo!()
}

/// A project's route.
pub async fn get(tx: &mut ReadTx, project: ProjectId, id: RouteId) -> Result<Option<RouteRow>, StoreError> {
    todo!()
}

/// An environment's routes in order; at most [`ROUTES_MAX`](mezusphere_model::route::ROUTES_MAX).
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Vec<RouteRow>, StoreError> {
    todo!()
}

/// Replaces the route with `doc.id`. Call [`super::site::publish`] after it.
pub async fn update(tx: &mut Tx, project: ProjectId, doc: &RouteDoc) -> Result<(), WriteError> {
    todo!()
}

/// Puts an environment's routes in this order; those not named follow in their old order.
/// Call [`super::site::publish`] after it.
pub async fn reorder(
    tx: &mut Tx,
    project: ProjectId,
    environment: EnvironmentId,
    order: &[RouteId],
) -> Result<(), WriteError> {
    todo!()
}

/// Removes a route. Call [`super::site::publish`] after it.
pub async fn delete(tx: &mut Tx, project: ProjectId, id: RouteId) -> Result<(), WriteError> {
    todo!()
}
