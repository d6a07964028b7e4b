//! How far the members of the installation are in a rotation: what each holds, what it has applied, which of its
//! connections are older than the certificates of their ends.
//!
//! Seen from what every control node can read, so that whoever holds the lease sees the same.

use std::collections::{BTreeMap, BTreeSet};

use mezusphere_model::Timestamp;
use mezusphere_pki::trust::digest_text;
use mezusphere_pki::{Role, SpiffeName};
use mezusphere_store::StoreError;
use mezusphere_store::feed::AppliedReport;
use mezusphere_store::primary::certificate::{self, IssuedRow};
use mezusphere_store::primary::node::{self as nodes, NodeId, NodeRow};
use mezusphere_store::primary::{ReadTx, warpgate};

use super::machine::{Kind, Leaf, Mark, Member};
use crate::node::row::AWAY_AFTER;
use crate::{Shared, eviction};

/// Everybody who takes part, by kind and name.
pub(crate) async fn members(
    shared: &Shared,
    tx: &mut ReadTx,
    announced: Option<&Mark>,
    reports: &[AppliedReport],
) -> Result<Vec<Member>, StoreError> {
    let now = tx.now();
    let mut leaves = leaves(certificate::held(tx).await?);
    let mut members = Vec::new();
    let mut edges_here = BTreeMap::new();
    for row in nodes::list(tx).await?.into_iter().filter(|row| row.denied_at.is_none()) {
        let member = node(shared, &row, now, announced, reports, leaves.remove(&name(shared, row.id)));
        if let (NodeId::Edge(id), true) = (row.id, member.here) {
            edges_here.insert(id, member.leaf.as_ref().map(|leaf| leaf.issued_at));
        }
        members.push(member);
    }
    let bundles = name(shared, NodeId::Control(shared.installation.control));
    let leaf = leaves.remove(&bundles);
    members.push(Member { kind: Kind::Bundles, name: bundles, here: true, told: None, leaf, stale: 0 });

    let denied: BTreeSet<String> = eviction::denied(tx).await?.into_iter().collect();
    let mut connections: BTreeMap<String, (usize, Timestamp)> = BTreeMap::new();
    for tunnel in warpgate::tunnels_up(tx).await? {
        // What is listed at an edge that is away is not known to be up.
        let Some(edge_issued) = edges_here.get(&tunnel.edge) else { continue };
        let warpgate = shared.warpgate_name(tunnel.project, tunnel.environment, tunnel.warpgate).to_string();
        let own = leaves.get(&warpgate).map(|leaf| leaf.issued_at);
        let newest = own.max(*edge_issued);
        let stale = usize::from(newest.is_some_and(|issued_at| tunnel.since < issued_at));
        let seen = connections.entry(warpgate).or_insert((0, tunnel.since));
        seen.0 += stale;
    }
    for (name, leaf) in leaves {
        let is_warpgate =
            name.parse::<SpiffeName>().is_ok_and(|name| matches!(name.role, Role::Warpgate { .. }));
        if is_warpgate && !denied.contains(&name) {
            let seen = connections.get(&name);
            members.push(Member {
                kind: Kind::Warpgate,
                here: seen.is_some(),
                told: None,
                leaf: Some(leaf),
                stale: seen.map_or(0, |seen| seen.0),
                name,
            });
        }
    }
    members.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(members)
}

fn node(
    shared: &Shared,
    row: &NodeRow,
    now: Timestamp,
    announced: Option<&Mark>,
    reports: &[AppliedReport],
    leaf: Option<Leaf>,
) -> Member {
    let follower = row.id.to_string();
    let has_applied = |mark: &Mark| {
        let report = reports.iter().find(|report| report.follower == follower);
        report.is_some_and(|report| {
            Mark::epoch_text(report.cursor.epoch) == mark.epoch && report.cursor.revision >= mark.revision
        })
    };
    Member {
        kind: match row.id {
            NodeId::Edge(_) => Kind::Edge,
            NodeId::Control(_) => Kind::Control,
        },
        name: name(shared, row.id),
        here: now.since(row.seen_at) <= AWAY_AFTER,
        told: announced.map(has_applied),
        leaf,
        stale: 0,
    }
}

fn name(shared: &Shared, id: NodeId) -> String {
    shared.node_name(id).to_string()
}

/// By name. Of two that were issued at the same moment one counts; the next renewal tells them apart.
fn leaves(held: Vec<IssuedRow>) -> BTreeMap<String, Leaf> {
    let mut leaves = BTreeMap::new();
    for row in held {
        let leaf = Leaf {
            issuer: row.issuer.map(|issuer| digest_text(&issuer)),
            issued_at: row.issued_at,
            not_after: row.not_after,
        };
        leaves.insert(row.name, leaf);
    }
    leaves
}
