//! Which edges are kept: follows the bundle's list, starts a supervisor for each edge that is new, tells one whose
//! edge moved, and dismisses those whose edge left or was evicted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Entropy;
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_model::id::EdgeId;
use mezusphere_pki::{Role, SpiffeName, Trust};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::supervisor::Supervisor;
use super::{EdgeState, Shared};
use crate::backoff::drawn;
use crate::limits::{DRAIN_GRACE, START_STAGGER};
use crate::output::Event;

/// What a supervisor is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Keep a tunnel to the edge at this address.
    Keep(EdgeAddress),
    /// Finish what runs, within this time.
    Leave(Duration),
}

/// Keeps a supervisor for each edge of the bundle until `stop` says for how long what runs may finish; resolves
/// when all tunnels are closed.
pub async fn keep_all(shared: Arc<Shared>, mut stop: watch::Receiver<Option<Duration>>) {
    let mut bundles = shared.gate.bundles.changes();
    if shared.gate.bundles.current().edges.is_empty() {
        let text = "the environment has no edge to connect to; waiting for one".to_owned();
        shared.tell(Event::Note { text });
    }
    let mut edges = Edges { shared, running: HashMap::new(), tasks: JoinSet::new() };
    let grace = loop {
        bundles.mark_unchanged();
        edges.follow_bundle();
        tokio::select! {
            stopped = stop.wait_for(Option::is_some) => {
                break stopped.ok().and_then(|grace| *grace).unwrap_or_default();
            }
            Ok(()) = bundles.changed() => {}
            Some(_) = edges.tasks.join_next() => {}
        }
    };
    for orders in edges.running.values() {
        orders.send_replace(Order::Leave(grace));
    }
    while edges.tasks.join_next().await.is_some() {}
}

struct Edges {
    shared: Arc<Shared>,
    /// Where each edge's supervisor takes its orders.
    running: HashMap<EdgeId, watch::Sender<Order>>,
    tasks: JoinSet<()>,
}

impl Edges {
    fn follow_bundle(&mut self) {
        let trusted = Arc::clone(&self.shared.gate.bundles.current());
        self.running.retain(|id, orders| {
            let listed = trusted.edges.iter().find(|edge| edge.id == *id);
            match listed {
                Some(edge) => keep(orders, edge),
                None => dismiss(&self.shared, orders, *id),
            }
            listed.is_some()
        });
        let new: Vec<_> =
            trusted.edges.iter().filter(|edge| !self.running.contains_key(&edge.id)).cloned().collect();
        for (edge, after) in new.iter().zip(starts(new.len(), &self.shared.entropy)) {
            let (orders, taken) = watch::channel(Order::Keep(edge.clone()));
            self.shared.set_state(edge.id, EdgeState::Dialling);
            let supervisor = Supervisor::new(Arc::clone(&self.shared), edge.clone(), taken);
            self.tasks.spawn(supervisor.run(after));
            self.running.insert(edge.id, orders);
        }
    }
}

fn keep(orders: &watch::Sender<Order>, edge: &EdgeAddress) {
    orders.send_if_modified(|order| {
        let wanted = Order::Keep(edge.clone());
        let differs = *order != wanted;
        if differs {
            *order = wanted;
        }
        differs
    });
}

fn dismiss(shared: &Shared, orders: &watch::Sender<Order>, id: EdgeId) {
    let name = match &*orders.borrow() {
        Order::Keep(edge) => edge.name.clone(),
        Order::Leave(_) => String::new(),
    };
    // An evicted edge's tunnel judges it by the same bundle, and closes at once.
    let message = if is_denied(&shared.gate.bundles.trust().get(), id) {
        "evicted by an operator: its tunnel is closed"
    } else {
        "left the environment: its tunnel finishes what runs"
    };
    shared.tell(Event::EdgeLeft { edge: id.to_string(), name, message: message.to_owned() });
    orders.send_replace(Order::Leave(DRAIN_GRACE));
    shared.forget_state(id);
}

fn is_denied(trust: &Trust, edge: EdgeId) -> bool {
    trust.denies(&SpiffeName::new(trust.domain().clone(), Role::Edge(edge)))
}

/// When each of `count` edges is dialled: one of them at once, the others spread over [`START_STAGGER`] for each.
fn starts(count: usize, entropy: &Entropy) -> Vec<Duration> {
    let window = START_STAGGER.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    let mut starts: Vec<_> = (0..count).map(|_| drawn(window, entropy)).collect();
    // Not always the same one, or all warpgates would begin with it.
    let first = entropy.below(u64::try_from(count.max(1)).unwrap_or(u64::MAX));
    if let Some(first) = usize::try_from(first).ok().and_then(|first| starts.get_mut(first)) {
        *first = Duration::ZERO;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_edges_start_within_a_second_one_of_them_at_once_and_not_always_the_same() {
        let entropy = Entropy::counting();
        let mut leaders = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let starts = starts(10, &entropy);
            assert!(starts.iter().all(|after| *after <= Duration::from_secs(1)), "{starts:?}");
            leaders.extend(starts.iter().position(Duration::is_zero));
            assert!(starts.iter().filter(|after| after.is_zero()).count() < 3, "{starts:?}");
        }
        assert!(leaders.len() > 5, "{leaders:?}");
        assert_eq!(starts(1, &entropy), [Duration::ZERO]);
        assert!(starts(0, &entropy).is_empty());
    }
}
