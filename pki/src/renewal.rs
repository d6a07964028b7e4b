//! When a node renews its certificate: at half-life ±10 %, and after a failure with a growing, jittered wait
//! that always leaves several tries before the end.

use std::time::Duration;

use mezusphere_model::{Entropy, Timestamp};

use crate::lifetime::ttl_of;

/// How far from half-life a renewal may fall, in per cent of half-life: spreads nodes that started together.
pub const JITTER_PERCENT: u64 = 10;

/// Wait after the first failed renewal.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);

/// Longest wait between renewals that fail: control may come back at any time, and a try is one small message.
pub const RETRY_MAX: Duration = Duration::from_mins(5);

/// Shortest wait between renewals that fail, however near the end.
pub const RETRY_MIN: Duration = Duration::from_secs(1);

/// A failed renewal is tried again within this part of the time left, so that a short leaf is not lost to the back-off.
pub const RETRY_PART_OF_REST: u32 = 8;

/// When to renew a leaf with these dates: half of the life it was issued for, ±10 %.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, entropy: &Entropy) -> Timestamp {
    let half = ttl_of(not_after.since(not_before)) / 2;
    not_after.before(jittered(half, JITTER_PERCENT, entropy))
}

/// `around` ± `percent` of it.
fn jittered(around: Duration, percent: u64, entropy: &Entropy) -> Duration {
    let around = u64::try_from(around.as_micros()).unwrap_or(u64::MAX);
    let reach = around / 100 * percent;
    Duration::from_micros(around - reach + entropy.below(2 * reach + 1))
}

/// The renewals of one identity: a plain state that its driver asks and tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalSchedule {
    not_after: Timestamp,
    next_at: Timestamp,
    failures: u32,
}

impl RenewalSchedule {
    /// For a leaf with these dates.
    pub fn new(not_before: Timestamp, not_after: Timestamp, entropy: &Entropy) -> Self {
        Self { not_after, next_at: renew_at(not_before, not_after, entropy), failures: 0 }
    }

    /// When to try next.
    pub fn next_at(&self) -> Timestamp {
        self.next_at
    }

    /// How long to wait from `now`; zero if it is time.
    pub fn wait(&self, now: Timestamp) -> Duration {
        self.next_at.since(now)
    }

    /// Whether it is time.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= self.next_at
    }

    /// How many tries have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the leaf has ended: a new one needs a credential other than itself.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// A try failed at `now`.
    pub fn failed(&mut self, now: Timestamp, entropy: &Entropy) {
        let doubled =
            RETRY_FIRST.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX));
        let rest = self.not_after.since(now) / RETRY_PART_OF_REST;
        // After the end nothing is left to save; keep trying at the longest wait, not the shortest.
        let bound = if rest.is_zero() { RETRY_MAX } else { RETRY_MAX.min(rest) };
        let wait = jittered(doubled.min(bound), 50, entropy).max(RETRY_MIN);
        self.failures = self.failures.saturating_add(1);
        self.next_at = now.after(wait);
    }

    /// A try succeeded: the leaf now has these dates.
    pub fn renewed(&mut self, not_before: Timestamp, not_after: Timestamp, entropy: &Entropy) {
        *self = Self::new(not_before, not_after, entropy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifetime::{LEAF_TTL, LEAF_TTL_MIN, skew_allowance};

    const ISSUED: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn dates(ttl: Duration) -> (Timestamp, Timestamp) {
        (ISSUED.before(skew_allowance(ttl)), ISSUED.after(ttl))
    }

    #[test]
    fn r20_renewal_falls_at_half_life_plus_minus_ten_percent_and_spreads() {
        let entropy = Entropy::counting();
        for ttl in [LEAF_TTL_MIN, Duration::from_hours(1), LEAF_TTL] {
            let (not_before, not_after) = dates(ttl);
            let moments: Vec<Duration> =
                (0..1000).map(|_| renew_at(not_before, not_after, &entropy).since(ISSUED)).collect();
            let (first, last) = (*moments.iter().min().unwrap(), *moments.iter().max().unwrap());
            assert!(first >= ttl * 45 / 100 && last <= ttl * 55 / 100, "{first:?}..{last:?} of {ttl:?}");
            assert!(last.saturating_sub(first) > ttl * 8 / 100, "renewals bunch: {first:?}..{last:?}");
        }
    }

    #[test]
    fn a_failed_renewal_is_tried_again_many_times_before_the_end() {
        let entropy = Entropy::counting();
        for (ttl, tries_at_least) in [(LEAF_TTL_MIN, 10), (LEAF_TTL, 50)] {
            let (not_before, not_after) = dates(ttl);
            let mut schedule = RenewalSchedule::new(not_before, not_after, &entropy);
            let mut tries = 0;
            while !schedule.has_ended(schedule.next_at()) {
                let now = schedule.next_at();
                assert!(schedule.is_due(now) && schedule.wait(now).is_zero());
                schedule.failed(now, &entropy);
                assert!(schedule.wait(now) >= RETRY_MIN);
                assert!(schedule.wait(now) <= RETRY_MAX * 3 / 2);
                tries += 1;
            }
            assert!(tries >= tries_at_least, "{tries} tries in {ttl:?}");
        }
    }

    #[test]
    fn after_the_end_retries_go_on_at_the_longest_wait() {
        let entropy = Entropy::counting();
        let (not_before, not_after) = dates(LEAF_TTL_MIN);
        let mut schedule = RenewalSchedule::new(not_before, not_after, &entropy);
        let late = not_after.after(Duration::from_hours(1));
        for _ in 0..20 {
            schedule.failed(late, &entropy);
        }
        assert!(schedule.wait(late) >= RETRY_MAX / 2);
    }

    #[test]
    fn success_forgets_the_failures() {
        let entropy = Entropy::counting();
        let (not_before, not_after) = dates(LEAF_TTL);
        let mut schedule = RenewalSchedule::new(not_before, not_after, &entropy);
        schedule.failed(ISSUED, &entropy);
        assert_eq!(schedule.failures(), 1);
        schedule.renewed(not_before, not_after, &entropy);
        assert_eq!(schedule.failures(), 0);
        assert!(!schedule.is_due(ISSUED));
    }
}
