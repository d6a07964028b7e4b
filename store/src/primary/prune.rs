//! Removing what nobody needs any more: expired sign-ins, codes and links, superseded feed entries.

use super::{StoreError, Tx};

/// Most rows of each kind removed in one transaction, so that a writer never waits long for a prune.
pub const PRUNE_BATCH_MAX: u32 = 500;

/// Removes a batch of what is over; returns how many rows, so that the caller repeats until 0.
///
/// Retracts expired sessions, keys and forgotten revocations, and principals nobody needs.
pub async fn prune(tx: &mut Tx) -> Result<u32, StoreError> {
    todo!()
}
