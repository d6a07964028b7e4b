//! Routes of an environment, in the order they were written.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{EnvironmentId, ProjectId, RouteId};
use mezusphere_model::route::{ROUTES_MAX, RouteDoc};

use super::value::{Row, args, json};
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

fn read(row: &Row) -> Result<RouteRow, StoreError> {
    Ok(RouteRow {
        doc: row.json("document")?,
        project: row.get("project")?,
        environment: row.get("environment")?,
        position: row.get("position")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Methods in one spelling, so that two routes with the same ones in another order collide.
fn methods_key(doc: &RouteDoc) -> String {
    let mut methods: Vec<_> = doc.methods.iter().map(String::as_str).collect();
    methods.sort_unstable();
    methods.dedup();
    methods.join(",")
}

/// Adds a route at the end. Call [`super::site::publish`] after it.
///
/// # Errors
/// Path and methods taken in this environment; [`StoreError::TooLarge`] past
/// [`ROUTES_MAX`].
pub async fn insert(
    tx: &mut Tx,
    project: ProjectId,
    environment: EnvironmentId,
    doc: &RouteDoc,
) -> Result<RouteRow, WriteError> {
    let present = tx
        .row(
            "SELECT COUNT(*) AS n, COALESCE(MAX(position) + 1, 0) AS position FROM routes
             WHERE project = $1 AND environment = $2",
            args![project, environment],
        )
        .await?;
    let position: u32 = present.as_ref().map(|row| row.get("position")).transpose()?.unwrap_or(0);
    super::within(present, ROUTES_MAX, "routes in an environment")?;
    let now = tx.now();
    tx.insert(
        "environment",
        "INSERT INTO routes (id, project, environment, position, path, methods, document, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        args![
            doc.id,
            project,
            environment,
            position,
            doc.path.to_string(),
            methods_key(doc),
            json(doc)?,
            now
        ],
    )
    .await?;
    Ok(RouteRow { doc: doc.clone(), project, environment, position, created_at: now, updated_at: now })
}

/// A project's route.
pub async fn get(tx: &mut ReadTx, project: ProjectId, id: RouteId) -> Result<Option<RouteRow>, StoreError> {
    let row = tx.row("SELECT * FROM routes WHERE project = $1 AND id = $2", args![project, id]).await?;
    row.as_ref().map(read).transpose()
}

/// An environment's routes in order; at most [`ROUTES_MAX`].
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Vec<RouteRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM routes WHERE project = $1 AND environment = $2 ORDER BY position, id LIMIT $3",
            args![project, environment, ROUTES_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Replaces the route with `doc.id`. Call [`super::site::publish`] after it.
pub async fn update(tx: &mut Tx, project: ProjectId, doc: &RouteDoc) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "route",
        "UPDATE routes SET path = $3, methods = $4, document = $5, updated_at = $6
         WHERE project = $1 AND id = $2",
        args![project, doc.id, doc.path.to_string(), methods_key(doc), json(doc)?, now],
    )
    .await
}

/// Puts an environment's routes in this order; those not named follow in their old order.
/// Call [`super::site::publish`] after it.
pub async fn reorder(
    tx: &mut Tx,
    project: ProjectId,
    environment: EnvironmentId,
    order: &[RouteId],
) -> Result<(), WriteError> {
    let known: Vec<RouteId> =
        list(tx, project, environment).await?.into_iter().map(|row| row.doc.id).collect();
    if order.iter().any(|id| !known.contains(id)) {
        return Err(WriteError::NotFound { what: "route" });
    }
    let rest = known.iter().filter(|id| !order.contains(id));
    for (position, id) in order.iter().chain(rest).enumerate() {
        tx.execute(
            "UPDATE routes SET position = $3 WHERE project = $1 AND id = $2",
            args![project, *id, position],
        )
        .await?;
    }
    Ok(())
}

/// Removes a route. Call [`super::site::publish`] after it.
pub async fn delete(tx: &mut Tx, project: ProjectId, id: RouteId) -> Result<(), WriteError> {
    tx.change("route", "DELETE FROM routes WHERE project = $1 AND id = $2", args![project, id]).await
}
