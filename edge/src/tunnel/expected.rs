//! Waiting for a tunnel that is about to come, so that restarting an edge, or the only warpgate of an environment, fails no
//! request: warpgates come back within seconds of an edge's start, and one that said goodbye is mostly restarted.
//!
//! A tunnel that was *lost* is not waited for: requests for it fail at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::{DashMap, DashSet};
use mezusphere_model::id::EnvironmentId;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long after an edge's start its warpgates are expected: their longest back-off, a lost packet and a handshake (design
/// §5, §10).
const AFTER_START: Duration = Duration::from_secs(8);

/// How long after a warpgate's goodbye its successor is expected: what a service manager takes to start one.
const AFTER_GOODBYE: Duration = Duration::from_secs(5);

/// How long one request waits, at most: as long as a tunnel may take to come back (design §10). People take it for a slow page.
const WAIT_MAX: Duration = Duration::from_secs(6);

/// Requests that wait at once, over all environments; the others are refused as if nothing were expected.
const WAITING_MAX: usize = 1024;

/// Goodbyes that are remembered before old ones are looked for.
const GOODBYES_SWEPT: usize = 1024;

/// Which environments' tunnels are about to come.
pub(super) struct Expected {
    started: Instant,
    goodbyes: DashMap<EnvironmentId, Instant>,
    /// Those that have had a tunnel within [`AFTER_START`]: if it is gone, it was lost.
    arrived: DashSet<EnvironmentId>,
    /// Told whenever a tunnel is entered.
    came: Notify,
    waiting: AtomicUsize,
}

impl Expected {
    /// From now on those of every environment are, for a while.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            goodbyes: DashMap::new(),
            arrived: DashSet::new(),
            came: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A warpgate of this environment has said that it leaves.
    pub(super) fn goodbye(&self, environment: EnvironmentId) {
        if self.goodbyes.len() >= GOODBYES_SWEPT {
            self.goodbyes.retain(|_, at| at.elapsed() < AFTER_GOODBYE);
        }
        self.goodbyes.insert(environment, Instant::now());
    }

    /// A tunnel of this environment was entered.
    pub(super) fn came(&self, environment: EnvironmentId) {
        if self.started.elapsed() < AFTER_START {
            self.arrived.insert(environment);
        }
        self.came.notify_waiters();
    }

    /// Waits until `there` says that one is there; `false` once it is not worth waiting any longer. Cancel safe.
    pub(super) async fn wait(&self, environment: EnvironmentId, there: impl Fn() -> bool) -> bool {
        // One that came while the caller looked at the list of a moment before.
        if there() {
            return true;
        }
        let now = Instant::now();
        let goodbye = self.goodbyes.get(&environment).map(|at| *at + AFTER_GOODBYE);
        let arrival = (!self.arrived.contains(&environment)).then(|| self.started + AFTER_START);
        let until = goodbye.max(arrival).unwrap_or(now).min(now + WAIT_MAX);
        if until <= now {
            return false;
        }
        let Some(_place) = Place::take(&self.waiting) else { return false };
        loop {
            // Registered before the look, so that none that comes in between is missed.
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if there() {
                return true;
            }
            if timeout_at(until, came).await.is_err() {
                return false;
            }
        }
    }
}

/// A place among those that wait, until dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        (before < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const ENVIRONMENT: EnvironmentId = EnvironmentId::from_bits(1);

    #[tokio::test(start_paused = true)]
    async fn a_young_edge_waits_for_its_warpgates_and_an_old_one_fails_at_once() {
        let expected = Expected::new();
        let begun = Instant::now();
        assert!(!expected.wait(ENVIRONMENT, || false).await);
        assert_eq!(begun.elapsed(), WAIT_MAX);
        tokio::time::advance(AFTER_START).await;
        let begun = Instant::now();
        assert!(!expected.wait(ENVIRONMENT, || false).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_young_edge_had_and_lost_is_not_waited_for() {
        let expected = Expected::new();
        expected.came(ENVIRONMENT);
        let begun = Instant::now();
        assert!(expected.wait(ENVIRONMENT, || true).await, "what is there needs no waiting");
        assert!(!expected.wait(ENVIRONMENT, || false).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        expected.goodbye(ENVIRONMENT);
        assert!(!expected.wait(ENVIRONMENT, || false).await);
        assert_eq!(begun.elapsed(), AFTER_GOODBYE, "it said goodbye: its successor is expected");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_goodbye_the_next_tunnel_ends_the_wait() {
        let expected = Expected::new();
        tokio::time::advance(AFTER_START).await;
        expected.goodbye(ENVIRONMENT);
        assert!(!expected.wait(EnvironmentId::from_bits(2), || false).await, "another environment's goodbye");
        let there = AtomicBool::new(false);
        let comes = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            there.store(true, Ordering::SeqCst);
            expected.came(ENVIRONMENT);
        };
        let begun = Instant::now();
        let (found, ()) = tokio::join!(expected.wait(ENVIRONMENT, || there.load(Ordering::SeqCst)), comes);
        assert!(found);
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        tokio::time::advance(AFTER_GOODBYE).await;
        assert!(!expected.wait(ENVIRONMENT, || false).await);
    }

    #[tokio::test(start_paused = true)]
    async fn r23_only_so_many_wait() {
        let expected = Expected::new();
        let mut crowd: Vec<_> =
            (0..WAITING_MAX).map(|_| Box::pin(expected.wait(ENVIRONMENT, || false))).collect();
        for waiting in &mut crowd {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        let begun = Instant::now();
        assert!(!expected.wait(ENVIRONMENT, || false).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(crowd);
        assert!(futures_util::poll!(Box::pin(expected.wait(ENVIRONMENT, || false))).is_pending());
    }
}
