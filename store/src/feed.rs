//! The feed: what a primary publishes and followers copy; the part both ends agree on.
//!
//! Each partition is a sequence of entries with revisions 1, 2, 3… A later entry replaces an earlier one
//! of the same key; a tombstone removes it. Every entry carries a digest over all before it, so that a
//! follower notices when its copy and the primary have parted ways. A follower is at a [`Cursor`]: it
//! takes a snapshot page by page, then changes since; when the cursor does not fit (other epoch, other
//! digest, or pruned away) it starts over.
//!
//! Documents travel as the JSON the primary wrote: a reader that does not know a kind keeps it
//! unread, and an unknown field changes nothing in the digest.

use std::sync::Arc;

use aws_lc_rs::digest;
use mezusphere_model::clock::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::link::Answer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::broadcast;

/// Most documents in one snapshot page or one batch of changes; about 1 MiB of session documents.
pub const BATCH_LEN_MAX: usize = 1000;

/// Largest document, in bytes of JSON: a site of 1000 routes, or the largest signed bundle with room to spare.
pub const DOCUMENT_LEN_MAX: usize = 2 * 1024 * 1024;

/// Commits a slow listener may fall behind before it is told that anything may have changed.
const WAKE_BACKLOG_MAX: usize = 256;

/// Kinds of documents that hold keys.
#[cfg(any(feature = "primary", feature = "replica"))]
const KINDS_WITH_KEYS: [&str; 2] = ["platform", "certificate"];

/// Whether a document filed under this key holds keys: it is sealed wherever it is written.
#[cfg(any(feature = "primary", feature = "replica"))]
pub(crate) fn holds_keys(key: &str) -> bool {
    KINDS_WITH_KEYS.contains(&key.split('/').next().unwrap_or_default())
}

/// Which life of the database a revision belongs to; restoring a backup begins a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u128);

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoch({:032x})", self.0)
    }
}

/// SHA-256 over an entry and the digest before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of a partition without entries.
    pub const EMPTY: Self = Self([0; 32]);

    /// The digest after one more entry: SHA-256 of
    /// `before | revision u64 | key length u32 | key | 1 and the body, or 0 for a tombstone`, big-endian.
    #[must_use]
    pub fn then(self, revision: u64, key: &DocumentKey, body: Option<&str>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        context.update(&revision.to_be_bytes());
        context.update(&u32::try_from(key.as_str().len()).unwrap_or(u32::MAX).to_be_bytes());
        context.update(key.as_str().as_bytes());
        match body {
            Some(body) => {
                context.update(&[1]);
                context.update(body.as_bytes());
            }
            None => context.update(&[0]),
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How far a follower has come in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// In which life of the primary.
    pub epoch: Epoch,
    /// The last entry applied; 0: none.
    pub revision: u64,
    /// That entry's digest.
    pub digest: Digest,
}

/// Where a partition ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which partition.
    pub partition: Partition,
    /// Its last entry.
    pub cursor: Cursor,
}

/// A current document, as a snapshot carries it.
#[derive(Clone, Debug)]
pub struct Filed {
    /// Where it is filed in its partition.
    pub key: DocumentKey,
    /// The [`mezusphere_model::document::Document`] as JSON.
    pub body: Box<RawValue>,
}

/// One change.
#[derive(Clone, Debug)]
pub struct Entry {
    /// One more than the entry before it.
    pub revision: u64,
    /// What it replaces or removes.
    pub key: DocumentKey,
    /// The document; `None`: it is gone.
    pub body: Option<Box<RawValue>>,
    /// Digest over this entry and all before it.
    pub digest: Digest,
}

/// Part of a snapshot, in ascending order of keys.
///
/// A snapshot is not one moment: a document changed between two pages may be in it or not. That is
/// mended by applying the changes since the cursor of its *first* page, which the follower does next.
#[derive(Clone, Debug)]
pub struct SnapshotPage {
    /// The partition's head when this page was read.
    pub cursor: Cursor,
    /// The documents.
    pub documents: Vec<Filed>,
    /// Whether there are more after the last of these.
    pub more: bool,
}

/// What happened since a cursor.
#[derive(Clone, Debug)]
pub enum Changes {
    /// These, in order, with the digests that prove it. Empty: nothing happened.
    Entries {
        /// The changes, at most as many as asked for.
        entries: Vec<Entry>,
        /// Whether there are more.
        more: bool,
    },
    /// The cursor does not fit: take a snapshot.
    StartOver,
}

/// Why a source gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// It cannot be reached now; ask again later.
    #[error("the feed is away: {0}")]
    Away(String),
    /// It answered something that makes no sense.
    #[error("the feed is damaged: {0}")]
    Damaged(String),
}

/// What a follower has applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedReport {
    /// Who: a node's id.
    pub follower: String,
    /// In which partition.
    pub partition: Partition,
    /// How far.
    pub cursor: Cursor,
    /// When, on the follower's clock.
    pub at: Timestamp,
}

/// Where a follower gets the feed from: the primary in process, or the edge link.
pub trait FeedSource: Send + Sync + 'static {
    /// Every partition with its end. A partition that is missing here is gone, with all its documents.
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>>;

    /// Current documents with keys after `after`, at most `max` and at most [`BATCH_LEN_MAX`].
    fn snapshot(
        &self,
        partition: Partition,
        after: Option<DocumentKey>,
        max: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>>;

    /// What happened in a partition since `since`, at most `max` and at most [`BATCH_LEN_MAX`] entries.
    fn changes(
        &self,
        partition: Partition,
        since: Cursor,
        max: usize,
    ) -> Answer<'_, Result<Changes, FeedError>>;

    /// Tells the source how far this follower is.
    fn applied(&self, reports: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>>;

    /// A listener that hears when partitions change. A hint only: polling is the truth.
    fn wake(&self) -> Wake;
}

/// What a [`Wake`] heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Woken {
    /// These partitions changed.
    Changed(Arc<[Partition]>),
    /// Too much happened to tell: anything may have changed.
    Anything,
    /// The source is gone; nothing more will come.
    Closed,
}

impl From<Arc<[Partition]>> for Woken {
    /// What rang; a ring that names no partition says that anything may have changed.
    fn from(changed: Arc<[Partition]>) -> Self {
        if changed.is_empty() { Self::Anything } else { Self::Changed(changed) }
    }
}

/// Hears when partitions change.
#[derive(Debug)]
pub struct Wake(broadcast::Receiver<Arc<[Partition]>>);

impl Wake {
    /// Waits for the next change. Cancel safe.
    pub async fn woken(&mut self) -> Woken {
        match self.0.recv().await {
            Ok(changed) => Woken::from(changed),
            Err(broadcast::error::RecvError::Lagged(_)) => Woken::Anything,
            Err(broadcast::error::RecvError::Closed) => Woken::Closed,
        }
    }

    /// What has been heard already, without waiting: so that a storm of hints about the same costs one question.
    pub fn already(&mut self) -> Option<Woken> {
        match self.0.try_recv() {
            Ok(changed) => Some(Woken::from(changed)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Woken::Anything),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}

/// Tells every [`Wake`] what changed. Sources hold one.
#[derive(Clone, Debug)]
pub struct Bell(broadcast::Sender<Arc<[Partition]>>);

impl Bell {
    /// A bell nobody listens to yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(WAKE_BACKLOG_MAX))
    }

    /// Tells the listeners; without listeners nothing happens.
    pub fn ring(&self, changed: Arc<[Partition]>) {
        drop(self.0.send(changed));
    }

    /// Tells the listeners that anything may have changed.
    pub fn ring_anything(&self) {
        self.ring(Arc::new([])); // no partition named
    }

    /// A new listener, which hears what rings from now on.
    pub fn listen(&self) -> Wake {
        Wake(self.0.subscribe())
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
