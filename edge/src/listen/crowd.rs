//! Those that have shown nothing yet: connections before their handshake, handshakes before their end. Strangers may have
//! any number of them for next to nothing, so each takes its room only until somebody else needs it more (R23).
//!
//! Whoever comes finds room. Where there is none left, somebody is let go: of the network that holds most, of the
//! address in it that holds most, the oldest. So whoever holds less than others never loses to them, however many
//! they open: among n networks each keeps what it has up to one part in n of the whole, and an honest client, which is
//! through in a round trip, is in nobody's way. Nothing here waits, and nobody is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::oneshot;

use super::admission::{Key, key, network};

/// [`Crowd::thin`] gives back one part in this many of what is held.
const THINNED: usize = 8;

/// Everybody at one stage of their way in, over all workers, and what each holds in the crowd's own unit.
#[derive(Debug)]
pub(crate) struct Crowd {
    held_max: usize,
    /// Taken when somebody comes, goes, or holds more; never by a request.
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    held: usize,
    next: u64,
    networks: Scale<Key>,
    /// By network, the addresses in it.
    addresses: HashMap<Key, Scale<Key>>,
    /// By address and age.
    members: BTreeMap<(Key, u64), Standing>,
}

#[derive(Debug)]
struct Standing {
    holds: usize,
    /// Dropping it tells the member that it is let go.
    _stays: oneshot::Sender<()>,
}

/// How much each holds, and who holds most.
#[derive(Debug)]
struct Scale<K> {
    holds: HashMap<K, usize>,
    ranked: BTreeSet<(usize, K)>,
}

/// One of a crowd. Dropping it gives its room back.
#[derive(Debug)]
pub(crate) struct Member {
    crowd: Arc<Crowd>,
    at: (Key, u64),
}

/// How a member learns that it was let go; empty once it has.
#[derive(Debug)]
pub(crate) struct Leave(Option<oneshot::Receiver<()>>);

impl Crowd {
    /// Nobody is there yet; all together may hold `held_max`.
    pub(crate) fn new(held_max: usize) -> Arc<Self> {
        Arc::new(Self { held_max, books: Mutex::default() })
    }

    /// Somebody from `address` who holds `holds`. Others are let go if need be.
    pub(crate) fn join(self: &Arc<Self>, address: IpAddr, holds: usize) -> (Member, Leave) {
        let (stays, leave) = oneshot::channel();
        let mut books = self.books();
        let at = (key(address), books.next);
        books.next += 1;
        books.members.insert(at, Standing { holds, _stays: stays });
        books.weigh(at.0, 0, holds);
        books.shrink(self.held_max);
        drop(books);
        (Member { crowd: Arc::clone(self), at }, Leave(Some(leave)))
    }

    /// What all hold together.
    pub(crate) fn held(&self) -> usize {
        self.books().held
    }

    /// Lets a part of them go, those that hold most first: something has run out that is not counted here.
    pub(crate) fn thin(&self) {
        let mut books = self.books();
        let less = (books.held / THINNED).max(1);
        let held_max = books.held.saturating_sub(less);
        books.shrink(held_max);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Notes that somebody at `address` holds `now` instead of `before`.
    fn weigh(&mut self, address: Key, before: usize, now: usize) {
        let network = network(address);
        self.held = self.held - before + now;
        self.networks.weigh(network, before, now);
        let addresses = self.addresses.entry(network).or_default();
        addresses.weigh(address, before, now);
        if addresses.heaviest().is_none() {
            self.addresses.remove(&network);
        }
    }

    fn remove(&mut self, at: (Key, u64)) {
        if let Some(standing) = self.members.remove(&at) {
            self.weigh(at.0, standing.holds, 0);
        }
    }

    /// Lets members go until no more than `held_max` is held.
    fn shrink(&mut self, held_max: usize) {
        while self.held > held_max {
            let Some(oldest) = self.heaviest().and_then(|address| self.oldest(address)) else { return };
            self.remove(oldest);
        }
    }

    fn heaviest(&self) -> Option<Key> {
        self.addresses.get(&self.networks.heaviest()?)?.heaviest()
    }

    fn oldest(&self, address: Key) -> Option<(Key, u64)> {
        let (oldest, _) = self.members.range((address, 0)..=(address, u64::MAX)).next()?;
        Some(*oldest)
    }
}

impl<K: Copy + Ord + Hash> Scale<K> {
    fn weigh(&mut self, key: K, before: usize, now: usize) {
        let held = self.holds.get(&key).copied().unwrap_or(0);
        let holds = held - before + now;
        self.ranked.remove(&(held, key));
        if holds == 0 {
            self.holds.remove(&key);
        } else {
            self.holds.insert(key, holds);
            self.ranked.insert((holds, key));
        }
    }

    fn heaviest(&self) -> Option<K> {
        self.ranked.last().map(|(_, key)| *key)
    }
}

impl<K> Default for Scale<K> {
    fn default() -> Self {
        Self { holds: HashMap::new(), ranked: BTreeSet::new() }
    }
}

impl Member {
    /// It holds `holds` from now on. Others are let go if need be, or itself.
    pub(crate) fn holds(&self, holds: usize) {
        let mut books = self.crowd.books();
        // It may have been let go already.
        let Some(standing) = books.members.get_mut(&self.at) else { return };
        let before = std::mem::replace(&mut standing.holds, holds);
        books.weigh(self.at.0, before, holds);
        books.shrink(self.crowd.held_max);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.books().remove(self.at);
    }
}

impl Leave {
    /// What `work` comes to; `None` as soon as its member was let go. The work is dropped then.
    pub(crate) async fn unless<F: Future>(&mut self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let is_let_go = self.0.as_mut().is_none_or(|stays| Pin::new(stays).poll(cx).is_ready());
            if is_let_go {
                self.0 = None;
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    type Joined = (Member, Leave);

    fn join(crowd: &Arc<Crowd>, address: &str, holds: usize) -> Joined {
        crowd.join(address.parse().unwrap(), holds)
    }

    fn stays((_, leave): &mut Joined) -> bool {
        leave.unless(pending::<()>()).now_or_never().is_none()
    }

    #[test]
    fn r23_the_oldest_of_the_address_that_holds_most_makes_room() {
        let crowd = Crowd::new(4);
        let mut honest = join(&crowd, "192.0.2.1", 1);
        let mut flood: Vec<Joined> = (0..3).map(|_| join(&crowd, "192.0.2.2", 1)).collect();
        assert!(flood.iter_mut().all(stays), "there is room for four");
        let mut newcomer = join(&crowd, "192.0.2.3", 1);
        assert_eq!(flood.iter_mut().map(stays).collect::<Vec<_>>(), [false, true, true]);
        let mut more = join(&crowd, "::ffff:192.0.2.2", 1);
        assert_eq!(flood.iter_mut().map(stays).collect::<Vec<_>>(), [false, false, true], "its own oldest");
        assert!(stays(&mut honest) && stays(&mut newcomer) && stays(&mut more));
        assert_eq!(crowd.held(), 4);
    }

    #[test]
    fn r23_it_counts_what_is_held_and_not_how_many_hold_it() {
        let crowd = Crowd::new(100);
        let mut small: Vec<Joined> = (0..5).map(|_| join(&crowd, "192.0.2.1", 10)).collect();
        let mut large = join(&crowd, "192.0.2.2", 10);
        large.0.holds(50);
        assert!(stays(&mut large) && small.iter_mut().all(stays));
        large.0.holds(51);
        assert!(!stays(&mut large), "who grows the most makes room, itself if need be");
        assert!(small.iter_mut().all(stays));
        large.0.holds(90);
        assert_eq!(crowd.held(), 50, "who was let go holds nothing");
    }

    #[test]
    fn r23_all_networks_of_one_owner_count_together_and_among_them_each_for_itself() {
        let crowd = Crowd::new(6);
        let mut honest = [join(&crowd, "192.0.2.1", 1), join(&crowd, "192.0.2.1", 1)];
        // Of one /48: an address with two connections, and others with one each.
        let mut neighbours = [join(&crowd, "2001:db8:0:1::1", 1), join(&crowd, "2001:db8:0:2::1", 1)];
        let mut loud = [join(&crowd, "2001:db8:0:9::1", 1), join(&crowd, "2001:db8:0:9:8::2", 1)];
        let mut other = join(&crowd, "2001:db8:1:1::1", 1);
        assert_eq!(loud.each_mut().map(stays), [false, true]);
        assert!(honest.iter_mut().all(stays) && neighbours.iter_mut().all(stays) && stays(&mut other));
        // However many addresses of it there are, others lose nothing.
        let _many: Vec<Joined> =
            (0..1000).map(|n| join(&crowd, &format!("2001:db8:0:{n:x}::1"), 1)).collect();
        assert!(honest.iter_mut().all(stays) && stays(&mut other));
        assert_eq!(crowd.held(), 6);
    }

    #[test]
    fn what_has_gone_leaves_nothing_behind() {
        let crowd = Crowd::new(2);
        let members: Vec<Joined> =
            ["192.0.2.1", "192.0.2.1", "2001:db8::1"].map(|address| join(&crowd, address, 1)).into();
        drop(members);
        let books = crowd.books();
        assert!(books.members.is_empty() && books.addresses.is_empty() && books.networks.holds.is_empty());
        assert_eq!((books.held, books.networks.ranked.len()), (0, 0));
    }

    #[test]
    fn thinning_lets_an_eighth_go_and_at_least_one() {
        let crowd = Crowd::new(100);
        let mut members: Vec<Joined> = (0..17).map(|_| join(&crowd, "192.0.2.1", 1)).collect();
        crowd.thin();
        assert_eq!(members.iter_mut().map(stays).collect::<Vec<_>>()[..3], [false, false, true]);
        assert_eq!(crowd.held(), 15);
        drop(members);
        crowd.thin();
        let mut one = join(&crowd, "192.0.2.1", 1);
        crowd.thin();
        assert!(!stays(&mut one));
    }

    #[test]
    fn work_goes_on_until_it_is_done_or_its_member_let_go() {
        let crowd = Crowd::new(1);
        let (_member, mut leave) = join(&crowd, "192.0.2.1", 1);
        assert_eq!(leave.unless(ready(7)).now_or_never(), Some(Some(7)));
        assert_eq!(leave.unless(pending::<u8>()).now_or_never(), None);
        let _other = join(&crowd, "192.0.2.1", 1);
        assert_eq!(leave.unless(ready(7)).now_or_never(), Some(None), "let go at once");
    }

    proptest! {
        #[test]
        fn r23_whoever_holds_less_than_an_equal_part_loses_nothing(
            moves in proptest::collection::vec((0_u8..12, 1_usize..20, any::<bool>()), 1..200),
        ) {
            const PART: usize = 20;
            // Twelve loud addresses and one quiet one, which never holds more than its part of what there is.
            let crowd = Crowd::new(13 * PART);
            let mut quiet = [join(&crowd, "192.0.2.200", PART / 2), join(&crowd, "192.0.2.200", PART / 2)];
            let mut loud = Vec::new();
            for (who, holds, goes) in moves {
                if goes && !loud.is_empty() {
                    drop(loud.remove(usize::from(who) % loud.len()));
                } else {
                    loud.push(join(&crowd, &format!("192.0.2.{who}"), holds));
                }
                prop_assert!(crowd.held() <= 13 * PART);
                prop_assert!(quiet.iter_mut().all(stays));
            }
            drop((quiet, loud));
            prop_assert_eq!(crowd.held(), 0);
        }
    }
}
