//! Whether what is on the disk is what its cursors say.
//!
//! Each cursor carries a fingerprint of its partition, and adding up the partitions again costs a walk through everything:
//! seconds for a million sessions. A copy that was closed in order says so with a mark, and is believed without the walk.
//! The mark is removed, for good, before anything else is written, and names the cursors it was made for: should it come
//! back, or anything have moved since, it does not fit and everything is walked through.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest;
use mezusphere_model::document::Partition;

use super::disk::{Disk, DiskError};
use super::record::{self, Content, Position};

/// Threads that walk, at most: more would wait for the disk.
const WALKERS_MAX: usize = 4;

/// Where a partition's documents are parted, so that several threads find work in one large one. Only the balance depends
/// on it: sessions are spread evenly over the letters, and so are nearly all of the others principals.
const PARTED_AT: [&str; 9] = [
    "principal/",
    "revocation/",
    "session/",
    "session/H",
    "session/P",
    "session/X",
    "session/f",
    "session/n",
    "session/v",
];

/// What all cursors say, by partition; and a fingerprint of exactly that.
pub(super) struct Cursors {
    pub(super) positions: HashMap<Partition, Position>,
    /// Whether each of them could be read.
    are_good: bool,
    digest: Vec<u8>,
}

/// Reads all cursors.
pub(super) fn cursors(disk: &Disk) -> Result<Cursors, DiskError> {
    let mut positions = HashMap::new();
    let mut are_good = true;
    let mut context = digest::Context::new(&digest::SHA256);
    disk.scan(record::CURSORS, record::CURSORS, |key, value| {
        context.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(&key);
        context.update(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(&value);
        match (record::partition_of_cursor_key(&key), Position::read(&key, &value)) {
            (Some(partition), Ok(position)) => drop(positions.insert(partition, position)),
            _ => are_good = false,
        }
        true
    })?;
    Ok(Cursors { positions, are_good, digest: context.finish().as_ref().to_vec() })
}

/// Marks the copy as closed in order. What was applied must be on the disk before, and nothing may be applied after.
pub(super) fn mark(disk: &Disk) -> Result<(), DiskError> {
    let cursors = cursors(disk)?;
    if !cursors.are_good {
        return Ok(());
    }
    let mut batch = sled::Batch::default();
    batch.insert(record::CLOSED, record::write(record::CLOSED, &cursors.digest));
    disk.apply(batch)
}

/// Whether the copy was closed in order with these cursors. The mark is gone from the disk when this returns.
pub(super) fn take_mark(disk: &Disk, cursors: &Cursors) -> Result<bool, DiskError> {
    let Some(value) = disk.get(record::CLOSED)? else { return Ok(false) };
    let mut batch = sled::Batch::default();
    batch.remove(record::CLOSED);
    disk.apply(batch)?;
    disk.flush()?;
    let fits = record::read(record::CLOSED, &value).is_ok_and(|digest| digest == cursors.digest);
    Ok(fits && cursors.are_good)
}

/// The fingerprint of each partition as it is on the disk. A bad value makes it differ.
pub(super) fn contents(disk: &Disk, cursors: &Cursors) -> Result<HashMap<Partition, Content>, DiskError> {
    let ranges = ranges(cursors);
    let next = AtomicUsize::new(0);
    let found: Mutex<Result<HashMap<Partition, Content>, DiskError>> = Mutex::new(Ok(HashMap::new()));
    let walkers = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, WALKERS_MAX);
    std::thread::scope(|scope| {
        for _ in 0..walkers {
            scope.spawn(|| {
                let mut own = HashMap::new();
                let walked = std::iter::from_fn(|| ranges.get(next.fetch_add(1, Ordering::Relaxed)))
                    .try_for_each(|(from, to)| walk(disk, from, to, &mut own));
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                match (walked, &mut *found) {
                    (Ok(()), Ok(all)) => {
                        for (partition, content) in own {
                            all.entry(partition).or_insert_with(Content::default).merge(content);
                        }
                    }
                    (Err(why), _) => *found = Err(why),
                    (Ok(()), Err(_)) => {}
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that counts, documents and index, in parts: from the first key of each up to the second.
fn ranges(cursors: &Cursors) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut bounds: Vec<Vec<u8>> = cursors
        .positions
        .keys()
        .flat_map(|partition| PARTED_AT.map(|key| record::document_key(*partition, key)))
        .collect();
    bounds.extend(PARTED_AT.iter().filter_map(|key| record::index_key(key)));
    let ends = [record::DOCUMENTS, record::INDEX].map(|kind| (kind.to_vec(), after(kind)));
    bounds.extend(ends.iter().flat_map(|(first, last)| [first.clone(), last.clone()]));
    bounds.sort_unstable();
    bounds.dedup();
    let pairs = bounds.iter().zip(bounds.iter().skip(1));
    let counts = |from: &Vec<u8>| ends.iter().any(|(first, last)| from >= first && from < last);
    pairs.filter(|(from, _)| counts(from)).map(|(from, to)| (from.clone(), to.clone())).collect()
}

/// The first key that is beyond all that begin with this one's only octet.
fn after(kind: &[u8]) -> Vec<u8> {
    kind.iter().map(|octet| octet.saturating_add(1)).collect()
}

fn walk(
    disk: &Disk,
    from: &[u8],
    to: &[u8],
    found: &mut HashMap<Partition, Content>,
) -> Result<(), DiskError> {
    disk.scan_range(from, to, |key, value| {
        let partition = if key.starts_with(record::INDEX) {
            record::read_index(&key, &value).ok()
        } else {
            record::parts_of_document_key(&key).map(|(partition, _)| partition)
        };
        if let Some(partition) = partition {
            found.entry(partition).or_default().add(&key, &value);
        }
        true
    })
}
