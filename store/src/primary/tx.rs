//! A transaction: queries, changes, and what is published and audited with them.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use mezusphere_model::document::{Document, DocumentKey, Partition};
use mezusphere_model::{Entropy, Timestamp};

use super::audit::AuditEntry;
use super::error::StoreError;

/// Most documents one transaction publishes or retracts: a role held by as many signed-in users can change.
pub const PUBLISH_MAX: usize = 50_000;

/// A read transaction.
pub struct ReadTx(());

/// A write transaction.
pub struct Tx(ReadTx);

impl Deref for Tx {
    type Target = ReadTx;
    fn deref(&self) -> &ReadTx {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut ReadTx {
        &mut self.0
    }
}

impl ReadTx {
    /// The time now, on the primary's clock.
    pub fn now(&self) -> Timestamp {
        todo!()
    }
}

impl Tx {
    /// The primary's randomness, for ids made inside a transaction.
    pub fn entropy(&self) -> &Entropy {
        todo!()
    }

    /// Publishes a document: followers get it once the transaction is committed, in the order of these calls.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] past [`PUBLISH_MAX`] documents or [`crate::feed::DOCUMENT_LEN_MAX`] bytes.
    pub fn publish(&mut self, partition: Partition, document: &Document) -> Result<(), StoreError> {
        todo!()
    }

    /// Removes a document from the feed; nothing happens if it is not there.
    ///
    /// # Errors
    /// As [`Tx::publish`].
    pub fn retract(&mut self, partition: Partition, key: DocumentKey) -> Result<(), StoreError> {
        todo!()
    }

    /// Appends to the organization's audit log, in the same transaction.
    pub fn audit(&mut self, entry: AuditEntry) {
        todo!()
    }
}

/// Where partitions stand after a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published(BTreeMap<Partition, u64>);

impl Published {
    /// The partition's revision after the commit, if the transaction published in it.
    pub fn revision(&self, partition: Partition) -> Option<u64> {
        self.0.get(&partition).copied()
    }
}
