//! Slows guessing at sign-in, without letting anybody lock somebody else out (R15).
//!
//! Each attempt draws on three allowances, and is made only if all three have room:
//!
//! | allowance | stops | room |
//! |---|---|---|
//! | account from this network | guessing one account's password | 5, then one per 30 s |
//! | network, any account | spraying one password over many accounts | 30, then one per 5 s |
//! | everybody, from networks that were quiet | a swarm of networks | 200, then 15 per second |
//! | everybody, from networks that were not | a swarm that goes on | 100, then 5 per second |
//!
//! The last two are one allowance in two parts, so that a swarm that tries on and on cannot keep out somebody who comes
//! from a network of their own. An attempt that succeeds gives its draw back, so an office behind one address is not slowed by people who
//! know their passwords. Nothing is counted per account alone: whoever guesses at an account from elsewhere
//! slows only themselves. A network from which an account has signed in before is *known* for it, and is not
//! held up by the allowances of the network and of everybody, which strangers can use up.
//!
//! A network is a /24 of IPv4 or a /64 of IPv6: what one person can easily hold. Tables are bounded; a full
//! one is first swept of entries that are back at rest. The allowances of everybody bound how fast strangers can fill
//! them. Unknown accounts draw like known ones (R13). State is per node and in memory.

mod gcra;
mod known;
mod mail;
mod network;
mod spray;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use mezusphere_model::id::{DirectoryId, SignInId};
use mezusphere_model::{Clock, Entropy};

use crate::factor::password::Password;
use gcra::{Allowance, Table};
use known::Known;
use mail::MailTables;
pub use mail::Mailing;
pub use network::Network;
use spray::Detector;
pub use spray::{Spraying, SprayingKind};

/// Attempts on one account from one network.
const PAIR: Allowance = Allowance { burst: 5, period: Duration::from_secs(30) };
/// Attempts from one network on any account.
const NETWORK: Allowance = Allowance { burst: 30, period: Duration::from_secs(5) };
/// Attempts of strangers altogether, from networks that are at rest. With [`EVERYBODY`], twenty Argon2 runs per second,
/// which are half of one core.
const QUIET: Allowance = Allowance { burst: 200, period: Duration::from_millis(67) };
/// Attempts of strangers altogether, from networks that have tried before.
const EVERYBODY: Allowance = Allowance { burst: 100, period: Duration::from_millis(200) };

/// Attempts of who is signed in to prove it again, per sign-in.
const AGAIN: Allowance = Allowance { burst: 5, period: Duration::from_secs(30) };
/// Links that lead nowhere, from one network: mail programs shorten and double links, people click old ones.
const DEAD_LINKS: Allowance = Allowance { burst: 20, period: Duration::from_secs(10) };
/// Attempts of a network that sprays passwords, on accounts that never signed in from it.
const SLOWED: Allowance = Allowance { burst: 1, period: Duration::from_mins(1) };

/// Entries per table. A pair is back at rest after 150 s at most, in which strangers get 3300 attempts through.
const TABLE_LEN_MAX: usize = 8192;

/// An account as the throttle knows it: a hash of the directory and the name that was typed, so that accounts
/// that do not exist are counted too, and no name is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountKey([u8; 16]);

impl AccountKey {
    /// The key of `login` as typed in `directory`; spelled alike, counted alike.
    pub fn of(directory: DirectoryId, login: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&directory.bits().to_be_bytes());
        context.update(crate::account::fold_login(login).as_bytes());
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(short)
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(…)")
    }
}

/// Which allowance had no room; for the log and for metrics, not for the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This account from this network.
    Account,
    /// This network.
    Network,
    /// Everybody.
    Everybody,
}

/// Too many attempts; nothing was charged for asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts; try again in {} s", .retry_after.as_secs())]
pub struct Throttled {
    /// When the next attempt has room, rounded up to whole seconds, at least one.
    pub retry_after: Duration,
    /// What ran out.
    pub scope: Scope,
}

/// Leave for one attempt, to be handed back with its outcome. One that is dropped counts as failed.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    account: AccountKey,
    network: Network,
    known: bool,
    was_quiet: bool,
}

/// Leave for who is signed in to prove it again, to be handed back unless the proof was wrong.
#[derive(Debug)]
#[must_use]
pub(crate) struct AttemptAgain(SignInId);

/// Counts the attempts. Cheap to clone: all clones count together.
#[derive(Clone)]
pub struct Throttle {
    clock: Clock,
    mark_key: hmac::Key,
    tables: Arc<Mutex<Tables>>,
}

struct Tables {
    pairs: Table<(AccountKey, Network)>,
    networks: Table<Network>,
    quiet: Table<()>,
    everybody: Table<()>,
    known: Known,
    slowed: Table<Network>,
    detector: Detector,
    again: Table<SignInId>,
    dead_links: Table<Network>,
    mails: MailTables,
}

impl Throttle {
    /// A throttle at rest. `entropy` gives the key under which passwords that are tried are compared.
    pub fn new(clock: Clock, entropy: &Entropy) -> Self {
        let tables = Tables {
            pairs: Table::new(PAIR, TABLE_LEN_MAX),
            networks: Table::new(NETWORK, TABLE_LEN_MAX),
            quiet: Table::new(QUIET, 1),
            everybody: Table::new(EVERYBODY, 1),
            known: Known::default(),
            slowed: Table::new(SLOWED, TABLE_LEN_MAX),
            detector: Detector::default(),
            again: Table::new(AGAIN, TABLE_LEN_MAX),
            dead_links: Table::new(DEAD_LINKS, TABLE_LEN_MAX),
            mails: MailTables::new(),
        };
        let mark_key = hmac::Key::new(hmac::HMAC_SHA256, &entropy.bytes::<32>());
        Self { clock, mark_key, tables: Arc::new(Mutex::new(tables)) }
    }

    /// Asks leave to try signing in as `account` from `address`.
    pub fn begin(&self, account: AccountKey, address: IpAddr) -> Result<Attempt, Throttled> {
        let network = Network::of(address);
        let now = self.clock.now();
        let mut tables = self.tables();
        let tables = &mut *tables;
        let known = tables.known.contains(&(account, network));
        let slowed = !known && tables.detector.is_slowed(network, now);
        let was_quiet = tables.networks.is_at_rest(&network, now);
        let everybody = if was_quiet { &mut tables.quiet } else { &mut tables.everybody };
        // All are asked before any is charged, so that a refused attempt costs nothing.
        let mut waits = vec![(tables.pairs.wait(&(account, network), now), Scope::Account)];
        if !known {
            waits.push((tables.networks.wait(&network, now), Scope::Network));
            waits.push((everybody.wait(&(), now), Scope::Everybody));
        }
        if slowed {
            waits.push((tables.slowed.wait(&network, now), Scope::Network));
        }
        if let Some((wait, scope)) =
            waits.into_iter().filter(|(wait, _)| !wait.is_zero()).max_by_key(|(wait, _)| *wait)
        {
            return Err(Throttled { retry_after: whole_seconds(wait), scope });
        }
        tables.pairs.draw((account, network), now);
        if !known {
            tables.networks.draw(network, now);
            everybody.draw((), now);
        }
        if slowed {
            tables.slowed.draw(network, now);
        }
        Ok(Attempt { account, network, known, was_quiet })
    }

    /// The attempt succeeded: its draw is given back, and the network is known for the account from now on.
    pub fn succeeded(&self, attempt: Attempt) {
        let pair = (attempt.account, attempt.network);
        self.give_back(attempt);
        self.tables().known.remember(pair);
    }

    /// The attempt failed, and stays charged. `mark` is [`Throttle::mark`] of what was tried. Returns a burst of spraying
    /// when it is first noticed: once, however long it goes on.
    #[expect(clippy::needless_pass_by_value, reason = "an attempt is handed back once")]
    pub(crate) fn failed(&self, attempt: Attempt, mark: u32) -> Option<Spraying> {
        let now = self.clock.now();
        self.tables().detector.failed(attempt.account, attempt.network, mark, now)
    }

    /// What tells that the same password is tried on many accounts.
    pub(crate) fn mark(&self, typed: &Password) -> u32 {
        typed.mark(&self.mark_key)
    }

    /// Asks leave to prove it again for who is signed in.
    pub(crate) fn begin_again(&self, sign_in: SignInId) -> Result<AttemptAgain, Throttled> {
        let now = self.clock.now();
        let mut tables = self.tables();
        room(tables.again.wait(&sign_in, now), Scope::Account)?;
        tables.again.draw(sign_in, now);
        Ok(AttemptAgain(sign_in))
    }

    /// It was right, or could not be judged.
    #[expect(clippy::needless_pass_by_value, reason = "an attempt is handed back once")]
    pub(crate) fn give_back_again(&self, attempt: AttemptAgain) {
        self.tables().again.give_back(&attempt.0);
    }

    /// A link from `address` led nowhere. Links that work are never held up: nobody can guess one, so this only bounds
    /// what trying costs.
    pub(crate) fn link_failed(&self, address: IpAddr) -> Result<(), Throttled> {
        let (network, now) = (Network::of(address), self.clock.now());
        let mut tables = self.tables();
        room(tables.dead_links.wait(&network, now), Scope::Network)?;
        tables.dead_links.draw(network, now);
        Ok(())
    }

    /// Asks leave to send `account` a mail of this kind, asked for from `address`; charges it.
    pub(crate) fn mail(&self, account: AccountKey, kind: Mailing, address: IpAddr) -> Result<(), Throttled> {
        let (network, now) = (Network::of(address), self.clock.now());
        let mut tables = self.tables();
        let known = tables.known.contains(&(account, network));
        tables.mails.draw(account, kind, network, known, now)
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempt could not be judged (too busy, a fault of ours): its draw is given back.
    pub fn not_judged(&self, attempt: Attempt) {
        self.give_back(attempt);
    }

    #[expect(clippy::needless_pass_by_value, reason = "an attempt is handed back once")]
    fn give_back(&self, attempt: Attempt) {
        let mut tables = self.tables();
        tables.pairs.give_back(&(attempt.account, attempt.network));
        if !attempt.known {
            tables.networks.give_back(&attempt.network);
            if attempt.was_quiet {
                tables.quiet.give_back(&());
            } else {
                tables.everybody.give_back(&());
            }
        }
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Throttle")
    }
}

/// Nothing if the wait is zero, the refusal otherwise.
fn room(wait: Duration, scope: Scope) -> Result<(), Throttled> {
    if wait.is_zero() { Ok(()) } else { Err(Throttled { retry_after: whole_seconds(wait), scope }) }
}

fn whole_seconds(wait: Duration) -> Duration {
    let up = u64::from(wait.subsec_nanos() != 0);
    Duration::from_secs(wait.as_secs().saturating_add(up).max(1))
}

#[cfg(test)]
mod tests;
