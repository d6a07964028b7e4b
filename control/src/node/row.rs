//! This process in the table of nodes: its control node, the edge beside it, and names nobody else has.

use std::time::Duration;

use mezusphere_model::document::NodeAddress;
use mezusphere_model::id::{ControlId, EdgeId};
use mezusphere_store::primary::node::{self as nodes, NODES_MAX, NodeId, NodeRow};
use mezusphere_store::primary::{ReadTx, Tx, warpgate};
use mezusphere_store::{StoreError, WriteError};

use crate::{ControlConfig, OpenError, Shared};

/// Between two notes that this node is alive.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(10);

/// After so long without a note, a control node is away: three were missed.
pub(crate) const AWAY_AFTER: Duration = Duration::from_secs(30);

/// How long edges go on trying a control node that is not heard of. They fail over at once; this only bounds how much
/// they try in vain, and a restart must not change the platform document twice.
const OFFERED_FOR: Duration = Duration::from_mins(10);

/// How long a control node that is not heard of stays in the list. It holds nothing but its name.
pub(crate) const CONTROL_REMEMBERED: Duration = Duration::from_hours(7 * 24);

/// How long an evicted edge stays in the list. Its certificates ended long before.
pub(crate) const EVICTED_REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// Somebody who is still there has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameTaken;

impl Shared {
    /// Writes down this node and the edge beside it, which start now: neither holds a link or a tunnel yet, whatever was
    /// true when the process ended.
    pub(crate) async fn write_nodes(&self, tx: &mut Tx) -> Result<(), OpenError> {
        let now = tx.now();
        let own = &self.config.node;
        let id = NodeId::Control(own.id);
        let control = NodeRow {
            id,
            name: numbered_name(tx, &own_name(&self.config), id).await?,
            region: own.region.clone(),
            host: String::new(),
            port: 0,
            version: version().to_owned(),
            node: own.address.clone(),
            connected_to: None,
            draining_at: None,
            created_at: now,
            seen_at: now,
            denied_at: None,
        };
        nodes::put(tx, &control).await?;
        nodes::control_started(tx, own.id).await?;
        if let (Some(edge), Some(id)) = (&self.config.edge, local_edge(&self.config, self.installation.edge))
        {
            if is_held_by_another(tx, id, own.id).await? {
                return Err(OpenError::EdgeTaken(id));
            }
            let row = NodeRow {
                id: NodeId::Edge(id),
                name: numbered_name(tx, &edge.name, NodeId::Edge(id)).await?,
                region: edge.region.clone(),
                host: edge.advertise.host.clone(),
                port: edge.advertise.port,
                node: None,
                ..control
            };
            nodes::put(tx, &row).await?;
            nodes::connected(tx, id, own.id).await?;
            warpgate::edge_started(tx, id).await?;
        }
        Ok(())
    }
}

/// What this control node is to be called. The edge beside it keeps a name given to both: edges are what operators name.
fn own_name(config: &ControlConfig) -> String {
    let name = &config.node.name;
    if config.edge.as_ref().is_some_and(|edge| edge.name == *name) {
        format!("{name}-control")
    } else {
        name.clone()
    }
}

/// Whether another control node that is still there has said that this edge is beside it.
async fn is_held_by_another(tx: &mut ReadTx, edge: EdgeId, own: ControlId) -> Result<bool, StoreError> {
    let alive = tx.now().before(AWAY_AFTER);
    let Some(row) = nodes::get(tx, NodeId::Edge(edge)).await? else { return Ok(false) };
    let Some(other) = row.connected_to.filter(|other| *other != own) else { return Ok(false) };
    let other = nodes::get(tx, NodeId::Control(other)).await?;
    Ok(row.seen_at > alive && other.is_some_and(|other| other.seen_at > alive))
}

/// The version of the program this is part of.
pub(crate) const fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The id of the edge in the same process, if there is one.
pub(crate) fn local_edge(config: &ControlConfig, first: EdgeId) -> Option<EdgeId> {
    config.edge.as_ref().map(|edge| edge.id.unwrap_or(first))
}

/// Where edges reach control nodes: those heard of lately, in the order of their addresses.
pub(crate) async fn controls(tx: &mut ReadTx) -> Result<Vec<NodeAddress>, StoreError> {
    let lately = tx.now().before(OFFERED_FOR);
    let rows = nodes::list(tx).await?.into_iter();
    let offered = rows.filter(|row| matches!(row.id, NodeId::Control(_)) && row.denied_at.is_none());
    let mut found: Vec<_> = offered.filter(|row| row.seen_at >= lately).filter_map(|row| row.node).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// `name` for the node `id`, unless a node that is still there has it. One that was evicted, or a control node that is
/// gone, gives it up and is called by its id from then on.
pub(crate) async fn take_name(
    tx: &mut Tx,
    name: &str,
    id: NodeId,
) -> Result<Result<(), NameTaken>, WriteError> {
    let gone = tx.now().before(AWAY_AFTER);
    let rows = nodes::list(tx).await?;
    let Some(holder) = rows.into_iter().find(|row| row.name == name && row.id != id) else {
        return Ok(Ok(()));
    };
    let is_gone = matches!(holder.id, NodeId::Control(_)) && holder.seen_at < gone;
    if holder.denied_at.is_none() && !is_gone {
        return Ok(Err(NameTaken));
    }
    nodes::put(tx, &NodeRow { name: holder.id.to_string(), ..holder }).await?;
    Ok(Ok(()))
}

/// `name` for the node `id`, with a number behind it if need be.
pub(crate) async fn numbered_name(tx: &mut Tx, name: &str, id: NodeId) -> Result<String, WriteError> {
    // What it was called the last time it is called again, so that logs of two starts can be put together.
    let known = nodes::get(tx, id).await?.map(|row| row.name);
    if let Some(known) = known.filter(|known| known == name || is_numbered(known, name)) {
        return Ok(known);
    }
    for number in 1..=NODES_MAX {
        let tried = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        if take_name(tx, &tried, id).await?.is_ok() {
            return Ok(tried);
        }
    }
    Ok(id.to_string())
}

fn is_numbered(known: &str, name: &str) -> bool {
    known
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|number| number.parse::<usize>().is_ok())
}

/// Forgets nodes that were evicted or went away long ago.
pub(crate) async fn forget_gone(tx: &mut Tx) -> Result<(), WriteError> {
    let now = tx.now();
    let (evicted, away) = (now.before(EVICTED_REMEMBERED), now.before(CONTROL_REMEMBERED));
    for row in nodes::list(tx).await? {
        let over = match row.id {
            NodeId::Edge(_) => row.denied_at.is_some_and(|at| at < evicted),
            NodeId::Control(_) => row.seen_at < away,
        };
        if over {
            nodes::delete(tx, row.id).await?;
        }
    }
    Ok(())
}
