//! Who may write how much of what goes out on a tunnel over TCP, and when: turns, and the pieces that hold them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits::{
    BULK_PAUSE_MIN, HTTP2_NARROW_AFTER, HTTP2_NARROW_LEN, HTTP2_PIECE_LEN, HTTP2_UNSENT_LEN_MAX,
};

/// Whose turn it is to write on a tunnel over TCP. HTTP/2 sends in the order in which it was given things, so what waits
/// in it is kept short: then a small answer and a ping pass thirty downloads on a narrow link in a second or two.
#[derive(Clone)]
pub(crate) struct Turns {
    /// Octets that all bulk of a tunnel may have waiting together; handed out in order of asking.
    waiting: Arc<Semaphore>,
    in_one_go: usize,
    last: Option<Instant>,
    is_narrow: bool,
}

impl Turns {
    /// Those of a new tunnel; each stream has a clone.
    pub(crate) fn new() -> Self {
        let waiting = Arc::new(Semaphore::new(HTTP2_UNSENT_LEN_MAX));
        Self { waiting, in_one_go: 0, last: None, is_narrow: false }
    }

    /// Octets that may be written at once.
    pub(super) const fn len_max(&self) -> usize {
        if self.is_narrow { HTTP2_NARROW_LEN } else { HTTP2_PIECE_LEN }
    }

    /// Waits for a turn of this many octets. Who has written little needs none.
    pub(super) async fn next(&mut self, octets: usize) -> Option<OwnedSemaphorePermit> {
        let asked = Instant::now();
        if self.last.is_some_and(|last| asked.duration_since(last) >= BULK_PAUSE_MIN) {
            self.in_one_go = 0;
        }
        self.in_one_go = self.in_one_go.saturating_add(octets);
        let turn = if self.in_one_go <= HTTP2_PIECE_LEN {
            None
        } else {
            let octets = u32::try_from(octets).unwrap_or(u32::MAX);
            Arc::clone(&self.waiting).acquire_many_owned(octets).await.ok()
        };
        let now = Instant::now();
        self.is_narrow = now.duration_since(asked) >= HTTP2_NARROW_AFTER;
        self.last = Some(now);
        turn
    }
}

/// Octets given to HTTP/2 that TCP has not taken yet.
#[derive(Default)]
pub(super) struct Unsent {
    octets: AtomicUsize,
    waker: AtomicWaker,
}

impl Unsent {
    /// Resolves when there are none.
    pub(super) async fn none(&self) {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.octets.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A part of a body, as one HTTP/2 frame if it fits: frames of ours and the data behind them. Tells when it has gone.
pub(crate) struct Piece {
    first: Bytes,
    second: Bytes,
    counted: usize,
    unsent: Arc<Unsent>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Piece {
    pub(super) fn new(
        first: Bytes,
        second: Bytes,
        turn: Option<OwnedSemaphorePermit>,
        unsent: &Arc<Unsent>,
    ) -> Self {
        let counted = first.len() + second.len();
        unsent.octets.fetch_add(counted, Ordering::AcqRel);
        Self { first, second, counted, unsent: Arc::clone(unsent), _turn: turn }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.unsent.octets.fetch_sub(self.counted, Ordering::AcqRel);
        self.unsent.waker.wake();
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.first.len() + self.second.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.first.is_empty() { &self.second } else { &self.first }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let parts = [&self.first, &self.second].into_iter().filter(|part| !part.is_empty());
        slices.iter_mut().zip(parts).map(|(slice, part)| *slice = std::io::IoSlice::new(part)).count()
    }

    fn advance(&mut self, octets: usize) {
        let of_first = octets.min(self.first.len());
        self.first.advance(of_first);
        self.second.advance(octets - of_first);
    }
}
