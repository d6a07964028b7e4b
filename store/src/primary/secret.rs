//! Sealed secrets: CA keys, assertion keys, cookie keys, the pepper, private keys of public certificates.
//!
//! Sealed here, under name and version, so that a secret cannot reach the disk in the clear or be moved to
//! another name.

use mezusphere_model::Timestamp;

use super::{ReadTx, StoreError, Tx, WriteError};

/// Most versions of one secret.
pub const VERSIONS_MAX: usize = 20;

/// What a version is for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// Known to everybody soon, used by nobody yet.
    Next,
    /// The one in use.
    Current,
    /// Still accepted, not used for anything new.
    Retiring,
}

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Which: `ca/root`, `assertion`, `cookie`, `pepper`, `certificate/<name>`….
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// What it is for now.
    pub state: SecretState,
    /// The secret itself, opened.
    pub value: zeroize::Zeroizing<Vec<u8>>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for SecretRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretRow")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Adds a version: one more than the newest. A new current one makes the old one retiring.
pub async fn add(
    tx: &mut Tx,
    name: &str,
    state: SecretState,
    value: &[u8],
) -> Result<SecretRow, WriteError> {
    todo!()
}

/// The current version.
///
/// # Errors
/// [`StoreError::Damaged`] if it cannot be opened: altered, or the master key is another one.
pub async fn current(tx: &mut ReadTx, name: &str) -> Result<Option<SecretRow>, StoreError> {
    todo!()
}

/// One version.
pub async fn get(tx: &mut ReadTx, name: &str, version: u32) -> Result<Option<SecretRow>, StoreError> {
    todo!()
}

/// All versions, newest first; at most [`VERSIONS_MAX`].
pub async fn list(tx: &mut ReadTx, name: &str) -> Result<Vec<SecretRow>, StoreError> {
    todo!()
}

/// Changes what a version is for. A new current one makes the old one retiring.
pub async fn set_state(
    tx: &mut Tx,
    name: &str,
    version: u32,
    state: SecretState,
) -> Result<(), WriteError> {
    todo!()
}

/// Forgets a version.
pub async fn delete(tx: &mut Tx, name: &str, version: u32) -> Result<(), WriteError> {
    todo!()
}
