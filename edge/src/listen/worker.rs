//! A worker: one thread with a runtime of its own, so that what a connection needs stays on one core.

use std::pin::Pin;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::drain::Drain;
use crate::config::StartError;

/// What is to be done last on a worker, when no task of the edge is left.
pub(super) type End = Pin<Box<dyn Future<Output = ()>>>;

/// A worker's thread. Ends when the drain has finished.
pub(super) struct Worker {
    /// Resolves when the thread is about to end, so that joining it does not block.
    over: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts a thread that calls `begin` on its runtime, which spawns the worker's tasks. Returns when it has.
    pub(super) fn start(
        name: String,
        drain: &Drain,
        begin: impl FnOnce() -> Result<End, StartError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build().map_err(StartError::Worker)?;
        let (ending, over) = oneshot::channel();
        let (tell, told) = sync_channel(1);
        let drain = drain.clone();
        let run = move || {
            runtime.block_on(async {
                // Whoever starts the worker waits for exactly this.
                match begin() {
                    Ok(end) => {
                        drop(tell.send(Ok(())));
                        drain.finished().await;
                        end.await;
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
            drop(runtime);
            // Nobody listens if the edge was dropped instead of drained.
            ending.send(()).ok();
        };
        let thread = std::thread::Builder::new().name(name).spawn(run).map_err(StartError::Worker)?;
        told.recv().map_err(|_| StartError::Worker(std::io::ErrorKind::Other.into()))??;
        Ok(Self { over, thread })
    }

    /// Waits for the thread's end.
    pub(super) async fn join(self) {
        // An error is a thread that panicked, which is an end as well.
        drop(self.over.await);
        drop(self.thread.join());
    }
}
