//! How well exchanges for one upstream go over one tunnel, as far as the exchanges themselves show it: failures in a row
//! set it aside for a while, and its latency weighs in choosing.
//!
//! A preference only: whoever chooses takes what is set aside when there is nothing better, so that the last way is
//! never closed by it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that set it aside: fewer happen to a healthy way too, as when an upstream is restarted.
const FAILURES_MAX: u32 = 5;

/// For how long it is set aside the first time; doubled each time in a row, up to [`ASIDE_MAX`].
const ASIDE_FIRST: Duration = Duration::from_secs(2);

/// For how long at most. Then one exchange shows whether it is well again.
const ASIDE_MAX: Duration = Duration::from_mins(1);

/// Without being set aside for this long, the next time counts as the first.
const FORGIVEN_AFTER: Duration = Duration::from_mins(2);

/// Latency is felt in steps of this many µs: what differs by less is the same.
const LATENCY_STEP_US: u64 = 4096;

/// A measured latency counts half after this long without a new one, so that a way that was slow once is tried again.
const LATENCY_HALVES: Duration = Duration::from_secs(8);

/// What exchanges have shown. Written by every exchange, so nothing here takes a lock.
#[derive(Debug)]
pub(super) struct Fitness {
    /// Times below are in ms since then.
    born: Instant,
    /// Failures since the last answer.
    failures: AtomicU32,
    /// How often in a row it was set aside.
    times: AtomicU32,
    aside_until: AtomicU64,
    /// Time to a response's head, in µs, smoothed; 0: not measured.
    latency: AtomicU64,
    measured: AtomicU64,
}

impl Fitness {
    /// Nothing is known yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            born: now,
            failures: AtomicU32::new(0),
            times: AtomicU32::new(0),
            aside_until: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            measured: AtomicU64::new(0),
        }
    }

    /// An exchange was answered; `latency` if the time to the response's head says something.
    pub(super) fn answered(&self, latency: Option<Duration>, now: Instant) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        let Some(latency) = latency else { return };
        let sample = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        let known = self.latency.load(Ordering::Relaxed);
        // Two at once may lose one of both samples, which changes little.
        let smoothed = if known == 0 { sample } else { known - known / 8 + sample / 8 };
        self.latency.store(smoothed.max(1), Ordering::Relaxed);
        self.measured.store(self.since(now), Ordering::Relaxed);
    }

    /// An exchange failed in a way that speaks against tunnel, warpgate or upstream. For how long it is set aside now, if
    /// this is what does it.
    pub(super) fn failed(&self, now: Instant) -> Option<Duration> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures < FAILURES_MAX || self.is_aside(now) {
            return None;
        }
        let (at, until) = (self.since(now), self.aside_until.load(Ordering::Relaxed));
        let forgiven = at.saturating_sub(until) > ms(FORGIVEN_AFTER);
        let times = if forgiven { 0 } else { self.times.load(Ordering::Relaxed) };
        let aside = ASIDE_FIRST.saturating_mul(1 << times.min(10)).min(ASIDE_MAX);
        // Of several failures at once, one sets it aside.
        let next = at.saturating_add(ms(aside));
        let set = self.aside_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        set.ok()?;
        self.times.store(times.saturating_add(1), Ordering::Relaxed);
        // Back again, a single failure is enough.
        self.failures.store(FAILURES_MAX - 1, Ordering::Relaxed);
        Some(aside)
    }

    /// Whether it is set aside.
    pub(super) fn is_aside(&self, now: Instant) -> bool {
        let until = self.aside_until.load(Ordering::Relaxed);
        until != 0 && self.since(now) < until
    }

    /// What one exchange more would cost, compared with others: those under way, times how slow they are.
    pub(super) fn cost(&self, outstanding: u32, now: Instant) -> u64 {
        let known = self.latency.load(Ordering::Relaxed);
        let age = self.since(now).saturating_sub(self.measured.load(Ordering::Relaxed));
        let halved = u32::try_from(age / ms(LATENCY_HALVES)).unwrap_or(u32::MAX);
        let steps = known.checked_shr(halved).unwrap_or(0) / LATENCY_STEP_US;
        (u64::from(outstanding) + 1).saturating_mul(steps.max(1))
    }

    fn since(&self, now: Instant) -> u64 {
        ms(now.saturating_duration_since(self.born))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_set_it_aside_and_an_answer_between_them_does_not() {
        let (fitness, now) = (Fitness::new(Instant::now()), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAILURES_MAX {
                assert_eq!(fitness.failed(now), None);
            }
            fitness.answered(None, now);
        }
        for _ in 1..FAILURES_MAX {
            assert_eq!(fitness.failed(now), None);
        }
        assert!(!fitness.is_aside(now));
        assert_eq!(fitness.failed(now), Some(ASIDE_FIRST));
        assert!(fitness.is_aside(now) && !fitness.is_aside(now + ASIDE_FIRST));
        assert_eq!(fitness.failed(now), None, "what was under way does not make it longer");
    }

    #[tokio::test(start_paused = true)]
    async fn each_time_in_a_row_is_longer_up_to_a_bound_and_a_good_while_makes_it_short_again() {
        let (fitness, mut now) = (Fitness::new(Instant::now()), Instant::now());
        for _ in 1..FAILURES_MAX {
            assert_eq!(fitness.failed(now), None);
        }
        let mut asides = Vec::new();
        for _ in 0..8 {
            let aside = fitness.failed(now).unwrap();
            asides.push(aside.as_secs());
            now += aside;
        }
        assert_eq!(asides, [2, 4, 8, 16, 32, 60, 60, 60]);
        now += FORGIVEN_AFTER + S;
        assert_eq!(fitness.failed(now), Some(ASIDE_FIRST));
    }

    #[tokio::test(start_paused = true)]
    async fn slowness_costs_and_is_forgotten() {
        let (slow, quick) = (Fitness::new(Instant::now()), Fitness::new(Instant::now()));
        let now = Instant::now();
        assert_eq!(slow.cost(3, now), 4, "what is not measured is taken for quick");
        quick.answered(Some(Duration::from_millis(3)), now);
        slow.answered(Some(Duration::from_millis(400)), now);
        assert_eq!(quick.cost(3, now), 4);
        assert!(slow.cost(0, now) > quick.cost(90, now));
        assert!(slow.cost(0, now) < quick.cost(100, now), "but not for ever");
        assert_eq!(slow.cost(0, now + 8 * LATENCY_HALVES), 1);
        for _ in 0..60 {
            slow.answered(Some(Duration::from_millis(3)), now);
        }
        assert_eq!(slow.cost(0, now), 1, "quick again");
    }
}
