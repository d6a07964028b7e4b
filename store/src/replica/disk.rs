//! The sled database under the replica, and what is done when it fails.
//!
//! sled 0.34 may refuse to open after a kill because of its snapshot file, may report corruption, and
//! has code paths that panic on it. Everything the replica holds can be fetched again, so: open, else move `snap.*`
//! aside and try once more, else move the whole database aside and begin an empty one. A failure while
//! it runs begins an empty one too ([`Disk::begin_anew`]).
//!
//! Databases live in `<dir>/data.<n>`; the highest `n` is the one in use, and the newest damaged one is kept as
//! `<dir>/damaged` for a look at it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sled::{Db, IVec};

/// Memory for pages, in bytes, filled only as there is data: a node with few sessions stays far below it. sled's default
/// is 1 GiB. About 20 000 sessions stay hot in it; the edge keeps decoded ones in front.
const CACHE_LEN: u64 = 16 * 1024 * 1024;

const DAMAGED: &str = "damaged";

/// The file of a database that sled locks while it is open.
const LOCKED: &str = "db";

/// How often a database that is still locked is tried before it is called in use, and the pause between: 10 s. Whoever
/// opens one holds the directory's own lock, so what still holds sled's is its last owner's threads, about to end.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The database is damaged beyond one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskError {
    /// The device failed, or is full. The data may be good.
    Io,
    /// The data is not good.
    Damaged,
}

/// Why a database is left for an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It fails.
    Failed(DiskError),
    /// It is the copy of another installation, of another edge, or of another life of the primary.
    Foreign,
}

impl From<DiskError> for Leave {
    fn from(why: DiskError) -> Self {
        Self::Failed(why)
    }
}

/// The database in use.
pub(super) struct Disk {
    dir: PathBuf,
    current: ArcSwap<Generation>,
}

struct Generation {
    number: u64,
    db: Db,
}

impl Disk {
    /// Opens the database in `dir`, or an empty one if it cannot be saved.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let number = newest(dir)?;
        let path = data_path(dir, number);
        let (db, number) = match open_once(&path) {
            Ok(db) => (db, number),
            Err(Refusal::Io(why)) => return Err(why),
            Err(Refusal::Damage(why)) => {
                tracing::warn!(%why, "The replica cannot be opened; trying again without its snapshot file");
                set_snapshots_aside(&path)?;
                match open_once(&path) {
                    Ok(db) => (db, number),
                    Err(Refusal::Io(why)) => return Err(why),
                    Err(Refusal::Damage(why)) => {
                        tracing::warn!(%why, "The replica is damaged; it is set aside and fetched anew");
                        set_aside(dir, number)?;
                        (open_empty(dir, number + 1)?, number + 1)
                    }
                }
            }
        };
        remove_others(dir, number);
        Ok(Self { dir: dir.to_owned(), current: ArcSwap::from_pointee(Generation { number, db }) })
    }

    /// A value.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, DiskError> {
        let generation = self.current.load();
        guarded(|| generation.db.get(key))
    }

    /// Keys and values that start with `prefix`, in order, handed to `each` until it says stop.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        mut each: impl FnMut(IVec, IVec) -> bool,
    ) -> Result<(), DiskError> {
        let generation = self.current.load_full();
        let mut rows = generation.db.range(from..);
        while let Some(row) = guarded(|| rows.next().transpose())? {
            if !row.0.starts_with(prefix) || !each(row.0, row.1) {
                break;
            }
        }
        Ok(())
    }

    /// Keys and values from `from` up to but without `to`, in order, handed to `each` until it says stop.
    pub(super) fn scan_range(
        &self,
        from: &[u8],
        to: &[u8],
        mut each: impl FnMut(IVec, IVec) -> bool,
    ) -> Result<(), DiskError> {
        let generation = self.current.load_full();
        let mut rows = generation.db.range(from..to);
        while let Some(row) = guarded(|| rows.next().transpose())? {
            if !each(row.0, row.1) {
                break;
            }
        }
        Ok(())
    }

    /// Applies a batch: all of it is there after a crash, or nothing.
    pub(super) fn apply(&self, batch: sled::Batch) -> Result<(), DiskError> {
        let generation = self.current.load();
        guarded(|| generation.db.apply_batch(batch))
    }

    /// Writes what was applied to the disk. Blocks.
    pub(super) fn flush(&self) -> Result<(), DiskError> {
        let generation = self.current.load_full();
        guarded(|| generation.db.flush()).map(drop)
    }

    /// Leaves the database and begins an empty one. Blocks.
    pub(super) fn begin_anew(&self, why: Leave) -> io::Result<()> {
        let old = self.current.load().number;
        match why {
            Leave::Failed(DiskError::Damaged) => set_aside(&self.dir, old)?,
            // A full disk has no room for two, and nobody needs a look at what is only not ours.
            Leave::Failed(DiskError::Io) | Leave::Foreign => {
                remove(&self.dir.join(DAMAGED))?;
                remove(&data_path(&self.dir, old))?;
            }
        }
        remove(&data_path(&self.dir, old + 1))?; // what an attempt on a full disk left
        let db = open_empty(&self.dir, old + 1)?;
        self.current.store(Arc::new(Generation { number: old + 1, db }));
        Ok(())
    }
}

/// Calls sled; a panic in it is damage, and only the call ends.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, DiskError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(why))) => {
            tracing::error!(%why, "The replica's disk failed");
            Err(DiskError::Io)
        }
        Ok(Err(why)) => {
            tracing::error!(%why, "The replica is damaged");
            Err(DiskError::Damaged)
        }
        Err(_) => {
            tracing::error!("The replica is damaged: its database gave up");
            Err(DiskError::Damaged)
        }
    }
}

enum Refusal {
    /// The place cannot be written: starting over there would fail as well.
    Io(io::Error),
    /// The data is bad.
    Damage(String),
}

fn open_once(path: &Path) -> Result<Db, Refusal> {
    wait_until_free(path).map_err(Refusal::Io)?;
    let config = sled::Config::new().path(path).cache_capacity(CACHE_LEN).flush_every_ms(None);
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(sled::Error::Io(why))) if is_about_the_place(why.kind()) => Err(Refusal::Io(why)),
        Ok(Err(why)) => Err(Refusal::Damage(why.to_string())),
        Err(_) => Err(Refusal::Damage("its database gave up".to_owned())),
    }
}

/// Waits until nobody holds a database's lock any more: sled refuses at once, and what it says then is no damage.
fn wait_until_free(path: &Path) -> io::Result<()> {
    // If not, it is new, or cannot be read: sled says which.
    let Ok(file) = File::open(path.join(LOCKED)) else { return Ok(()) };
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return file.unlock(),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(why)) => return Err(why),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "its database is still in use"))
}

fn is_about_the_place(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, NotADirectory | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

fn open_empty(dir: &Path, number: u64) -> io::Result<Db> {
    open_once(&data_path(dir, number)).map_err(|why| match why {
        Refusal::Io(why) => why,
        Refusal::Damage(why) => io::Error::other(why),
    })
}

fn data_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("data.{number}"))
}

fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_prefix("data.")?.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

fn newest(dir: &Path) -> io::Result<u64> {
    Ok(numbers(dir)?.into_iter().max().unwrap_or(1))
}

/// Removes what a crash left behind while databases were changed.
fn remove_others(dir: &Path, number: u64) {
    for other in numbers(dir).unwrap_or_default().into_iter().filter(|other| *other != number) {
        if let Err(why) = fs::remove_dir_all(data_path(dir, other)) {
            tracing::warn!(%why, other, "An old replica cannot be removed");
        }
    }
}

fn set_snapshots_aside(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with("snap.")) {
            fs::rename(entry.path(), path.join(format!("damaged.{name}")))?;
        }
    }
    Ok(())
}

fn set_aside(dir: &Path, number: u64) -> io::Result<()> {
    let aside = dir.join(DAMAGED);
    remove(&aside)?;
    match fs::rename(data_path(dir, number), aside) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}
