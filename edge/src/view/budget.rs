//! How often one client address may make the edge ask control something before the client is known.
//!
//! A token bucket per address, kept as one number: the moment at which the bucket would be full again.
//! An IPv6 /64 counts as one address, because one subscriber usually has all of it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use dashmap::DashMap;
use mezusphere_model::Timestamp;

/// Questions at once: a person with several tabs after a long sleep.
const BURST: u32 = 20;

/// One more question after this long.
const REFILL: Duration = Duration::from_secs(1);

/// Addresses remembered. When as many are under way the oldest answer is "wait": a flood from everywhere
/// must not turn into a flood of questions.
const ADDRESSES_MAX: usize = 65_536;

/// Buckets of all addresses that asked lately.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Moment, in microseconds, at which the address has its whole burst again.
    full_at: DashMap<IpAddr, i64>,
}

impl Budget {
    /// Takes one question out of the address's bucket, or says how long to wait.
    pub(crate) fn take(&self, from: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let address = subscriber(from);
        if self.full_at.len() >= ADDRESSES_MAX && !self.full_at.contains_key(&address) {
            return Err(REFILL);
        }
        let (now, refill) = (now.as_micros(), micros(REFILL));
        let mut full_at = self.full_at.entry(address).or_insert(now);
        let next = (*full_at).max(now).saturating_add(refill);
        let over = next.saturating_sub(now).saturating_sub(refill.saturating_mul(i64::from(BURST)));
        if over > 0 {
            return Err(Duration::from_micros(u64::try_from(over).unwrap_or(0)));
        }
        *full_at = next;
        Ok(())
    }

    /// Forgets addresses whose bucket is full.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.full_at.retain(|_, full_at| *full_at > now.as_micros());
    }
}

/// Who stands behind an address: the address itself, or its /64.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn an_address_has_a_burst_and_then_one_question_a_second() {
        let budget = Budget::default();
        let address = "192.0.2.1".parse().unwrap();
        for n in 0..BURST {
            assert_eq!(budget.take(address, at(100)), Ok(()), "{n}");
        }
        assert_eq!(budget.take(address, at(100)), Err(Duration::from_secs(1)));
        assert_eq!(budget.take(address, at(101)), Ok(()));
        assert!(budget.take(address, at(101)).is_err());
        assert_eq!(budget.take("192.0.2.2".parse().unwrap(), at(101)), Ok(()), "others are not affected");
    }

    #[test]
    fn r10_a_whole_64_counts_as_one_address() {
        let budget = Budget::default();
        for n in 0..BURST {
            let address = format!("2001:db8::{n:x}").parse().unwrap();
            assert_eq!(budget.take(address, at(100)), Ok(()));
        }
        assert!(budget.take("2001:db8::ffff".parse().unwrap(), at(100)).is_err());
        assert!(budget.take("2001:db8:0:1::1".parse().unwrap(), at(100)).is_ok());
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let budget = Budget::default();
        budget.take("192.0.2.1".parse().unwrap(), at(100)).unwrap();
        budget.sweep(at(100));
        assert_eq!(budget.full_at.len(), 1);
        budget.sweep(at(102));
        assert_eq!(budget.full_at.len(), 0);
    }
}
