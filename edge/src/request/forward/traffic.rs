//! What the two directions of one exchange know of one another, once they run apart: when anything last moved, and
//! how the client's ended.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::codes::ResetCode;

use super::guard::{Guard, LOOK_EVERY};
use super::upload::{Upload, UploadError};

/// How the client's direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadEnd {
    /// All of it was handed over, or the rest is not wanted.
    Done,
    /// The client broke it off, or the tunnel did.
    Cut,
    /// The caller may not go on.
    Denied,
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
}

impl Traffic {
    /// Lets the rest of a request be written while its response is read; `None` if nothing is left.
    pub(super) fn begin(mut upload: Box<Upload>, guard: Option<Guard>) -> Option<Self> {
        if upload.is_finished() {
            return None;
        }
        upload.reset_with(ResetCode::NotNeeded);
        let shared =
            Arc::new(Shared { began: Instant::now(), moved_ms: AtomicU64::new(0), end: Mutex::default() });
        let running = Running { upload, guard, timer: None, shared: Arc::clone(&shared) };
        Some(Self { shared, _task: AbortOnDropHandle::new(tokio::spawn(running.run())) })
    }

    /// When something of the client's last moved.
    pub(super) fn moved(&self) -> Instant {
        self.shared.began + Duration::from_millis(self.shared.moved_ms.load(Ordering::Relaxed))
    }

    /// Ready when the client's direction has ended.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<UploadEnd> {
        let mut end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = end.0 {
            return Poll::Ready(end);
        }
        end.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What the task owns.
struct Running {
    upload: Box<Upload>,
    guard: Option<Guard>,
    /// For looking at the guard: made when the client first pauses.
    timer: Option<Pin<Box<Sleep>>>,
    shared: Arc<Shared>,
}

impl Running {
    async fn run(mut self) {
        let end = std::future::poll_fn(|cx| self.poll(cx)).await;
        if end == UploadEnd::Denied {
            self.upload.cancel(ResetCode::Denied);
        }
        let waker = {
            let mut ended = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
            ended.0 = Some(end);
            ended.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<UploadEnd> {
        let mut moved = false;
        let polled = self.upload.poll(cx, &mut moved);
        if moved {
            let after = u64::try_from(self.shared.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.shared.moved_ms.store(after, Ordering::Relaxed);
            if self.guard.as_mut().is_some_and(|guard| !guard.holds()) {
                return Poll::Ready(UploadEnd::Denied);
            }
        }
        match polled {
            Poll::Ready(Ok(()) | Err(UploadError::Stopped(_))) => Poll::Ready(UploadEnd::Done),
            Poll::Ready(Err(UploadError::Lost | UploadError::Source(_))) => Poll::Ready(UploadEnd::Cut),
            Poll::Pending => self.look(cx),
        }
    }

    /// A reader that has stopped reading does not look at the guard, and its writer must not go on without one.
    fn look(&mut self, cx: &mut Context<'_>) -> Poll<UploadEnd> {
        let Some(guard) = &mut self.guard else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK_EVERY)));
        while timer.as_mut().poll(cx).is_ready() {
            if !guard.holds_now() {
                return Poll::Ready(UploadEnd::Denied);
            }
            timer.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
        Poll::Pending
    }
}
