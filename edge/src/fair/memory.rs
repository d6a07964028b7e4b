//! Memory for bodies that stand still: whoever does not read holds up to a window of octets somewhere in the edge, and
//! under pressure those that have stood still longest are given up.
//!
//! A body that is over with its first piece is never entered here. For any other, [`Metered`] notes when its taker last
//! asked for more. Giving one up means dropping it where it comes from: that frees what waits there at once, whatever its
//! taker does; the taker finds it broken when it asks again.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use http_body::{Body, Frame, SizeHint};
use mezusphere_telemetry::Counter;
use tokio::time::Instant;
use tunnel_proto::limits::STREAM_WINDOW;

use super::FairLimits;
use crate::http::{BodyError, BoxError, Protocol};

/// What the counter of bodies given up counts.
pub(crate) const SHED_HELP: &str = "Bodies that stood still and were given up for their memory";

/// Most octets of a response that wait while its client does not read: the receive window of its stream in the tunnel.
pub(crate) const RESPONSE_HELD_MAX: u32 = STREAM_WINDOW;

/// Most octets of a request that wait while its upstream does not read: what is gathered for the tunnel, and what its
/// protocol takes in ahead: a read buffer, or the receive window of the client's stream.
pub(crate) const fn request_held_max(protocol: Protocol) -> u32 {
    const GATHERED: u32 = 64 * 1024;
    GATHERED
        + match protocol {
            Protocol::H1 => 64 * 1024,
            Protocol::H2 => 256 * 1024,
            Protocol::H3 => STREAM_WINDOW,
        }
}

/// A body not longer than this is not entered: a budget of 512 MiB has room for all of them that an edge takes.
pub(crate) const SMALL_LEN_MAX: u64 = 16 * 1024;

/// When pressure is over: seven eighths of the budget, so that it does not begin again at once.
const RELIEF: (u64, u64) = (7, 8);

/// Every body that may hold memory for somebody who does not take it.
pub(crate) struct Ledger {
    budget: u64,
    stalled: Duration,
    begun: Instant,
    next: AtomicU64,
    entries: DashMap<u64, Arc<dyn Holder>>,
    held: AtomicU64,
    shed: Counter,
}

/// Somebody's body, as the ledger sees it.
trait Holder: Send + Sync {
    /// Since when it has waited for its taker, in milliseconds, and the octets it may hold; `None` if its taker waits for it.
    fn waits(&self) -> Option<(u64, u64)>;

    /// Frees what it holds.
    fn let_go(&self);
}

impl Ledger {
    pub(crate) fn new(limits: &FairLimits, shed: Counter) -> Self {
        Self {
            budget: limits.bodies_held,
            stalled: limits.stalled,
            begun: Instant::now(),
            next: AtomicU64::new(0),
            entries: DashMap::new(),
            held: AtomicU64::new(0),
            shed,
        }
    }

    /// Octets that were held when it was last looked through.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Looks it through. If more is held than the budget, gives up what has stood still longest.
    pub(crate) fn relieve(&self) {
        let entries = self.entries.iter();
        let waiting = entries.filter_map(|entry| {
            let (since, octets) = entry.waits()?;
            Some((since, octets, Arc::clone(entry.value())))
        });
        let mut waiting: Vec<_> = waiting.collect();
        let mut held: u64 = waiting.iter().map(|(_, octets, _)| octets).sum();
        if held > self.budget {
            let now = self.now();
            let stalled = u64::try_from(self.stalled.as_millis()).unwrap_or(u64::MAX);
            waiting.retain(|(since, ..)| now.saturating_sub(*since) >= stalled);
            waiting.sort_unstable_by_key(|(since, ..)| *since);
            let enough = self.budget / RELIEF.1 * RELIEF.0;
            let mut count: u64 = 0;
            for (_, octets, holder) in waiting {
                if held <= enough {
                    break;
                }
                holder.let_go();
                held = held.saturating_sub(octets);
                count += 1;
            }
            if count > 0 {
                self.shed.inc_by(count);
                let budget = self.budget;
                tracing::warn!(count, held, budget, "Bodies that stood still were given up for their memory");
            }
        }
        self.held.store(held, Ordering::Relaxed);
    }

    /// Milliseconds since it began.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A body whose taker is watched. Costs a few instructions for one that ends with its first piece.
pub(crate) struct Metered<B: Body<Data = Bytes, Error = BoxError> + Unpin + Send + 'static> {
    /// The body, until it is entered.
    alone: Option<B>,
    entered: Option<(u64, Arc<Entry<B>>)>,
    ledger: Arc<Ledger>,
    /// Most octets that wait in it.
    window: u32,
}

struct Entry<B> {
    /// `None` once it was given up.
    body: Mutex<Option<B>>,
    /// When its taker was last given something, in the ledger's milliseconds.
    given_at: AtomicU64,
    /// Whether its taker has asked for more since, or nothing is left.
    is_wanted: AtomicBool,
    /// Octets it may hold.
    octets: AtomicU64,
}

impl<B> Entry<B> {
    /// Held for one poll of this one body, or to take it away: nobody waits for it.
    fn body(&self) -> MutexGuard<'_, Option<B>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Send> Holder for Entry<B> {
    fn waits(&self) -> Option<(u64, u64)> {
        if self.is_wanted.load(Ordering::Relaxed) {
            return None;
        }
        Some((self.given_at.load(Ordering::Relaxed), self.octets.load(Ordering::Relaxed)))
    }

    fn let_go(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
        let body = self.body().take();
        // After the lock is free: a body lets go of a stream when it goes, and perhaps of a task.
        drop(body);
    }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin + Send + 'static> Metered<B> {
    /// Watches who takes `body`, in which up to `window` octets wait.
    pub(crate) fn new(body: B, window: u32, ledger: &Arc<Ledger>) -> Self {
        Self { alone: Some(body), entered: None, ledger: Arc::clone(ledger), window }
    }

    /// Enters the body, unless what is left of it is small.
    fn enter(&mut self) {
        let octets = self.alone.as_ref().map_or(0, |body| held(body, self.window));
        if octets <= SMALL_LEN_MAX {
            return;
        }
        let entry = Arc::new(Entry {
            body: Mutex::new(self.alone.take()),
            given_at: AtomicU64::new(self.ledger.now()),
            is_wanted: AtomicBool::new(false),
            octets: AtomicU64::new(octets),
        });
        let serial = self.ledger.next.fetch_add(1, Ordering::Relaxed);
        self.ledger.entries.insert(serial, Arc::clone(&entry) as Arc<dyn Holder>);
        self.entered = Some((serial, entry));
    }
}

/// Octets that may wait in a body.
fn held(body: &impl Body, window: u32) -> u64 {
    let window = u64::from(window);
    if body.is_end_stream() { 0 } else { body.size_hint().upper().map_or(window, |left| left.min(window)) }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin + Send + 'static> Body for Metered<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(body) = &mut this.alone {
            let frame = ready!(Pin::new(body).poll_frame(cx));
            if matches!(frame, Some(Ok(_))) {
                this.enter();
            }
            return Poll::Ready(frame);
        }
        let Some((_, entry)) = &this.entered else { return Poll::Ready(None) };
        let mut place = entry.body();
        let Some(body) = &mut *place else { return Poll::Ready(Some(Err(BodyError::Shed.into()))) };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        let octets = if matches!(frame, Poll::Ready(Some(Ok(_)))) { held(body, this.window) } else { 0 };
        if octets > 0 {
            entry.octets.store(octets, Ordering::Relaxed);
            entry.given_at.store(this.ledger.now(), Ordering::Relaxed);
        }
        entry.is_wanted.store(octets == 0, Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        match (&self.alone, &self.entered) {
            (Some(body), _) => body.is_end_stream(),
            (None, Some((_, entry))) => entry.body().as_ref().is_some_and(Body::is_end_stream),
            (None, None) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.alone, &self.entered) {
            (Some(body), _) => body.size_hint(),
            (None, Some((_, entry))) => entry.body().as_ref().map_or_else(SizeHint::new, Body::size_hint),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin + Send + 'static> Drop for Metered<B> {
    fn drop(&mut self) {
        if let Some((serial, _)) = &self.entered {
            drop(self.ledger.entries.remove(serial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use futures_util::FutureExt as _;

    /// A body of pieces at hand, and then nothing for ever.
    struct Pieces {
        left: VecDeque<Bytes>,
        dropped: Arc<AtomicBool>,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.left.pop_front().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
        }
    }

    impl Drop for Pieces {
        fn drop(&mut self) {
            self.dropped.store(true, Ordering::Relaxed);
        }
    }

    const WINDOW: u32 = 1000 * 1000;

    fn ledger(windows: u64) -> Arc<Ledger> {
        let bodies_held = windows * u64::from(WINDOW);
        Arc::new(Ledger::new(&FairLimits { bodies_held, ..FairLimits::default() }, Counter::default()))
    }

    fn body(ledger: &Arc<Ledger>, pieces: usize) -> (Metered<Pieces>, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        let left = std::iter::repeat_n(Bytes::from_static(b"piece"), pieces).collect();
        (Metered::new(Pieces { left, dropped: Arc::clone(&dropped) }, WINDOW, ledger), dropped)
    }

    fn next(body: &mut Metered<Pieces>) -> Option<bool> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).now_or_never()?;
        Some(frame.is_some_and(|frame| frame.is_ok()))
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn r23_under_pressure_the_body_that_stood_still_longest_is_given_up() {
        let ledger = ledger(2);
        let (mut first, first_gone) = body(&ledger, 9);
        assert_eq!(next(&mut first), Some(true));
        pass(1).await;
        let (mut second, second_gone) = body(&ledger, 9);
        assert_eq!(next(&mut second), Some(true));
        pass(5).await;
        ledger.relieve();
        assert_eq!(ledger.held(), 2 * u64::from(WINDOW), "within the budget both may stand still");
        let (mut third, third_gone) = body(&ledger, 9);
        assert_eq!(next(&mut third), Some(true));
        ledger.relieve();
        let gone = [&first_gone, &second_gone, &third_gone].map(|gone| gone.load(Ordering::Relaxed));
        assert_eq!(gone, [true, true, false], "down to seven eighths");
        assert_eq!(ledger.shed.get(), 2);
        assert_eq!(next(&mut first), Some(false), "its taker finds it broken");
        assert!(!first.is_end_stream(), "and never whole");
        assert_eq!(next(&mut third), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_what_there_is_holds_nothing() {
        let ledger = ledger(0);
        let (mut eager, eager_gone) = body(&ledger, 2);
        assert_eq!((next(&mut eager), next(&mut eager), next(&mut eager)), (Some(true), Some(true), None));
        pass(60).await;
        ledger.relieve();
        assert_eq!(ledger.held(), 0, "it waits for the other side");
        assert!(!eager_gone.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moved_just_now_is_not_given_up() {
        let ledger = ledger(0);
        let (mut moving, gone) = body(&ledger, 9);
        for _ in 0..5 {
            assert_eq!(next(&mut moving), Some(true));
            pass(1).await;
            ledger.relieve();
        }
        assert!(!gone.load(Ordering::Relaxed));
        pass(2).await;
        ledger.relieve();
        assert!(gone.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_leaves_the_ledger_with_its_taker() {
        let ledger = ledger(2);
        let (mut one, _) = body(&ledger, 2);
        assert!(ledger.entries.is_empty(), "nobody is entered before the first piece");
        assert_eq!(next(&mut one), Some(true));
        assert_eq!(ledger.entries.len(), 1);
        drop(one);
        assert!(ledger.entries.is_empty());
    }
}
