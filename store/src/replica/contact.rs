//! How old the copy is: when it was last known to be up to date, by clocks that may jump.
//!
//! While the process runs, the wall clock counts, unless it falls behind the monotonic one: then it was set back, and
//! the monotonic one counts. Over a restart only the wall clock is left, so what is written to the disk is the age reached and the
//! time of writing, once a minute, contact or not. If the clock then shows a time before that, nobody can tell how
//! long the node was down, and the age counts as unknown. Every doubt makes the copy older, never younger.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mezusphere_model::document::Partition;
use mezusphere_model::{Clock, Timestamp};

use super::record::{self, BadRecord};

/// So much the two clocks may differ before the wall clock counts as set back; above what any clock discipline slews
/// between two contacts.
const DRIFT_MAX: Duration = Duration::from_secs(1);

/// A moment by both clocks, and how old the copy was then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    wall: Timestamp,
    monotonic: Instant,
    age: Duration,
}

impl Moment {
    /// Now, at which the copy is up to date.
    pub(super) fn now(clock: &Clock) -> Self {
        Self { wall: clock.now(), monotonic: Instant::now(), age: Duration::ZERO }
    }

    /// The age of a copy that was as old as it was at this moment.
    pub(super) fn age(&self, clock: &Clock) -> Duration {
        let (wall, monotonic) = (clock.now().since(self.wall), self.monotonic.elapsed());
        self.age.saturating_add(if monotonic > wall + DRIFT_MAX { monotonic } else { wall })
    }

    /// How it is written: the wall clock's time now and the age now, in microseconds.
    pub(super) fn write(&self, clock: &Clock) -> Vec<u8> {
        let age = u64::try_from(self.age(clock).as_micros()).unwrap_or(u64::MAX);
        let mut payload = clock.now().as_micros().to_be_bytes().to_vec();
        payload.extend(age.to_be_bytes());
        record::write(record::CONTACT, &payload)
    }

    /// As [`Moment::write`] wrote it; `None` if it cannot be told how old the copy is by now.
    pub(super) fn read(value: &[u8], clock: &Clock) -> Result<Option<Self>, BadRecord> {
        let (wall, age) = record::read(record::CONTACT, value)?.split_first_chunk::<8>().ok_or(BadRecord)?;
        let written_at = Timestamp::from_micros(i64::from_be_bytes(*wall));
        let age = Duration::from_micros(u64::from_be_bytes(age.try_into().map_err(|_| BadRecord)?));
        let now = Self::now(clock);
        Ok((now.wall >= written_at)
            .then(|| Self { age: age.saturating_add(now.wall.since(written_at)), ..now }))
    }
}

/// When each partition was last known to be up to date.
pub(super) struct Contact(ArcSwap<Ages>);

#[derive(Default)]
struct Ages {
    /// Of all partitions but those in `late`.
    round: Option<Moment>,
    /// Of partitions that the last round could not bring up to date.
    late: HashMap<Partition, Option<Moment>>,
    /// The oldest of all of these; `None` if one was never up to date.
    oldest: Option<Moment>,
}

impl Contact {
    /// That of a copy from the disk.
    pub(super) fn restored(moment: Option<Moment>) -> Self {
        Self(ArcSwap::from_pointee(Ages { round: moment, late: HashMap::new(), oldest: moment }))
    }

    /// When all partitions were up to date; `None`: never.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.0.load().oldest
    }

    /// When this partition was up to date; `None`: never.
    pub(super) fn of(&self, partition: Partition) -> Option<Moment> {
        let ages = self.0.load();
        ages.late.get(&partition).copied().unwrap_or(ages.round)
    }

    /// There has been no contact with this feed.
    pub(super) fn never(&self) {
        self.0.store(Arc::default());
    }

    /// At `moment` all partitions were up to date but these, of which it says whether the copy had been whole before.
    pub(super) fn all_but(
        &self,
        moment: Moment,
        late: impl IntoIterator<Item = (Partition, bool)>,
        clock: &Clock,
    ) {
        let late: HashMap<_, _> = late
            .into_iter()
            .map(|(partition, was_whole)| (partition, self.of(partition).filter(|_| was_whole)))
            .collect();
        let oldest = late.values().copied().chain([Some(moment)]).reduce(|a, b| older(a, b, clock)).flatten();
        self.0.store(Arc::new(Ages { round: Some(moment), late, oldest }));
    }
}

fn older(a: Option<Moment>, b: Option<Moment>, clock: &Clock) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.age(clock) >= b.age(clock) { a } else { b }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::clock::ManualClock;
    use mezusphere_model::id::ProjectId;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn hand() -> ManualClock {
        ManualClock::at(Timestamp::from_seconds(1_000_000))
    }

    /// What a restart at this second makes of a copy that was an hour old at second 1 000 000 + 3600.
    fn restarted_at(second: i64) -> Option<Duration> {
        let hand = hand();
        let contact = Moment::now(&hand.clock());
        hand.advance(HOUR);
        let value = contact.write(&hand.clock());
        let then = ManualClock::at(Timestamp::from_seconds(second)).clock();
        Moment::read(&value, &then).unwrap().map(|moment| moment.age(&then))
    }

    #[test]
    fn a_restart_goes_on_counting_from_the_last_real_contact() {
        assert_eq!(restarted_at(1_003_600), Some(HOUR));
        assert_eq!(restarted_at(1_003_660), Some(HOUR + Duration::from_mins(1)));
    }

    #[test]
    fn r12_a_clock_that_was_set_back_makes_no_copy_younger() {
        assert_eq!(restarted_at(1_003_599), None, "who knows how long it was down");
        assert_eq!(restarted_at(0), None);
        // While it runs: the wall clock stands still here, as if it were set back all the time.
        let clock = hand().clock();
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_mins(1)) else {
            return; // a machine that has just started cannot show this
        };
        let moment = Moment { monotonic: long_ago, ..Moment::now(&clock) };
        assert!(moment.age(&clock) >= Duration::from_mins(1));
    }

    #[test]
    fn r24_a_written_age_that_is_damaged_is_not_read() {
        let clock = hand().clock();
        let value = Moment::now(&clock).write(&clock);
        for at in 0..value.len() {
            assert!(Moment::read(&value[..at], &clock).is_err());
            let mut bad = value.clone();
            bad[at] ^= 4;
            assert!(Moment::read(&bad, &clock).is_err());
        }
    }

    #[test]
    fn one_late_partition_makes_the_whole_copy_old_and_no_other_partition() {
        let (hand, late) = (hand(), Partition::Project(ProjectId::from_bits(1)));
        let clock = hand.clock();
        let contact = Contact::restored(None);
        let age = |moment: Option<Moment>| moment.map(|moment| moment.age(&clock));
        contact.all_but(Moment::now(&clock), [], &clock);
        hand.advance(HOUR);
        contact.all_but(Moment::now(&clock), [(late, true)], &clock);
        hand.advance(HOUR);
        contact.all_but(Moment::now(&clock), [(late, true)], &clock);
        assert_eq!(age(contact.oldest()), Some(2 * HOUR));
        assert_eq!(age(contact.of(late)), Some(2 * HOUR));
        assert_eq!(age(contact.of(Partition::Platform)), Some(Duration::ZERO));
        contact.all_but(Moment::now(&clock), [(late, false)], &clock);
        assert_eq!((age(contact.oldest()), age(contact.of(late))), (None, None), "it was never whole");
        contact.all_but(Moment::now(&clock), [], &clock);
        assert_eq!(age(contact.oldest()), Some(Duration::ZERO));
    }
}
