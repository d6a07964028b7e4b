//! Which accounts have signed in from which networks: there, strangers hold nobody up.

use std::collections::{HashMap, VecDeque};

use super::{AccountKey, Network};

/// Pairs remembered, the oldest forgotten first; 40 octets each.
const KNOWN_LEN_MAX: usize = 16_384;

/// Pairs that have signed in, the oldest forgotten first.
#[derive(Default)]
pub(super) struct Known {
    /// Each pair with the number of its newest entry in `order`.
    pairs: HashMap<(AccountKey, Network), u64>,
    order: VecDeque<((AccountKey, Network), u64)>,
    next: u64,
}

impl Known {
    /// Whether this account has signed in from this network.
    pub(super) fn contains(&self, pair: &(AccountKey, Network)) -> bool {
        self.pairs.contains_key(pair)
    }

    /// It has, just now.
    pub(super) fn remember(&mut self, pair: (AccountKey, Network)) {
        self.next += 1;
        self.pairs.insert(pair, self.next);
        self.order.push_back((pair, self.next));
        while self.order.len() > KNOWN_LEN_MAX {
            // A pair that was renewed since has a later entry and stays.
            if let Some((oldest, n)) = self.order.pop_front()
                && self.pairs.get(&oldest) == Some(&n)
            {
                self.pairs.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mezusphere_model::id::DirectoryId;

    use super::*;

    #[test]
    fn the_known_table_forgets_the_oldest_first() {
        let mut known = Known::default();
        let pair = |n: usize| {
            let account = AccountKey::of(DirectoryId::from_bits(1), &n.to_string());
            (account, Network::of(Ipv4Addr::new(192, 0, 2, 7).into()))
        };
        known.remember(pair(0));
        known.remember(pair(1));
        known.remember(pair(0));
        for n in 2..KNOWN_LEN_MAX {
            known.remember(pair(n));
        }
        assert!(known.contains(&pair(0)), "renewed after 1");
        assert!(known.contains(&pair(1)) || known.order.len() == KNOWN_LEN_MAX);
        known.remember(pair(KNOWN_LEN_MAX));
        assert!(!known.contains(&pair(1)));
        assert!(known.pairs.len() <= KNOWN_LEN_MAX && known.order.len() <= KNOWN_LEN_MAX);
    }
}
