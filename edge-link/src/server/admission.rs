//! How many connections may be there that have not proved who they are: in all, and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::NodeLimits;

/// Counts strangers.
pub(super) struct Admission {
    strangers: Mutex<Strangers>,
    all_max: usize,
    per_address_max: usize,
    turned_away: AtomicU64,
}

#[derive(Default)]
struct Strangers {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A stranger's place; drop it once the peer has proved who it is, or is gone.
pub(super) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub(super) fn new(limits: &NodeLimits) -> Arc<Self> {
        Arc::new(Self {
            strangers: Mutex::default(),
            all_max: limits.strangers,
            per_address_max: limits.strangers_per_address,
            turned_away: AtomicU64::new(0),
        })
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`, if there is one.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut strangers = self.strangers();
        let here = strangers.by_address.get(&address).copied().unwrap_or(0);
        if strangers.all >= self.all_max || here >= self.per_address_max {
            drop(strangers);
            self.turn_away();
            return None;
        }
        strangers.all += 1;
        strangers.by_address.insert(address, here + 1);
        Some(Place { admission: Arc::clone(self), address })
    }

    pub(super) fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut strangers = self.admission.strangers();
        strangers.all = strangers.all.saturating_sub(1);
        if let Some(here) = strangers.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                strangers.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r23_one_address_cannot_take_all_places_of_strangers() {
        let limits = NodeLimits { strangers: 3, strangers_per_address: 2, ..NodeLimits::default() };
        let admission = Admission::new(&limits);
        let (one, two): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = admission.enter(one);
        let second = admission.enter(mapped);
        assert!(first.is_some() && second.is_some() && admission.enter(one).is_none());
        let third = admission.enter(two);
        assert!(third.is_some() && admission.enter(two).is_none(), "all places are taken");
        drop(first);
        assert!(admission.enter(two).is_some());
        assert_eq!(admission.turned_away(), 2);
    }
}
