//! Nodes of the installation: edges and controls.

use mezusphere_model::Timestamp;
use mezusphere_model::document::NodeAddress;
use mezusphere_model::id::{ControlId, EdgeId};

use super::value::{Column, IntoValue, Row, Value, args};
use super::{ReadTx, StoreError, Tx, WriteError};

/// Most nodes of one installation.
pub const NODES_MAX: usize = 1000;

/// Which node, and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// An edge.
    Edge(EdgeId),
    /// A control node.
    Control(ControlId),
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Edge(id) => id.fmt(f),
            Self::Control(id) => id.fmt(f),
        }
    }
}

impl IntoValue for NodeId {
    const NULL: Value = Value::Text(None);
    fn into_value(self) -> Value {
        self.to_string().into_value()
    }
}

impl Column for NodeId {
    fn read(row: &Row, column: &str) -> Result<Option<Self>, StoreError> {
        let Some(text) = String::read(row, column)? else { return Ok(None) };
        text.parse()
            .map(Self::Edge)
            .or_else(|_| text.parse().map(Self::Control))
            .map(Some)
            .map_err(|_| StoreError::Damaged(format!("{column}: no node is called {text}")))
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Which.
    pub id: NodeId,
    /// Its name, unique among nodes.
    pub name: String,
    /// Where it is, for people.
    pub region: String,
    /// Where warpgates dial it: host name or address. Empty: nowhere.
    pub host: String,
    /// UDP and TCP port.
    pub port: u16,
    /// Its program's version; empty: it has not said yet.
    pub version: String,
    /// Where nodes reach it, if it is a control node with a node port.
    pub node: Option<NodeAddress>,
    /// The control node its link is on now, if it is an edge and is connected.
    pub connected_to: Option<ControlId>,
    /// Since when it takes nothing new, if it is about to stop.
    pub draining_at: Option<Timestamp>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last heard of.
    pub seen_at: Timestamp,
    /// When it was evicted, if it was.
    pub denied_at: Option<Timestamp>,
}

fn read(row: &Row) -> Result<NodeRow, StoreError> {
    let node_host: String = row.get("node_host")?;
    let node = if node_host.is_empty() {
        None
    } else {
        Some(NodeAddress { host: node_host, port: row.get("node_port")? })
    };
    Ok(NodeRow {
        id: row.get("id")?,
        name: row.get("name")?,
        region: row.get("region")?,
        host: row.get("host")?,
        port: row.get("port")?,
        version: row.get("version")?,
        node,
        connected_to: row.opt("connected_to")?,
        draining_at: row.opt("draining_at")?,
        created_at: row.get("created_at")?,
        seen_at: row.get("seen_at")?,
        denied_at: row.opt("denied_at")?,
    })
}

/// Adds a node, or replaces what is known of the one with this id; `created_at`, `denied_at` and `connected_to` stay.
///
/// # Errors
/// [`StoreError::TooLarge`] for a new one past [`NODES_MAX`].
pub async fn put(tx: &mut Tx, row: &NodeRow) -> Result<(), WriteError> {
    if get(tx, row.id).await?.is_none() {
        let count = tx.row("SELECT COUNT(*) AS n FROM nodes", args![]).await?;
        super::within(count, NODES_MAX, "nodes in an installation")?;
    }
    let (node_host, node_port) = row.node.as_ref().map_or(("", 0), |node| (node.host.as_str(), node.port));
    tx.insert(
        "node",
        "INSERT INTO nodes (id, name, region, host, port, created_at, seen_at, denied_at, version, node_host,
                            node_port, draining_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, region = excluded.region, host = excluded.host,
             port = excluded.port, seen_at = excluded.seen_at, version = excluded.version,
             node_host = excluded.node_host, node_port = excluded.node_port, draining_at = excluded.draining_at",
        args![
            row.id,
            row.name.as_str(),
            row.region.as_str(),
            row.host.as_str(),
            row.port,
            row.created_at,
            row.seen_at,
            row.denied_at,
            row.version.as_str(),
            node_host,
            node_port,
            row.draining_at
        ],
    )
    .await
    .map(drop)
}

/// Notes that a node was heard of just now; nothing else changes.
pub async fn seen(tx: &mut Tx, id: NodeId) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "node",
        "UPDATE nodes SET seen_at = CASE WHEN seen_at > $2 THEN seen_at ELSE $2 END WHERE id = $1",
        args![id, now],
    )
    .await
}

/// Notes that an edge's link is on this control node now.
pub async fn connected(tx: &mut Tx, edge: EdgeId, to: ControlId) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "node",
        "UPDATE nodes SET connected_to = $2, seen_at = CASE WHEN seen_at > $3 THEN seen_at ELSE $3 END
         WHERE id = $1",
        args![NodeId::Edge(edge), to, now],
    )
    .await
}

/// Notes that an edge's link on this control node has ended; one that has moved to another control node stays connected.
pub async fn disconnected(tx: &mut Tx, edge: EdgeId, from: ControlId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE nodes SET connected_to = NULL WHERE id = $1 AND connected_to = $2",
        args![NodeId::Edge(edge), from],
    )
    .await
    .map(drop)
}

/// No edge's link is on this control node: it has just started, or is gone.
pub async fn control_started(tx: &mut Tx, control: ControlId) -> Result<(), StoreError> {
    tx.execute("UPDATE nodes SET connected_to = NULL WHERE connected_to = $1", args![control]).await.map(drop)
}

/// A node.
pub async fn get(tx: &mut ReadTx, id: NodeId) -> Result<Option<NodeRow>, StoreError> {
    let row = tx.row("SELECT * FROM nodes WHERE id = $1", args![id]).await?;
    row.as_ref().map(read).transpose()
}

/// All nodes by id, evicted ones too; at most [`NODES_MAX`].
pub async fn list(tx: &mut ReadTx) -> Result<Vec<NodeRow>, StoreError> {
    let rows = tx.rows("SELECT * FROM nodes ORDER BY id LIMIT $1", args![NODES_MAX]).await?;
    rows.iter().map(read).collect()
}

/// Evicts a node. The caller publishes the platform document with its name on the deny list.
pub async fn deny(tx: &mut Tx, id: NodeId) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change("node", "UPDATE nodes SET denied_at = COALESCE(denied_at, $2) WHERE id = $1", args![id, now])
        .await
}

/// Forgets a node that will not come back, with what it applied. Evicted edges are kept until their certificates have
/// ended: forgetting one earlier would let it in again.
pub async fn delete(tx: &mut Tx, id: NodeId) -> Result<(), WriteError> {
    tx.change("node", "DELETE FROM nodes WHERE id = $1", args![id]).await?;
    super::applied::forget(tx, &id.to_string()).await?;
    Ok(())
}
