//! Running transactions: many readers beside one writer.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::commit::Pending;
use super::error::StoreError;
use super::migrate::epoch_text;
use super::open::{Pools, unavailable};
use super::tx::Inner;
use super::value::args;
use super::{Primary, Published, ReadTx, Tx};
use crate::feed::Epoch;

impl Primary {
    /// Runs one write transaction: committed if `work` returns `Ok`, rolled back if it returns `Err` or is dropped.
    ///
    /// Writers queue for the one write connection. Once `work` has returned `Ok` the commit runs to its end
    /// even if this future is dropped; `Ok` from here means it is on disk.
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
        let permit = queue(&self.0.writers)?;
        let inner = match &self.0.pools {
            Pools::Sqlite { write, .. } => write
                .begin_with("BEGIN IMMEDIATE")
                .await
                .map(Inner::Sqlite)
                .map_err(|why| unavailable(&why))?,
        };
        let mut tx =
            Tx { read: self.read_tx(inner), entropy: self.0.entropy.clone(), pending: Pending::default() };
        let value = match work.clone()(&mut tx).await {
            Ok(value) => value,
            Err(why) => {
                tx.give_up().await;
                return Err(why);
            }
        };
        // A task of its own: a caller who goes away between the commit and the bell would leave followers asleep. It ends
        // with the commit.
        let shared = Arc::clone(&self.0);
        let commit = tokio::spawn(async move {
            let published = tx.finish().await?;
            let partitions = published.partitions();
            if !partitions.is_empty() {
                shared.bell.ring(partitions);
            }
            drop(permit);
            Ok::<_, StoreError>(published)
        });
        let published = commit
            .await
            .map_err(|why| StoreError::Unavailable(format!("the commit was cut short: {why}")))??;
        Ok((value, published))
    }

    /// Runs one read transaction: everything in it sees the same moment. Never waits for writers.
    pub async fn read<T, E>(&self, work: impl AsyncFnOnce(&mut ReadTx) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let _permit = queue(&self.0.readers)?;
        let inner = match &self.0.pools {
            Pools::Sqlite { read, .. } => {
                read.begin_with("BEGIN").await.map(Inner::Sqlite).map_err(|why| unavailable(&why))?
            }
        };
        work(&mut self.read_tx(inner)).await
    }

    fn read_tx(&self, inner: Inner) -> ReadTx {
        ReadTx {
            inner,
            clock: self.0.clock.clone(),
            seal: Arc::clone(&self.0.seal),
            confined: None,
            failed: None,
        }
    }

    /// Which life of the database this is.
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
        *self.0.epoch.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = epoch;
        Ok(epoch)
    }

    /// Closes the connections and writes the log back into the database file. Clones that are left fail from then on.
    pub async fn close(&self) {
        match &self.0.pools {
            Pools::Sqlite { write, read } => {
                read.close().await;
                write.close().await; // the last connection to close writes the log back
            }
        }
    }
}

fn queue(waiting: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
    Arc::clone(waiting)
        .try_acquire_owned()
        .map_err(|_| StoreError::Unavailable("too many others are waiting for it".to_owned()))
}
