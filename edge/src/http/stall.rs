//! Notices a peer that neither sends nor reads.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Measures how long nothing has moved. Costs nothing while things move: the timer is made at the first wait,
/// and pushed on only when it rings.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    /// When the present wait has lasted too long; `None` while nothing is waited for.
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Set when waits are somebody else's to bound.
    off: Option<Arc<AtomicBool>>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, deadline: None, timer: None, off: None }
    }

    /// The same for a request's body until `is_answered`: from then on the body is half of a conversation, whose pauses
    /// are its route's to bound.
    pub(super) fn until(limit: Duration, is_answered: &Arc<AtomicBool>) -> Self {
        Self { off: Some(Arc::clone(is_answered)), ..Self::new(limit) }
    }

    /// Something moved.
    pub(crate) fn moved(&mut self) {
        self.deadline = None;
    }

    /// Call while something is waited for: whether the wait has lasted longer than the limit. Otherwise the
    /// task is woken when it has.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + limit);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
        false
    }

    /// `poll`'s result, or `None` once it has been pending for longer than the limit.
    pub(crate) fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<T>) -> Poll<Option<T>> {
        match poll {
            Poll::Ready(value) => {
                self.moved();
                Poll::Ready(Some(value))
            }
            Poll::Pending if !self.is_off() && self.is_over(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_off(&self) -> bool {
        self.off.as_ref().is_some_and(|off| off.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_unbroken_wait_counts() {
        let mut stall = Stall::new(Duration::from_secs(30));
        let started = Instant::now();
        // Moves every 20 s for a minute, then never again.
        for _ in 0..3 {
            let wait = poll_fn(|cx| if stall.is_over(cx) { Poll::Ready(()) } else { Poll::Pending });
            assert!(tokio::time::timeout(Duration::from_secs(20), wait).await.is_err());
            stall.moved();
        }
        poll_fn(|cx| if stall.is_over(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert_eq!(started.elapsed().as_secs(), 90);
    }
}
