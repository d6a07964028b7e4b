//! Leases: a job that must run once in a cluster is run by who holds its lease.
//!
//! The token grows with every new holder. A job's writes go through [`check`] in their own transaction, so that a
//! holder who slept past the end cannot write any more (a fencing token).

use std::time::Duration;

use mezusphere_model::Timestamp;

use super::{ReadTx, StoreError, Tx, WriteError};

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Of which job.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// The fencing token.
    pub token: u64,
    /// Until when, unless renewed.
    pub expires_at: Timestamp,
}

/// Takes or prolongs a lease; `None`: somebody else holds it. The token stays while the holder does.
pub async fn acquire(
    tx: &mut Tx,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Option<Lease>, StoreError> {
    todo!()
}

/// Whether the lease is still held with this token. Ask in the transaction that does the work.
pub async fn check(tx: &mut ReadTx, lease: &Lease) -> Result<bool, StoreError> {
    todo!()
}

/// Gives a lease back early; nothing happens if it is not held any more.
pub async fn release(tx: &mut Tx, lease: &Lease) -> Result<(), WriteError> {
    todo!()
}
