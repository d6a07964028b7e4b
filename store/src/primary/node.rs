//! Nodes of the installation: edges and controls.

use mezusphere_model::Timestamp;
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
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last heard of.
    pub seen_at: Timestamp,
    /// When it was evicted, if it was.
    pub denied_at: Option<Timestamp>,
}

fn read(row: &Row) -> Result<NodeRow, StoreError> {
    Ok(NodeRow {
        id: row.get("id")?,
        name: row.get("name")?,
        region: row.get("region")?,
        host: row.get("host")?,
        port: row.get("port")?,
        created_at: row.get("created_at")?,
        seen_at: row.get("seen_at")?,
        denied_at: row.opt("denied_at")?,
    })
}

/// Adds a node, or replaces what is known of the one with this id; `created_at` and `denied_at` stay.
pub async fn put(tx: &mut Tx, row: &NodeRow) -> Result<(), WriteError> {
    tx.insert(
        "node",
        "INSERT INTO nodes (id, name, region, host, port, created_at, seen_at, denied_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, region = excluded.region, host = excluded.host,
             port = excluded.port, seen_at = excluded.seen_at",
        args![
            row.id,
            row.name.as_str(),
            row.region.as_str(),
            row.host.as_str(),
            row.port,
            row.created_at,
            row.seen_at,
            row.denied_at
        ],
    )
    .await
    .map(drop)
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
