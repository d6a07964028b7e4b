//! Leases: a job that must run once in a cluster is run by who holds its lease.
//!
//! The token grows with every new holder. A job's writes go through [`check`] in their own transaction, so that a
//! holder who slept past the end cannot write any more (a fencing token).

use std::time::Duration;

use mezusphere_model::Timestamp;

use super::value::args;
use super::{ReadTx, StoreError, Tx};

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
    let now = tx.now();
    let expires_at = now.after(ttl);
    let row = tx
        .row(
            "INSERT INTO leases (name, holder, token, expires_at) VALUES ($1, $2, 1, $3)
             ON CONFLICT (name) DO UPDATE SET
                 token = CASE WHEN leases.holder = excluded.holder AND leases.expires_at > $4
                              THEN leases.token ELSE leases.token + 1 END,
                 holder = excluded.holder, expires_at = excluded.expires_at
             WHERE leases.holder = excluded.holder OR leases.expires_at <= $4
             RETURNING token",
            args![name, holder, expires_at, now],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Lease { name: name.to_owned(), holder: holder.to_owned(), token: row.get("token")?, expires_at }))
}

/// Whether the lease is still held with this token. Ask in the transaction that does the work.
pub async fn check(tx: &mut ReadTx, lease: &Lease) -> Result<bool, StoreError> {
    let now = tx.now();
    let row = tx
        .row(
            "SELECT 1 AS one FROM leases WHERE name = $1 AND holder = $2 AND token = $3 AND expires_at > $4",
            args![lease.name.as_str(), lease.holder.as_str(), lease.token, now],
        )
        .await?;
    Ok(row.is_some())
}

/// Gives a lease back early; nothing happens if it is not held any more.
pub async fn release(tx: &mut Tx, lease: &Lease) -> Result<(), StoreError> {
    let now = tx.now();
    tx.execute(
        "UPDATE leases SET expires_at = $4 WHERE name = $1 AND holder = $2 AND token = $3 AND expires_at > $4",
        args![lease.name.as_str(), lease.holder.as_str(), lease.token, now],
    )
    .await
    .map(drop)
}
