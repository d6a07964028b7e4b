//! Keeping the view as fresh as the replica: what changed is dropped or read anew, the rest stays.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::route::{READER, Site, SiteDoc, SiteTable};
use mezusphere_pki::Trust;
use mezusphere_store::replica::{Changed, ChangedKey, ReadError};

use super::watch::Watched;
use super::{PlatformView, View};

/// How often forgotten things are swept out of memory.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// When a read that failed is tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What could not be read and must be read again.
#[derive(Default)]
struct Owed {
    everything: bool,
    platform: bool,
    trust: bool,
    sites: Vec<(ProjectId, EnvironmentId)>,
}

impl Owed {
    fn is_nothing(&self) -> bool {
        !self.everything && !self.platform && !self.trust && self.sites.is_empty()
    }
}

impl View {
    /// Applies changes as they come, for ever.
    pub(super) async fn follow_changes(&self, mut changes: BoxStream<'static, Changed>) {
        let mut owed = Owed { everything: !self.read_everything(), ..Owed::default() };
        loop {
            let heard = if owed.is_nothing() {
                changes.next().await
            } else {
                let nothing = Changed::Keys(Arc::default());
                tokio::time::timeout(READ_AGAIN, changes.next()).await.unwrap_or(Some(nothing))
            };
            match heard.unwrap_or(Changed::Closed) {
                Changed::Keys(keys) => self.apply(&keys, &mut owed),
                Changed::Everything => owed.everything = true,
                Changed::Closed => {
                    tracing::error!(
                        "The replica is gone; protected routes close when its age passes the limit"
                    );
                    return std::future::pending().await;
                }
            }
            self.pay(&mut owed);
        }
    }

    /// Sweeps, for ever.
    pub(super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = self.clock.now();
            self.lookups.sweep(now);
            self.watches.sweep();
            self.seen.sweep(now);
            self.bundles.retain(|_, told| told.receiver_count() > 0);
        }
    }

    /// Reads sites, platform and trust anew and distrusts all that was decoded. Whether all could be read.
    pub(super) fn read_everything(&self) -> bool {
        self.watches.all_changed();
        let platform = self.read_platform() & self.read_trust();
        let sites = match self.documents.sites() {
            Ok(docs) => {
                let built: BTreeMap<_, _> = docs.into_iter().filter_map(build).collect();
                self.swap_sites(|all| *all = built);
                true
            }
            Err(error) => {
                // Without knowing which route is whose, nothing is served.
                tracing::error!(%error, "The sites cannot be read; all are closed until they can");
                self.swap_sites(BTreeMap::clear);
                false
            }
        };
        for told in &self.bundles {
            told.send_replace(());
        }
        platform && sites
    }

    fn apply(&self, keys: &[ChangedKey], owed: &mut Owed) {
        for ChangedKey { partition, key } in keys {
            if let Some(watched) = Watched::filed(*partition, key) {
                self.watches.changed(&watched);
            } else if *key == DocumentKey::platform() {
                owed.platform = true;
            } else if *key == DocumentKey::trust() {
                owed.trust = true;
            } else if let (Partition::Project(project), Some((kind, id))) =
                (*partition, key.as_str().split_once('/'))
            {
                match (kind, id.parse::<EnvironmentId>()) {
                    ("site", Ok(environment)) => owed.sites.push((project, environment)),
                    ("bundle", Ok(environment)) => {
                        if let Some(told) = self.bundles.get(&environment) {
                            told.send_replace(());
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reads what is owed. What fails again stays owed, and closed.
    fn pay(&self, owed: &mut Owed) {
        if std::mem::take(&mut owed.everything) {
            *owed = Owed { everything: !self.read_everything(), ..Owed::default() };
        }
        if std::mem::take(&mut owed.platform) {
            owed.platform = !self.read_platform();
        }
        if std::mem::take(&mut owed.trust) {
            owed.trust = !self.read_trust();
        }
        let sites = std::mem::take(&mut owed.sites);
        if sites.is_empty() {
            return;
        }
        let read: Vec<_> = sites
            .into_iter()
            .map(|(project, environment)| {
                let site = self.documents.site(project, environment);
                if let Err(error) = &site {
                    tracing::error!(%environment, %error, "A site cannot be read; it is closed until it can");
                    if may_be_read_later(*error) {
                        owed.sites.push((project, environment));
                    }
                }
                (environment, site.ok().flatten().and_then(build))
            })
            .collect();
        self.swap_sites(|all| {
            for (environment, site) in read {
                match site {
                    Some((_, site)) => drop(all.insert(environment, site)),
                    None => drop(all.remove(&environment)),
                }
            }
        });
    }

    fn swap_sites(&self, change: impl FnOnce(&mut BTreeMap<EnvironmentId, Arc<Site>>)) {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut built);
        // In order of environments, so that a host claimed twice does not change hands from one swap to the next.
        self.sites.store(Arc::new(SiteTable::build(built.values().cloned())));
        // After them, so that nobody takes the old ones for these.
        self.sites_generation.fetch_add(1, Ordering::Release);
    }

    fn read_platform(&self) -> bool {
        match self.documents.platform() {
            Ok(doc) => {
                let view = doc.map(|doc| {
                    let jwks = Bytes::from(doc.assertion_jwks.to_string());
                    Arc::new(PlatformView { doc, jwks })
                });
                self.platform.send_replace(view);
                true
            }
            Err(error) => {
                tracing::error!(%error, "The platform document cannot be read");
                let later = may_be_read_later(error);
                if !later {
                    // With what it may say now unknown, no cookie can be told from a forged one.
                    self.platform.send_replace(None);
                }
                !later
            }
        }
    }

    /// What cannot be read or used leaves the trust as it was: nothing then opens that was closed.
    fn read_trust(&self) -> bool {
        match self.documents.trust() {
            Ok(None) => true,
            Ok(Some(doc)) => {
                match Trust::from_doc(&doc) {
                    Ok(trust) => drop(self.trust.send_replace(Some(Arc::new(trust)))),
                    Err(error) => tracing::error!(%error, "The new trust cannot be used; the old one stays"),
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "The trust document cannot be read; what it said last stays");
                !may_be_read_later(error)
            }
        }
    }
}

/// Whether it is worth trying again before the document changes.
fn may_be_read_later(error: ReadError) -> bool {
    match error {
        ReadError::Disk | ReadError::Damaged | ReadError::Incomplete => true,
        ReadError::TooNew => false,
    }
}

/// Compiles a site; one that cannot be compiled, or is written for a newer edge, stays closed.
fn build(doc: SiteDoc) -> Option<(EnvironmentId, Arc<Site>)> {
    let environment = doc.environment;
    if doc.min_reader > READER {
        tracing::error!(%environment, min_reader = doc.min_reader, "A site needs a newer edge; it is closed");
        return None;
    }
    match Site::build(doc) {
        Ok(site) => Some((environment, Arc::new(site))),
        Err(error) => {
            tracing::error!(%environment, %error, "A site cannot be used; it is closed");
            None
        }
    }
}
