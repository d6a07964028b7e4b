//! What waits to be told to control: one entry per key, oldest out first, never more than there is room for.
//!
//! Control may be away for hours while the edge serves. What is said twice of the same thing becomes one entry; beyond
//! the room the oldest entry is dropped and counted, because what is newest is what people will ask about.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries that wait, of one kind.
#[derive(Debug)]
pub(crate) struct Backlog<K, V> {
    waiting: Mutex<Waiting<K, V>>,
    len_max: usize,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Waiting<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// Keys by age: the lowest number came first.
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Eq + Hash + Clone, V> Backlog<K, V> {
    /// Room for `len_max` entries.
    pub(crate) fn new(len_max: usize) -> Self {
        let waiting = Waiting { entries: HashMap::new(), order: BTreeMap::new(), next: 0 };
        Self { waiting: Mutex::new(waiting), len_max, dropped: AtomicU64::new(0) }
    }

    /// Adds an entry. One of the same key is changed by `merge` instead, and keeps its age.
    pub(crate) fn put(&self, key: K, value: V, merge: impl FnOnce(&mut V, V)) {
        let mut waiting = self.lock();
        if let Some((_, known)) = waiting.entries.get_mut(&key) {
            return merge(known, value);
        }
        let age = waiting.next;
        waiting.next += 1;
        waiting.enter(age, key, value);
        self.trim(&mut waiting);
    }

    /// Takes the oldest entries out, at most `max`.
    pub(crate) fn take(&self, max: usize) -> Vec<Taken<K, V>> {
        let mut waiting = self.lock();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((age, key)) = waiting.order.pop_first()
        {
            if let Some((_, value)) = waiting.entries.remove(&key) {
                taken.push(Taken { age, key, value });
            }
        }
        taken
    }

    /// Puts entries back that could not be told, at their old age. Where a newer one came meanwhile, `merge` is given the
    /// newer one and the older one.
    pub(crate) fn put_back(&self, taken: Vec<Taken<K, V>>, mut merge: impl FnMut(&mut V, V)) {
        let mut waiting = self.lock();
        for Taken { age, key, value } in taken {
            match waiting.entries.get_mut(&key) {
                Some((_, newer)) => merge(newer, value),
                None => waiting.enter(age, key, value),
            }
        }
        self.trim(&mut waiting);
    }

    /// How many were dropped so far for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Forgets all that waits; it counts as told.
    pub(crate) fn clear(&self) {
        let mut waiting = self.lock();
        waiting.entries.clear();
        waiting.order.clear();
    }

    fn trim(&self, waiting: &mut Waiting<K, V>) {
        while waiting.entries.len() > self.len_max
            && let Some((_, oldest)) = waiting.order.pop_first()
        {
            waiting.entries.remove(&oldest);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<K, V>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone, V> Waiting<K, V> {
    fn enter(&mut self, age: u64, key: K, value: V) {
        self.order.insert(age, key.clone());
        self.entries.insert(key, (age, value));
    }
}

/// An entry on its way to control.
#[derive(Clone, Debug)]
pub(crate) struct Taken<K, V> {
    age: u64,
    /// What it is of.
    pub(crate) key: K,
    /// What is told.
    pub(crate) value: V,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(known: &mut u32, more: u32) {
        *known += more;
    }

    fn told(taken: Vec<Taken<&'static str, u32>>) -> Vec<(&'static str, u32)> {
        taken.into_iter().map(|taken| (taken.key, taken.value)).collect()
    }

    #[test]
    fn what_is_said_twice_is_one_entry_and_the_oldest_goes_first() {
        let backlog = Backlog::new(10);
        for (key, value) in [("a", 1), ("b", 2), ("a", 4), ("c", 8)] {
            backlog.put(key, value, sum);
        }
        assert_eq!(told(backlog.take(2)), [("a", 5), ("b", 2)]);
        assert_eq!(told(backlog.take(9)), [("c", 8)]);
        assert!(backlog.take(9).is_empty());
    }

    #[test]
    fn without_room_the_oldest_is_dropped_and_counted() {
        let backlog = Backlog::new(2);
        for key in ["a", "b", "c", "d"] {
            backlog.put(key, 1, sum);
        }
        assert_eq!((backlog.dropped(), told(backlog.take(9))), (2, vec![("c", 1), ("d", 1)]));
    }

    #[test]
    fn what_could_not_be_told_comes_back_at_its_old_age() {
        let backlog = Backlog::new(3);
        backlog.put("a", 1, sum);
        backlog.put("b", 2, sum);
        let taken = backlog.take(2);
        backlog.put("b", 4, sum);
        backlog.put("c", 8, sum);
        backlog.put_back(taken.clone(), sum);
        assert_eq!(told(backlog.take(9)), [("a", 1), ("b", 6), ("c", 8)]);
        // Where there is no room any more, what is oldest is what goes.
        for key in ["d", "e", "f"] {
            backlog.put(key, 1, sum);
        }
        backlog.put_back(taken, sum);
        assert_eq!((backlog.dropped(), told(backlog.take(9))), (2, vec![("d", 1), ("e", 1), ("f", 1)]));
    }
}
