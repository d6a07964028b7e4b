//! Running transactions: many readers beside one writer in SQLite, beside several in PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::commit::{NotCommitted, Pending};
use super::error::{StoreError, store_error};
use super::migrate::epoch_text;
use super::open::Pools;
use super::postgres::transaction::{PgTx, Purpose};
use super::tx::Inner;
use super::value::args;
use super::{Primary, Published, ReadTx, Tx};
use crate::feed::Epoch;

/// How often a transaction is run at most; from the fourth time on it is alone.
pub const ATTEMPTS_MAX: u32 = 8;

/// The longest wait before the second attempt, and before any; doubled in between, with full jitter.
const BACK_OFF_MIN: Duration = Duration::from_millis(1);
const BACK_OFF_MAX: Duration = Duration::from_millis(200);

impl Primary {
    /// Runs one write transaction: committed if `work` returns `Ok`, rolled back if it returns `Err` or is dropped.
    ///
    /// In SQLite writers queue for the one write connection. In PostgreSQL they run beside each other, serializable:
    /// one that met another is run again, up to [`ATTEMPTS_MAX`] times, and so is one that lost its connection before
    /// the commit. So `work` may run several times, each time from the start; what it captures is cloned for that.
    ///
    /// Once `work` has returned `Ok` the commit runs to its end even if this future is dropped; `Ok` from here means
    /// that it is on disk.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`] if PostgreSQL went away during the commit: it is not run again then.
    pub async fn write<T, E>(&self, work: impl AsyncFnOnce(&mut Tx) -> Result<T, E> + Clone) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        self.write_published(work).await.map(|(value, _)| value)
    }

    /// As [`Primary::write`], and tells at which revision each partition stands after it.
    pub async fn write_published<T, E>(
        &self,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, E> + Clone,
    ) -> Result<(T, Published), E>
    where
        E: From<StoreError>,
    {
        // Kept until the commit, also if this future is dropped before.
        let permit = Arc::new(queue(&self.0.writers)?);
        let mut attempt = 1;
        loop {
            let inner = self.begin_write(attempt).await?;
            let read = self.read_tx(inner);
            let mut tx = Tx { read, entropy: self.0.entropy.clone(), pending: Pending::default() };
            let done = match work.clone()(&mut tx).await {
                Ok(value) => match self.commit(tx, Arc::clone(&permit)).await {
                    Ok(published) => return Ok((value, published)),
                    Err(NotCommitted { why, again }) => (E::from(why), again),
                },
                Err(why) => {
                    let again = tx.read.may_be_tried_again();
                    tx.read.give_up().await;
                    (why, again)
                }
            };
            match done {
                (_, true) if attempt < ATTEMPTS_MAX => {
                    tracing::debug!(
                        attempt,
                        "A transaction met another one, or lost its connection; trying it again"
                    );
                    self.back_off(attempt).await;
                    attempt += 1;
                }
                (why, _) => return Err(why),
            }
        }
    }

    pub(super) async fn begin_write(&self, attempt: u32) -> Result<Inner, StoreError> {
        match &self.0.pools {
            Pools::Sqlite { write, .. } => {
                let begun = write.begin_with("BEGIN IMMEDIATE").await.map_err(|why| store_error(&why))?;
                // Looked at once this writer is the one: a move may have been before it in the queue.
                if self.0.moved.load(Ordering::Acquire) {
                    return Err(StoreError::Moved);
                }
                Ok(Inner::Sqlite(begun))
            }
            Pools::Postgres { pool, .. } => {
                PgTx::begin(pool, Purpose::Write(attempt)).await.map(|tx| Inner::Postgres(Box::new(tx)))
            }
        }
    }

    /// Commits and tells followers, in a task of its own: a caller who goes away between the commit and the bell would
    /// leave followers asleep. It ends with the commit.
    async fn commit(&self, tx: Tx, permit: Arc<OwnedSemaphorePermit>) -> Result<Published, NotCommitted> {
        let shared = Arc::clone(&self.0);
        let commit = tokio::spawn(async move {
            let published = tx.finish().await?;
            let partitions = published.partitions();
            if !partitions.is_empty() {
                if let Pools::Postgres { cross, .. } = &shared.pools {
                    cross.tell(&partitions);
                }
                shared.bell.ring(partitions);
            }
            drop(permit);
            Ok(published)
        });
        commit.await.unwrap_or_else(|why| {
            let why = StoreError::OutcomeUnknown(format!("the commit was cut short: {why}"));
            Err(NotCommitted { why, again: false })
        })
    }

    /// Waits before another attempt, with full jitter: who met would meet again.
    async fn back_off(&self, attempt: u32) {
        let longest = BACK_OFF_MIN.saturating_mul(1 << attempt.min(16)).min(BACK_OFF_MAX);
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_micros(self.0.entropy.below(micros + 1))).await;
    }

    /// Runs one read transaction: everything in it sees the same moment. Never waits for writers.
    pub async fn read<T, E>(&self, work: impl AsyncFnOnce(&mut ReadTx) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let _permit = queue(&self.0.readers)?;
        let inner = match &self.0.pools {
            Pools::Sqlite { read, .. } => {
                read.begin_with("BEGIN").await.map(Inner::Sqlite).map_err(|why| store_error(&why))?
            }
            Pools::Postgres { pool, .. } => {
                Inner::Postgres(Box::new(PgTx::begin(pool, Purpose::Read).await?))
            }
        };
        let mut tx = self.read_tx(inner);
        let answer = work(&mut tx).await;
        tx.give_up().await; // nothing to write
        answer
    }

    pub(super) fn read_tx(&self, inner: Inner) -> ReadTx {
        ReadTx {
            inner,
            clock: self.0.clock.clone(),
            seal: Arc::clone(&self.0.seal),
            confined: None,
            failed: None,
        }
    }

    /// Which life of the database this is, as last seen.
    pub fn epoch(&self) -> Epoch {
        *self.0.epoch.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Begins a new life: every follower starts over. Called after a backup was restored.
    pub async fn new_epoch(&self) -> Result<Epoch, StoreError> {
        let epoch = self
            .write(async |tx| {
                let epoch = Epoch(u128::from_be_bytes(tx.entropy().bytes()));
                tx.execute("UPDATE meta SET value = $1 WHERE name = 'epoch'", args![epoch_text(epoch)])
                    .await?;
                Ok::<_, StoreError>(epoch)
            })
            .await?;
        self.set_epoch(epoch);
        Ok(epoch)
    }

    pub(super) fn set_epoch(&self, epoch: Epoch) {
        *self.0.epoch.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = epoch;
    }

    /// Closes the connections and writes the log back into the database file. Clones that are left fail from then on.
    pub async fn close(&self) {
        match &self.0.pools {
            Pools::Sqlite { write, read } => {
                read.close().await;
                write.close().await; // the last connection to close writes the log back
            }
            Pools::Postgres { pool, .. } => pool.close().await,
        }
    }
}

fn queue(waiting: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
    Arc::clone(waiting)
        .try_acquire_owned()
        .map_err(|_| StoreError::Unavailable("too many others are waiting for it".to_owned()))
}
