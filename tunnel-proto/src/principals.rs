//! Who is remembered on a connection, so that an assertion travels once and a number after that.
//!
//! The edge holds [`Sent`], the warpgate [`Known`]; both live and die with one connection. Slots count up and
//! are never given to anybody else: streams arrive in any order, and a reused slot could turn one user into
//! another.

use std::collections::HashMap;
use std::hash::Hash;

use bytes::Bytes;
use lru::LruCache;

use crate::exchange::IdentityRef;
use crate::limits::PRINCIPALS_MAX;

/// What an edge has told one warpgate: which session is which slot, and whether the warpgate said it knows.
#[derive(Debug)]
pub struct Sent<K: Hash + Eq + Clone> {
    slots: LruCache<K, Told>,
    /// Slots not acknowledged yet, back to their sessions.
    waiting: HashMap<u64, K>,
    next: u64,
    len_max: usize,
}

#[derive(Debug)]
struct Told {
    slot: u64,
    assertion: Bytes,
    known: bool,
}

impl<K: Hash + Eq + Clone> Sent<K> {
    /// For a new connection; remembers at most [`PRINCIPALS_MAX`].
    pub fn new() -> Self {
        Self::with_limit(PRINCIPALS_MAX)
    }

    /// For a new connection; remembers at most `len_max`, which must not pass the warpgate's.
    pub fn with_limit(len_max: usize) -> Self {
        // `unbounded` takes no memory before it is used; the bound is kept in `refer`.
        Self { slots: LruCache::unbounded(), waiting: HashMap::new(), next: 1, len_max: len_max.max(1) }
    }

    /// How to name the holder of `assertion` in a request head: by slot once the warpgate has acknowledged
    /// it, in full until then. A renewed assertion gets a slot of its own.
    pub fn refer(&mut self, key: &K, assertion: &Bytes) -> IdentityRef {
        if let Some(told) = self.slots.get(key)
            && same(&told.assertion, assertion)
        {
            return if told.known {
                IdentityRef::Known(told.slot)
            } else {
                IdentityRef::Full { slot: told.slot, assertion: assertion.clone() }
            };
        }
        let slot = self.next;
        self.next = self.next.saturating_add(1);
        let told = Told { slot, assertion: assertion.clone(), known: false };
        if let Some(before) = self.slots.put(key.clone(), told) {
            self.waiting.remove(&before.slot);
        }
        self.waiting.insert(slot, key.clone());
        while self.slots.len() > self.len_max {
            let Some((_, oldest)) = self.slots.pop_lru() else { break };
            self.waiting.remove(&oldest.slot);
        }
        IdentityRef::Full { slot, assertion: assertion.clone() }
    }

    /// The warpgate remembers `slot`. One that was never sent, or is forgotten here, changes nothing.
    pub fn acknowledge(&mut self, slot: u64) {
        // A slot that was forgotten or replaced waits no longer, so what is found is this very slot.
        if let Some(told) = self.waiting.remove(&slot).and_then(|key| self.slots.peek_mut(&key)) {
            told.known = true;
        }
    }

    /// Forgets a session: it has ended, or the warpgate answered `unknown_principal`. Next time it is
    /// sent in full as a new slot.
    pub fn forget(&mut self, key: &K) {
        if let Some(told) = self.slots.pop(key) {
            self.waiting.remove(&told.slot);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl<K: Hash + Eq + Clone> Default for Sent<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// The same bytes; at the usual price of two comparisons, because the caller clones one `Bytes`.
fn same(a: &Bytes, b: &Bytes) -> bool {
    (a.as_ptr() == b.as_ptr() && a.len() == b.len()) || a == b
}

/// What a warpgate has verified on one connection: slot → identity.
#[derive(Debug)]
pub struct Known<T> {
    slots: LruCache<u64, T>,
    len_max: usize,
}

impl<T> Known<T> {
    /// For a new connection; remembers at most [`PRINCIPALS_MAX`].
    pub fn new() -> Self {
        Self::with_limit(PRINCIPALS_MAX)
    }

    /// For a new connection; remembers at most `len_max`.
    pub fn with_limit(len_max: usize) -> Self {
        Self { slots: LruCache::unbounded(), len_max: len_max.max(1) }
    }

    /// Remembers an identity whose assertion was verified. `false` if the slot is taken: the first one
    /// stays, and the exchange that brought this one goes on with what it verified itself.
    #[must_use = "acknowledge the slot only if this identity is the one remembered"]
    pub fn remember(&mut self, slot: u64, identity: T) -> bool {
        if self.slots.contains(&slot) {
            return false;
        }
        self.slots.put(slot, identity);
        while self.slots.len() > self.len_max {
            self.slots.pop_lru();
        }
        true
    }

    /// Whose slot it is. Whether the assertion has expired since is the caller's to check, each time.
    pub fn get(&mut self, slot: u64) -> Option<&T> {
        self.slots.get(&slot)
    }

    /// Forgets a slot: its assertion has expired.
    pub fn forget(&mut self, slot: u64) {
        self.slots.pop(&slot);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(slot: u64, assertion: &Bytes) -> IdentityRef {
        IdentityRef::Full { slot, assertion: assertion.clone() }
    }

    #[test]
    fn an_assertion_travels_until_it_is_acknowledged() {
        let (mut sent, ada) = (Sent::new(), Bytes::from_static(b"ada"));
        assert_eq!(sent.refer(&"s1", &ada), full(1, &ada));
        assert_eq!(sent.refer(&"s1", &ada), full(1, &ada), "the acknowledgement is still on its way");
        sent.acknowledge(1);
        assert_eq!(sent.refer(&"s1", &ada), IdentityRef::Known(1));
    }

    #[test]
    fn a_slot_is_never_given_twice() {
        let (mut sent, ada) = (Sent::with_limit(1), Bytes::from_static(b"ada"));
        assert_eq!(sent.refer(&"s1", &ada), full(1, &ada));
        sent.acknowledge(1);
        sent.forget(&"s1");
        assert_eq!(sent.refer(&"s1", &ada), full(2, &ada), "after it was forgotten");
        sent.acknowledge(1);
        assert_eq!(
            sent.refer(&"s1", &ada),
            full(2, &ada),
            "a late acknowledgement of the old slot says nothing"
        );
        let renewed = Bytes::from_static(b"ada, renewed");
        assert_eq!(sent.refer(&"s1", &renewed), full(3, &renewed), "a renewed assertion");
        assert_eq!(sent.refer(&"s2", &ada), full(4, &ada), "pushes the least recently used out");
        sent.acknowledge(3);
        assert_eq!(sent.refer(&"s1", &renewed), full(5, &renewed));
        assert_eq!((sent.len(), sent.waiting.len()), (1, 1));
    }

    #[test]
    fn r23_both_tables_are_bounded() {
        let (mut sent, mut known) = (Sent::with_limit(10), Known::with_limit(10));
        for n in 0..1000_u64 {
            let _full = sent.refer(&n, &Bytes::from(n.to_string()));
            assert!(known.remember(n, n));
            assert!(sent.len() <= 10 && sent.waiting.len() <= 10 && known.len() <= 10);
        }
        assert_eq!(known.get(999), Some(&999));
        assert_eq!(known.get(1), None, "least recently used out: the edge sends it in full again");
    }

    #[test]
    fn r06_a_taken_slot_keeps_its_first_identity() {
        let mut known = Known::new();
        assert!(known.remember(7, "ada"));
        assert!(!known.remember(7, "mallory"));
        assert_eq!(known.get(7), Some(&"ada"));
    }
}
