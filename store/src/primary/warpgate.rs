//! Warpgates that enrolled, and the tunnels edges report.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{ApiKeyId, EdgeId, EnvironmentId, ProjectId, ServiceAccountId, WarpgateId};

use super::value::{Row, args, json};
use super::{PageRequest, Paged, ReadTx, StoreError, Taken, Tx, WriteError};

/// Most tunnels listed of one environment.
pub const TUNNELS_LISTED_MAX: usize = 1000;

/// Most tunnels [`tunnels_up`] tells: of as many warpgates as have certificates at once, at an edge or two each.
pub const TUNNELS_UP_MAX: usize = 100_000;

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

fn read(row: &Row) -> Result<WarpgateRow, StoreError> {
    Ok(WarpgateRow {
        id: row.get("id")?,
        project: row.get("project")?,
        environment: row.get("environment")?,
        account: row.get("account")?,
        key: row.get("api_key")?,
        hostname: row.get("hostname")?,
        agent: row.get("agent")?,
        created_at: row.get("created_at")?,
        enrolled_at: row.get("enrolled_at")?,
        not_after: row.get("not_after")?,
    })
}

fn read_tunnel(row: &Row) -> Result<TunnelRow, StoreError> {
    Ok(TunnelRow {
        warpgate: row.get("warpgate")?,
        edge: row.get("edge")?,
        project: row.get("project")?,
        environment: row.get("environment")?,
        remote: row.get("remote")?,
        agent: row.get("agent")?,
        upstreams: row.json("upstreams")?,
        connected: row.get("connected")?,
        since: row.get("since")?,
    })
}

/// Adds a warpgate, or notes that one enrolled again; `created_at` stays.
///
/// # Errors
/// Conflict if the id belongs to another project or environment.
pub async fn put(tx: &mut Tx, row: &WarpgateRow) -> Result<(), WriteError> {
    let put = tx
        .insert(
            "environment",
            "INSERT INTO warpgates (id, project, environment, account, api_key, hostname, agent, created_at,
                                    enrolled_at, not_after)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (id) DO UPDATE SET account = excluded.account, api_key = excluded.api_key,
                 hostname = excluded.hostname, agent = excluded.agent, enrolled_at = excluded.enrolled_at,
                 not_after = excluded.not_after
             WHERE warpgates.project = excluded.project AND warpgates.environment = excluded.environment",
            args![
                row.id,
                row.project,
                row.environment,
                row.account,
                row.key,
                row.hostname.as_str(),
                row.agent.as_str(),
                row.created_at,
                row.enrolled_at,
                row.not_after
            ],
        )
        .await?;
    if put == 0 { Err(WriteError::Conflict { what: Taken::Id }) } else { Ok(()) }
}

/// A project's warpgate.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: WarpgateId,
) -> Result<Option<WarpgateRow>, StoreError> {
    let row = tx.row("SELECT * FROM warpgates WHERE project = $1 AND id = $2", args![project, id]).await?;
    row.as_ref().map(read).transpose()
}

/// An environment's warpgates by id, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
    page: &PageRequest,
) -> Result<Paged<WarpgateRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM warpgates WHERE project = $1 AND environment = $2 AND id > $3 ORDER BY id LIMIT $4",
            args![project, environment, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.id.to_string()))
}

/// Notes a tunnel that came or went; a report older than what is known changes nothing.
///
/// # Errors
/// Not found: the warpgate in this project and environment.
pub async fn report_tunnel(tx: &mut Tx, row: &TunnelRow) -> Result<(), WriteError> {
    tx.insert(
        "warpgate",
        "INSERT INTO tunnels (warpgate, edge, project, environment, remote, agent, upstreams, connected, since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (warpgate, edge) DO UPDATE SET remote = excluded.remote, agent = excluded.agent,
             upstreams = excluded.upstreams, connected = excluded.connected, since = excluded.since
         WHERE tunnels.project = excluded.project AND tunnels.environment = excluded.environment
           AND tunnels.since <= excluded.since",
        args![
            row.warpgate,
            row.edge,
            row.project,
            row.environment,
            row.remote.as_str(),
            row.agent.as_str(),
            json(&row.upstreams)?,
            row.connected,
            row.since
        ],
    )
    .await
    .map(drop)
}

/// Brings an edge's tunnels into line with all it held `at` a moment of its clock: whatever else is listed as connected
/// since an earlier one is gone, and went then. A report that came later changes nothing of what is newer.
pub async fn hold_tunnels(
    tx: &mut Tx,
    edge: EdgeId,
    held: &[TunnelRow],
    at: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE tunnels SET connected = 0, since = $2 WHERE edge = $1 AND connected = 1 AND since <= $2",
        args![edge, at],
    )
    .await?;
    for row in held {
        // A warpgate that is not here any more takes its tunnel with it; the others count all the same.
        tx.execute(
            "INSERT INTO tunnels (warpgate, edge, project, environment, remote, agent, upstreams, connected, since)
             SELECT $1, $2, $3, $4, $5, $6, $7, 1, $8
             FROM warpgates WHERE id = $1 AND project = $3 AND environment = $4
             ON CONFLICT (warpgate, edge) DO UPDATE SET remote = excluded.remote, agent = excluded.agent,
                 upstreams = excluded.upstreams, connected = 1, since = excluded.since
             WHERE tunnels.project = excluded.project AND tunnels.environment = excluded.environment
               AND tunnels.since <= $9",
            args![
                row.warpgate,
                edge,
                row.project,
                row.environment,
                row.remote.as_str(),
                row.agent.as_str(),
                json(&row.upstreams)?,
                row.since,
                at
            ],
        )
        .await?;
    }
    Ok(())
}

/// An environment's tunnels, connected ones first; at most [`TUNNELS_LISTED_MAX`].
pub async fn list_tunnels(
    tx: &mut ReadTx,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<Vec<TunnelRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM tunnels WHERE project = $1 AND environment = $2
             ORDER BY connected DESC, since DESC, warpgate, edge LIMIT $3",
            args![project, environment, TUNNELS_LISTED_MAX],
        )
        .await?;
    rows.iter().map(read_tunnel).collect()
}

/// Every tunnel that is connected, of all tenants, by warpgate and edge; at most [`TUNNELS_UP_MAX`]. For the installation's
/// own work.
pub async fn tunnels_up(tx: &mut ReadTx) -> Result<Vec<TunnelRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM tunnels WHERE connected = 1 ORDER BY warpgate, edge LIMIT $1",
            args![TUNNELS_UP_MAX],
        )
        .await?;
    rows.iter().map(read_tunnel).collect()
}

/// Marks every tunnel of an edge as gone: the edge has just started and holds none.
pub async fn edge_started(tx: &mut Tx, edge: EdgeId) -> Result<(), StoreError> {
    let now = tx.now();
    tx.execute(
        "UPDATE tunnels SET connected = 0, since = $2 WHERE edge = $1 AND connected = 1",
        args![edge, now],
    )
    .await
    .map(drop)
}
