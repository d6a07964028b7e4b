//! Idle connections to one upstream, newest first.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::body::RequestBody;
use crate::limits::{POOL_IDLE_FOR, POOL_IDLE_MAX, POOL_READY_MAX};

/// A connection to an upstream, in use by one exchange.
///
/// Dropped, it is closed at once, whatever it was doing: that is how the upstream learns that the client went.
pub(super) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    /// Whether it served a request before, so that the upstream may be closing it at this very moment.
    pub(super) reused: bool,
    connection: Owned,
}

/// Ends the connection's task with its owner.
struct Owned(AbortHandle);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Lease {
    pub(super) fn new(sender: SendRequest<RequestBody>, connection: AbortHandle) -> Self {
        Self { sender, reused: false, connection: Owned(connection) }
    }
}

struct Idle {
    sender: SendRequest<RequestBody>,
    connection: Owned,
    since: Instant,
}

/// The idle connections.
#[derive(Default)]
pub(super) struct Pool {
    /// One thread uses it, so the lock is never waited for. The newest is at the back.
    idle: Mutex<VecDeque<Idle>>,
}

impl Pool {
    /// The connection that became idle last, if that is less than `fresh` ago and it is still open.
    pub(super) fn take(&self, fresh: Duration) -> Option<Lease> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(newest) = idle.back() {
            if newest.since.elapsed() >= fresh {
                return None; // all others are older
            }
            let Idle { sender, connection, .. } = idle.pop_back()?;
            if sender.is_ready() {
                return Some(Lease { sender, reused: true, connection });
            }
        }
        None
    }

    /// Keeps the connection for the next request, if the upstream lets it live.
    pub(super) async fn give_back(&self, lease: Lease) {
        let Lease { mut sender, connection, .. } = lease;
        if !sender.is_ready() && !matches!(timeout(POOL_READY_MAX, sender.ready()).await, Ok(Ok(()))) {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= POOL_IDLE_MAX {
            idle.pop_front();
        }
        idle.push_back(Idle { sender, connection, since: Instant::now() });
    }

    /// Closes what was idle for too long, or was closed by the upstream.
    pub(super) fn sweep(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| kept.since.elapsed() < POOL_IDLE_FOR && !kept.sender.is_closed());
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}
