//! One batch for the replica: what it writes, whom to tell, and how the partition's fingerprint moves with it.

use std::collections::HashMap;

use mezusphere_model::document::{DocumentKey, Partition};

use super::Shared;
use super::change::ChangedKey;
use super::disk::DiskError;
use super::record::{self, Content, Position, Staged};

/// A batch in the making: what it writes, what that changes, and how the fingerprint moves.
pub(super) struct Staging<'s> {
    shared: &'s Shared,
    partition: Partition,
    batch: sled::Batch,
    /// What the batch has written so far, so that a second entry for a key sees the first.
    written: HashMap<Vec<u8>, Option<Vec<u8>>>,
    changed: Vec<ChangedKey>,
}

impl<'s> Staging<'s> {
    pub(super) fn new(shared: &'s Shared, partition: Partition) -> Self {
        Self {
            shared,
            partition,
            batch: sled::Batch::default(),
            written: HashMap::new(),
            changed: Vec::new(),
        }
    }

    /// Writes or removes a document, and its index entry.
    pub(super) fn stage(
        &mut self,
        key: &DocumentKey,
        body: Option<&str>,
        content: &mut Content,
    ) -> Result<(), DiskError> {
        if let Some(index) = record::index_key(key.as_str()) {
            self.stage_index(index, body.is_some(), content)?;
        }
        let place = record::document_key(self.partition, key.as_str());
        let old = self.value(&place)?;
        let new = match body {
            None => None,
            Some(body) => {
                match record::stage(&*self.shared.seal, &place, key.as_str(), body, old.as_deref()) {
                    Staged::Same => return Ok(()),
                    Staged::New(value) => Some(value),
                }
            }
        };
        if old.is_some() || new.is_some() {
            self.changed.push(ChangedKey { partition: self.partition, key: key.clone() });
            self.put(place, old, new, content);
        }
        Ok(())
    }

    fn stage_index(&mut self, index: Vec<u8>, present: bool, content: &mut Content) -> Result<(), DiskError> {
        let new = present.then(|| record::write_index(&index, self.partition));
        let old = self.value(&index)?;
        let pointed = old.as_ref().map(|old| record::read_index(&index, old));
        let ours = pointed == Some(Ok(self.partition));
        let another = matches!(pointed, Some(Ok(_))) && !ours;
        if old != new && (present || !another) {
            // Another partition's entry was never in our fingerprint, and a damaged one is missing from it for good.
            self.put(index, old.filter(|_| ours), new, content);
        }
        Ok(())
    }

    /// Adds a document and its index entry, as they will be, to a fingerprint.
    pub(super) fn count(&self, key: &DocumentKey, content: &mut Content) -> Result<(), DiskError> {
        let place = record::document_key(self.partition, key.as_str());
        for place in [Some(place), record::index_key(key.as_str())].into_iter().flatten() {
            if let Some(value) = self.value(&place)? {
                content.add(&place, &value);
            }
        }
        Ok(())
    }

    fn value(&self, place: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        match self.written.get(place) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.shared.disk.get(place)?.map(|value| value.to_vec())),
        }
    }

    fn put(&mut self, place: Vec<u8>, old: Option<Vec<u8>>, new: Option<Vec<u8>>, content: &mut Content) {
        if let Some(old) = old {
            content.remove(&place, &old);
        }
        match &new {
            Some(new) => {
                content.add(&place, new);
                self.batch.insert(place.as_slice(), new.as_slice());
            }
            None => self.batch.remove(place.as_slice()),
        }
        self.written.insert(place, new);
    }

    pub(super) fn write_position(&mut self, position: &Position) {
        let key = record::cursor_key(self.partition);
        self.batch.insert(key.as_slice(), position.write(&key));
    }

    pub(super) fn remove_position(&mut self) {
        self.batch.remove(record::cursor_key(self.partition));
    }

    /// Applies the batch, then lets readers know.
    pub(super) fn commit(self, position: Option<Position>) -> Result<(), DiskError> {
        self.shared.disk.apply(self.batch)?;
        if let Some(position) = position {
            self.shared.set_position(self.partition, position);
        }
        self.shared.teller.keys(self.changed);
        Ok(())
    }
}
