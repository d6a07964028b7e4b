//! Edges: inviting one, taking an invitation back, seeing how they do, and shutting one out.

use std::collections::BTreeMap;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::document::Partition;
use mezusphere_model::id::JoinId;
use mezusphere_model::join_token::JoinToken;
use mezusphere_model::slug::Slug;
use mezusphere_model::token::Token;
use mezusphere_store::feed::FeedSource as _;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::invitation::{self, InvitationRow};
use mezusphere_store::primary::node::{self as nodes, NodeId, NodeRow};
use mezusphere_store::primary::{PageRequest, ReadTx, StoreError, Tx, applied};
use serde_json::Value;

use super::environment::SLUG_RULE;
use super::{Paging, scope};
use crate::Shared;
use crate::api::types::{Edge, EdgeInvitation, InvitationState, InviteEdge, InvitedEdge, NodeState, Page};
use crate::caller::{Caller, Grant, Permission};
use crate::node::row::{AWAY_AFTER, controls, take_name};
use crate::problem::{self, Refusal};

/// Life of an invitation that says nothing, in seconds: long enough to type a command on another machine.
pub(crate) const INVITATION_S_DEFAULT: u64 = 15 * 60;

/// Longest life of an invitation, in seconds: a token that waits longer lies around somewhere.
pub(crate) const INVITATION_S_MAX: u64 = 24 * 60 * 60;

/// Longest name of a place, in characters.
const REGION_LEN_MAX: usize = 64;

/// Invites an edge and shows the join token, this once.
pub(crate) async fn invite(
    shared: &Shared,
    caller: &Caller,
    request: InviteEdge,
) -> Result<InvitedEdge, Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let name = Slug::parse(&request.name)
        .map_err(|why| Refusal::new(&problem::NAME_INVALID, format!("name: {why}")).with_next(SLUG_RULE))?;
    let region = region(request.region.as_deref().unwrap_or_default())?;
    let life = life(request.expires_in_s)?;
    let secret = Token::random(&shared.entropy);
    let id = JoinId::random(&shared.entropy);
    shared
        .primary
        .write(async |tx| {
            let now = tx.now();
            let controls = controls(tx).await?;
            if controls.is_empty() {
                return Err(Refusal::new(&problem::EDGE_NO_CONTROL, "no control node has a node port"));
            }
            free(tx, name.as_str()).await?;
            let row = InvitationRow {
                id,
                name: name.to_string(),
                region,
                secret_hash: secret.hash(),
                created_by: grant.actor().to_owned(),
                created_at: now,
                expires_at: now.after(life),
                used_at: None,
                used_by: None,
                revoked_at: None,
            };
            invitation::insert(tx, &row).await?;
            let detail = serde_json::json!({ "name": row.name, "until": row.expires_at.to_string() });
            audit(tx, shared, &grant, "edge.invite", &row.id, detail);
            let token = JoinToken { id, secret, root: shared.known_ca().root_sha256, controls };
            Ok(InvitedEdge { token: token.reveal(), invitation: invitation_view(row, now) })
        })
        .await
}

fn region(text: &str) -> Result<String, Refusal> {
    if text.chars().count() > REGION_LEN_MAX || text.chars().any(char::is_control) {
        let detail = format!("region: at most {REGION_LEN_MAX} characters, none of them a control character");
        return Err(
            Refusal::new(&problem::NAME_INVALID, detail).with_next("choose a shorter region, in one line")
        );
    }
    Ok(text.to_owned())
}

fn life(seconds: Option<u64>) -> Result<Duration, Refusal> {
    let seconds = seconds.unwrap_or(INVITATION_S_DEFAULT);
    if !(1..=INVITATION_S_MAX).contains(&seconds) {
        let detail = format!("expires_in_s: 1 to {INVITATION_S_MAX} seconds");
        return Err(Refusal::new(&problem::REQUEST_INVALID, detail));
    }
    Ok(Duration::from_secs(seconds))
}

/// Whether an edge may be called this: no node is, and nobody else was invited by this name.
async fn free(tx: &mut Tx, name: &str) -> Result<(), Refusal> {
    let taken = || Refusal::new(&problem::EXISTS, format!("the name {name} is already in use"));
    // A name of one's own only once it joins; asked here so that the operator hears of it and not the new edge.
    let nobody = NodeId::Edge(mezusphere_model::id::EdgeId::from_bits(0));
    take_name(tx, name, nobody).await?.map_err(|_| taken())?;
    let now = tx.now();
    let mut page = PageRequest::first();
    loop {
        let found = invitation::list(tx, &page).await?;
        if found.rows.iter().any(|row| row.name == name && state(row, now) == InvitationState::Open) {
            return Err(taken().with_next("take the open invitation back first, or choose another name"));
        }
        match found.next {
            Some(next) => page = PageRequest::after(next),
            None => return Ok(()),
        }
    }
}

/// Invitations that are remembered, open or not.
pub(crate) async fn invitations(
    shared: &Shared,
    caller: &Caller,
    paging: Paging,
) -> Result<Page<EdgeInvitation>, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    shared
        .primary
        .read(async |tx| {
            let now = tx.now();
            let paged = invitation::list(tx, &PageRequest::from(paging)).await?;
            let items = paged.rows.into_iter().map(|row| invitation_view(row, now)).collect();
            Ok(Page { items, next: paged.next })
        })
        .await
}

/// Takes an invitation back that nobody has used.
pub(crate) async fn uninvite(shared: &Shared, caller: &Caller, name: &str) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    let missing = || scope::not_found("invitation", name);
    shared
        .primary
        .write(async |tx| {
            let id = match name.parse() {
                Ok(id) => id,
                Err(_) => open_invitation(tx, name).await?.ok_or_else(missing)?,
            };
            let row = invitation::get(tx, id).await?.ok_or_else(missing)?;
            if row.used_at.is_some() {
                let detail = format!("an edge has joined with the invitation {id}");
                return Err(Refusal::new(&problem::IN_USE, detail)
                    .with_next(format!("evict that edge: mezusphere edge evict {}", row.name)));
            }
            invitation::revoke(tx, id).await?;
            audit(tx, shared, &grant, "edge.uninvite", &id, Value::Null);
            Ok(())
        })
        .await
}

/// The open invitation for an edge of this name.
async fn open_invitation(tx: &mut ReadTx, name: &str) -> Result<Option<JoinId>, StoreError> {
    let now = tx.now();
    let mut page = PageRequest::first();
    loop {
        let found = invitation::list(tx, &page).await?;
        let open = found.rows.iter().find(|row| row.name == name && state(row, now) == InvitationState::Open);
        match (open, found.next) {
            (Some(row), _) => return Ok(Some(row.id)),
            (None, Some(next)) => page = PageRequest::after(next),
            (None, None) => return Ok(None),
        }
    }
}

fn state(row: &InvitationRow, now: Timestamp) -> InvitationState {
    if row.used_at.is_some() {
        InvitationState::Used
    } else if row.revoked_at.is_some() {
        InvitationState::Revoked
    } else if row.expires_at <= now {
        InvitationState::Expired
    } else {
        InvitationState::Open
    }
}

fn invitation_view(row: InvitationRow, now: Timestamp) -> EdgeInvitation {
    EdgeInvitation {
        id: row.id,
        state: state(&row, now),
        name: row.name,
        region: row.region,
        created_by: row.created_by,
        created_at: row.created_at.to_string(),
        expires_at: row.expires_at.to_string(),
        edge: row.used_by,
    }
}

/// Every edge, evicted ones too as long as they are remembered. There are few, so they come in one page.
pub(crate) async fn list(shared: &Shared, caller: &Caller) -> Result<Page<Edge>, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    let heads = heads(shared).await?;
    shared
        .primary
        .read(async |tx| {
            let mut items = Vec::new();
            for row in nodes::list(tx).await? {
                if let NodeId::Edge(_) = row.id {
                    items.push(view(tx, row, &heads).await?);
                }
            }
            Ok(Page { items, next: None })
        })
        .await
}

/// One edge.
pub(crate) async fn show(shared: &Shared, caller: &Caller, name: &str) -> Result<Edge, Refusal> {
    let _grant = caller.allow(Permission::InstallationRead)?;
    let heads = heads(shared).await?;
    shared
        .primary
        .read(async |tx| {
            let row = find(tx, name).await?;
            view(tx, row, &heads).await
        })
        .await
}

type Heads = BTreeMap<Partition, u64>;

async fn heads(shared: &Shared) -> Result<Heads, Refusal> {
    let heads = shared.primary.heads().await.map_err(|why| {
        tracing::warn!(error = %why, "The feed's ends could not be read");
        Refusal::new(&problem::BUSY, "the database is not available now")
    })?;
    Ok(heads.into_iter().map(|head| (head.partition, head.cursor.revision)).collect())
}

async fn view(tx: &mut ReadTx, row: NodeRow, heads: &Heads) -> Result<Edge, Refusal> {
    let NodeId::Edge(id) = row.id else { return Err(scope::not_found("edge", &row.name)) };
    let now = tx.now();
    let behind = if row.denied_at.is_some() {
        None
    } else {
        let reports = applied::by_follower(tx, &id.to_string()).await?;
        // A partition it has not said anything of is one it has nothing of, if it is one it may have.
        let done: Heads =
            reports.into_iter().map(|report| (report.partition, report.cursor.revision)).collect();
        let open = heads.iter().filter(|(partition, _)| **partition != Partition::Control);
        let gap = |(partition, head): (&Partition, &u64)| {
            head.saturating_sub(done.get(partition).copied().unwrap_or_default())
        };
        Some(open.map(gap).sum())
    };
    let state = node_state(&row, now);
    Ok(Edge {
        id,
        address: address(&row.host, row.port),
        name: row.name,
        region: row.region,
        version: row.version,
        connected: matches!(state, NodeState::Ready | NodeState::Draining),
        state,
        control: row.connected_to,
        behind,
        seen_at: row.seen_at.to_string(),
        joined_at: row.created_at.to_string(),
    })
}

/// A host and port as people write them; empty if there is none.
pub(super) fn address(host: &str, port: u16) -> String {
    match host {
        "" => String::new(),
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// How a node does, from what it last said and when.
pub(super) fn node_state(row: &NodeRow, now: Timestamp) -> NodeState {
    if row.denied_at.is_some() {
        NodeState::Evicted
    } else if now.since(row.seen_at) > AWAY_AFTER {
        NodeState::Away
    } else if row.draining_at.is_some() {
        NodeState::Draining
    } else {
        NodeState::Ready
    }
}

async fn find(tx: &mut ReadTx, name: &str) -> Result<NodeRow, Refusal> {
    let by_id = name.parse().map(NodeId::Edge);
    let is_it = |row: &NodeRow| match by_id {
        Ok(id) => row.id == id,
        Err(_) => row.name == name && matches!(row.id, NodeId::Edge(_)),
    };
    let rows = nodes::list(tx).await?;
    rows.into_iter().find(is_it).ok_or_else(|| scope::not_found("edge", name))
}

/// Shuts an edge out for good: it is refused everywhere at once, leaves every bundle, and its id never comes back.
pub(crate) async fn evict(shared: &Shared, caller: &Caller, name: &str) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::InstallationWrite)?;
    shared
        .primary
        .write(async |tx| {
            let row = find(tx, name).await?;
            if row.denied_at.is_some() {
                return Ok(());
            }
            nodes::deny(tx, row.id).await?;
            applied::forget(tx, &row.id.to_string()).await?;
            shared.publish_trust(tx).await?;
            audit(tx, shared, &grant, "edge.evict", &row.id, serde_json::json!({ "name": row.name }));
            Ok::<_, Refusal>(())
        })
        .await?;
    // This node at once; the others hear the bell, and the bundles follow.
    shared.refresh_trust().await?;
    shared.drift.notify_one();
    Ok(())
}

/// Notes what was done to a node, in the log of the installation's own organization.
fn audit(tx: &mut Tx, shared: &Shared, grant: &Grant, action: &str, target: &impl ToString, detail: Value) {
    tx.audit(AuditEntry {
        organization: shared.installation.organization,
        project: None,
        actor: grant.actor().to_owned(),
        action: action.to_owned(),
        target: target.to_string(),
        address: grant.address().map(|address| address.to_string()),
        detail,
    });
}
