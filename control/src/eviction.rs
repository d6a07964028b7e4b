//! Warpgates whose credential was taken away: their certificates are refused by every edge until they end.
//!
//! A certificate outlives its key by up to a day, so a revoked key alone would leave tunnels up. The names stand in
//! the trust document, on which edges close live tunnels and refuse new ones. Bundles do not carry them: a
//! warpgate never meets another one, and a revocation must not sign every environment's bundle anew.

use std::collections::BTreeSet;

use mezusphere_model::Timestamp;
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, WarpgateId};
use mezusphere_pki::{Role, SpiffeName};
use mezusphere_store::StoreError;
use mezusphere_store::primary::warpgate::{self, WarpgateRow};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx, environment, setting};
use serde::{Deserialize, Serialize};

use crate::Shared;
use crate::publish::PublishError;

/// Name of the setting that holds the list.
const SETTING: &str = "denied/warpgates";

/// Most warpgates that operators evicted and that are remembered, so that the machine is told why it may not come back;
/// the oldest are forgotten first, long after their certificates ended.
const EVICTED_MAX: usize = 2000;

/// One name and how long it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Denied {
    name: String,
    /// When its last certificate ends: edges need not know of it any longer.
    until: Timestamp,
    /// The key of a warpgate that an operator evicted itself: with it, it does not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<ApiKeyId>,
}

/// How a warpgate lost its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// Its key was taken away, or what it belonged to.
    ByKey,
    /// An operator evicted it itself, while it had this key.
    ByOperator(ApiKeyId),
}

/// SPIFFE URIs of warpgates that are refused now.
pub(crate) async fn denied(tx: &mut ReadTx) -> Result<Vec<String>, StoreError> {
    let now = tx.now();
    let list = load(tx).await?.into_iter();
    Ok(list.filter(|denied| denied.until > now).map(|denied| denied.name).collect())
}

/// How the warpgate of this name lost its place; `None`: it did not, or long ago.
pub(crate) async fn of(tx: &mut ReadTx, name: &str) -> Result<Option<Eviction>, StoreError> {
    let found = load(tx).await?.into_iter().find(|denied| denied.name == name);
    Ok(found.map(|denied| denied.key.map_or(Eviction::ByKey, Eviction::ByOperator)))
}

/// SPIFFE URIs of warpgates that operators evicted.
pub(crate) async fn by_operators(tx: &mut ReadTx) -> Result<BTreeSet<String>, StoreError> {
    let list = load(tx).await?.into_iter();
    Ok(list.filter(|denied| denied.key.is_some()).map(|denied| denied.name).collect())
}

async fn load(tx: &mut ReadTx) -> Result<Vec<Denied>, StoreError> {
    let now = tx.now();
    let mut list: Vec<Denied> = setting::get(tx, SETTING).await?.unwrap_or_default();
    list.retain(|denied| denied.until > now || denied.key.is_some());
    Ok(list)
}

/// Warpgates of a project, or of one of its environments, that `which` picks.
pub(crate) async fn warpgates(
    tx: &mut ReadTx,
    project: ProjectId,
    only: Option<EnvironmentId>,
    which: impl Fn(&WarpgateRow) -> bool,
) -> Result<Vec<WarpgateRow>, StoreError> {
    let mut picked = Vec::new();
    for environment in environment::list(tx, project).await? {
        if only.is_some_and(|only| only != environment.id) {
            continue;
        }
        let mut page = PageRequest::first();
        loop {
            let found = warpgate::list(tx, project, environment.id, &page).await?;
            picked.extend(found.rows.into_iter().filter(&which));
            match found.next {
                Some(next) => page = PageRequest::after(next),
                None => break,
            }
        }
    }
    Ok(picked)
}

impl Shared {
    /// Refuses these warpgates, whose key is gone, until their certificates end. Publishes the trust document.
    pub(crate) async fn evict(&self, tx: &mut Tx, rows: &[WarpgateRow]) -> Result<(), PublishError> {
        let now = tx.now();
        let mut list = load(tx).await?;
        let before = list.len();
        for row in rows.iter().filter(|row| row.not_after > now) {
            let name = self.warpgate_name(row.project, row.environment, row.id).to_string();
            if list.iter().all(|denied| denied.name != name) {
                list.push(Denied { name, until: row.not_after, key: None });
            }
        }
        if list.len() == before {
            return Ok(());
        }
        setting::put(tx, SETTING, &list).await?;
        self.publish_trust(tx).await
    }

    /// Refuses this warpgate although its key is good, now and when it comes back with that key. Publishes the trust
    /// document.
    pub(crate) async fn evict_for_good(&self, tx: &mut Tx, row: &WarpgateRow) -> Result<(), PublishError> {
        let name = self.warpgate_name(row.project, row.environment, row.id).to_string();
        let mut list = load(tx).await?;
        list.retain(|denied| denied.name != name);
        let evicted = list.iter().filter(|denied| denied.key.is_some()).count();
        if evicted >= EVICTED_MAX
            && let Some(oldest) = list.iter().position(|denied| denied.key.is_some())
        {
            list.remove(oldest);
        }
        list.push(Denied { name, until: row.not_after, key: Some(row.key) });
        setting::put(tx, SETTING, &list).await?;
        self.publish_trust(tx).await
    }

    /// What a warpgate's certificate calls it.
    pub(crate) fn warpgate_name(
        &self,
        project: ProjectId,
        environment: EnvironmentId,
        id: WarpgateId,
    ) -> SpiffeName {
        let role = Role::Warpgate { project, environment, id };
        SpiffeName::new(self.known_ca().issuing.trust_domain().clone(), role)
    }
}
