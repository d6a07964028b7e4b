//! Waits between attempts: they double, with full jitter, so that many followers of a feed that comes back do not all
//! ask at once.

use std::time::Duration;

use mezusphere_model::Entropy;

/// The longest first wait.
const MIN: Duration = Duration::from_millis(250);

/// How long to wait after the next failure at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    next: Duration,
    max: Duration,
}

impl BackOff {
    pub(super) const fn up_to(max: Duration) -> Self {
        Self { next: MIN, max }
    }

    /// The wait after one more failure: anything up to a limit that doubles each time.
    pub(super) fn wait(&mut self, entropy: &Entropy) -> Duration {
        let limit = u64::try_from(self.next.as_micros()).unwrap_or(u64::MAX);
        self.next = (self.next * 2).min(self.max);
        Duration::from_micros(entropy.below(limit.saturating_add(1)))
    }

    /// It went well: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.next = MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_with_full_jitter_and_begin_small_again() {
        let most = Entropy::new(|bytes| bytes.fill(0xff));
        // The largest remainder each range allows comes from a number one below a multiple of it.
        let drawn = |back_off: &mut BackOff| back_off.wait(&most);
        let mut back_off = BackOff::up_to(Duration::from_secs(1));
        let waits: Vec<_> = (0..4).map(|_| drawn(&mut back_off)).collect();
        let limits = [250, 500, 1000, 1000].map(Duration::from_millis);
        assert!(waits.iter().zip(limits).all(|(wait, limit)| *wait <= limit), "{waits:?}");
        assert_eq!(back_off.next, Duration::from_secs(1));
        back_off.reset();
        assert_eq!(back_off.next, MIN);
        let least = Entropy::new(|bytes| bytes.fill(0));
        assert_eq!(back_off.wait(&least), Duration::ZERO, "the jitter reaches down to nothing");
    }
}
