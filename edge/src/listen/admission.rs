//! How many connections there may be: in all, from one address, and from one network (R23).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Limits;

/// From half of all places on, an address may have no more than one part in this many of those that are free: so that no
/// few addresses take all, and each that comes finds some.
const FREE_PARTS: usize = 8;

/// How many addresses' worth of places an IPv6 network may have: a /48 has 65 536 of what counts as an address.
const ADDRESSES_PER_NETWORK: usize = 4;

/// Counts connections. Shared by all workers; touched when a connection comes and goes, never by its requests.
#[derive(Debug)]
pub struct Admission {
    total_max: usize,
    per_address_max: usize,
    total: AtomicUsize,
    counts: Mutex<Counts>,
}

/// One entry per address, and one per network, with a connection: never more than connections.
#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<Key, usize>,
    by_network: HashMap<Key, usize>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`Limits::connections`] or [`Limits::splices`].
    #[error("the edge has as many connections as it may")]
    Edge,
    /// [`Limits::connections_per_address`] or [`Limits::splices_per_address`], or fewer where few places are left; the same
    /// for its network.
    #[error("the address has as many connections as it may")]
    Address,
}

/// A place for one connection; dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    key: Key,
}

/// What counts as one address: an IPv4 address, or the /64 that a host or home owns in IPv6 (RFC 6177).
pub(super) type Key = u64;

impl Admission {
    /// Nobody is there yet.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Self::bounded(limits.connections, limits.connections_per_address)
    }

    /// The same for connections that are passed on to control.
    pub fn of_splices(limits: &Limits) -> Arc<Self> {
        Self::bounded(limits.splices, limits.splices_per_address)
    }

    fn bounded(total_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { total_max, per_address_max, total: AtomicUsize::new(0), counts: Mutex::default() })
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// [`Full`]: close it.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let total = self.total.fetch_add(1, Ordering::Relaxed);
        let key = key(address);
        if let Err(full) = self.count(total, key) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(full);
        }
        Ok(Place { admission: Arc::clone(self), key })
    }

    /// How many connections there are.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts one more where there are `total`.
    fn count(&self, total: usize, key: Key) -> Result<(), Full> {
        let free = self.total_max.saturating_sub(total);
        if free == 0 {
            return Err(Full::Edge);
        }
        let share = if free > self.total_max / 2 { self.per_address_max } else { (free / FREE_PARTS).max(1) };
        let address_max = self.per_address_max.min(share);
        let network = network(key);
        let mut counts = self.counts();
        let of_address = counts.by_address.get(&key).copied().unwrap_or(0);
        let of_network = counts.by_network.get(&network).copied().unwrap_or(0);
        if of_address >= address_max || of_network >= address_max.saturating_mul(ADDRESSES_PER_NETWORK) {
            return Err(Full::Address);
        }
        counts.by_address.insert(key, of_address + 1);
        counts.by_network.insert(network, of_network + 1);
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        take_one(&mut counts.by_address, self.key);
        take_one(&mut counts.by_network, network(self.key));
        drop(counts);
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
    }
}

fn take_one(counts: &mut HashMap<Key, usize>, key: Key) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

pub(super) fn key(address: IpAddr) -> Key {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            // No /64 of the internet begins with 0.
            u64::from(address.to_bits())
        }
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX),
    }
}

/// The network an address is in, as far as it is one owner's: the /48 of a site in IPv6, whose addresses cost nothing
/// (RFC 6177); in IPv4, where each costs something, the address itself.
pub(super) fn network(address: Key) -> Key {
    const SITES_OWN: u32 = 16;
    if address >> u32::BITS == 0 { address } else { address >> SITES_OWN << SITES_OWN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, connections_per_address: usize) -> Arc<Admission> {
        Admission::new(&Limits { connections, connections_per_address, ..Limits::default() })
    }

    #[test]
    fn r23_one_address_cannot_take_every_place() {
        let admission = admission(9, 2);
        let at = |text: &str| admission.admit(text.parse().unwrap());
        let first = at("192.0.2.1").unwrap();
        let _second = at("::ffff:192.0.2.1").unwrap();
        assert_eq!(at("192.0.2.1").unwrap_err(), Full::Address, "a mapped address is the same one");
        let _other = at("192.0.2.2").unwrap();
        drop(first);
        assert_eq!(admission.total(), 2);
        assert!(at("192.0.2.1").is_ok());
    }

    #[test]
    fn r23_the_fewer_places_are_left_the_fewer_an_address_may_have() {
        let admission = admission(160, 100);
        let fill = |text: &str| {
            let places = std::iter::from_fn(|| admission.admit(text.parse().unwrap()).ok());
            places.collect::<Vec<_>>()
        };
        // Up to half, and then until it has an eighth of what is free.
        let mut kept = vec![fill("192.0.2.1")];
        assert_eq!(kept[0].len(), 80);
        kept.push(fill("192.0.2.2"));
        assert_eq!(kept[1].len(), 9, "an eighth of 72");
        for n in 3..=30 {
            let places = fill(&format!("192.0.2.{n}"));
            assert!(!places.is_empty(), "the {n}th address finds none");
            kept.push(places);
        }
        // The last places go to one address each.
        let more = (0..200).map(|n| admission.admit([198, 51, 100, n].into()));
        let (some, refused): (Vec<_>, Vec<_>) = more.partition(Result::is_ok);
        assert_eq!(admission.total(), 160);
        assert!(!some.is_empty() && refused.iter().all(|place| *place.as_ref().unwrap_err() == Full::Edge));
    }

    #[test]
    fn r23_an_ipv6_network_counts_as_one_address_and_a_site_as_few() {
        let admission = admission(99, 1);
        let _one = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(admission.admit("2001:db8::ffff:2".parse().unwrap()).unwrap_err(), Full::Address);
        let site: Vec<_> =
            (1..9).map(|n| admission.admit(format!("2001:db8:0:{n}::1").parse().unwrap())).collect();
        assert_eq!(site.iter().filter(|place| place.is_ok()).count(), ADDRESSES_PER_NETWORK - 1);
        assert!(admission.admit("2001:db8:1::1".parse().unwrap()).is_ok(), "another site");
    }

    #[test]
    fn what_is_given_back_leaves_nothing_behind() {
        let admission = admission(9, 9);
        drop(admission.admit("192.0.2.1".parse().unwrap()).unwrap());
        assert_eq!(admission.total(), 0);
        let counts = admission.counts();
        assert!(counts.by_address.is_empty() && counts.by_network.is_empty());
    }
}
