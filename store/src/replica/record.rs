//! How things are written in the replica: keys that sort, values that prove themselves.
//!
//! Keys, all in one tree: `c | partition` a cursor, `d | partition | document key` a document,
//! `i | document key` the partition of a session or API key (found without knowing their project),
//! `m | name` facts about the replica itself. A partition is a tag and 16 bytes of id.
//!
//! Values: `version u8 = 1 | flags u8 (1: sealed) | CRC-32 u32 over key, version, flags and payload | payload`, big-endian.
//! The key is under the check sum, so that a value in the wrong place does not pass.

use aws_lc_rs::digest;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{OrganizationId, ProjectId};
use mezusphere_model::seal::Seal;

use crate::feed::{Cursor, Digest, Epoch, holds_keys};

const VERSION: u8 = 1;
const SEALED: u8 = 1;
const HEADER_LEN: usize = 6;

/// Kinds of documents that are found without knowing their partition.
const INDEXED_KINDS: [&str; 2] = ["session", "api-key"];

/// Bytes a partition takes in a key.
const PARTITION_LEN: usize = 17;

/// A value that cannot be believed: damaged, misplaced, or sealed with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadRecord;

fn partition_bytes(partition: Partition) -> [u8; PARTITION_LEN] {
    let (tag, bits) = match partition {
        Partition::Platform => (0, 0),
        Partition::Organization(id) => (1, id.bits()),
        Partition::Project(id) => (2, id.bits()),
        Partition::Control => (3, 0),
    };
    let mut bytes = [tag; PARTITION_LEN];
    for (to, from) in bytes.iter_mut().skip(1).zip(bits.to_be_bytes()) {
        *to = from;
    }
    bytes
}

fn read_partition(bytes: &[u8]) -> Option<Partition> {
    let (tag, id) = bytes.split_first()?;
    let bits = u128::from_be_bytes(id.try_into().ok()?);
    match tag {
        0 if bits == 0 => Some(Partition::Platform),
        1 => Some(Partition::Organization(OrganizationId::from_bits(bits))),
        2 => Some(Partition::Project(ProjectId::from_bits(bits))),
        3 if bits == 0 => Some(Partition::Control),
        _ => None,
    }
}

fn joined(tag: u8, partition: Partition, rest: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + PARTITION_LEN + rest.len());
    key.push(tag);
    key.extend(partition_bytes(partition));
    key.extend(rest.as_bytes());
    key
}

/// Where a partition's cursor is.
pub(super) fn cursor_key(partition: Partition) -> Vec<u8> {
    joined(b'c', partition, "")
}

/// What all cursors' keys start with.
pub(super) const CURSORS: &[u8] = b"c";

/// The partition whose cursor has this key.
pub(super) fn partition_of_cursor_key(key: &[u8]) -> Option<Partition> {
    read_partition(key.strip_prefix(CURSORS)?)
}

/// Where a document is.
pub(super) fn document_key(partition: Partition, key: &str) -> Vec<u8> {
    joined(b'd', partition, key)
}

/// What all documents' keys start with.
pub(super) const DOCUMENTS: &[u8] = b"d";

/// The partition and key of the document with this key.
pub(super) fn parts_of_document_key(key: &[u8]) -> Option<(Partition, DocumentKey)> {
    let (partition, rest) = key.strip_prefix(DOCUMENTS)?.split_at_checked(PARTITION_LEN)?;
    Some((read_partition(partition)?, DocumentKey::from_text(std::str::from_utf8(rest).ok()?)))
}

/// Where the partition of an indexed document is; `None` for kinds that are not indexed.
pub(super) fn index_key(key: &str) -> Option<Vec<u8>> {
    let kind = key.split('/').next().unwrap_or_default();
    INDEXED_KINDS.contains(&kind).then(|| {
        let mut bytes = Vec::with_capacity(1 + key.len());
        bytes.push(b'i');
        bytes.extend(key.as_bytes());
        bytes
    })
}

/// Where the age of the copy is.
pub(super) const CONTACT: &[u8] = b"mcontact";

/// What the keys of values kept beside the feed start with.
pub(super) const KEPT: &[u8] = b"k";

/// Where it says whose copy it is.
pub(super) const OWNER: &[u8] = b"mowner";

/// Where it says that the copy was closed in order.
pub(super) const CLOSED: &[u8] = b"mclosed";

/// Writes a value.
pub(super) fn write(key: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(key, 0, payload)
}

/// Reads a value's payload.
pub(super) fn read<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], BadRecord> {
    match unframe(key, value)? {
        (0, payload) => Ok(payload),
        _ => Err(BadRecord),
    }
}

/// What all index entries' keys start with.
pub(super) const INDEX: &[u8] = b"i";

/// What writing a document would change.
pub(super) enum Staged {
    /// Nothing: it is there already.
    Same,
    /// This is its new value.
    New(Vec<u8>),
}

/// The value of a document, unless `old` already says the same.
pub(super) fn stage(seal: &dyn Seal, key: &[u8], document: &str, body: &str, old: Option<&[u8]>) -> Staged {
    // Sealing the same text twice gives two values, so what was sealed is compared opened.
    let same = |old| read_document(seal, key, document, old, |text| text == body.as_bytes());
    if old.is_some_and(|old| same(old) == Ok(true) && !is_outdated(seal, key, old)) {
        return Staged::Same;
    }
    Staged::New(write_document(seal, key, document, body))
}

/// Whether a document's value was sealed with a key that is to go.
pub(super) fn is_outdated(seal: &dyn Seal, key: &[u8], value: &[u8]) -> bool {
    matches!(unframe(key, value), Ok((SEALED, payload)) if seal.is_outdated(payload))
}

/// Writes a document, sealed if its kind holds keys.
fn write_document(seal: &dyn Seal, key: &[u8], document: &str, body: &str) -> Vec<u8> {
    if holds_keys(document) {
        frame(key, SEALED, &seal.seal(&context(document), body.as_bytes()))
    } else {
        frame(key, 0, body.as_bytes())
    }
}

/// Reads a document's JSON and hands it to `then`.
pub(super) fn read_document<T>(
    seal: &dyn Seal,
    key: &[u8],
    document: &str,
    value: &[u8],
    then: impl FnOnce(&[u8]) -> T,
) -> Result<T, BadRecord> {
    match unframe(key, value)? {
        (0, payload) if !holds_keys(document) => Ok(then(payload)),
        (SEALED, payload) if holds_keys(document) => {
            let opened = seal.open(&context(document), payload).map_err(|_| BadRecord)?;
            Ok(then(&opened))
        }
        _ => Err(BadRecord),
    }
}

fn context(document: &str) -> String {
    format!("replica/{document}")
}

fn check_sum(key: &[u8], flags: u8, payload: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(&[VERSION, flags]);
    sum.update(payload);
    sum.finalize().to_be_bytes()
}

fn frame(key: &[u8], flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_LEN + payload.len());
    value.extend([VERSION, flags]);
    value.extend(check_sum(key, flags, payload));
    value.extend(payload);
    value
}

fn unframe<'v>(key: &[u8], value: &'v [u8]) -> Result<(u8, &'v [u8]), BadRecord> {
    let (header, payload) = value.split_first_chunk::<HEADER_LEN>().ok_or(BadRecord)?;
    let [version, flags, sum @ ..] = *header;
    if version == VERSION && sum == check_sum(key, flags, payload) {
        Ok((flags, payload))
    } else {
        Err(BadRecord)
    }
}

/// A partition's fingerprint: the sum of its documents' hashes, so that one that vanished, came back or fell behind is
/// noticed when the replica is opened. Order does not matter, so it is kept up to date entry by entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content(u128);

impl Content {
    fn of(key: &[u8], value: &[u8]) -> u128 {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(key);
        context.update(value);
        let hash = context.finish();
        hash.as_ref().first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes))
    }

    /// One more document.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(Self::of(key, value));
    }

    /// All the documents of another part of the partition.
    pub(super) fn merge(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// One document less.
    pub(super) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(Self::of(key, value));
    }
}

/// How far a partition's copy has come, and what it must consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) cursor: Cursor,
    pub(super) content: Content,
}

impl Position {
    pub(super) fn write(&self, key: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(72);
        payload.extend(self.cursor.epoch.0.to_be_bytes());
        payload.extend(self.cursor.revision.to_be_bytes());
        payload.extend(self.cursor.digest.0);
        payload.extend(self.content.0.to_be_bytes());
        write(key, &payload)
    }

    pub(super) fn read(key: &[u8], value: &[u8]) -> Result<Self, BadRecord> {
        let bytes = read(key, value)?;
        let (epoch, bytes) = bytes.split_first_chunk::<16>().ok_or(BadRecord)?;
        let (revision, bytes) = bytes.split_first_chunk::<8>().ok_or(BadRecord)?;
        let (digest, bytes) = bytes.split_first_chunk::<32>().ok_or(BadRecord)?;
        let content: [u8; 16] = bytes.try_into().map_err(|_| BadRecord)?;
        Ok(Self {
            cursor: Cursor {
                epoch: Epoch(u128::from_be_bytes(*epoch)),
                revision: u64::from_be_bytes(*revision),
                digest: Digest(*digest),
            },
            content: Content(u128::from_be_bytes(content)),
        })
    }
}

/// The partition an index entry points to.
pub(super) fn write_index(key: &[u8], partition: Partition) -> Vec<u8> {
    write(key, &partition_bytes(partition))
}

/// As [`write_index`] wrote it.
pub(super) fn read_index(key: &[u8], value: &[u8]) -> Result<Partition, BadRecord> {
    read_partition(read(key, value)?).ok_or(BadRecord)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_passes_only_unaltered_and_in_its_place() {
        let value = write(b"key", b"payload");
        assert_eq!(read(b"key", &value), Ok(b"payload".as_slice()));
        assert_eq!(read(b"kez", &value), Err(BadRecord));
        for at in 0..value.len() {
            let mut bad = value.clone();
            bad[at] ^= 1;
            assert_eq!(read(b"key", &bad), Err(BadRecord), "byte {at}");
            assert_eq!(read(b"key", &value[..at]), Err(BadRecord), "cut at {at}");
        }
    }

    #[test]
    fn keys_read_back_and_sort_by_partition_then_document() {
        let partitions = [
            Partition::Platform,
            Partition::Organization(OrganizationId::from_bits(9)),
            Partition::Project(ProjectId::from_bits(1)),
            Partition::Control,
        ];
        for partition in partitions {
            assert_eq!(partition_of_cursor_key(&cursor_key(partition)), Some(partition));
            let key = document_key(partition, "site/x");
            assert_eq!(parts_of_document_key(&key), Some((partition, DocumentKey::from_text("site/x"))));
        }
        assert!(partitions.map(|partition| document_key(partition, "~")).is_sorted());
    }

    #[test]
    fn a_fingerprint_does_not_depend_on_the_order_of_changes() {
        let (mut one, mut other) = (Content::default(), Content::default());
        one.add(b"a", b"1");
        one.add(b"b", b"2");
        other.add(b"b", b"2");
        other.add(b"x", b"3");
        other.add(b"a", b"1");
        assert_ne!(one, other);
        other.remove(b"x", b"3");
        assert_eq!(one, other);
    }
}
