//! Hosts an environment answers on: its endpoint, and custom domains.

use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::{Host, Timestamp};

use super::error::StoreError;
use super::value::{Column, IntoValue, Row, Value, args, word};
use super::{ReadTx, Tx, WriteError};

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

word!(HostKind { Endpoint = "endpoint", Custom = "custom" });

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

fn read(row: &Row) -> Result<HostRow, StoreError> {
    Ok(HostRow {
        host: row.get("host")?,
        project: row.get("project")?,
        environment: row.get("environment")?,
        kind: row.get("kind")?,
        created_at: row.get("created_at")?,
    })
}

/// Adds a host. Call [`super::site::publish`] after it.
///
/// # Errors
/// [`StoreError::TooLarge`] past [`HOSTS_MAX`].
pub async fn insert(tx: &mut Tx, row: &HostRow) -> Result<(), WriteError> {
    let count = tx
        .row(
            "SELECT COUNT(*) AS n FROM hosts WHERE project = $1 AND environment = $2",
            args![row.project, row.environment],
        )
        .await?;
    super::within(count, HOSTS_MAX, "hosts in an environment")?;
    tx.insert(
        "environment",
        "INSERT INTO hosts (host, project, environment, kind, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![&row.host, row.project, row.environment, row.kind, row.created_at],
    )
    .await
    .map(drop)
}

/// Whose host this is, in the whole installation: a public fact, for the login host to know where a user comes from.
pub async fn find(tx: &mut ReadTx, host: &Host) -> Result<Option<HostRow>, StoreError> {
    let row = tx.row("SELECT * FROM hosts WHERE host = $1", args![host]).await?;
    row.as_ref().map(read).transpose()
}

/// An environment's hosts, the endpoint first; at most [`HOSTS_MAX`].
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Vec<HostRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM hosts WHERE project = $1 AND environment = $2
             ORDER BY CASE kind WHEN 'endpoint' THEN 0 ELSE 1 END, host LIMIT $3",
            args![project, environment, HOSTS_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Removes a host. Call [`super::site::publish`] after it.
pub async fn delete(tx: &mut Tx, project: ProjectId, host: &Host) -> Result<(), WriteError> {
    tx.change("host", "DELETE FROM hosts WHERE project = $1 AND host = $2", args![project, host]).await
}

/// Whether edges are told of a certificate of the host's own.
pub async fn is_certified(tx: &mut ReadTx, project: ProjectId, host: &Host) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS one FROM feed_entries
             WHERE partition = $1 AND key = $2 AND is_current = 1 AND (body IS NOT NULL OR sealed IS NOT NULL)",
            args![Partition::Project(project), &DocumentKey::certificate(host.as_str())],
        )
        .await?;
    Ok(row.is_some())
}

/// Whether there is a host that a certificate of this name is good for (`*.` in front of one stands for any single label), whose
/// environment has a route, and which has had no certificate from an authority yet.
pub async fn is_any_unserved(tx: &mut ReadTx, name: &str) -> Result<bool, StoreError> {
    // Of a name that is no wildcard nothing is below, and no host is like the empty text.
    let (below, deeper) = match name.strip_prefix('*') {
        Some(parent) => (format!("%{parent}"), format!("%.%{parent}")),
        None => (String::new(), String::new()),
    };
    let row = tx
        .row(
            "SELECT 1 AS one FROM hosts
             WHERE (host = $1 OR (host LIKE $2 AND host NOT LIKE $3))
               AND EXISTS (SELECT 1 FROM routes
                           WHERE routes.project = hosts.project AND routes.environment = hosts.environment)
               AND NOT EXISTS (SELECT 1 FROM acme_certificates
                               WHERE acme_certificates.name = hosts.host AND certificate IS NOT NULL)
             LIMIT 1",
            args![name, below.as_str(), deeper.as_str()],
        )
        .await?;
    Ok(row.is_some())
}
