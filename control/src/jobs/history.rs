//! Writes down what accounts' histories have noted since the last look: attempts to sign in, and bursts of spraying.
//!
//! Every node writes what it noted itself, so no lease is needed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Shared;

/// Between two looks: a user who opens their history sees the attempt of just now.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Writes until `cancel`, and once more then.
pub(super) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    loop {
        let is_last = tokio::select! {
            () = cancel.cancelled() => true,
            () = tokio::time::sleep(WRITE_EVERY) => false,
        };
        if let Err(error) = shared.desk.history.flush(&shared.primary).await {
            // Kept in the queue; the next look tries again.
            tracing::warn!(%error, "The history of sign-ins could not be written");
        }
        if is_last {
            return;
        }
    }
}
