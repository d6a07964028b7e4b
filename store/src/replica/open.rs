//! Opening the replica: owning its directory, and believing only partitions whose fingerprint fits.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, RwLock, mpsc};

use mezusphere_model::Clock;
use mezusphere_model::document::Partition;
use mezusphere_model::seal::Seal;
use tokio::sync::Notify;

use super::apply::{self, QUEUE_LEN};
use super::change::Teller;
use super::disk::{Disk, DiskError};
use super::record::{self, Content, Position};
use super::{Damage, NEVER, Replica, Shared};
use crate::lock::{DirLock, DirLockError};

/// Name of the file whose lock means ownership of the directory.
const LOCK: &str = "replica.lock";

/// Why a replica cannot be opened. Damage is not among the reasons: a damaged one is put aside and begun anew.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the replica {} is in use by {}", path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The replica's directory.
        path: PathBuf,
        /// The process that holds it, if it said so.
        holder: Option<u32>,
    },
    /// The directory cannot be created or written.
    #[error("cannot write to {}: {source}", path.display())]
    Unwritable {
        /// The replica's directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl Replica {
    /// Opens or creates the replica in `dir`. `seal` closes documents that hold keys.
    ///
    /// Blocks: it reads everything there is once, to check it. Call it before the I/O threads run.
    pub fn open(dir: &Path, clock: Clock, seal: Arc<dyn Seal>) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: dir.to_owned(), source };
        let lock = DirLock::take(dir, LOCK).map_err(|why| match why {
            DirLockError::Held(holder) => OpenError::Locked { path: dir.to_owned(), holder },
            DirLockError::Io(source) => unwritable(source),
        })?;
        let disk = Disk::open(dir).map_err(unwritable)?;
        let checked = match check(&disk) {
            Ok(checked) => checked,
            Err(why) => {
                tracing::warn!(?why, "The replica cannot be read; it is fetched anew");
                disk.begin_anew(why).map_err(unwritable)?;
                Checked::default()
            }
        };
        let shared = Arc::new(Shared {
            disk,
            seal,
            clock,
            positions: RwLock::new(
                checked.positions.into_iter().map(|(at, position)| (at, Some(position))).collect(),
            ),
            contact: AtomicI64::new(checked.contact),
            teller: Teller::new(),
            damage: Mutex::new(Damage::default()),
            damage_found: Notify::new(),
        });
        let (ops, queue) = mpsc::sync_channel(QUEUE_LEN);
        let writer = std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || apply::run(&shared, &queue)
            })
            .map_err(unwritable)?;
        Ok(Self { shared, ops: Some(ops), writer: Some(writer), _lock: lock })
    }
}

/// What an opened database holds.
struct Checked {
    positions: HashMap<Partition, Position>,
    contact: i64,
}

impl Default for Checked {
    fn default() -> Self {
        Self { positions: HashMap::new(), contact: NEVER }
    }
}

/// Reads everything once and removes every partition that is not exactly what its cursor says.
fn check(disk: &Disk) -> Result<Checked, DiskError> {
    let mut checked = Checked { contact: read_contact(disk)?, ..Checked::default() };
    disk.scan(record::CURSORS, record::CURSORS, |key, value| {
        let partition = record::partition_of_cursor_key(&key);
        if let (Some(partition), Ok(position)) = (partition, Position::read(&key, &value)) {
            checked.positions.insert(partition, position);
        }
        true
    })?;
    let found = contents(disk)?;
    let fits = |partition: &Partition, content: &Content| {
        checked.positions.get(partition).is_some_and(|position| position.content == *content)
    };
    let bad: Vec<_> = found.iter().filter(|(p, content)| !fits(p, content)).map(|(p, _)| *p).collect();
    checked
        .positions
        .retain(|partition, position| found.get(partition).copied().unwrap_or_default() == position.content);
    for partition in bad {
        tracing::warn!(%partition, "A partition of the replica is not whole; it is fetched anew");
        apply::remove_all(disk, partition)?;
    }
    Ok(checked)
}

/// The fingerprint of each partition as it is on the disk. A bad value makes it differ.
fn contents(disk: &Disk) -> Result<HashMap<Partition, Content>, DiskError> {
    let mut found: HashMap<Partition, Content> = HashMap::new();
    disk.scan(record::DOCUMENTS, record::DOCUMENTS, |key, value| {
        if let Some((partition, _)) = record::parts_of_document_key(&key) {
            found.entry(partition).or_default().add(&key, &value);
        }
        true
    })?;
    disk.scan(record::INDEX, record::INDEX, |key, value| {
        if let Ok(partition) = record::read_index(&key, &value) {
            found.entry(partition).or_default().add(&key, &value);
        }
        true
    })?;
    Ok(found)
}

fn read_contact(disk: &Disk) -> Result<i64, DiskError> {
    let Some(value) = disk.get(record::CONTACT)? else { return Ok(NEVER) };
    let bytes = record::read(record::CONTACT, &value).ok().and_then(|payload| payload.try_into().ok());
    Ok(bytes.map_or(NEVER, i64::from_be_bytes))
}
