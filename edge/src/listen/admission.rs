//! How many connections there may be: in all, and from one address (R23).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Limits;

/// Counts connections. Shared by all workers; touched when a connection comes and goes, never by its requests.
#[derive(Debug)]
pub struct Admission {
    total_max: usize,
    per_address_max: usize,
    total: AtomicUsize,
    /// One entry per address with a connection, so never more than `total_max`.
    by_address: Mutex<HashMap<Key, usize>>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`Limits::connections`] or [`Limits::splices`].
    #[error("the edge has as many connections as it may")]
    Edge,
    /// [`Limits::connections_per_address`] or [`Limits::splices_per_address`].
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
        Arc::new(Self {
            total_max,
            per_address_max,
            total: AtomicUsize::new(0),
            by_address: Mutex::default(),
        })
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// [`Full`]: close it.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.total_max {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Edge);
        }
        let key = key(address);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(key).or_insert(0);
        if *count >= self.per_address_max {
            drop(by_address);
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Address);
        }
        *count += 1;
        drop(by_address);
        Ok(Place { admission: Arc::clone(self), key })
    }

    /// How many connections there are.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.admission.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.key);
            }
        }
        drop(by_address);
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, connections_per_address: usize) -> Arc<Admission> {
        Admission::new(&Limits { connections, connections_per_address, ..Limits::default() })
    }

    #[test]
    fn r23_one_address_cannot_take_every_place() {
        let admission = admission(3, 2);
        let at = |text: &str| admission.admit(text.parse().unwrap());
        let first = at("192.0.2.1").unwrap();
        let _second = at("::ffff:192.0.2.1").unwrap();
        assert_eq!(at("192.0.2.1").unwrap_err(), Full::Address, "a mapped address is the same one");
        let _other = at("192.0.2.2").unwrap();
        assert_eq!(at("192.0.2.3").unwrap_err(), Full::Edge);
        drop(first);
        assert_eq!(admission.total(), 2);
        assert!(at("192.0.2.1").is_ok());
    }

    #[test]
    fn r23_an_ipv6_network_counts_as_one_address() {
        let admission = admission(9, 1);
        let _one = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(admission.admit("2001:db8::ffff:2".parse().unwrap()).unwrap_err(), Full::Address);
        assert!(admission.admit("2001:db8:0:1::1".parse().unwrap()).is_ok());
    }

    #[test]
    fn what_is_given_back_leaves_nothing_behind() {
        let admission = admission(9, 9);
        drop(admission.admit("192.0.2.1".parse().unwrap()).unwrap());
        assert_eq!(admission.total(), 0);
        assert!(admission.by_address.lock().unwrap().is_empty());
    }
}
