//! Full-jitter back-off: each wait is drawn evenly from zero to a bound that doubles with every failure.
//!
//! Drawing from zero spreads a crowd of warpgates that lost the same edge at the same moment.

use std::time::Duration;

use mezusphere_model::Entropy;

/// The waits between attempts at one thing.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
    entropy: Entropy,
}

impl Backoff {
    /// Waits up to `first`, then up to twice that, and so on, never more than `last`.
    pub fn new((first, last): (Duration, Duration), entropy: Entropy) -> Self {
        Self { first, last, failures: 0, entropy }
    }

    /// How long to wait after one more failure.
    pub fn wait(&mut self) -> Duration {
        let bound = self.bound();
        drawn(bound, &self.entropy)
    }

    /// The same, but never less than half of the bound: for a peer that must be left alone a while.
    pub fn long_wait(&mut self) -> Duration {
        let half = self.bound() / 2;
        half + drawn(half, &self.entropy)
    }

    fn bound(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.first.saturating_mul(factor).min(self.last)
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A time drawn evenly from zero to `bound`.
pub fn drawn(bound: Duration, entropy: &Entropy) -> Duration {
    let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(entropy.below(micros.saturating_add(1)))
}

/// `every`, longer or shorter by up to a fifth, so that a crowd does not ask in step.
pub fn jittered(every: Duration, entropy: &Entropy) -> Duration {
    let fifth = every / 5;
    every.saturating_sub(fifth) + drawn(fifth * 2, entropy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_bound_that_doubles_and_ends() {
        let limits = (Duration::from_millis(250), Duration::from_secs(5));
        let mut seen_long = false;
        for _ in 0..50 {
            let mut backoff = Backoff::new(limits, Entropy::counting());
            for bound_ms in [250_u64, 500, 1000, 2000, 4000, 5000, 5000] {
                let wait = backoff.wait();
                assert!(wait <= Duration::from_millis(bound_ms), "{wait:?}");
                seen_long |= wait > Duration::from_millis(250);
            }
            backoff.reset();
            assert!(backoff.wait() <= Duration::from_millis(250));
        }
        assert!(seen_long, "later waits do grow");
    }

    #[test]
    fn a_long_wait_is_at_least_half_of_its_bound() {
        let mut backoff =
            Backoff::new((Duration::from_mins(1), Duration::from_mins(10)), Entropy::counting());
        for bound_s in [60_u64, 120, 240, 480, 600, 600] {
            let (wait, bound) = (backoff.long_wait(), Duration::from_secs(bound_s));
            assert!(bound / 2 <= wait && wait <= bound, "{wait:?} of {bound:?}");
        }
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff =
            Backoff::new((Duration::from_secs(1), Duration::from_secs(30)), Entropy::counting());
        for _ in 0..200 {
            assert!(backoff.wait() <= Duration::from_secs(30));
        }
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let entropy = Entropy::counting();
        for _ in 0..100 {
            let wait = jittered(Duration::from_mins(1), &entropy);
            assert!((Duration::from_secs(48)..=Duration::from_secs(72)).contains(&wait), "{wait:?}");
        }
    }
}
