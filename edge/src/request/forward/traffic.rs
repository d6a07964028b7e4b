//! What the two directions of one exchange know of one another, once they run apart: when anything last moved, how the
//! client's ended, and what becomes of it when the exchange must end.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::codes::ResetCode;

use super::guard::{Guard, Over};
use super::upload::{Upload, UploadError};

/// How the client's direction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UploadEnd {
    /// All of it was handed over, or the rest is not wanted.
    Done,
    /// The client broke it off, or the tunnel did.
    Cut,
    /// The exchange may not go on.
    Denied(Over),
}

/// The client's direction, running in a task of its own; dropping it ends that, and resets the stream.
///
/// A task of its own, because a client may well send all of its request before it reads.
pub(super) struct Traffic {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    began: Instant,
    /// Milliseconds after `began` at which something last moved.
    moved_ms: AtomicU64,
    end: Mutex<(Option<UploadEnd>, Option<Waker>)>,
    order: Order,
}

/// What the other direction wants of the client's.
#[derive(Default)]
struct Order {
    /// Nothing more of the client's goes on to the upstream.
    hold: AtomicBool,
    /// The upstream is let go of, and what the client still says is taken and dropped.
    drain: AtomicBool,
    task: AtomicWaker,
}

impl Order {
    /// Ready once `what` is wanted.
    fn poll(&self, what: &AtomicBool, cx: &mut Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        if what.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Traffic {
    /// Lets the rest of a request be written while its response is read; `None` if nothing is left.
    ///
    /// `is_polite`: when it may not go on, it waits for [`Traffic::drain`] instead of cutting the upstream off.
    pub(super) fn begin(mut upload: Box<Upload>, guard: Option<Guard>, is_polite: bool) -> Option<Self> {
        if upload.is_finished() {
            return None;
        }
        upload.reset_with(ResetCode::NotNeeded);
        let shared = Arc::new(Shared {
            began: Instant::now(),
            moved_ms: AtomicU64::new(0),
            end: Mutex::default(),
            order: Order::default(),
        });
        let running = Running { upload, guard, is_polite, timer: None, shared: Arc::clone(&shared) };
        Some(Self { shared, _task: AbortOnDropHandle::new(tokio::spawn(running.run())) })
    }

    /// When something of the client's last moved.
    pub(super) fn moved(&self) -> Instant {
        self.shared.began + Duration::from_millis(self.shared.moved_ms.load(Ordering::Relaxed))
    }

    /// Ready when the client's direction has ended.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<UploadEnd> {
        let mut end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = &end.0 {
            return Poll::Ready(end.clone());
        }
        end.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Lets nothing more of the client's go on to the upstream, which hears of no end either.
    pub(super) fn hold(&self) {
        self.shared.order.hold.store(true, Ordering::Release);
        self.shared.order.task.wake();
    }

    /// Lets go of the upstream; what the client still says is taken and dropped. [`Traffic::poll_end`] is ready anew when
    /// that has ended.
    pub(super) fn drain(&self) {
        self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
        self.shared.order.drain.store(true, Ordering::Release);
        self.shared.order.task.wake();
    }
}

/// What the task owns.
struct Running {
    upload: Box<Upload>,
    guard: Option<Guard>,
    is_polite: bool,
    /// For looking at the guard: made when the client first pauses.
    timer: Option<Pin<Box<Sleep>>>,
    shared: Arc<Shared>,
}

impl Running {
    async fn run(mut self) {
        let end = std::future::poll_fn(|cx| self.poll(cx)).await;
        let is_denied = matches!(end, None | Some(UploadEnd::Denied(_)));
        if is_denied && !self.is_polite {
            self.upload.cancel(ResetCode::Denied);
        }
        if let Some(end) = end {
            self.ended(end);
        }
        if is_denied && self.is_polite {
            let shared = Arc::clone(&self.shared);
            std::future::poll_fn(|cx| shared.order.poll(&shared.order.drain, cx)).await;
            self.upload.cancel(ResetCode::Denied);
            std::future::poll_fn(|cx| self.upload.poll_drain(cx)).await;
            self.ended(UploadEnd::Done);
        }
    }

    fn ended(&self, end: UploadEnd) {
        let waker = {
            let mut ended = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
            ended.0 = Some(end);
            ended.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How the client's direction ends; `None`: the other one wants it held.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<UploadEnd>> {
        let order = &self.shared.order;
        if self.is_polite && order.poll(&order.hold, cx).is_ready() {
            return Poll::Ready(None);
        }
        let mut moved = false;
        let polled = self.upload.poll(cx, &mut moved);
        if moved {
            let after = u64::try_from(self.shared.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.shared.moved_ms.store(after, Ordering::Relaxed);
            if let Some(Err(over)) = self.guard.as_mut().map(|guard| guard.check(Instant::now())) {
                return Poll::Ready(Some(UploadEnd::Denied(over)));
            }
        }
        let end = match polled {
            Poll::Ready(Ok(()) | Err(UploadError::Stopped(_))) => Poll::Ready(UploadEnd::Done),
            Poll::Ready(Err(UploadError::Lost | UploadError::Source(_))) => Poll::Ready(UploadEnd::Cut),
            Poll::Pending => self.look(cx),
        };
        end.map(Some)
    }

    /// A reader that has stopped reading does not look at the guard, and its writer must not go on without one.
    fn look(&mut self, cx: &mut Context<'_>) -> Poll<UploadEnd> {
        let Some(guard) = &mut self.guard else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(guard.look_at())));
        while timer.as_mut().poll(cx).is_ready() {
            if let Err(over) = guard.check(Instant::now()) {
                return Poll::Ready(UploadEnd::Denied(over));
            }
            timer.as_mut().reset(guard.look_at());
        }
        Poll::Pending
    }
}
