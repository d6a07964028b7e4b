//! How often something may be asked: the generic cell rate algorithm (ITU-T I.371), a bucket kept as one number, the
//! moment at which it will be full again.
//!
//! Keys come from clients, so there is a bound on them; what comes beyond it shares buckets instead of being let
//! through or shut out.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use mezusphere_model::Timestamp;
use mezusphere_model::id::RouteId;
use mezusphere_model::identity::Subject;
use mezusphere_model::rules::Rate;

/// Buckets that are not full, at most; 40 octets each.
const BUCKETS_MAX: usize = 65_536;

/// Buckets that those share who come when there is no other left.
const CROWD: u64 = 4096;

/// How often buckets are looked through for want of room, at most.
const SWEEP_EVERY_US: i64 = 1_000_000;

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Those from one network; see [`super::network`].
    Network(u64),
    /// Those of one user or machine.
    Caller(Subject),
    /// All of the route.
    Everybody,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Own(RouteId, Who),
    Crowd(u64),
}

/// A rate in the algorithm's own terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Microseconds from one request to the next.
    interval: i64,
    /// How far ahead of now the bucket may be filled up: `interval` for each request at once.
    depth: i64,
}

impl Pace {
    /// So many requests in so many microseconds, and so many at once.
    fn new(requests: u32, in_us: i64, burst: u32) -> Self {
        let interval = (in_us / i64::from(requests.max(1))).max(1);
        Self { interval, depth: interval.saturating_mul(i64::from(burst.max(1))) }
    }

    /// So many a second, and as many at once.
    pub(crate) fn per_second(requests: u32) -> Self {
        Self::new(requests, 1_000_000, requests)
    }

    /// When the bucket will be full again if one more is taken out of it now, or how long to wait for that.
    fn take(self, full_at: i64, now: i64) -> Result<i64, Duration> {
        // Further ahead than it can be: the clock was set back, or the route's rate was another.
        let full_at = if full_at.saturating_sub(now) > self.depth { now } else { full_at.max(now) };
        let next = full_at.saturating_add(self.interval);
        let over = next.saturating_sub(now).saturating_sub(self.depth);
        match u64::try_from(over) {
            Ok(wait @ 1..) => Err(Duration::from_micros(wait)),
            _ => Ok(next),
        }
    }
}

impl From<Rate> for Pace {
    fn from(rate: Rate) -> Self {
        Self::new(rate.per_minute, 60_000_000, rate.burst)
    }
}

/// One bucket by itself.
#[derive(Debug, Default)]
pub(crate) struct Bucket(AtomicI64);

impl Bucket {
    /// Takes one, or says how long to wait.
    pub(crate) fn take(&self, pace: Pace, now: Timestamp) -> Result<(), Duration> {
        let now = now.as_micros();
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let next = pace.take(full_at, now)?;
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => full_at = other,
            }
        }
    }

    /// Whether it is full, so that a new one would be the same.
    pub(crate) fn is_full(&self, now: Timestamp) -> bool {
        self.0.load(Ordering::Relaxed) <= now.as_micros()
    }
}

/// The buckets of all routes that have a rate.
#[derive(Default)]
pub(crate) struct Rates {
    full_at: DashMap<Key, i64>,
    count: AtomicUsize,
    swept_at: AtomicI64,
    hasher: RandomState,
}

impl Rates {
    /// Takes one request of `who` on a route with this rate, or says how long to wait.
    pub(crate) fn take(&self, route: RouteId, who: Who, rate: Rate, now: Timestamp) -> Result<(), Duration> {
        let mut key = Key::Own(route, who);
        if self.count.load(Ordering::Relaxed) >= BUCKETS_MAX && !self.full_at.contains_key(&key) {
            if now.as_micros().saturating_sub(self.swept_at.load(Ordering::Relaxed)).abs() >= SWEEP_EVERY_US {
                self.sweep(now);
            }
            if self.count.load(Ordering::Relaxed) >= BUCKETS_MAX {
                key = Key::Crowd(self.hasher.hash_one(key) % CROWD);
            }
        }
        let mut full_at = self.full_at.entry(key).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            i64::MIN
        });
        *full_at = Pace::from(rate).take(*full_at, now.as_micros())?;
        Ok(())
    }

    /// Forgets buckets that are full.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.swept_at.store(now.as_micros(), Ordering::Relaxed);
        self.full_at.retain(|_, full_at| {
            let keep = *full_at > now.as_micros();
            if !keep {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::network;
    use super::*;
    use mezusphere_model::id::UserId;
    use mezusphere_model::rules::RateKey;

    const ROUTE: RouteId = RouteId::from_bits(1);

    fn rate(per_minute: u32, burst: u32) -> Rate {
        Rate { per_minute, burst, by: RateKey::Address }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + micros)
    }

    fn from(address: &str) -> Who {
        Who::Network(network(address.parse().unwrap()))
    }

    #[test]
    fn a_burst_passes_and_then_one_for_every_interval() {
        let rates = Rates::default();
        let take = |micros| rates.take(ROUTE, Who::Everybody, rate(60, 3), at(micros));
        for _ in 0..3 {
            assert_eq!(take(0), Ok(()));
        }
        assert_eq!(take(0), Err(Duration::from_secs(1)));
        assert_eq!(take(400_000), Err(Duration::from_millis(600)), "when to come back is exact");
        assert_eq!(take(1_000_000), Ok(()));
        assert!(take(1_000_000).is_err());
        assert_eq!(take(2_000_000), Ok(()));
        for _ in 0..3 {
            assert_eq!(take(10_000_000), Ok(()), "a quiet time gives the burst back and no more");
        }
        assert!(take(10_000_000).is_err());
    }

    #[test]
    fn over_a_minute_as_many_pass_as_the_rate_says() {
        let rates = Rates::default();
        let passed = (0..60_000)
            .filter(|ms| rates.take(ROUTE, Who::Everybody, rate(600, 1), at(ms * 1000)).is_ok())
            .count();
        assert_eq!(passed, 600);
    }

    #[test]
    fn r15_the_addresses_of_one_network_are_counted_together_and_no_others() {
        let rates = Rates::default();
        let take = |who| rates.take(ROUTE, who, rate(60, 1), at(0)).is_ok();
        assert!(take(from("192.0.2.1")) && !take(from("192.0.2.200")) && !take(from("::ffff:192.0.2.9")));
        assert!(take(from("192.0.3.1")), "another /24");
        assert!(take(from("2001:db8::1")) && !take(from("2001:db8::ffff")));
        assert!(take(from("2001:db8:0:1::1")), "another /64");
        assert!(take(Who::Caller(Subject::User(UserId::from_bits(1)))));
        assert!(take(Who::Caller(Subject::User(UserId::from_bits(2)))));
        assert!(rates.take(RouteId::from_bits(2), from("192.0.2.1"), rate(60, 1), at(0)).is_ok());
    }

    #[test]
    fn r23_a_flood_of_addresses_neither_fills_memory_nor_passes_nor_shuts_out_who_was_there() {
        let rates = Rates::default();
        let take = |n: u64, micros| rates.take(ROUTE, Who::Network(n), rate(6, 2), at(micros)).is_ok();
        assert!(take(0, 0));
        let room = u64::try_from(BUCKETS_MAX).unwrap();
        let passed = (1..room * 3).filter(|n| take(*n, 0)).count();
        assert!(rates.full_at.len() <= BUCKETS_MAX + usize::try_from(CROWD).unwrap());
        let crowd = usize::try_from(CROWD).unwrap() * 2;
        assert!(passed <= BUCKETS_MAX + crowd, "beyond the room they share: {passed}");
        assert!(take(0, 0), "who was there has a bucket of its own");
        assert!(take(room * 5, 30_000_000), "room again when buckets are full");
        assert_eq!(rates.count.load(Ordering::Relaxed), rates.full_at.len());
    }

    #[test]
    fn a_clock_that_is_set_back_shuts_nobody_out() {
        let rates = Rates::default();
        let take = |micros| rates.take(ROUTE, Who::Everybody, rate(60, 2), at(micros)).is_ok();
        assert!(take(3_600_000_000) && take(3_600_000_000) && !take(3_600_000_000));
        assert!(take(0) && take(0) && !take(0));
    }

    #[test]
    fn a_bucket_by_itself_counts_alike() {
        let (bucket, pace) = (Bucket::default(), Pace::per_second(2));
        assert!(bucket.is_full(at(0)));
        assert!(bucket.take(pace, at(0)).is_ok() && bucket.take(pace, at(0)).is_ok());
        assert_eq!(bucket.take(pace, at(0)), Err(Duration::from_millis(500)));
        assert!(!bucket.is_full(at(0)) && bucket.is_full(at(1_000_000)));
    }
}
