//! Tells one edge which upstreams there are and how they do: what has changed since it was last told.

use std::sync::Arc;

use mezusphere_model::slug::Slug;
use tokio::sync::watch;
use tunnel_proto::control::{HealthState, UpstreamHealth, WarpgateSession};

use crate::exchange::{Gate, HealthTable};

/// What one edge was told.
pub(super) struct Told {
    offered: watch::Receiver<Arc<[Slug]>>,
    names: Arc<[Slug]>,
    table: watch::Receiver<HealthTable>,
    health: HealthTable,
}

impl Told {
    /// An edge whose Hello said these names, and nothing of their health.
    pub(super) fn in_hello(gate: &Gate, names: Arc<[Slug]>) -> Self {
        Self { offered: gate.offered(), names, table: gate.health(), health: HealthTable::new() }
    }

    /// Resolves when there may be something to tell. Cancel safe.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.offered.changed() => {}
            Ok(()) = self.table.changed() => {}
            // Whoever knows the upstreams is gone; what was told stays.
            else => std::future::pending().await,
        }
    }

    /// Says what the edge does not know yet. It takes an upstream of which nothing was said for one of which nothing is known.
    pub(super) fn tell(&mut self, session: &mut WarpgateSession) {
        let names = Arc::clone(&self.offered.borrow_and_update());
        let of = |these: &[Slug], others: &[Slug]| -> Vec<Slug> {
            these.iter().filter(|name| !others.contains(name)).cloned().collect()
        };
        let (more, less) = (of(&names, &self.names), of(&self.names, &names));
        if !more.is_empty() {
            session.offer(more);
        }
        if !less.is_empty() {
            session.withdraw(less);
        }
        self.names = names;
        let health = self.table.borrow_and_update().clone();
        for (upstream, (state, reason)) in &health {
            let is_news = match self.health.get(upstream) {
                Some(told) => *told != (*state, reason.clone()),
                None => *state != HealthState::Unknown,
            };
            if is_news {
                let (upstream, state, reason) = (upstream.clone(), *state, reason.clone());
                session.upstream_health(UpstreamHealth { upstream, state, reason });
            }
        }
        self.health = health;
    }
}
