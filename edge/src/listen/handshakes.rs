//! Handshakes under way: how many there may be at once, in all and from one address, and whose turn it is (R23).
//!
//! A handshake is the dearest thing a stranger can ask for: some 20 KiB while it lasts, and a key exchange and a
//! signature, which keep a thread busy for as long as a dozen requests take. [`Handshakes`] bounds the memory: who finds no room
//! waits with nothing but a socket. [`Turns`] shares the thread: between two handshakes everybody else on it has a turn,
//! so that connections that stand hardly notice a flood of new ones.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::{Full, Key, key};
use crate::config::Limits;

/// Room for handshakes. Shared by all workers of an edge; TCP and QUIC have one each.
#[derive(Debug)]
pub(crate) struct Handshakes {
    all: Arc<Semaphore>,
    all_max: usize,
    per_address_max: usize,
    /// One entry per address with a handshake under way or waiting: never more than there are connections.
    by_address: Mutex<HashMap<Key, Arc<Semaphore>>>,
}

/// A handshake under way; dropping it gives its room back.
#[derive(Debug)]
pub(crate) struct Handshake {
    _of_address: AtAddress,
    _of_all: OwnedSemaphorePermit,
}

/// An address somebody has come from, who has room of its own or waits for it.
#[derive(Debug)]
struct AtAddress {
    handshakes: Arc<Handshakes>,
    key: Key,
    semaphore: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Handshakes {
    /// Nobody is there yet.
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(limits.handshakes)),
            all_max: limits.handshakes,
            per_address_max: limits.handshakes_per_address,
            by_address: Mutex::default(),
        })
    }

    /// How many are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.all_max.saturating_sub(self.all.available_permits())
    }

    /// Room for a handshake with `address`, now or not at all.
    ///
    /// # Errors
    /// [`Full`]: there is none.
    pub(crate) fn try_begin(self: &Arc<Self>, address: IpAddr) -> Result<Handshake, Full> {
        let (mut at, of_address) = self.at(address);
        at.permit = Some(of_address.try_acquire_owned().map_err(|_| Full::Address)?);
        let of_all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full::Edge)?;
        Ok(Handshake { _of_address: at, _of_all: of_all })
    }

    /// Room for a handshake with `address` as soon as there is some: first come, first served. Cancel safe.
    ///
    /// An address that has all it may waits for its own handshakes and holds up nobody else.
    pub(crate) async fn begin(self: &Arc<Self>, address: IpAddr) -> Result<Handshake, Full> {
        let (mut at, of_address) = self.at(address);
        // Semaphores here are never closed.
        at.permit = Some(of_address.acquire_owned().await.map_err(|_| Full::Address)?);
        let of_all = Arc::clone(&self.all).acquire_owned().await.map_err(|_| Full::Edge)?;
        Ok(Handshake { _of_address: at, _of_all: of_all })
    }

    fn at(self: &Arc<Self>, address: IpAddr) -> (AtAddress, Arc<Semaphore>) {
        let key = key(address);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let semaphore =
            by_address.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.per_address_max)));
        let semaphore = Arc::clone(semaphore);
        drop(by_address);
        let at = AtAddress {
            handshakes: Arc::clone(self),
            key,
            semaphore: Some(Arc::clone(&semaphore)),
            permit: None,
        };
        (at, semaphore)
    }
}

impl Drop for AtAddress {
    fn drop(&mut self) {
        let mut by_address = self.handshakes.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the last to go sees that it is the last.
        self.permit = None;
        self.semaphore = None;
        if by_address.get(&self.key).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            by_address.remove(&self.key);
        }
    }
}

/// Whose turn it is on a worker's thread to do a handshake's cryptography.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Turns {
    /// One at a time.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Semaphore::new(1)))
    }

    /// Does `work`. Its first step, up to where it waits for the peer, comes when it is its turn, and everything else that is
    /// ready on this thread comes before the next one's. The waiting is nobody's turn.
    pub(crate) async fn take<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let turn = self.0.acquire().await;
        let mut first = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        tokio::task::yield_now().await;
        drop(turn);
        poll_fn(|cx| match std::mem::replace(&mut first, Poll::Pending) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => work.as_mut().poll(cx),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use futures_util::FutureExt as _;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    fn handshakes(handshakes: usize, handshakes_per_address: usize) -> Arc<Handshakes> {
        Handshakes::new(&Limits { handshakes, handshakes_per_address, ..Limits::default() })
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn r23_one_address_cannot_have_every_handshake() {
        let room = handshakes(3, 2);
        let first = room.try_begin(at("192.0.2.1")).unwrap();
        let _second = room.try_begin(at("::ffff:192.0.2.1")).unwrap();
        assert_eq!(room.try_begin(at("192.0.2.1")).unwrap_err(), Full::Address);
        let _other = room.try_begin(at("192.0.2.2")).unwrap();
        assert_eq!(room.try_begin(at("192.0.2.3")).unwrap_err(), Full::Edge);
        assert_eq!(room.under_way(), 3);
        drop(first);
        assert_eq!(room.under_way(), 2);
        assert!(room.try_begin(at("192.0.2.1")).is_ok());
    }

    #[test]
    fn r23_an_address_that_waits_for_itself_holds_up_nobody() {
        let room = handshakes(3, 1);
        let first = room.try_begin(at("192.0.2.1")).unwrap();
        let mut waiting = Box::pin(room.begin(at("192.0.2.1")));
        assert!(waiting.as_mut().now_or_never().is_none());
        let other = room.begin(at("192.0.2.2")).now_or_never().expect("there is room").unwrap();
        drop(first);
        let second = waiting.now_or_never().expect("it was its turn").unwrap();
        drop((second, other));
        assert_eq!(room.under_way(), 0);
        assert!(room.by_address.lock().unwrap().is_empty(), "what has gone leaves nothing behind");
    }

    #[test]
    fn whoever_gives_up_waiting_leaves_nothing_behind() {
        let room = handshakes(1, 1);
        let first = room.try_begin(at("192.0.2.1")).unwrap();
        for address in ["192.0.2.1", "192.0.2.2"] {
            assert!(room.begin(at(address)).now_or_never().is_none());
        }
        assert_eq!(room.by_address.lock().unwrap().len(), 1);
        drop(first);
        assert!(room.by_address.lock().unwrap().is_empty());
        assert!(room.try_begin(at("192.0.2.2")).is_ok());
    }

    #[tokio::test]
    async fn r23_between_two_handshakes_everybody_else_has_a_turn() {
        let worked = Rc::new(Cell::new(0_u32));
        let turns = Turns::new();
        LocalSet::new()
            .run_until(async {
                for _ in 0..100 {
                    let (worked, turns) = (Rc::clone(&worked), Arc::clone(&turns));
                    spawn_local(async move { turns.take(async { worked.set(worked.get() + 1) }).await });
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
        let (answer, answered) = tokio::sync::oneshot::channel::<u8>();
        let slow = {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { turns.take(answered).await })
        };
        yield_now().await;
        assert_eq!(turns.take(async { 7 }).await, 7, "it waits for a peer, not for a turn");
        answer.send(9).unwrap();
        assert_eq!(slow.await.unwrap(), Ok(9));
    }
}
