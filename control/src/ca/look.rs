//! How far the members of the installation are in a rotation: what each holds, what it has applied, which of its
//! connections are older than the certificates of their ends.
//!
//! Seen from what every control node can read, so that whoever holds the lease sees the same.

use std::collections::{BTreeMap, BTreeSet};

use mezusphere_model::Timestamp;
use mezusphere_pki::trust::{digest_from_text, digest_text};
use mezusphere_pki::{Role, SpiffeName};
use mezusphere_store::StoreError;
use mezusphere_store::feed::AppliedReport;
use mezusphere_store::primary::certificate::{self, HELD_AT_ONCE};
use mezusphere_store::primary::node::{self as nodes, NodeId, NodeRow};
use mezusphere_store::primary::{ReadTx, warpgate};

use super::machine::{Kind, Leaf, Mark, Member, Phase, Rotation};
use crate::node::row::AWAY_AFTER;
use crate::{Shared, eviction};

/// When the last certificate that the CA that goes issued to a node ends.
pub(crate) async fn old_until(tx: &mut ReadTx, rotation: &Rotation) -> Result<Option<Timestamp>, StoreError> {
    let leaving = rotation.leaving().and_then(|ca| digest_from_text(&ca.key_sha256).ok());
    match leaving {
        Some(leaving) => certificate::last_end(tx, &leaving).await,
        None => Ok(None),
    }
}

/// Everybody in the installation, by kind and name, and whether they have applied what was `announced`.
pub(crate) async fn members(
    shared: &Shared,
    tx: &mut ReadTx,
    announced: Option<&Mark>,
    reports: &[AppliedReport],
) -> Result<Vec<Member>, StoreError> {
    seen(shared, tx, announced, &BTreeMap::new(), reports).await
}

/// The same for a rotation, if one runs: which of their connections it waits for, too.
pub(crate) async fn rotating(
    shared: &Shared,
    tx: &mut ReadTx,
    rotation: Option<&Rotation>,
    reports: &[AppliedReport],
) -> Result<Vec<Member>, StoreError> {
    let announced = rotation.and_then(|rotation| rotation.announced.as_ref());
    let turned = turned(tx, rotation).await?;
    seen(shared, tx, announced, &turned, reports).await
}

/// `turned`: since when each has had a certificate of the CA that comes.
async fn seen(
    shared: &Shared,
    tx: &mut ReadTx,
    announced: Option<&Mark>,
    turned: &BTreeMap<String, Timestamp>,
    reports: &[AppliedReport],
) -> Result<Vec<Member>, StoreError> {
    let now = tx.now();
    let mut leaves = leaves(tx).await?;
    let mut members = Vec::new();
    let mut edges_here = BTreeMap::new();
    for row in nodes::list(tx).await?.into_iter().filter(|row| row.denied_at.is_none()) {
        let member = node(shared, &row, now, announced, reports, leaves.remove(&name(shared, row.id)));
        if let (NodeId::Edge(id), true) = (row.id, member.here) {
            edges_here.insert(id, turned.get(&member.name));
        }
        members.push(member);
    }
    let bundles = name(shared, NodeId::Control(shared.installation.control));
    let leaf = leaves.remove(&bundles);
    members.push(Member { kind: Kind::Bundles, name: bundles, here: true, told: None, leaf, stale: 0 });

    let denied: BTreeSet<String> = eviction::denied(tx).await?.into_iter().collect();
    let mut connections: BTreeMap<String, usize> = BTreeMap::new();
    for tunnel in warpgate::tunnels_up(tx).await? {
        // What is listed at an edge that is away is not known to be up.
        let Some(edge_turned) = edges_here.get(&tunnel.edge) else { continue };
        let warpgate = shared.warpgate_name(tunnel.project, tunnel.environment, tunnel.warpgate).to_string();
        let newest = turned.get(&warpgate).max(*edge_turned);
        let stale = usize::from(newest.is_some_and(|turned_at| tunnel.since < *turned_at));
        *connections.entry(warpgate).or_default() += stale;
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
                stale: seen.copied().unwrap_or_default(),
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

/// When each got its first certificate of the CA that comes, while that signs.
async fn turned(
    tx: &mut ReadTx,
    rotation: Option<&Rotation>,
) -> Result<BTreeMap<String, Timestamp>, StoreError> {
    let Some(rotation) = rotation.filter(|rotation| rotation.phase == Phase::Sign) else {
        return Ok(BTreeMap::new());
    };
    let target = rotation.target().and_then(|ca| digest_from_text(&ca.key_sha256).ok());
    let mut turned = BTreeMap::new();
    let Some(target) = target else { return Ok(turned) };
    loop {
        let after = turned.last_key_value().map_or("", |(name, _): (&String, _)| name.as_str());
        let mut more = certificate::first_of(tx, &target, rotation.phase_at, after).await?;
        let is_last = more.len() < HELD_AT_ONCE;
        turned.append(&mut more);
        if is_last {
            return Ok(turned);
        }
    }
}

fn name(shared: &Shared, id: NodeId) -> String {
    shared.node_name(id).to_string()
}

/// What everybody holds, by name: whoever was left out here would be left behind. Of two that were issued at the same moment
/// one counts; the next renewal tells them apart.
async fn leaves(tx: &mut ReadTx) -> Result<BTreeMap<String, Leaf>, StoreError> {
    let mut leaves = BTreeMap::new();
    loop {
        let after = leaves.last_key_value().map_or("", |(name, _): (&String, _)| name.as_str());
        let held = certificate::held(tx, after).await?;
        let is_last = held.len() < HELD_AT_ONCE;
        for row in held {
            let leaf =
                Leaf { issuer: row.issuer.map(|issuer| digest_text(&issuer)), not_after: row.not_after };
            leaves.insert(row.name, leaf);
        }
        if is_last {
            return Ok(leaves);
        }
    }
}
