//! Whose turn it is on a worker's thread to do a handshake's cryptography (R23).
//!
//! A key exchange and a signature keep a thread busy for as long as a dozen requests take. So there is one at a time, and
//! between two of them everybody else on the thread has a turn: connections that stand hardly notice a flood of new ones.
//! Networks take turns with each other, however many wait in one, so that a client comes after at most one of each.

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::oneshot;

use super::admission::{Key, key, network};

/// The turns of one thread.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    is_taken: bool,
    next: u64,
    /// The round whose turns are being given: each network has one in it.
    round: u64,
    /// By round and age.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Turn>>,
    /// Of each network where somebody waits: how many do, and the round after its last one's.
    networks: HashMap<Key, Waits>,
}

#[derive(Debug, Default)]
struct Waits {
    count: usize,
    next_round: u64,
}

/// A turn. Dropping it gives it to the next.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Turns>);

/// A place in the queue. Dropping it gives it up.
struct Place {
    turns: Arc<Turns>,
    network: Key,
    at: (u64, u64),
}

impl Turns {
    /// Nobody waits.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A turn for a client at `address`, when its network has one. Cancel safe.
    pub(crate) async fn wait(self: &Arc<Self>, address: IpAddr) -> Turn {
        loop {
            let (given, turn) = oneshot::channel();
            let _place = {
                let mut queue = self.queue();
                if !std::mem::replace(&mut queue.is_taken, true) {
                    return Turn(Arc::clone(self));
                }
                let network = network(key(address));
                Place { turns: Arc::clone(self), network, at: queue.enter(network, given) }
            };
            // The queue keeps its end until it gives the turn.
            if let Ok(turn) = turn.await {
                return turn;
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn enter(&mut self, network: Key, given: oneshot::Sender<Turn>) -> (u64, u64) {
        let waits = self.networks.entry(network).or_default();
        let round = waits.next_round.max(self.round);
        waits.count += 1;
        waits.next_round = round + 1;
        let at = (round, self.next);
        self.next += 1;
        self.waiting.insert(at, given);
        at
    }
}

impl Turn {
    /// Does `work`. Its first step, up to where it waits for the peer, is done in this turn, and everything else that is
    /// ready on this thread comes before the next one's. The waiting is nobody's turn.
    pub(crate) async fn spend<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut first = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        tokio::task::yield_now().await;
        drop(self);
        poll_fn(|cx| match std::mem::replace(&mut first, Poll::Pending) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => work.as_mut().poll(cx),
        })
        .await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        let Some((at, given)) = queue.waiting.pop_first() else {
            queue.is_taken = false;
            return;
        };
        queue.round = at.0;
        drop(queue);
        // Whoever gave up waiting at this moment drops the turn, which gives it to the next.
        drop(given.send(Self(Arc::clone(&self.0))));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.turns.queue();
        let given_up = queue.waiting.remove(&self.at);
        if let Some(waits) = queue.networks.get_mut(&self.network) {
            waits.count -= 1;
            if waits.count == 0 {
                queue.networks.remove(&self.network);
            }
        }
        drop(queue);
        drop(given_up);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use futures_util::FutureExt as _;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The addresses of `waiting` in the order in which they have their turns.
    fn order<'a>(turns: &Arc<Turns>, waiting: &[&'a str]) -> Vec<&'a str> {
        let first = turns.wait(at("198.51.100.1")).now_or_never().unwrap();
        let mut all: Vec<_> =
            waiting.iter().map(|address| (*address, Box::pin(turns.wait(at(address))))).collect();
        assert!(all.iter_mut().all(|(_, wait)| wait.as_mut().now_or_never().is_none()));
        let mut order = Vec::new();
        let mut turn = first;
        while !all.is_empty() {
            drop(turn);
            let (place, next) = all
                .iter_mut()
                .enumerate()
                .find_map(|(place, (_, wait))| Some((place, wait.as_mut().now_or_never()?)))
                .expect("somebody has the turn");
            order.push(all.remove(place).0);
            turn = next;
        }
        order
    }

    #[test]
    fn r23_networks_take_turns_however_many_wait_in_one() {
        let turns = Turns::new();
        let (loud, honest) = ("192.0.2.1", "192.0.2.2");
        let order =
            order(&turns, &[loud, loud, loud, loud, honest, "2001:db8::1", "2001:db8:0:1::1", honest]);
        let expected = [loud, honest, "2001:db8::1", loud, "2001:db8:0:1::1", honest, loud, loud];
        assert_eq!(order, expected);
        let queue = turns.queue();
        assert!(!queue.is_taken && queue.waiting.is_empty() && queue.networks.is_empty());
    }

    #[test]
    fn r23_who_comes_late_waits_for_one_of_each_network_and_not_for_all_before() {
        let turns = Turns::new();
        let turn = turns.wait(at("192.0.2.1")).now_or_never().unwrap();
        let mut loud: Vec<_> = (0..100).map(|_| Box::pin(turns.wait(at("192.0.2.1")))).collect();
        assert!(loud.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        drop(turn);
        let turn = loud[0].as_mut().now_or_never().expect("the oldest is next");
        let mut late = Box::pin(turns.wait(at("192.0.2.2")));
        assert!(late.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(late.now_or_never().is_some());
    }

    #[test]
    fn whoever_gives_up_waiting_leaves_nothing_behind_and_keeps_nobody_from_a_turn() {
        let turns = Turns::new();
        let turn = turns.wait(at("192.0.2.1")).now_or_never().unwrap();
        let mut gone = Box::pin(turns.wait(at("192.0.2.1")));
        let mut given = Box::pin(turns.wait(at("192.0.2.2")));
        let mut stays = Box::pin(turns.wait(at("192.0.2.3")));
        for wait in [&mut gone, &mut given, &mut stays] {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        drop(gone);
        drop(turn);
        // It was this one's turn, which never looked.
        drop(given);
        let turn = stays.now_or_never().expect("it was given on");
        drop(turn);
        let queue = turns.queue();
        assert!(!queue.is_taken && queue.waiting.is_empty() && queue.networks.is_empty());
    }

    #[tokio::test]
    async fn r23_between_two_handshakes_everybody_else_has_a_turn() {
        let worked = Rc::new(Cell::new(0_u32));
        let turns = Turns::new();
        LocalSet::new()
            .run_until(async {
                for _ in 0..100 {
                    let (worked, turns) = (Rc::clone(&worked), Arc::clone(&turns));
                    spawn_local(async move {
                        turns.wait(at("192.0.2.1")).await.spend(async { worked.set(worked.get() + 1) }).await;
                    });
                }
                // A connection that stands, with something to do each time it is asked.
                let (mut last, mut most) = (0, 0);
                while worked.get() < 100 {
                    yield_now().await;
                    most = most.max(worked.get() - last);
                    last = worked.get();
                }
                assert!(most <= 1, "{most} handshakes came before it");
            })
            .await;
    }

    #[tokio::test]
    async fn r23_a_peer_that_does_not_answer_keeps_nobody_from_their_turn() {
        let turns = Turns::new();
        let (answer, answered) = oneshot::channel::<u8>();
        let said = RefCell::new(None);
        let slow = async {
            *said.borrow_mut() = Some(turns.wait(at("192.0.2.1")).await.spend(answered).await);
        };
        let other = async {
            yield_now().await;
            assert_eq!(turns.wait(at("192.0.2.2")).await.spend(async { 7 }).await, 7);
            answer.send(9).unwrap();
        };
        tokio::join!(slow, other);
        assert_eq!(*said.borrow(), Some(Ok(9)), "it waited for a peer, not for a turn");
    }
}
