//! How everything an edge started comes to an end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long a client's connection without a request stays open once draining has begun: the next request on it is answered, and
/// told that it was the last. A close that crosses a request on the wire would lose it, because HTTP/1.1 has no way to say
/// that the connection ends *before* the client decides to send (RFC 9112 §9.5).
pub const LINGER: Duration = Duration::from_secs(3);

/// How much longer tunnels take new exchanges: a request that came at the last moment is on its way by then.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// Tells tasks to end, and knows when they have. Cheap to clone; all clones are one.
///
/// Two steps: *draining* (take no new connections, finish what runs, tell peers), then *closed* (drop what is left).
/// Clients are told first and tunnels once no client is left who could need one.
/// A task spawned with [`Drain::spawn`] is owned here: [`crate::Edge::drain`] waits for it until the grace ends
/// and drops it then.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    draining: Signal,
    closed: Signal,
    tasks: TaskTracker,
    clients: TaskTracker,
    begun: Arc<OnceLock<Instant>>,
}

impl Drain {
    /// Nothing is ending yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` on this thread's runtime until it ends by itself or the edge is closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.until_closed(task));
    }

    /// The same for a task of the caller's: waited for, and dropped when all are.
    pub fn run<F: Future<Output = ()>>(&self, task: F) -> impl Future<Output = ()> + use<F> {
        self.tasks.track_future(self.until_closed(task))
    }

    fn until_closed<F: Future<Output = ()>>(&self, task: F) -> impl Future<Output = ()> + use<F> {
        let mut closed = self.closed.wait();
        // Here and not in the block below, which would hold room for the task twice: tasks are connections.
        let mut task = Box::pin(task);
        async move {
            poll_fn(|cx| match Pin::new(&mut closed).poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => task.as_mut().poll(cx),
            })
            .await;
        }
    }

    /// Resolves once draining has begun; at once if it already has.
    pub fn draining(&self) -> Waiting {
        self.draining.wait()
    }

    /// A client's connection, open until the answer is dropped.
    pub fn client(&self) -> TaskTrackerToken {
        self.clients.token()
    }

    /// Resolves once draining has begun and no client's connection is left, or all have had their time.
    pub fn deserted(&self) -> impl Future<Output = ()> + use<> {
        let (draining, clients, begun) = (self.draining(), self.clients.clone(), Arc::clone(&self.begun));
        async move {
            draining.await;
            let begun = *begun.get_or_init(Instant::now);
            // Ready either way.
            drop(timeout_at(begun + LINGER + LAST_REQUEST, clients.wait()).await);
        }
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_set()
    }

    /// Resolves once everything left is to be dropped.
    pub fn closed(&self) -> Waiting {
        self.closed.wait()
    }

    /// Step one.
    pub fn begin(&self) {
        self.begun.get_or_init(Instant::now);
        self.draining.set();
        self.clients.close();
        self.tasks.close();
    }

    /// Step two.
    pub fn close(&self) {
        self.begin();
        self.closed.set();
    }

    /// Resolves once draining has begun and no task is left.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }
}

/// Something that happens once. Asking whether it has costs one atomic load.
#[derive(Clone, Debug, Default)]
struct Signal {
    /// Set before the token is cancelled: lets [`Waiting`] look without a lock.
    is_set: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Signal {
    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.token.cancel();
    }

    fn wait(&self) -> Waiting {
        Waiting {
            is_set: Arc::clone(&self.is_set),
            token: Box::pin(self.token.clone().cancelled_owned()),
            is_registered: false,
        }
    }
}

/// Resolves when a step has begun. To be polled by one task only; often, if need be: from the second poll on, a
/// look costs one atomic load, so connections can look whenever they are woken.
pub struct Waiting {
    is_set: Arc<AtomicBool>,
    token: Pin<Box<WaitForCancellationFutureOwned>>,
    is_registered: bool,
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_set.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        // Once registered, this task is woken; asking the token again would take its lock each time.
        if self.is_registered {
            return Poll::Pending;
        }
        self.is_registered = true;
        self.token.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_waiting_task_is_told_and_waited_for() {
        let drain = Drain::new();
        let draining = drain.draining();
        drain.spawn(async move {
            draining.await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        tokio::task::yield_now().await;
        assert!(!drain.is_draining());
        drain.begin();
        assert!(drain.is_draining());
        drain.finished().await;
    }

    #[tokio::test(start_paused = true)]
    async fn tunnels_are_told_once_no_client_is_left_or_all_have_had_their_time() {
        let drain = Drain::new();
        let client = drain.client();
        drain.begin();
        let begun = Instant::now();
        assert!(tokio::time::timeout(Duration::from_secs(1), drain.deserted()).await.is_err());
        drop(client);
        drain.deserted().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));

        let drain = Drain::new();
        let _client = drain.client();
        drain.begin();
        let begun = Instant::now();
        // Asked again and again, as a loop does: it does not begin anew each time.
        while tokio::time::timeout(Duration::from_millis(700), drain.deserted()).await.is_err() {}
        assert!(begun.elapsed() <= LINGER + LAST_REQUEST + Duration::from_millis(1), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_drops_what_is_left() {
        let drain = Drain::new();
        drain.spawn(std::future::pending());
        drain.begin();
        assert!(tokio::time::timeout(Duration::from_secs(30), drain.finished()).await.is_err());
        drain.close();
        drain.finished().await;
    }
}
