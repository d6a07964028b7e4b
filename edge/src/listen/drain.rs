//! How everything an edge started comes to an end.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells tasks to end, and knows when they have. Cheap to clone; all clones are one.
///
/// Two steps: *draining* (take nothing new, finish what runs, tell peers), then *closed* (drop what is left).
/// A task spawned with [`Drain::spawn`] is owned here: [`crate::listen::Edge::drain`] waits for it until the
/// grace ends and drops it then.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    draining: CancellationToken,
    closed: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// Nothing is ending yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` on this thread's runtime until it ends by itself or the edge is closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Resolves once draining has begun; at once if it already has.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves once everything left is to be dropped.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Step one.
    pub fn begin(&self) {
        self.draining.cancel();
        self.tasks.close();
    }

    /// Step two.
    pub fn close(&self) {
        self.begin();
        self.closed.cancel();
    }

    /// Resolves once draining has begun and no task is left.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }
}
