//! How much is asked of an authority: so little that its own limits are never met by a loop of ours, whatever the hosts
//! and people do; and shared, so that no project takes what others, and renewals, need. Counted over the last hour and
//! written down with each order.
//!
//! Names that failed are remembered here too, because a host that is removed and added again is a new row.

use std::collections::BTreeMap;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::ProjectId;
use mezusphere_store::primary::acme::CertificateRow;
use serde::{Deserialize, Serialize};

/// New orders within an hour: half of what the strictest public authority allows (300 in three hours), because others
/// may order for the same account.
pub(crate) const ORDERS_MAX: usize = 50;

/// Of these, what renewals of projects leave to first certificates, and these to renewals and to the installation.
pub(crate) const KEPT_FREE: usize = 10;

/// Orders that failed because the authority did not find a name ours, within an hour and for each name: what public
/// authorities allow.
pub(crate) const FAILURES_MAX: usize = 5;

/// Names whose failures are remembered: ten hours of the most orders there can be.
const NAMES_MAX: usize = 500;

/// What counts.
const HOUR: Duration = Duration::from_hours(1);

/// How long a name's failures are remembered after it may be tried again: the longest wait there is.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Who wants an order, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    names: &'a [String],
    /// Whose; `None`: the installation's.
    project: Option<ProjectId>,
    /// A certificate is in use meanwhile.
    is_renewal: bool,
    /// Failures in a row, as far as the row knows.
    attempts: u32,
}

impl<'a> Ask<'a> {
    /// What the certificate needs at `now`.
    pub(crate) fn of(row: &'a CertificateRow, now: Timestamp) -> Self {
        let is_renewal = row.certificate.as_ref().is_some_and(|facts| facts.not_after > now);
        Self { names: &row.names, project: row.project, is_renewal, attempts: row.attempts }
    }
}

/// What was asked of one authority within the last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// Whose directory.
    directory: String,
    /// When orders were made, oldest first.
    orders: Vec<Timestamp>,
    /// Of these, the ones for projects' names without a certificate.
    #[serde(default)]
    firsts: BTreeMap<ProjectId, Vec<Timestamp>>,
    /// When names failed, oldest first.
    failures: BTreeMap<String, Vec<Timestamp>>,
    /// Names whose last try failed; at most [`NAMES_MAX`].
    #[serde(default)]
    failing: BTreeMap<String, Failing>,
}

/// How a name stands that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failing {
    /// Failures in a row.
    attempts: u32,
    /// When it is tried again.
    until: Timestamp,
}

impl Budget {
    /// What is left of `kept` now, for this authority: another one's does not count.
    pub(crate) fn of(kept: Option<Self>, directory: &str, now: Timestamp) -> Self {
        let empty = Self { directory: directory.to_owned(), ..Self::default() };
        let mut budget = kept.filter(|kept| kept.directory == directory).unwrap_or(empty);
        let counts = |at: &Timestamp| now.since(*at) < HOUR;
        budget.orders.retain(counts);
        for times in budget.firsts.values_mut().chain(budget.failures.values_mut()) {
            times.retain(counts);
        }
        budget.firsts.retain(|_, times| !times.is_empty());
        budget.failures.retain(|_, times| !times.is_empty());
        // The second bound is for a clock that was set back.
        budget.failing.retain(|_, failing| {
            now.since(failing.until) < REMEMBERED && failing.until.since(now) <= REMEMBERED
        });
        budget
    }

    /// Whether this may be ordered now; the error says when.
    pub(crate) fn allows(&self, ask: &Ask<'_>, now: Timestamp) -> Result<(), Timestamp> {
        if self.has_room(ask, now) {
            return Ok(());
        }
        let by_name = ask.names.iter().filter_map(|name| self.failures.get(name));
        let noted = by_name.flatten().chain(&self.orders);
        let mut moments: Vec<_> = noted.map(|at| at.after(HOUR)).filter(|at| *at > now).collect();
        moments.sort_unstable();
        // At most an hour from now, even if the clock was set back.
        let latest = now.after(HOUR);
        Err(moments.into_iter().find(|at| self.has_room(ask, *at)).unwrap_or(latest).min(latest))
    }

    fn has_room(&self, ask: &Ask<'_>, now: Timestamp) -> bool {
        let count = |times: &Vec<Timestamp>| times.iter().filter(|at| now.since(**at) < HOUR).count();
        let mut by_name = ask.names.iter().filter_map(|name| self.failures.get(name));
        let all = count(&self.orders);
        if all >= ORDERS_MAX || by_name.any(|times| count(times) >= FAILURES_MAX) {
            return false;
        }
        let Some(project) = ask.project else { return true };
        let firsts: usize = self.firsts.values().map(count).sum();
        let rest = all.saturating_sub(firsts);
        if ask.is_renewal {
            return rest < ORDERS_MAX - KEPT_FREE;
        }
        // A project gets half of what the others leave: whatever it does, there is something for the next one.
        let own = self.firsts.get(&project).map_or(0, count);
        let most = (ORDERS_MAX - KEPT_FREE).min(ORDERS_MAX.saturating_sub(rest));
        let left = most.saturating_sub(firsts.saturating_sub(own));
        own < left.div_ceil(2)
    }

    /// Until when a name is left alone that failed before its host was removed and added again.
    pub(crate) fn waits_until(&self, ask: &Ask<'_>, now: Timestamp) -> Option<Timestamp> {
        let is_new = ask.attempts == 0 && !ask.is_renewal;
        let failing = ask.names.first().and_then(|name| self.failing.get(name)).filter(|_| is_new)?;
        Some(failing.until).filter(|until| *until > now)
    }

    /// Failures in a row that are remembered of a name.
    pub(crate) fn attempts(&self, name: &str) -> u32 {
        self.failing.get(name).map_or(0, |failing| failing.attempts)
    }

    /// Notes an order.
    pub(crate) fn ordered(&mut self, ask: &Ask<'_>, now: Timestamp) {
        self.orders.push(now);
        if let Some(project) = ask.project.filter(|_| !ask.is_renewal) {
            self.firsts.entry(project).or_default().push(now);
        }
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

    /// Remembers how a name stands that failed. Once there are too many, what may be tried soonest is forgotten.
    pub(crate) fn remember(&mut self, name: &str, attempts: u32, until: Timestamp) {
        self.failing.insert(name.to_owned(), Failing { attempts, until });
        if self.failing.len() > NAMES_MAX {
            let soonest = self.failing.iter().min_by_key(|(_, failing)| failing.until);
            if let Some(name) = soonest.map(|(name, _)| name.clone()) {
                self.failing.remove(&name);
            }
        }
    }

    /// Forgets that a name failed. `false`: nothing was known of it.
    pub(crate) fn forget(&mut self, name: &str) -> bool {
        self.failing.remove(name).is_some()
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

    /// For the installation's own names.
    fn own(names: &[String]) -> Ask<'_> {
        Ask { names, project: None, is_renewal: false, attempts: 0 }
    }

    fn first(project: u128) -> Ask<'static> {
        Ask { project: Some(ProjectId::from_bits(project)), ..own(&[]) }
    }

    fn renewal(project: u128) -> Ask<'static> {
        Ask { is_renewal: true, ..first(project) }
    }

    /// Orders as long as it may, all at once; says how many that were.
    fn order_all(budget: &mut Budget, ask: &Ask<'_>) -> usize {
        let mut made = 0;
        while budget.allows(ask, at(0)).is_ok() {
            budget.ordered(ask, at(0));
            made += 1;
        }
        made
    }

    #[test]
    fn the_sixth_failure_of_a_name_waits_for_the_first_to_be_an_hour_old() {
        let (shop, blog) = (names(&["shop.example"]), names(&["blog.example"]));
        let mut budget = Budget::of(None, CA, at(0));
        for second in 0..5 {
            assert_eq!(budget.allows(&own(&shop), at(second)), Ok(()));
            budget.failed(&shop, at(second));
        }
        assert_eq!(budget.allows(&own(&shop), at(10)), Err(at(3600)));
        assert_eq!(budget.allows(&own(&names(&["blog.example", "shop.example"])), at(10)), Err(at(3600)));
        assert_eq!(budget.allows(&own(&blog), at(10)), Ok(()), "another name is not held up");
        let later = Budget::of(Some(budget.clone()), CA, at(3600));
        assert_eq!(later.allows(&own(&shop), at(3600)), Ok(()));
        let elsewhere = Budget::of(Some(budget), "https://other.example/dir", at(10));
        assert_eq!(elsewhere.allows(&own(&shop), at(10)), Ok(()), "another authority counts anew");
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up_for_more_than_an_hour() {
        let shop = names(&["shop.example"]);
        let mut budget = Budget::of(None, CA, at(0));
        for _ in 0..FAILURES_MAX {
            budget.failed(&shop, at(1_000_000));
        }
        assert_eq!(Budget::of(Some(budget), CA, at(0)).allows(&own(&shop), at(0)), Err(at(3600)));
    }

    #[test]
    fn r23_a_project_that_takes_all_it_can_leaves_some_to_others_and_to_renewals() {
        let mut budget = Budget::of(None, CA, at(0));
        let taken: Vec<_> = (1..=4).map(|project| order_all(&mut budget, &first(project))).collect();
        assert_eq!(taken, [20, 10, 5, 3], "half of what the others left");
        let rest: usize = (5..50).map(|project| order_all(&mut budget, &first(project))).sum();
        assert_eq!(taken.iter().sum::<usize>() + rest, ORDERS_MAX - KEPT_FREE);
        assert_eq!(budget.allows(&first(99), at(10)), Err(at(3600)), "and says when there is room");
        assert_eq!(budget.allows(&renewal(1), at(10)), Ok(()), "what works is renewed");
        assert_eq!(budget.allows(&own(&[]), at(10)), Ok(()));
        assert_eq!(order_all(&mut budget, &renewal(1)), KEPT_FREE);
        assert_eq!(budget.allows(&own(&[]), at(10)), Err(at(3600)));
    }

    #[test]
    fn r23_renewals_without_end_leave_some_to_first_certificates() {
        let mut budget = Budget::of(None, CA, at(0));
        assert_eq!(order_all(&mut budget, &renewal(1)), ORDERS_MAX - KEPT_FREE);
        assert_eq!(order_all(&mut budget, &first(1)), KEPT_FREE / 2);
        assert_eq!(budget.allows(&first(2), at(10)), Ok(()));
    }

    #[test]
    fn r23_a_name_that_comes_back_waits_as_it_did() {
        let shop = names(&["shop.example"]);
        let mut budget = Budget::of(None, CA, at(0));
        budget.remember("shop.example", 7, at(7200));
        let waits = |budget: &Budget, second| budget.waits_until(&own(&shop), at(second));
        assert_eq!((waits(&budget, 10), budget.attempts("shop.example")), (Some(at(7200)), 7));
        let known = Ask { attempts: 7, ..own(&shop) };
        assert_eq!(budget.waits_until(&known, at(10)), None, "who says to try now is not held up");
        let later = Budget::of(Some(budget.clone()), CA, at(7200 + 86_399));
        assert_eq!(
            (waits(&later, 7200), later.attempts("shop.example")),
            (None, 7),
            "the next wait is longer"
        );
        let next_day = Budget::of(Some(budget.clone()), CA, at(7200 + 86_400));
        assert_eq!(next_day.attempts("shop.example"), 0);
        let set_back = Budget::of(Some(budget.clone()), CA, at(-90_000));
        assert_eq!(set_back.attempts("shop.example"), 0, "nor does a clock that is set back hold it up");
        for number in 0..NAMES_MAX {
            budget.remember(&format!("{number}.example"), 1, at(8000));
        }
        assert_eq!((budget.failing.len(), budget.attempts("shop.example")), (NAMES_MAX, 0));
        assert!(budget.forget("1.example") && !budget.forget("shop.example"));
    }

    #[test]
    fn what_an_older_version_wrote_is_read() {
        let older = serde_json::json!({
            "directory": CA, "orders": [at(0)], "failures": { "shop.example": [at(0)] },
        });
        let budget: Budget = serde_json::from_value(older).unwrap();
        assert_eq!((budget.orders.len(), budget.failures.len()), (1, 1));
        let mut budget = Budget::of(Some(budget), CA, at(0));
        budget.ordered(&first(1), at(1));
        let text = serde_json::to_string(&budget).unwrap();
        assert_eq!(serde_json::from_str::<Budget>(&text).unwrap(), budget);
    }

    proptest! {
        #[test]
        fn no_hour_sees_more_orders_than_the_limit(
            steps in proptest::collection::vec((0_i64..200, 0_u128..4, any::<bool>()), 1..400),
        ) {
            let (mut budget, mut now, mut made) = (Budget::default(), 0, Vec::new());
            for (step, project, is_renewal) in steps {
                now += step;
                let project = (project > 0).then(|| ProjectId::from_bits(project));
                let ask = Ask { project, is_renewal, ..own(&[]) };
                budget = Budget::of(Some(budget), CA, at(now));
                match budget.allows(&ask, at(now)) {
                    Ok(()) => {
                        budget.ordered(&ask, at(now));
                        made.push(now);
                    }
                    // What it says is when it may: not before, and then indeed.
                    Err(when) => {
                        prop_assert!(when > at(now));
                        prop_assert_eq!(Budget::of(Some(budget.clone()), CA, when).allows(&ask, when), Ok(()));
                    }
                }
                let within = made.iter().filter(|at| now - **at < 3600).count();
                prop_assert!(within <= ORDERS_MAX);
            }
        }
    }
}
