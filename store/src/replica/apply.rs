//! Writing to the replica: one thread takes what the follower fetched and applies it.
//!
//! Documents and cursor go in one batch, so that after a crash the copy is of some moment of the feed. Batches are
//! small ([`STEP`]): sled holds up every reader while one is applied.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mezusphere_model::document::{DocumentKey, Partition};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::Shared;
use super::contact::Moment;
use super::disk::{Disk, DiskError, Leave};
use super::kept;
use super::record::{self, Content, Position};
use super::reseal;
use super::stage::Staging;
use crate::feed::{Cursor, Entry, SnapshotPage};

/// Orders that may wait. The follower waits for each answer before it sends the next, so more than a few are a fault.
pub(super) const QUEUE_LEN: usize = 8;

/// Documents in one batch: readers wait well under a millisecond for it.
pub(super) const STEP: usize = 32;

/// What was applied is written to the disk this much later at most. Losing it in a crash costs fetching it again.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// The age is written this often: so much older than it is a copy may seem after a crash.
const AGE_EVERY: Duration = Duration::from_mins(1);

/// Kept values that are over are looked for this often.
const SWEEP_KEPT_EVERY: Duration = Duration::from_mins(5);

/// Most kept values removed in one go, so that readers are not held up; the next go takes the rest.
const SWEEP_KEPT_MAX: usize = 1000;

/// Something to do, and where to say how it went.
pub(super) enum Op {
    /// Changes since the partition's cursor.
    Entries(Partition, Vec<Entry>, Reply),
    /// A page of a snapshot, after the page that ended with this key. The last one sets the cursor given.
    Page(Partition, Option<DocumentKey>, SnapshotPage, Cursor, Reply),
    /// The partition is gone.
    Remove(Partition, Reply),
    /// Time has passed, or the copy is up to date again: the age may have to be written.
    Age,
    /// Keep this record beside the feed.
    Keep(Vec<u8>, Vec<u8>),
    /// Leave the database for an empty one.
    Anew(Leave, Reply),
    /// Write everything to the disk.
    Flush(Reply),
    /// Seal anew what was sealed with a key that is to go, and write it to the disk.
    Reseal(Reply),
}

pub(super) type Reply = oneshot::Sender<Result<(), ApplyError>>;

/// Why something was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApplyError {
    /// The changes do not follow what is here: the partition must be fetched anew.
    #[error("the copy and the feed have parted ways")]
    Diverged,
    /// The disk does not take it, or is damaged; the database is begun anew next.
    #[error("the replica's disk fails")]
    Disk(DiskError),
}

impl From<DiskError> for ApplyError {
    fn from(why: DiskError) -> Self {
        Self::Disk(why)
    }
}

/// The writing thread: works until the replica is dropped, then writes what is left to the disk.
pub(super) fn run(shared: &Shared, queue: &Receiver<Op>) {
    let mut writer = Writer { shared, snapshots: HashMap::new(), age_written: None, kept_swept: None };
    let mut dirty = false;
    loop {
        let op = if dirty { queue.recv_timeout(FLUSH_AFTER) } else { queue.recv().map_err(Into::into) };
        match op {
            Ok(op) => dirty |= writer.carry_out(op),
            Err(RecvTimeoutError::Timeout) => {
                writer.flush();
                dirty = false;
            }
            Err(RecvTimeoutError::Disconnected) => {
                writer.write_age();
                writer.flush();
                writer.mark();
                return;
            }
        }
    }
}

struct Writer<'s> {
    shared: &'s Shared,
    /// Partitions being fetched anew, with the fingerprint of what has come so far.
    snapshots: HashMap<Partition, Content>,
    /// When the age was written last, and how old the copy was then.
    age_written: Option<(Moment, Duration)>,
    /// When kept values were swept last.
    kept_swept: Option<Instant>,
}

impl Writer<'_> {
    /// Does it; says whether there is something to write to the disk now.
    fn carry_out(&mut self, op: Op) -> bool {
        let (reply, result) = match op {
            Op::Entries(partition, entries, reply) => (reply, self.entries(partition, &entries)),
            Op::Page(partition, after, page, cursor, reply) => {
                (reply, self.page(partition, after.as_ref(), page, cursor))
            }
            Op::Remove(partition, reply) => (reply, self.remove(partition)),
            Op::Age => {
                let swept = self.sweep_kept();
                return self.age() || swept;
            }
            Op::Keep(place, record) => return self.keep(place, record),
            Op::Anew(why, reply) => (reply, self.anew(why)),
            Op::Reseal(reply) => {
                let sealed = reseal::all(self.shared).and_then(|()| self.shared.disk.flush());
                (reply, sealed.map_err(ApplyError::from))
            }
            Op::Flush(reply) => {
                let flushed = self.shared.disk.flush().map_err(ApplyError::from);
                answer(reply, flushed);
                return false;
            }
        };
        if let Err(ApplyError::Disk(why)) = result {
            self.shared.damaged_disk(why);
        }
        answer(reply, result);
        true
    }

    fn flush(&self) {
        if let Err(why) = self.shared.disk.flush() {
            self.shared.damaged_disk(why);
        }
    }

    /// Says on the disk that this was an orderly end, if all that is there is whole.
    fn mark(&self) {
        let standings = self.shared.standings.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_whole = self.snapshots.is_empty() && standings.values().all(|one| one.position.is_some());
        let damage = self.shared.damage();
        if !is_whole || damage.all.is_some() || !damage.partitions.is_empty() {
            return;
        }
        drop(damage);
        // Without the mark the next start takes longer, and nothing else.
        let marked = super::whole::mark(&self.shared.disk).and_then(|()| self.shared.disk.flush());
        if let Err(why) = marked {
            tracing::debug!(?why, "The replica was not marked as closed in order");
        }
    }

    fn entries(&mut self, partition: Partition, entries: &[Entry]) -> Result<(), ApplyError> {
        let mut position = self.shared.position(partition).ok_or(ApplyError::Diverged)?;
        for step in entries.chunks(STEP) {
            let mut batch = Staging::new(self.shared, partition);
            for entry in step {
                let cursor = &mut position.cursor;
                let body = entry.body.as_deref().map(RawValue::get);
                let digest = cursor.digest.then(entry.revision, &entry.key, body);
                if entry.revision != cursor.revision + 1 || entry.digest != digest {
                    return Err(ApplyError::Diverged);
                }
                (cursor.revision, cursor.digest) = (entry.revision, digest);
                batch.stage(&entry.key, body, &mut position.content)?;
            }
            batch.write_position(&position);
            batch.commit(Some(position))?;
        }
        Ok(())
    }

    fn page(
        &mut self,
        partition: Partition,
        after: Option<&DocumentKey>,
        page: SnapshotPage,
        cursor: Cursor,
    ) -> Result<(), ApplyError> {
        if after.is_none() {
            // From here to the last page the partition is no copy of any moment.
            self.shared.lose_position(partition);
            self.snapshots.insert(partition, Content::default());
            let mut batch = Staging::new(self.shared, partition);
            batch.remove_position();
            batch.commit(None)?;
        }
        let mut content = *self.snapshots.get(&partition).ok_or(ApplyError::Diverged)?;
        let last = if page.more { page.documents.last().map(|document| document.key.clone()) } else { None };
        if page.more && last.is_none() {
            return Err(ApplyError::Diverged); // a page that leads nowhere
        }
        let documents: BTreeMap<DocumentKey, Box<RawValue>> =
            page.documents.into_iter().map(|document| (document.key, document.body)).collect();
        self.sweep(partition, after, last.as_ref(), &documents)?;
        let mut staged = documents.iter();
        loop {
            let mut batch = Staging::new(self.shared, partition);
            let mut some = false;
            for (key, body) in staged.by_ref().take(STEP) {
                some = true;
                // What is replaced is not in the fingerprint: it began at nothing with the first page.
                batch.stage(key, Some(body.get()), &mut Content::default())?;
                batch.count(key, &mut content)?;
            }
            if !some {
                break;
            }
            batch.commit(None)?;
        }
        if page.more {
            self.snapshots.insert(partition, content);
        } else {
            self.snapshots.remove(&partition);
            let position = Position { cursor, content };
            let mut batch = Staging::new(self.shared, partition);
            batch.write_position(&position);
            batch.commit(Some(position))?;
            // Whatever readers found is overwritten.
            self.shared.damage().partitions.remove(&partition);
        }
        Ok(())
    }

    /// Removes documents with keys after `after`, up to `last` or the partition's end, that are not in `keep`.
    fn sweep(
        &self,
        partition: Partition,
        after: Option<&DocumentKey>,
        last: Option<&DocumentKey>,
        keep: &BTreeMap<DocumentKey, Box<RawValue>>,
    ) -> Result<(), ApplyError> {
        let mut after = after.cloned();
        loop {
            let keys = keys_after(&self.shared.disk, partition, after.as_ref(), last, STEP)?;
            let Some(newest) = keys.last().cloned() else { return Ok(()) };
            let mut batch = Staging::new(self.shared, partition);
            for key in keys.iter().filter(|key| !keep.contains_key(key)) {
                batch.stage(key, None, &mut Content::default())?;
            }
            batch.commit(None)?;
            after = Some(newest);
        }
    }

    fn remove(&mut self, partition: Partition) -> Result<(), ApplyError> {
        self.shared.forget_position(partition);
        self.snapshots.remove(&partition);
        let mut batch = Staging::new(self.shared, partition);
        batch.remove_position();
        batch.commit(None)?;
        self.sweep(partition, None, None, &BTreeMap::new())
    }

    /// Keeps a record beside the feed. Says whether it wrote.
    fn keep(&self, place: Vec<u8>, record: Vec<u8>) -> bool {
        let mut batch = sled::Batch::default();
        batch.insert(place, record);
        if let Err(why) = self.shared.disk.apply(batch) {
            self.shared.damaged_disk(why);
        }
        true
    }

    /// Removes kept values that are over, now and then. Says whether it wrote.
    fn sweep_kept(&mut self) -> bool {
        if self.kept_swept.is_some_and(|at| at.elapsed() < SWEEP_KEPT_EVERY) {
            return false;
        }
        self.kept_swept = Some(Instant::now());
        let now = self.shared.clock.now();
        let (mut over, mut places) = (sled::Batch::default(), 0_usize);
        let scanned = self.shared.disk.scan(record::KEPT, record::KEPT, |place, value| {
            if kept::end(&place, &value).is_none_or(|end| end <= now) {
                over.remove(place);
                places += 1;
            }
            places < SWEEP_KEPT_MAX
        });
        if let Err(why) = scanned.and_then(|()| self.shared.disk.apply(over)) {
            self.shared.damaged_disk(why);
        }
        places > 0
    }

    /// Writes the age if what is on the disk would make the copy much older than it is. Says whether it wrote.
    fn age(&mut self) -> bool {
        let clock = &self.shared.clock;
        let Some(age) = self.shared.contact.oldest().map(|moment| moment.age(clock)) else { return false };
        let due = self
            .age_written
            .is_none_or(|(at, then)| at.age(clock) >= AGE_EVERY || (then >= AGE_EVERY && age < AGE_EVERY));
        due && self.write_age()
    }

    fn write_age(&mut self) -> bool {
        let clock = &self.shared.clock;
        let Some(moment) = self.shared.contact.oldest() else { return false };
        let mut batch = sled::Batch::default();
        batch.insert(record::CONTACT, moment.write(clock));
        match self.shared.disk.apply(batch) {
            Ok(()) => self.age_written = Some((Moment::now(clock), moment.age(clock))),
            Err(why) => self.shared.damaged_disk(why),
        }
        true
    }

    fn anew(&mut self, why: Leave) -> Result<(), ApplyError> {
        self.shared.standings.write().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        self.snapshots.clear();
        self.age_written = None;
        if why == Leave::Foreign {
            self.shared.contact.never(); // that was with another
        }
        let begun = self.shared.disk.begin_anew(why).map_err(|why| {
            tracing::error!(%why, "The replica cannot be begun anew");
            DiskError::Io
        });
        begun
            .and_then(|()| write_owner(&self.shared.disk, self.shared.owner.as_deref()))
            .map_err(ApplyError::from)
    }
}

/// Says whose copy a new database is.
pub(super) fn write_owner(disk: &Disk, owner: Option<&str>) -> Result<(), DiskError> {
    let Some(owner) = owner else { return Ok(()) };
    let mut batch = sled::Batch::default();
    batch.insert(record::OWNER, record::write(record::OWNER, owner.as_bytes()));
    disk.apply(batch)
}

fn answer(reply: Reply, result: Result<(), ApplyError>) {
    if reply.send(result).is_err() {
        tracing::debug!("Nobody waits for what was applied any more");
    }
}

/// Keys of documents after `after`, up to `last` or the partition's end, at most `max`.
fn keys_after(
    disk: &Disk,
    partition: Partition,
    after: Option<&DocumentKey>,
    last: Option<&DocumentKey>,
    max: usize,
) -> Result<Vec<DocumentKey>, DiskError> {
    let prefix = record::document_key(partition, "");
    let mut from = record::document_key(partition, after.map_or("", DocumentKey::as_str));
    if after.is_some() {
        from.push(0); // the first key after it
    }
    let mut keys = Vec::new();
    disk.scan(&prefix, &from, |key, _| {
        let Some((_, key)) = record::parts_of_document_key(&key) else { return true };
        if last.is_some_and(|last| key > *last) {
            return false;
        }
        keys.push(key);
        keys.len() < max
    })?;
    Ok(keys)
}

/// Removes everything of a partition that cannot be believed: cursor, documents, and every index entry that points to it.
pub(super) fn remove_all(disk: &Disk, partition: Partition) -> Result<(), DiskError> {
    let prefix = record::document_key(partition, "");
    let mut places = vec![record::cursor_key(partition)];
    disk.scan(&prefix, &prefix, |key, _| {
        places.push(key.to_vec());
        true
    })?;
    disk.scan(record::INDEX, record::INDEX, |key, value| {
        if record::read_index(&key, &value).map_or(true, |pointed| pointed == partition) {
            places.push(key.to_vec());
        }
        true
    })?;
    for step in places.chunks(STEP) {
        let mut batch = sled::Batch::default();
        for place in step {
            batch.remove(place.as_slice());
        }
        disk.apply(batch)?;
    }
    Ok(())
}
