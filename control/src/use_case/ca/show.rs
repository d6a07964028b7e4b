//! The CA as operators see it: what it is, where a rotation stands, and what each member is waited for.

use std::collections::BTreeMap;

use mezusphere_model::Timestamp;
use mezusphere_model::document::Partition;
use mezusphere_pki::trust::{ca_ends_at, certificates_from_pem, digest_from_text, root_fingerprint};
use mezusphere_pki::{Role, SpiffeName};
use mezusphere_store::StoreError;
use mezusphere_store::primary::{ReadTx, node as nodes, secret, warpgate};

use crate::api::types::{
    CaEnded, CaHow, CaIssuing, CaMember, CaNext, CaPhase, CaRetired, CaRole, CaRoot, CaRotation, CaStatus,
    CaWhat,
};
use crate::ca::machine::{Kind, Lacks, Member, Phase, Rotation, Schedule};
use crate::ca::state::{CaState, How, What};
use crate::ca::{look, root_here};
use crate::digest::hex;
use crate::installation::secret_name;
use crate::problem::Refusal;
use crate::{OpenError, Shared};

/// Most members shown: a screen's worth many times over; those that are waited for come first.
const SHOWN_MAX: usize = 500;

pub(super) async fn status(shared: &Shared) -> Result<CaStatus, Refusal> {
    let reports = shared.primary.applied_by(Partition::Platform).await?;
    let applied: BTreeMap<String, u64> =
        reports.iter().map(|report| (report.follower.clone(), report.cursor.revision)).collect();
    shared
        .primary
        .read(async |tx| {
            let ca = shared.ca(tx).await?;
            let (state, now) = (&ca.state, tx.now());
            let mut members = look::rotating(shared, tx, state.rotation.as_ref(), &reports).await?;
            let waits_for = |member: &Member| {
                let rotation = state.rotation.as_ref()?;
                rotation.waits_for(member).then(|| rotation.lacks(member))?
            };
            let waiting = members.iter().filter(|member| waits_for(member).is_some()).count();
            let member_count = members.len();
            members.sort_by_key(|member| waits_for(member).is_none());
            members.truncate(SHOWN_MAX);
            let mut shown = Vec::with_capacity(members.len());
            let names = node_names(tx).await?;
            for member in &members {
                shown.push(view(tx, member, waits_for(member), &names, &applied).await?);
            }
            let roots = roots(state)?;
            let root_ends = roots.first().map_or(now, |root| root.1);
            Ok::<_, Refusal>(CaStatus {
                trust_domain: shared.installation.trust_domain.clone(),
                roots: roots.into_iter().map(|root| root.0).collect(),
                root_key: root_here(tx, &*shared.seal).await?.is_some(),
                issuing: CaIssuing {
                    key_sha256: hexed(&state.issuing.key_sha256),
                    made_at: state.issuing.made_at.to_string(),
                    not_after: state.issuing.not_after.to_string(),
                },
                next: next(state, root_ends),
                request: secret::current(tx, secret_name::ISSUING_REQUEST).await?.is_some(),
                retired: state.retired.iter().map(retired).collect(),
                rotation: state.rotation.as_ref().map(|running| rotation(running, waiting, now)),
                last: state.last.as_ref().map(|last| CaEnded {
                    what: what(last.what),
                    how: match last.how {
                        How::Done => CaHow::Done,
                        How::Aborted => CaHow::Aborted,
                        How::Tainted => CaHow::Tainted,
                    },
                    started_at: last.started_at.to_string(),
                    at: last.at.to_string(),
                    by: last.by.clone(),
                    left_behind: last.left_behind,
                }),
                members: shown,
                member_count,
            })
        })
        .await
}

fn roots(state: &CaState) -> Result<Vec<(CaRoot, Timestamp)>, OpenError> {
    let mut roots = Vec::new();
    for pem in &state.roots {
        for root in certificates_from_pem(pem)? {
            let not_after = ca_ends_at(&root)?;
            let sha256 = hex(&root_fingerprint(&root));
            roots.push((CaRoot { sha256, not_after: not_after.to_string() }, not_after));
        }
    }
    Ok(roots)
}

/// What the schedule does first.
fn next(state: &CaState, root_ends: Timestamp) -> Option<CaNext> {
    if state.rotation.is_some() {
        return None;
    }
    let (at, which) = Schedule::of(&state.issuing, root_ends, state.last.as_ref()).next();
    Some(CaNext { what: what(which), at: at.to_string() })
}

fn retired(row: &crate::ca::state::Retired) -> CaRetired {
    CaRetired {
        key_sha256: hexed(&row.key_sha256),
        at: row.at.to_string(),
        until: row.until.to_string(),
        tainted: row.tainted,
    }
}

fn rotation(running: &Rotation, waits_for: usize, now: Timestamp) -> CaRotation {
    CaRotation {
        what: what(running.what),
        phase: match running.phase {
            Phase::Announce => CaPhase::Announce,
            Phase::Trust => CaPhase::Trust,
            Phase::Sign => CaPhase::Sign,
            Phase::Retire => CaPhase::Retire,
        },
        undo: running.undo,
        now: running.hurry,
        by: running.by.clone(),
        started_at: running.started_at.to_string(),
        phase_at: running.phase_at.to_string(),
        waited_s: running.has_waited(now).as_secs(),
        max_wait_s: running.max_wait_s,
        from: hexed(&running.from.key_sha256),
        to: running.to.as_ref().map(|to| hexed(&to.key_sha256)),
        waits_for,
    }
}

const fn what(what: What) -> CaWhat {
    match what {
        What::Issuing => CaWhat::Issuing,
        What::Root => CaWhat::Root,
    }
}

/// Digests are kept as documents have them and shown as fingerprints are read.
fn hexed(digest: &str) -> String {
    digest_from_text(digest).map_or_else(|_| digest.to_owned(), |digest| hex(&digest))
}

/// What operators call nodes, by id.
async fn node_names(tx: &mut ReadTx) -> Result<BTreeMap<String, String>, StoreError> {
    Ok(nodes::list(tx).await?.into_iter().map(|row| (row.id.to_string(), row.name)).collect())
}

async fn view(
    tx: &mut ReadTx,
    member: &Member,
    lacks: Option<Lacks>,
    names: &BTreeMap<String, String>,
    applied: &BTreeMap<String, u64>,
) -> Result<CaMember, StoreError> {
    let role = member.name.parse::<SpiffeName>().ok().map(|name| name.role);
    let id = match role {
        Some(Role::Edge(id)) => id.to_string(),
        Some(Role::Control(id)) => id.to_string(),
        Some(Role::Warpgate { id, .. }) => id.to_string(),
        None => String::new(),
    };
    let name = match (member.kind, role) {
        (Kind::Bundles, _) => "bundles".to_owned(),
        (_, Some(Role::Warpgate { project, id, .. })) => {
            warpgate::get(tx, project, id).await?.map_or_else(|| id.to_string(), |row| row.hostname)
        }
        _ => names.get(&id).cloned().unwrap_or_else(|| id.clone()),
    };
    let leaf = member.leaf.as_ref();
    Ok(CaMember {
        name,
        role: match member.kind {
            Kind::Control => CaRole::Control,
            Kind::Bundles => CaRole::Bundles,
            Kind::Edge => CaRole::Edge,
            Kind::Warpgate => CaRole::Warpgate,
        },
        spiffe: member.name.clone(),
        here: member.here,
        ca: leaf.and_then(|leaf| leaf.issuer.as_deref().map(hexed)),
        until: leaf.map(|leaf| leaf.not_after.to_string()),
        applied: applied.get(&id).copied(),
        waits_for: lacks.map(words),
    })
}

/// What somebody is waited for, in words.
fn words(lacks: Lacks) -> String {
    match lacks {
        Lacks::Told => "to learn of the new CA".to_owned(),
        Lacks::Leaf => "a certificate of the new CA".to_owned(),
        Lacks::Connections(1) => "1 connection to be made anew".to_owned(),
        Lacks::Connections(count) => format!("{count} connections to be made anew"),
    }
}
