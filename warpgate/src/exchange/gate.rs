//! What every exchange of this process shares: the bundles it is decided on, and the upstreams it may reach.
//!
//! The upstreams can be declared anew while requests run: an upstream that stays as it was keeps its connections and
//! its health; one that goes finishes what it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use mezusphere_model::slug::Slug;
use mezusphere_model::{Clock, Entropy};
use tokio::sync::watch;
use tunnel_proto::control::HealthState;

use super::counts::Counts;
use super::running::Running;
use super::upstream::Upstream;
use crate::bundle::Bundles;
use crate::upstream::Upstreams;

/// How each upstream is doing, and why if it is not well: the name of a failure code, or `check_failed`.
pub type HealthTable = BTreeMap<Slug, (HealthState, String)>;

/// What every exchange of this process shares.
pub struct Gate {
    pub(crate) bundles: Arc<Bundles>,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) running: Running,
    pub(crate) counts: Counts,
    present: ArcSwap<Present>,
    offered: watch::Sender<Arc<[Slug]>>,
    pub(super) health: watch::Sender<HealthTable>,
    closed: AtomicBool,
}

/// The upstreams in force.
struct Present {
    declared: Arc<Upstreams>,
    upstreams: BTreeMap<Slug, Arc<Upstream>>,
}

/// What a new declaration came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redeclared {
    /// Upstreams that were not there before.
    pub added: Vec<Slug>,
    /// Upstreams that are elsewhere now, or are spoken to otherwise.
    pub changed: Vec<Slug>,
    /// Upstreams that are no longer there.
    pub removed: Vec<Slug>,
}

impl Gate {
    /// A gate to these upstreams and no others.
    pub fn new(bundles: Arc<Bundles>, declared: Upstreams, clock: Clock, entropy: Entropy) -> Self {
        let (offered, health) = (declared.names().into(), fresh(&declared));
        let upstreams = declared.iter().map(|(name, to)| (name.clone(), Arc::new(Upstream::new(to.clone()))));
        let present = Present { upstreams: upstreams.collect(), declared: Arc::new(declared) };
        Self {
            bundles,
            clock,
            entropy,
            running: Running::default(),
            counts: Counts::default(),
            present: ArcSwap::from_pointee(present),
            offered: watch::Sender::new(offered),
            health: watch::Sender::new(health),
            closed: AtomicBool::new(false),
        }
    }

    /// The upstreams in force, as they were declared.
    pub fn declared(&self) -> Arc<Upstreams> {
        Arc::clone(&self.present.load().declared)
    }

    /// Puts these upstreams in the place of those in force. No running exchange is lost: it finishes with the upstream
    /// it began with. To be called by one task only.
    pub fn redeclare(&self, declared: Upstreams) -> Redeclared {
        let before = self.present.load_full();
        let mut what = Redeclared::default();
        let mut upstreams = BTreeMap::new();
        for (name, to) in declared.iter() {
            let upstream = match before.upstreams.get(name) {
                Some(same) if same.declaration() == to => Arc::clone(same),
                known => {
                    let list = if known.is_some() { &mut what.changed } else { &mut what.added };
                    list.push(name.clone());
                    Arc::new(Upstream::new(to.clone()))
                }
            };
            upstreams.insert(name.clone(), upstream);
        }
        what.removed =
            before.upstreams.keys().filter(|name| !upstreams.contains_key(*name)).cloned().collect();
        self.health.send_modify(|table| {
            table.retain(|name, _| upstreams.contains_key(name) && !what.changed.contains(name));
            for name in what.added.iter().chain(&what.changed) {
                table.insert(name.clone(), (HealthState::Unknown, String::new()));
            }
        });
        let names: Arc<[Slug]> = declared.names().into();
        self.present.store(Arc::new(Present { declared: Arc::new(declared), upstreams }));
        self.offered.send_replace(names);
        what
    }

    /// The names of the upstreams in force, in order: what a Hello declares, and Offer and Withdraw change. Wakes at
    /// each [`Gate::redeclare`], whether names are different or not.
    pub fn offered(&self) -> watch::Receiver<Arc<[Slug]>> {
        self.offered.subscribe()
    }

    /// How each upstream is doing. Wakes when one's state has changed.
    pub fn health(&self) -> watch::Receiver<HealthTable> {
        self.health.subscribe()
    }

    /// Refuses new exchanges from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Closes upstream connections that were idle for too long. To be called now and then.
    pub(crate) fn sweep(&self) {
        for upstream in self.present.load().upstreams.values() {
            upstream.sweep();
        }
    }

    /// Each upstream in force, with its name.
    pub(crate) fn upstreams(&self) -> Vec<(Slug, Arc<Upstream>)> {
        let present = self.present.load();
        present.upstreams.iter().map(|(name, upstream)| (name.clone(), Arc::clone(upstream))).collect()
    }

    pub(super) fn upstream(&self, name: &Slug) -> Option<Arc<Upstream>> {
        self.present.load().upstreams.get(name).cloned()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Nothing is known yet of any of them.
fn fresh(declared: &Upstreams) -> HealthTable {
    declared.names().into_iter().map(|name| (name, (HealthState::Unknown, String::new()))).collect()
}
