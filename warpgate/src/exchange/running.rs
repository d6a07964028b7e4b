//! Counts the exchanges that are running, so that a drain knows when it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A count of running exchanges, and whether new ones are still wanted. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicUsize,
    draining: AtomicBool,
    idle: Notify,
}

/// Counts one exchange while it lives.
#[derive(Debug)]
pub(crate) struct Counted(Running);

impl Running {
    /// One more, until the result is dropped.
    pub(crate) fn enter(&self) -> Counted {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// From now on an exchange counts until its last octet is acknowledged, because the connection is about to close.
    pub(crate) fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether [`Running::start_draining`] was called.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Resolves when none is running. Cancel safe.
    pub(crate) async fn idle(&self) {
        loop {
            // Made before the count is read, so that an end in between is not missed.
            let notified = self.0.idle.notified();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let inner = &self.0.0;
        if inner.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            inner.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_means_that_the_last_one_has_ended() {
        let running = Running::default();
        running.idle().await;
        let (first, second) = (running.enter(), running.enter());
        let waiting = tokio::spawn({
            let running = running.clone();
            async move { running.idle().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
