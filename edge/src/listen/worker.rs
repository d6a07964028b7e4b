//! A worker: one thread with a runtime of its own, so that what a connection needs stays on one core.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::drain::Drain;
use super::shared::{First, Shared};
use crate::config::StartError;

/// A worker's thread. Ends when the drain has finished.
pub(super) struct Worker {
    /// Resolves when the thread is about to end, so that joining it does not block.
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts a thread that takes connections on `listener`, and does what `first` says. Returns when it does.
    pub(super) fn start(
        index: usize,
        drain: &Drain,
        shared: Arc<Shared>,
        listener: TcpListener,
        first: Option<First>,
    ) -> Result<Self, StartError> {
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build().map_err(StartError::Worker)?;
        let (ending, ended) = oneshot::channel();
        let (begun, has_begun) = sync_channel(1);
        let drain = drain.clone();
        let thread = std::thread::Builder::new()
            .name(format!("edge-{index}"))
            .spawn(move || {
                run(&runtime, &drain, shared, listener, first, &begun);
                drop(runtime);
                // Nobody listens if the edge was dropped instead of drained.
                ending.send(()).ok();
            })
            .map_err(StartError::Worker)?;
        has_begun.recv().map_err(|_| StartError::Worker(std::io::ErrorKind::Other.into()))??;
        Ok(Self { ended, thread })
    }

    /// Waits for the thread's end.
    pub(super) async fn join(self) {
        // An error is a thread that panicked, which is an end as well.
        drop(self.ended.await);
        drop(self.thread.join());
    }
}

fn run(
    runtime: &Runtime,
    drain: &Drain,
    shared: Arc<Shared>,
    listener: TcpListener,
    first: Option<First>,
    begun: &SyncSender<Result<(), StartError>>,
) {
    runtime.block_on(async {
        let (kept, result) = match shared.begin(listener, first) {
            Ok(kept) => (kept, Ok(())),
            Err(error) => (None, Err(error)),
        };
        let is_ok = result.is_ok();
        // The other end waits for exactly this.
        drop(begun.send(result));
        if is_ok {
            drain.finished().await;
        }
        if let Some(kept) = kept {
            kept.end().await;
        }
    });
}
