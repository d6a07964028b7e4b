//! The generic cell rate algorithm (ITU-T I.371): a burst, then an even pace, in one number per key.
//!
//! The number is the *theoretical arrival time*: when the allowance would be full again. A key whose time has
//! passed is at rest and needs no entry.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use mezusphere_model::Timestamp;

/// How much is allowed: `burst` at once, then one per `period`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) burst: u32,
    pub(super) period: Duration,
}

/// The times of all keys that are not at rest.
pub(super) struct Table<K> {
    allowance: Allowance,
    len_max: usize,
    full_at: HashMap<K, Timestamp>,
}

impl<K: Eq + Hash> Table<K> {
    pub(super) fn new(allowance: Allowance, len_max: usize) -> Self {
        Self { allowance, len_max, full_at: HashMap::new() }
    }

    /// How long until `key` has room for one more; zero: now. Charges nothing.
    pub(super) fn wait(&mut self, key: &K, now: Timestamp) -> Duration {
        let Some(full_at) = self.full_at.get(key) else {
            return if self.has_place(now) { Duration::ZERO } else { self.allowance.period };
        };
        let tolerance = self.allowance.period * self.allowance.burst.saturating_sub(1);
        full_at.before(tolerance).since(now)
    }

    /// Whether `key` has made no use of its allowance lately.
    pub(super) fn is_at_rest(&self, key: &K, now: Timestamp) -> bool {
        self.full_at.get(key).is_none_or(|full_at| *full_at <= now)
    }

    /// Charges one to `key`, which [`Table::wait`] said has room.
    pub(super) fn draw(&mut self, key: K, now: Timestamp) {
        let full_at = self.full_at.entry(key).or_insert(now);
        *full_at = (*full_at).max(now).after(self.allowance.period);
    }

    /// Takes one draw back.
    pub(super) fn give_back(&mut self, key: &K) {
        if let Some(full_at) = self.full_at.get_mut(key) {
            *full_at = full_at.before(self.allowance.period);
        }
    }

    /// Whether a new key fits, after sweeping out those at rest if the table is full.
    fn has_place(&mut self, now: Timestamp) -> bool {
        if self.full_at.len() >= self.len_max {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < self.len_max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWANCE: Allowance = Allowance { burst: 3, period: Duration::from_secs(10) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000 + seconds)
    }

    #[test]
    fn a_full_table_takes_no_new_key_until_one_is_at_rest() {
        let mut table = Table::new(ALLOWANCE, 2);
        table.draw("a", at(0));
        table.draw("b", at(1));
        assert_eq!(table.wait(&"c", at(2)), ALLOWANCE.period);
        assert_eq!(table.wait(&"a", at(2)), Duration::ZERO, "keys it holds go on");
        assert_eq!(table.wait(&"c", at(10)), Duration::ZERO, "a is at rest");
    }

    proptest! {
        /// In any stretch of time no more than burst + elapsed/period attempts pass, whatever their timing.
        #[test]
        fn no_timing_gets_more_through_than_allowed(steps in prop::collection::vec(0_i64..15, 1..200)) {
            let mut table = Table::new(ALLOWANCE, 1);
            let (mut now, mut passed) = (0_i64, Vec::new());
            for step in steps {
                now += step;
                if table.wait(&(), at(now)).is_zero() {
                    table.draw((), at(now));
                    passed.push(now);
                }
            }
            for (i, first) in passed.iter().enumerate() {
                for (j, last) in passed.iter().enumerate().skip(i) {
                    let count = i64::try_from(j - i + 1).unwrap();
                    prop_assert!(count <= 3 + (last - first) / 10);
                }
            }
        }

        /// After the wait it names, an attempt passes; a moment earlier it does not.
        #[test]
        fn the_wait_is_exact(steps in prop::collection::vec(0_i64..15, 1..50)) {
            let mut table = Table::new(ALLOWANCE, 1);
            let mut now = at(0);
            for step in steps {
                now = now.after(Duration::from_secs(u64::try_from(step).unwrap()));
                let wait = table.wait(&(), now);
                if !wait.is_zero() {
                    prop_assert!(!table.wait(&(), now.after(wait).before(Duration::from_micros(1))).is_zero());
                    now = now.after(wait);
                }
                prop_assert!(table.wait(&(), now).is_zero());
                table.draw((), now);
            }
        }
    }
}
