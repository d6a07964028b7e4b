//! Opening the replica: owning its directory, and believing only partitions whose fingerprint fits ([`whole`]).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, mpsc};

use mezusphere_model::Clock;
use mezusphere_model::document::Partition;
use mezusphere_model::seal::Seal;
use tokio::sync::Notify;

use super::apply::{self, QUEUE_LEN};
use super::change::Teller;
use super::contact::{Contact, Moment};
use super::disk::{Disk, DiskError, Leave};
use super::record::{self, Content, Position};
use super::{Damage, Replica, Shared, Standing, whole};
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
    /// Opens or creates the replica in `dir`, whosever copy it is. `seal` closes documents that hold keys.
    ///
    /// For whoever looks at a copy; an edge opens its own with [`Replica::open_for`]. Blocks: unless it was
    /// closed in order it reads everything there is, to check it. Call it before the I/O threads run.
    ///
    /// # Errors
    /// [`OpenError`]; damage is none.
    pub fn open(dir: &Path, clock: Clock, seal: Arc<dyn Seal>) -> Result<Self, OpenError> {
        Self::open_as(dir, None, clock, seal)
    }

    /// As [`Replica::open`], but a copy that is not `owner`'s is removed before anything of it is served: that of another
    /// installation, or of another edge. `owner` names both, as an edge's SPIFFE URI does.
    ///
    /// # Errors
    /// [`OpenError`]; damage is none.
    pub fn open_for(owner: &str, dir: &Path, clock: Clock, seal: Arc<dyn Seal>) -> Result<Self, OpenError> {
        Self::open_as(dir, Some(owner.to_owned()), clock, seal)
    }

    fn open_as(
        dir: &Path,
        owner: Option<String>,
        clock: Clock,
        seal: Arc<dyn Seal>,
    ) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: dir.to_owned(), source };
        let lock = DirLock::take(dir, LOCK).map_err(|why| match why {
            DirLockError::Held(holder) => OpenError::Locked { path: dir.to_owned(), holder },
            DirLockError::Io(source) => unwritable(source),
        })?;
        let disk = Disk::open(dir).map_err(unwritable)?;
        let checked = match check(&disk, owner.as_deref(), &clock) {
            Ok(checked) => checked,
            Err(why) => {
                tracing::warn!(?why, "The replica cannot be used; it is fetched anew");
                disk.begin_anew(why).map_err(unwritable)?;
                Checked::default()
            }
        };
        apply::write_owner(&disk, owner.as_deref())
            .map_err(|why| unwritable(std::io::Error::other(format!("{why:?}"))))?;
        let standing = |position| Standing { position: Some(position), was_whole: true };
        let standings = checked.positions.into_iter().map(|(at, position)| (at, standing(position)));
        let shared = Arc::new(Shared {
            disk,
            seal,
            clock,
            owner,
            standings: RwLock::new(standings.collect()),
            contact: Contact::restored(checked.contact),
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
#[derive(Default)]
struct Checked {
    positions: HashMap<Partition, Position>,
    contact: Option<Moment>,
}

/// Removes every partition that is not exactly what its cursor says. Reads everything for that, unless the copy was closed
/// in order.
fn check(disk: &Disk, owner: Option<&str>, clock: &Clock) -> Result<Checked, Leave> {
    if owner.is_some() && !is_owned_by(disk, owner)? {
        return Err(Leave::Foreign);
    }
    let contact = read_contact(disk, clock)?;
    let cursors = whole::cursors(disk)?;
    if whole::take_mark(disk, &cursors)? {
        return Ok(Checked { positions: cursors.positions, contact });
    }
    let found = whole::contents(disk, &cursors)?;
    let mut positions = cursors.positions;
    let fits = |partition: &Partition, content: &Content| {
        positions.get(partition).is_some_and(|position| position.content == *content)
    };
    let bad: Vec<_> = found.iter().filter(|(p, content)| !fits(p, content)).map(|(p, _)| *p).collect();
    positions
        .retain(|partition, position| found.get(partition).copied().unwrap_or_default() == position.content);
    for partition in bad {
        tracing::warn!(%partition, "A partition of the replica is not whole; it is fetched anew");
        apply::remove_all(disk, partition)?;
    }
    Ok(Checked { positions, contact })
}

/// Whether the database says so, or is empty.
fn is_owned_by(disk: &Disk, owner: Option<&str>) -> Result<bool, DiskError> {
    if let Some(value) = disk.get(record::OWNER)? {
        return Ok(record::read(record::OWNER, &value).ok() == owner.map(str::as_bytes));
    }
    let mut is_empty = true;
    disk.scan(&[], &[], |_, _| {
        is_empty = false;
        false
    })?;
    Ok(is_empty)
}

/// When the copy was up to date; a value that cannot be read counts as never.
fn read_contact(disk: &Disk, clock: &Clock) -> Result<Option<Moment>, DiskError> {
    let Some(value) = disk.get(record::CONTACT)? else { return Ok(None) };
    Ok(Moment::read(&value, clock).unwrap_or_default())
}
