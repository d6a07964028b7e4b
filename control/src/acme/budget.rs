//! How much is asked of an authority: so little that its own limits are never met by a loop of ours, whatever the hosts
//! and people do. Counted over the last hour and written down with each order.

use std::collections::BTreeMap;
use std::time::Duration;

use mezusphere_model::Timestamp;
use serde::{Deserialize, Serialize};

/// New orders within an hour: a third of what the strictest public authority allows (300 in three hours), because others
/// may order for the same account.
pub(crate) const ORDERS_MAX: usize = 50;

/// Orders that failed because the authority did not find a name ours, within an hour and for each name: what public
/// authorities allow.
pub(crate) const FAILURES_MAX: usize = 5;

/// What counts.
const HOUR: Duration = Duration::from_hours(1);

/// What was asked of one authority within the last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// Whose directory.
    directory: String,
    /// When orders were made, oldest first.
    orders: Vec<Timestamp>,
    /// When names failed, oldest first.
    failures: BTreeMap<String, Vec<Timestamp>>,
}

impl Budget {
    /// What is left of `kept` now, for this authority: another one's does not count.
    pub(crate) fn of(kept: Option<Self>, directory: &str, now: Timestamp) -> Self {
        let empty = Self { directory: directory.to_owned(), ..Self::default() };
        let mut budget = kept.filter(|kept| kept.directory == directory).unwrap_or(empty);
        let counts = |at: &Timestamp| now.since(*at) < HOUR;
        budget.orders.retain(counts);
        for failures in budget.failures.values_mut() {
            failures.retain(counts);
        }
        budget.failures.retain(|_, failures| !failures.is_empty());
        budget
    }

    /// Whether a certificate of these names may be ordered now; the error says when.
    pub(crate) fn allows(&self, names: &[String], now: Timestamp) -> Result<(), Timestamp> {
        let full = |times: &[Timestamp], max: usize| {
            let oldest = times.len().checked_sub(max).and_then(|at| times.get(at))?;
            // At most an hour from now, even if the clock was set back.
            Some(oldest.after(HOUR).min(now.after(HOUR)))
        };
        let by_name = names.iter().filter_map(|name| full(self.failures.get(name)?, FAILURES_MAX));
        match by_name.chain(full(&self.orders, ORDERS_MAX)).max() {
            Some(when) => Err(when),
            None => Ok(()),
        }
    }

    /// Notes an order.
    pub(crate) fn ordered(&mut self, now: Timestamp) {
        self.orders.push(now);
    }

    /// Notes that names were not found ours.
    pub(crate) fn failed<'a>(&mut self, names: impl IntoIterator<Item = &'a String>, now: Timestamp) {
        for name in names {
            let times = self.failures.entry(name.clone()).or_default();
            times.push(now);
            // As many as decide.
            let excess = times.len().saturating_sub(FAILURES_MAX);
            times.drain(..excess);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CA: &str = "https://ca.example/dir";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_sixth_failure_of_a_name_waits_for_the_first_to_be_an_hour_old() {
        let (shop, blog) = (names(&["shop.example"]), names(&["blog.example"]));
        let mut budget = Budget::of(None, CA, at(0));
        for second in 0..5 {
            assert_eq!(budget.allows(&shop, at(second)), Ok(()));
            budget.failed(&shop, at(second));
        }
        assert_eq!(budget.allows(&shop, at(10)), Err(at(3600)));
        assert_eq!(budget.allows(&names(&["blog.example", "shop.example"]), at(10)), Err(at(3600)));
        assert_eq!(budget.allows(&blog, at(10)), Ok(()), "another name is not held up");
        let later = Budget::of(Some(budget.clone()), CA, at(3600));
        assert_eq!(later.allows(&shop, at(3600)), Ok(()));
        let elsewhere = Budget::of(Some(budget), "https://other.example/dir", at(10));
        assert_eq!(elsewhere.allows(&shop, at(10)), Ok(()), "another authority counts anew");
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up_for_more_than_an_hour() {
        let shop = names(&["shop.example"]);
        let mut budget = Budget::of(None, CA, at(0));
        for _ in 0..FAILURES_MAX {
            budget.failed(&shop, at(1_000_000));
        }
        assert_eq!(Budget::of(Some(budget), CA, at(0)).allows(&shop, at(0)), Err(at(3600)));
    }

    proptest! {
        #[test]
        fn no_hour_sees_more_orders_than_the_limit(steps in proptest::collection::vec(0_i64..200, 1..400)) {
            let shop = names(&["shop.example"]);
            let (mut budget, mut now, mut made) = (Budget::default(), 0, Vec::new());
            for step in steps {
                now += step;
                budget = Budget::of(Some(budget), CA, at(now));
                match budget.allows(&shop, at(now)) {
                    Ok(()) => {
                        budget.ordered(at(now));
                        made.push(now);
                    }
                    // What it says is when it may: not before, and then indeed.
                    Err(when) => {
                        prop_assert!(when > at(now));
                        prop_assert_eq!(Budget::of(Some(budget.clone()), CA, when).allows(&shop, when), Ok(()));
                    }
                }
                let within = made.iter().filter(|at| now - **at < 3600).count();
                prop_assert!(within <= ORDERS_MAX);
            }
        }
    }
}
