//! Warpgates that enrolled, with the tunnels edges report, and shutting one out.

use std::collections::BTreeMap;

use mezusphere_model::Timestamp;
use mezusphere_model::id::WarpgateId;
use mezusphere_store::primary::environment::EnvironmentRow;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::warpgate::{self, TunnelRow, WarpgateRow};
use mezusphere_store::primary::{PageRequest, ReadTx, environment as environments};

use super::{Paging, scope};
use crate::api::types::{Page, Tunnel, Warpgate};
use crate::caller::{Caller, Permission};
use crate::problem::{self, Refusal};
use crate::{Shared, eviction};

/// Between an environment's slug and a warpgate's id in the cursor of a project-wide list; no slug holds one.
const CURSOR_SEPARATOR: char = '.';

fn view(
    row: WarpgateRow,
    environment: &EnvironmentRow,
    tunnels: &[TunnelRow],
    evicted: bool,
    now: Timestamp,
) -> Warpgate {
    let tunnels: Vec<Tunnel> = tunnels
        .iter()
        .filter(|tunnel| tunnel.connected)
        .map(|tunnel| Tunnel {
            edge: tunnel.edge.to_string(),
            remote: tunnel.remote.clone(),
            upstreams: tunnel.upstreams.clone(),
            connected_at: tunnel.since.to_string(),
        })
        .collect();
    Warpgate {
        id: row.id,
        environment: environment.slug.clone(),
        hostname: row.hostname,
        agent: row.agent,
        connected: !tunnels.is_empty(),
        evicted,
        tunnels,
        enrolled_at: row.created_at.to_string(),
        certificate_until: row.not_after.to_string(),
        ended: row.not_after <= now,
    }
}

async fn page_of(
    tx: &mut ReadTx,
    shared: &Shared,
    project: &ProjectRow,
    environment: &EnvironmentRow,
    page: &PageRequest,
) -> Result<Page<Warpgate>, Refusal> {
    let paged = warpgate::list(tx, project.id, environment.id, page).await?;
    let mut tunnels: BTreeMap<WarpgateId, Vec<TunnelRow>> = BTreeMap::new();
    for tunnel in warpgate::list_tunnels(tx, project.id, environment.id).await? {
        tunnels.entry(tunnel.warpgate).or_default().push(tunnel);
    }
    let evicted = eviction::by_operators(tx).await?;
    let now = tx.now();
    let items = paged.rows.into_iter().map(|row| {
        let own = tunnels.remove(&row.id).unwrap_or_default();
        let name = shared.warpgate_name(row.project, row.environment, row.id).to_string();
        view(row, environment, &own, evicted.contains(&name), now)
    });
    Ok(Page { items: items.collect(), next: paged.next })
}

/// An environment's warpgates.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    paging: Paging,
) -> Result<Page<Warpgate>, Refusal> {
    let grant = caller.allow(Permission::WarpgatesRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            page_of(tx, shared, &project, &environment, &PageRequest::from(paging)).await
        })
        .await
}

/// A project's warpgates, environment by environment; a page holds those of one environment.
pub(crate) async fn list_all(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    paging: Paging,
) -> Result<Page<Warpgate>, Refusal> {
    let grant = caller.allow(Permission::WarpgatesRead)?;
    let (from, after) = match paging.after.as_deref() {
        None => (None, None),
        Some(cursor) => {
            let (slug, id) = cursor.split_once(CURSOR_SEPARATOR).ok_or_else(problem::bad_cursor)?;
            (Some(slug.to_owned()), (!id.is_empty()).then(|| id.to_owned()))
        }
    };
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let mut rest = environments::list(tx, project.id).await?;
            rest.retain(|row| from.as_deref().is_none_or(|from| row.slug.as_str() >= from));
            let mut rest = rest.into_iter();
            let Some(environment) = rest.next() else { return Ok(Page { items: Vec::new(), next: None }) };
            let page = PageRequest::from(Paging { limit: paging.limit, after });
            let mut found = page_of(tx, shared, &project, &environment, &page).await?;
            found.next = match (found.next, rest.next()) {
                (Some(id), _) => Some(format!("{}{CURSOR_SEPARATOR}{id}", environment.slug)),
                (None, Some(following)) => Some(format!("{}{CURSOR_SEPARATOR}", following.slug)),
                (None, None) => None,
            };
            Ok(found)
        })
        .await
}

/// Shuts a warpgate out: edges end its tunnels and refuse it at once, and with the key it has it does not come back.
/// Other warpgates of that key stay.
pub(crate) async fn evict(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    name: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::WarpgatesWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let missing = || scope::not_found("warpgate", name);
            let id: WarpgateId = name.parse().map_err(|_| missing())?;
            let row = warpgate::get(tx, project.id, id).await?.ok_or_else(missing)?;
            shared.evict_for_good(tx, &row).await?;
            let detail = serde_json::json!({ "hostname": row.hostname, "key": row.key });
            scope::audit(tx, &grant, &project, "warpgate.evict", &id, detail);
            Ok(())
        })
        .await
}
