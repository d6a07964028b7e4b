//! Notices spraying: one network that fails on many accounts, or one password that fails on many accounts from anywhere.
//!
//! Networks that take part are slowed, on accounts that have never signed in from them, until a window passes without
//! another failure; people at home in such a network go on signing in. A burst is told once. Passwords are compared by
//! a 32-bit mark under a key that exists in memory only.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use mezusphere_model::Timestamp;

use super::{AccountKey, Network};

/// Accounts one network fails on within a window before it is called spraying: more than a large office mistypes.
const ACCOUNTS_OF_NETWORK: usize = 25;
/// Accounts one password fails on within a window before it is called sprayed: people do not share their mistakes.
const ACCOUNTS_OF_PASSWORD: usize = 10;
/// Networks counted for one password; more are slowed all the same once it is noticed.
const NETWORKS_OF_PASSWORD: usize = 64;
/// A count starts anew when it has seen no failure for so long.
const WINDOW: Duration = Duration::from_mins(15);
/// Entries per table: 4096 passwords of up to 10 accounts and 64 networks are 2 MiB at most.
const ENTRIES_MAX: usize = 4096;

/// A burst of spraying, when it is first noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spraying {
    /// What it looks like.
    pub kind: SprayingKind,
    /// How many accounts were tried so far.
    pub accounts: usize,
    /// From how many networks so far.
    pub networks: usize,
}

/// What spraying looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SprayingKind {
    /// One network tries many accounts.
    Network,
    /// One password is tried on many accounts.
    Password,
}

impl SprayingKind {
    /// As the audit log has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Password => "password",
        }
    }
}

/// What has failed lately.
#[derive(Default)]
pub(super) struct Detector {
    networks: HashMap<Network, Count>,
    passwords: HashMap<u32, Count>,
    slowed_until: HashMap<Network, Timestamp>,
}

/// The failures of one network, or of one password.
struct Count {
    last_at: Timestamp,
    accounts: Vec<AccountKey>,
    networks: Vec<Network>,
    is_noticed: bool,
}

impl Detector {
    /// Whether attempts from here are slowed.
    pub(super) fn is_slowed(&self, network: Network, now: Timestamp) -> bool {
        self.slowed_until.get(&network).is_some_and(|until| now < *until)
    }

    /// Counts a failure.
    pub(super) fn failed(
        &mut self,
        account: AccountKey,
        network: Network,
        mark: u32,
        now: Timestamp,
    ) -> Option<Spraying> {
        let by_network = count(&mut self.networks, network, (account, network), ACCOUNTS_OF_NETWORK, now);
        let by_password = count(&mut self.passwords, mark, (account, network), ACCOUNTS_OF_PASSWORD, now);
        let slow: Vec<Network> = match &by_password {
            // All that took part so far, when it is noticed; whoever joins later, then.
            Verdict::Noticed(spraying) => spraying.1.clone(),
            Verdict::GoesOn => vec![network],
            Verdict::Fine => Vec::new(),
        };
        let here = (!matches!(by_network, Verdict::Fine)).then_some(network);
        for network in slow.into_iter().chain(here) {
            if place(&mut self.slowed_until, &network, |until| *until > now) {
                self.slowed_until.insert(network, now.after(WINDOW));
            }
        }
        let noticed = |verdict, kind| match verdict {
            Verdict::Noticed((accounts, networks)) => {
                Some(Spraying { kind, accounts, networks: networks.len() })
            }
            Verdict::GoesOn | Verdict::Fine => None,
        };
        noticed(by_password, SprayingKind::Password).or(noticed(by_network, SprayingKind::Network))
    }
}

enum Verdict {
    Fine,
    /// So many accounts, from these networks.
    Noticed((usize, Vec<Network>)),
    GoesOn,
}

fn count<K: Eq + Hash + Copy>(
    table: &mut HashMap<K, Count>,
    key: K,
    (account, network): (AccountKey, Network),
    accounts_max: usize,
    now: Timestamp,
) -> Verdict {
    let is_over = |count: &Count| now.since(count.last_at) >= WINDOW;
    // Under a flood, single failures make room for what repeats.
    let fits =
        place(table, &key, |count| !is_over(count)) || place(table, &key, |count| count.accounts.len() > 1);
    if !fits {
        return Verdict::Fine;
    }
    let new = || Count { last_at: now, accounts: Vec::new(), networks: Vec::new(), is_noticed: false };
    let count = table.entry(key).or_insert_with(new);
    if is_over(count) {
        *count = new();
    }
    count.last_at = now;
    if count.networks.len() < NETWORKS_OF_PASSWORD && !count.networks.contains(&network) {
        count.networks.push(network);
    }
    if count.is_noticed {
        return Verdict::GoesOn;
    }
    if !count.accounts.contains(&account) {
        count.accounts.push(account);
    }
    if count.accounts.len() < accounts_max {
        return Verdict::Fine;
    }
    count.is_noticed = true;
    Verdict::Noticed((count.accounts.len(), count.networks.clone()))
}

/// Whether `key` has a place in the table, after sweeping out what `keep` does not hold if it is full.
fn place<K: Eq + Hash, V>(table: &mut HashMap<K, V>, key: &K, keep: impl Fn(&V) -> bool) -> bool {
    if table.len() < ENTRIES_MAX || table.contains_key(key) {
        return true;
    }
    table.retain(|_, value| keep(value));
    table.len() < ENTRIES_MAX
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mezusphere_model::id::DirectoryId;

    use super::*;

    fn account(n: usize) -> AccountKey {
        AccountKey::of(DirectoryId::from_bits(1), &format!("user{n}"))
    }

    fn network(n: usize) -> Network {
        let [.., b, c] = n.to_be_bytes();
        Network::of(Ipv4Addr::new(10, b, c, 1).into())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    #[test]
    fn r15_one_network_that_fails_on_many_accounts_is_told_once() {
        let mut detector = Detector::default();
        let mut told = Vec::new();
        for n in 0..100 {
            // A password each, so that nothing else gives it away.
            let mark = u32::try_from(n).unwrap();
            told.extend(detector.failed(account(n), network(1), mark, at(0)).map(|burst| (n, burst)));
        }
        let burst = Spraying { kind: SprayingKind::Network, accounts: ACCOUNTS_OF_NETWORK, networks: 1 };
        assert_eq!(told, [(ACCOUNTS_OF_NETWORK - 1, burst)]);
        assert!(detector.is_slowed(network(1), at(1)));
        assert!(!detector.is_slowed(network(2), at(1)));
    }

    #[test]
    fn r15_one_password_is_noticed_from_however_many_networks_and_slows_all_of_them() {
        let mut detector = Detector::default();
        let told: Vec<_> =
            (0..40).filter_map(|n| detector.failed(account(n), network(n), 7, at(0))).collect();
        let (kind, many) = (SprayingKind::Password, ACCOUNTS_OF_PASSWORD);
        assert_eq!(told, [Spraying { kind, accounts: many, networks: many }]);
        assert!((0..40).all(|n| detector.is_slowed(network(n), at(1))), "who came before and who came after");
    }

    #[test]
    fn one_person_who_mistypes_on_and_on_sprays_nothing() {
        let mut detector = Detector::default();
        for second in 0..1000 {
            assert_eq!(detector.failed(account(1), network(1), 7, at(second)), None);
        }
        assert!(!detector.is_slowed(network(1), at(1000)));
    }

    #[test]
    fn a_burst_ends_with_a_quiet_window_and_the_next_is_told_again() {
        let mut detector = Detector::default();
        let mut burst =
            |from: i64| (0..20).filter_map(|n| detector.failed(account(n), network(n), 7, at(from))).count();
        let window = i64::try_from(WINDOW.as_secs()).unwrap();
        assert_eq!((burst(0), burst(window - 1), burst(2 * window)), (1, 0, 1));
        assert!(!detector.is_slowed(network(1), at(3 * window)));
    }

    #[test]
    fn r15_a_flood_of_single_failures_neither_fills_memory_nor_hides_what_repeats() {
        let mut detector = Detector::default();
        let mut noticed = 0;
        for n in 0..5 * ENTRIES_MAX {
            let noise = u32::try_from(n).unwrap().wrapping_mul(2_654_435_761) | 1;
            detector.failed(account(n), network(n), noise, at(0));
            if n % 1000 == 0 {
                noticed += usize::from(detector.failed(account(n), network(n), 0, at(0)).is_some());
            }
        }
        assert_eq!(noticed, 1);
        for len in [detector.networks.len(), detector.passwords.len(), detector.slowed_until.len()] {
            assert!(len <= ENTRIES_MAX, "{len}");
        }
    }
}
