//! Claims: custom domains that a project has asked for and not proven to be its own yet; and contests, where one proves a domain
//! that another project holds.
//!
//! What is proven is a row of [`super::host`]; what a proof is, and who wins a contest, control knows.

use std::time::Duration;

use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::{Host, Timestamp};

use super::error::StoreError;
use super::value::{Row, args};
use super::{ReadTx, Tx, WriteError};

/// Most claims of one environment: as many as it may have hosts.
pub const CLAIMS_MAX: usize = super::host::HOSTS_MAX;

/// Most claims that one look takes up, so that one round of DNS questions stays short.
pub const DUE_MAX: usize = 50;

/// Most contests that are told at once: there are as many as domains that change hands within days.
pub const CONTESTS_MAX: usize = 1_000;

/// Longest text kept of what a look found, in octets.
pub const ERROR_LEN_MAX: usize = 500;

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// The name.
    pub host: Host,
    /// Who says that it is theirs.
    pub project: ProjectId,
    /// Which environment shall answer there.
    pub environment: EnvironmentId,
    /// What its DNS record must say.
    pub token: String,
    /// How often it was looked for.
    pub attempts: u32,
    /// What the last look found instead of the record.
    pub error: Option<String>,
    /// When that was.
    pub checked_at: Option<Timestamp>,
    /// When it is looked for next.
    pub next_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is forgotten.
    pub expires_at: Timestamp,
    /// Since when every look has found its record, and not that of the project that holds the host.
    pub contested_at: Option<Timestamp>,
}

/// A host that another project than its holder proves to be its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContestRow {
    /// The name.
    pub host: Host,
    /// Who holds it.
    pub holder: ProjectId,
    /// What the holder's DNS record must say.
    pub token: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

fn read(row: &Row) -> Result<ClaimRow, StoreError> {
    Ok(ClaimRow {
        host: row.get("host")?,
        project: row.get("project")?,
        environment: row.get("environment")?,
        token: row.get("token")?,
        attempts: row.get("attempts")?,
        error: row.opt("error")?,
        checked_at: row.opt("checked_at")?,
        next_at: row.get("next_at")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        contested_at: row.opt("contested_at")?,
    })
}

/// Adds a claim, not looked for yet.
///
/// # Errors
/// [`super::Taken::Host`] if the project has claimed the host already; [`StoreError::TooLarge`] past [`CLAIMS_MAX`].
pub async fn insert(tx: &mut Tx, row: &ClaimRow) -> Result<(), WriteError> {
    let now = tx.now();
    // One that is over and not yet pruned is as good as none.
    tx.execute(
        "DELETE FROM host_claims WHERE project = $1 AND host = $2 AND expires_at <= $3",
        args![row.project, &row.host, now],
    )
    .await?;
    let count = tx
        .row(
            "SELECT COUNT(*) AS n FROM host_claims WHERE project = $1 AND environment = $2",
            args![row.project, row.environment],
        )
        .await?;
    super::within(count, CLAIMS_MAX, "hosts in an environment that wait for their DNS record")?;
    tx.insert(
        "environment",
        "INSERT INTO host_claims (host, project, environment, token, attempts, next_at, created_at, expires_at)
         VALUES ($1, $2, $3, $4, 0, $5, $6, $7)",
        args![
            &row.host,
            row.project,
            row.environment,
            row.token.as_str(),
            row.next_at,
            row.created_at,
            row.expires_at,
        ],
    )
    .await
    .map(drop)
}

/// A project's claim to a host, unless it is over.
pub async fn get(tx: &mut ReadTx, project: ProjectId, host: &Host) -> Result<Option<ClaimRow>, StoreError> {
    let now = tx.now();
    let row = tx
        .row(
            "SELECT * FROM host_claims WHERE project = $1 AND host = $2 AND expires_at > $3",
            args![project, host, now],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// An environment's claims that are not over, by name; at most [`CLAIMS_MAX`].
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Vec<ClaimRow>, StoreError> {
    let now = tx.now();
    let rows = tx
        .rows(
            "SELECT * FROM host_claims WHERE project = $1 AND environment = $2 AND expires_at > $3
             ORDER BY host LIMIT $4",
            args![project, environment, now, CLAIMS_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Claims of the whole installation whose time to be looked for has come, each project's first before any project's second, the
/// longest due first; at most [`DUE_MAX`].
pub async fn due(tx: &mut ReadTx) -> Result<Vec<ClaimRow>, StoreError> {
    let now = tx.now();
    let rows = tx
        .rows(
            "SELECT * FROM (
                 SELECT host_claims.*, ROW_NUMBER() OVER (PARTITION BY project ORDER BY next_at, host) AS turn
                 FROM host_claims WHERE next_at <= $1 AND expires_at > $1
             ) AS due ORDER BY turn, next_at, host LIMIT $2",
            args![now, DUE_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Notes a look that did not find the record; the next one comes after `wait`.
pub async fn note(
    tx: &mut Tx,
    project: ProjectId,
    host: &Host,
    error: &str,
    wait: Duration,
) -> Result<(), WriteError> {
    let now = tx.now();
    let end = error.floor_char_boundary(ERROR_LEN_MAX);
    tx.change(
        "host",
        "UPDATE host_claims SET attempts = attempts + 1, error = $3, checked_at = $4, next_at = $5
         WHERE project = $1 AND host = $2",
        args![project, host, error.get(..end).unwrap_or_default(), now, now.after(wait)],
    )
    .await
}

/// Takes a claim back, or closes one that was proven.
pub async fn delete(tx: &mut Tx, project: ProjectId, host: &Host) -> Result<(), WriteError> {
    tx.change("host", "DELETE FROM host_claims WHERE project = $1 AND host = $2", args![project, host]).await
}

/// Notes since when a claim is proven to a host that another project holds; `None`: it is not, or that project has shown its record.
/// The claim is not forgotten before `until`.
pub async fn contest(
    tx: &mut Tx,
    row: &ClaimRow,
    since: Option<Timestamp>,
    until: Timestamp,
) -> Result<(), WriteError> {
    tx.change(
        "host",
        "UPDATE host_claims SET contested_at = $3, expires_at = CASE WHEN expires_at < $4 THEN $4 ELSE expires_at END
         WHERE project = $1 AND host = $2",
        args![row.project, &row.host, since, until],
    )
    .await
}

/// Contests of the whole installation, the longest first; at most [`CONTESTS_MAX`].
pub async fn contests(tx: &mut ReadTx) -> Result<Vec<ContestRow>, StoreError> {
    let now = tx.now();
    let rows = tx
        .rows(
            "SELECT hosts.host, hosts.project, hosts.token, MIN(contested_at) AS since
             FROM host_claims JOIN hosts ON hosts.host = host_claims.host
             WHERE contested_at IS NOT NULL AND expires_at > $1 AND hosts.project <> host_claims.project
             GROUP BY hosts.host, hosts.project, hosts.token ORDER BY since, hosts.host LIMIT $2",
            args![now, CONTESTS_MAX],
        )
        .await?;
    let read = |row: &Row| {
        Ok(ContestRow {
            host: row.get("host")?,
            holder: row.get("project")?,
            token: row.opt("token")?,
            since: row.get("since")?,
        })
    };
    rows.iter().map(read).collect()
}

/// What the DNS record says that proves a host to be its holder's; `None`: nobody has asked for one.
pub async fn holder_token(tx: &mut ReadTx, host: &Host) -> Result<Option<String>, StoreError> {
    let row = tx.row("SELECT token FROM hosts WHERE host = $1", args![host]).await?;
    row.map_or(Ok(None), |row| row.opt("token"))
}

/// Keeps what the DNS record of a host's holder says.
pub async fn keep_holder_token(
    tx: &mut Tx,
    project: ProjectId,
    host: &Host,
    token: &str,
) -> Result<(), WriteError> {
    tx.change(
        "host",
        "UPDATE hosts SET token = $3 WHERE project = $1 AND host = $2",
        args![project, host, token],
    )
    .await
}
