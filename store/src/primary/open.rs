//! Opening the primary, and running transactions on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mezusphere_model::seal::Seal;
use mezusphere_model::{Clock, Entropy};

use super::error::StoreError;
use super::tx::{Published, ReadTx, Tx};
use crate::feed::{AppliedReport, Epoch};
use mezusphere_model::document::Partition;

/// Why a primary cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the data directory.
    #[error("the data directory {} is in use by {}", path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that holds it, if it said so.
        holder: Option<u32>,
    },
    /// The directory or the database file cannot be created or written.
    #[error("cannot write to {}: {source}", path.display())]
    Unwritable {
        /// What cannot be written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A newer version of the product made or upgraded this database.
    #[error("{} is of schema {found}; this version understands {known} at most", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest this version knows.
        known: i64,
    },
    /// The file is a database, but not one of ours.
    #[error("{} is not a database of this product", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The file is damaged, or not a database at all.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// Anything else the database said while it was opened.
    #[error("cannot open {}: {detail}", path.display())]
    Failed {
        /// The database file.
        path: PathBuf,
        /// What the database said.
        detail: String,
    },
}

/// The primary database of a control node. Cheap to clone; the last one dropped releases the data directory.
#[derive(Clone)]
pub struct Primary(Arc<()>);

impl std::fmt::Debug for Primary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Primary")
    }
}

impl Primary {
    /// Opens `<dir>/primary.db`, creating directory and database if missing, and brings the schema up to date.
    ///
    /// Owns the directory for as long as any clone lives: a second process gets [`OpenError::Locked`].
    /// `seal` closes what is secret in it (CA keys, certificate keys, cookie keys).
    pub async fn open_sqlite(
        dir: &Path,
        clock: Clock,
        entropy: Entropy,
        seal: Arc<dyn Seal>,
    ) -> Result<Self, OpenError> {
        todo!()
    }

    /// Runs one write transaction: committed if `work` returns `Ok`, rolled back if it returns `Err` or is dropped.
    ///
    /// Writers queue for the one write connection. Once `work` has returned `Ok` the commit runs to its end
    /// even if this future is dropped; `Ok` from here means it is on disk.
    pub async fn write<T, E>(&self, work: impl AsyncFnOnce(&mut Tx) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        todo!()
    }

    /// As [`Primary::write`], and tells at which revision each partition stands after it.
    pub async fn write_published<T, E>(
        &self,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, E>,
    ) -> Result<(T, Published), E>
    where
        E: From<StoreError>,
    {
        todo!()
    }

    /// Runs one read transaction: everything in it sees the same moment. Never waits for writers.
    pub async fn read<T, E>(&self, work: impl AsyncFnOnce(&mut ReadTx) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        todo!()
    }

    /// Which life of the database this is.
    pub fn epoch(&self) -> Epoch {
        todo!()
    }

    /// Begins a new life: every follower starts over. Called after a backup was restored.
    pub async fn new_epoch(&self) -> Result<Epoch, StoreError> {
        todo!()
    }

    /// The newest report of each follower of a partition, as far as heard since this process started.
    pub fn applied(&self, partition: Partition) -> Vec<AppliedReport> {
        todo!()
    }

    /// Closes the connections and writes the log back into the database file. Clones that are left fail from then on.
    pub async fn close(&self) {
        todo!()
    }
}
