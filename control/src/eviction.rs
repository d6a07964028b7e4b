//! Warpgates whose credential was taken away: their certificates are refused by every edge until they end.
//!
//! A certificate outlives its key by up to a day, so a revoked key alone would leave tunnels up. The names stand in
//! the platform document, on which edges close live tunnels and refuse new ones. Bundles do not carry them: a
//! warpgate never meets another one, and a revocation must not sign every environment's bundle anew.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{EnvironmentId, ProjectId, WarpgateId};
use mezusphere_pki::{Role, SpiffeName};
use mezusphere_store::StoreError;
use mezusphere_store::primary::warpgate::{self, WarpgateRow};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx, environment, setting};
use serde::{Deserialize, Serialize};

use crate::Shared;
use crate::publish::PublishError;

/// Name of the setting that holds the list.
const SETTING: &str = "denied/warpgates";

/// One name and how long it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Denied {
    name: String,
    until: Timestamp,
}

/// SPIFFE URIs of warpgates that are refused now.
pub(crate) async fn denied(tx: &mut ReadTx) -> Result<Vec<String>, StoreError> {
    Ok(load(tx).await?.into_iter().map(|denied| denied.name).collect())
}

async fn load(tx: &mut ReadTx) -> Result<Vec<Denied>, StoreError> {
    let now = tx.now();
    let mut list: Vec<Denied> = setting::get(tx, SETTING).await?.unwrap_or_default();
    list.retain(|denied| denied.until > now);
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
    /// Refuses these warpgates until their certificates end. Publishes the platform document.
    pub(crate) async fn evict(&self, tx: &mut Tx, rows: &[WarpgateRow]) -> Result<(), PublishError> {
        let now = tx.now();
        let mut list = load(tx).await?;
        let before = list.len();
        for row in rows.iter().filter(|row| row.not_after > now) {
            let name = self.warpgate_name(row.project, row.environment, row.id).to_string();
            if list.iter().all(|denied| denied.name != name) {
                list.push(Denied { name, until: row.not_after });
            }
        }
        if list.len() == before {
            return Ok(());
        }
        setting::put(tx, SETTING, &list).await?;
        self.publish_platform(tx).await
    }

    /// What a warpgate's certificate calls it.
    pub(crate) fn warpgate_name(
        &self,
        project: ProjectId,
        environment: EnvironmentId,
        id: WarpgateId,
    ) -> SpiffeName {
        let role = Role::Warpgate { project, environment, id };
        SpiffeName::new(self.keys.issuing.trust_domain().clone(), role)
    }
}
