//! Telling readers what changed, so that they refresh what they keep decoded.

use std::sync::Arc;

use mezusphere_model::document::{DocumentKey, Partition};
use tokio::sync::broadcast;

/// Batches a slow listener may fall behind before it is told to read everything again.
const BACKLOG_MAX: usize = 256;

/// What changed in the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These documents.
    Keys(Arc<[ChangedKey]>),
    /// More than can be told: read everything again.
    Everything,
    /// The replica is gone.
    Closed,
}

/// A document that was replaced or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    /// In which partition.
    pub partition: Partition,
    /// Which document.
    pub key: DocumentKey,
}

/// Hears what changes in a replica.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<Changed>);

impl Changes {
    /// Waits for the next change. Cancel safe.
    pub async fn changed(&mut self) -> Changed {
        match self.0.recv().await {
            Ok(changed) => changed,
            Err(broadcast::error::RecvError::Lagged(_)) => Changed::Everything,
            Err(broadcast::error::RecvError::Closed) => Changed::Closed,
        }
    }
}

/// The replica's end.
pub(super) struct Teller(broadcast::Sender<Changed>);

impl Teller {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG_MAX))
    }

    pub(super) fn listen(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    pub(super) fn keys(&self, keys: Vec<ChangedKey>) {
        if !keys.is_empty() {
            drop(self.0.send(Changed::Keys(keys.into()))); // without listeners nobody is told
        }
    }

    pub(super) fn everything(&self) {
        drop(self.0.send(Changed::Everything));
    }
}
