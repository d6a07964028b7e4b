//! Nodes of the installation: edges and controls.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{ControlId, EdgeId};

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

/// Adds a node, or replaces what is known of the one with this id; `created_at` and `denied_at` stay.
pub async fn put(tx: &mut Tx, row: &NodeRow) -> Result<(), WriteError> {
    todo!()
}

/// A node.
pub async fn get(tx: &mut ReadTx, id: NodeId) -> Result<Option<NodeRow>, StoreError> {
    todo!()
}

/// All nodes by id, evicted ones too; at most [`NODES_MAX`].
pub async fn list(tx: &mut ReadTx) -> Result<Vec<NodeRow>, StoreError> {
    todo!()
}

/// Evicts a node. The caller publishes the platform document with its name on the deny list.
pub async fn deny(tx: &mut Tx, id: NodeId) -> Result<(), WriteError> {
    todo!()
}
