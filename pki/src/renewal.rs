//! When a node renews its certificate: at half-life ±10 %, earlier if certificates are to come from another CA, and after a
//! failure with a growing, jittered wait that always leaves several tries before the end.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::document::RenewFrom;
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
    /// Which CA the leaf was last wanted from, because it is another's.
    wanted: Option<Wanted>,
}

/// A renewal that did not wait for half-life.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// The CA, as a document names it.
    issuer: String,
    /// Renewals for its sake so far. More than one means that whoever certifies has not changed over yet.
    renewals: u32,
    /// Whether one is due and not yet done.
    is_due: bool,
}

impl RenewalSchedule {
    /// For a leaf with these dates.
    pub fn new(not_before: Timestamp, not_after: Timestamp, entropy: &Entropy) -> Self {
        Self { not_after, next_at: renew_at(not_before, not_after, entropy), failures: 0, wanted: None }
    }

    /// Told which CA certificates are to come from now, and which one (by its certificate's SHA-256) the leaf is from.
    ///
    /// A leaf of another one is renewed within the time given, at a moment drawn evenly, so that nodes that hear of it at
    /// once do not ask at once. May be told the same again at any time: that changes nothing. If what the renewal brought is
    /// still another CA's, the next follows after a growing wait.
    pub fn follow(
        &mut self,
        issuer: Option<&[u8; 32]>,
        from: Option<&RenewFrom>,
        now: Timestamp,
        entropy: &Entropy,
    ) {
        let is_of_it =
            |from: &RenewFrom| issuer.is_some_and(|issuer| BASE64URL.encode(issuer) == from.issuer);
        let Some(from) = from.filter(|from| !is_of_it(from)) else {
            self.wanted = None;
            return;
        };
        let before = self.wanted.take().filter(|wanted| wanted.issuer == from.issuer);
        let (renewals, is_due) = before.map_or((0, false), |wanted| (wanted.renewals, wanted.is_due));
        if !is_due {
            let wait = match renewals.checked_sub(1) {
                None => Duration::from_micros(entropy.below(u64::from(from.within_s) * 1_000_000 + 1)),
                Some(in_vain) => jittered(backed_off(in_vain).min(RETRY_MAX), 50, entropy),
            };
            self.next_at = self.next_at.min(now.after(wait));
        }
        let renewals = if is_due { renewals } else { renewals.saturating_add(1) };
        self.wanted = Some(Wanted { issuer: from.issuer.clone(), renewals, is_due: true });
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
        let doubled = backed_off(self.failures);
        let rest = self.not_after.since(now) / RETRY_PART_OF_REST;
        // After the end nothing is left to save; keep trying at the longest wait, not the shortest.
        let bound = if rest.is_zero() { RETRY_MAX } else { RETRY_MAX.min(rest) };
        let wait = jittered(doubled.min(bound), 50, entropy).max(RETRY_MIN);
        self.failures = self.failures.saturating_add(1);
        self.next_at = now.after(wait);
    }

    /// A try succeeded: the leaf now has these dates.
    pub fn renewed(&mut self, not_before: Timestamp, not_after: Timestamp, entropy: &Entropy) {
        let wanted = self.wanted.take().map(|wanted| Wanted { is_due: false, ..wanted });
        *self = Self { wanted, ..Self::new(not_before, not_after, entropy) };
    }
}

/// The first wait, doubled so often.
fn backed_off(times: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX))
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
    fn a_leaf_of_another_ca_than_is_wanted_is_renewed_soon_and_not_by_all_at_once() {
        let (entropy, (not_before, not_after)) = (Entropy::counting(), dates(LEAF_TTL));
        let from = |octet: u8, within_s| RenewFrom { issuer: BASE64URL.encode([octet; 32]), within_s };
        let moments: Vec<Duration> = (0..100)
            .map(|_| {
                let mut schedule = RenewalSchedule::new(not_before, not_after, &entropy);
                for _ in 0..100 {
                    schedule.follow(Some(&[1; 32]), Some(&from(2, 30)), ISSUED, &entropy);
                }
                schedule.wait(ISSUED)
            })
            .collect();
        assert!(moments.iter().all(|wait| *wait <= Duration::from_secs(30)), "{moments:?}");
        assert!(
            moments.iter().any(|wait| *wait > Duration::from_secs(15)),
            "to be told again brings nothing forward"
        );

        let mut schedule = RenewalSchedule::new(not_before, not_after, &entropy);
        let half = schedule.next_at();
        schedule.follow(Some(&[1; 32]), None, ISSUED, &entropy);
        schedule.follow(Some(&[1; 32]), Some(&from(1, 0)), ISSUED, &entropy);
        assert_eq!(schedule.next_at(), half, "nothing is wanted, or it is there");
        schedule.follow(None, Some(&from(2, 0)), ISSUED, &entropy);
        assert!(schedule.is_due(ISSUED));
    }

    #[test]
    fn renewals_that_bring_the_old_ca_again_do_not_follow_at_once() {
        let (entropy, (not_before, not_after)) = (Entropy::counting(), dates(LEAF_TTL));
        let wanted = RenewFrom { issuer: BASE64URL.encode([2; 32]), within_s: 0 };
        let mut schedule = RenewalSchedule::new(not_before, not_after, &entropy);
        schedule.follow(Some(&[1; 32]), Some(&wanted), ISSUED, &entropy);
        assert!(schedule.is_due(ISSUED));
        let mut waits = Vec::new();
        for _ in 0..8 {
            schedule.renewed(not_before, not_after, &entropy);
            schedule.follow(Some(&[1; 32]), Some(&wanted), ISSUED, &entropy);
            waits.push(schedule.wait(ISSUED));
        }
        assert!(waits[0] >= RETRY_FIRST / 2 && waits[0] <= RETRY_FIRST * 3 / 2, "{waits:?}");
        assert!(waits[7] >= RETRY_MAX / 2 && waits[7] <= RETRY_MAX * 3 / 2, "{waits:?}");
        schedule.renewed(not_before, not_after, &entropy);
        schedule.follow(Some(&[2; 32]), Some(&wanted), ISSUED, &entropy);
        assert!(schedule.wait(ISSUED) > RETRY_MAX * 2, "it came, and half-life counts again");
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
