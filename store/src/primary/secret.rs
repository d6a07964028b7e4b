//! Sealed secrets: CA keys, assertion keys, cookie keys, the pepper, private keys of public certificates.
//!
//! Sealed here, under name and version, so that a secret cannot reach the disk in the clear or be moved to
//! another name.

use mezusphere_model::Timestamp;
use mezusphere_model::seal::Seal;
use zeroize::Zeroizing;

use super::value::{Column, IntoValue, Row, Value, args, word};
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

word!(SecretState { Next = "next", Current = "current", Retiring = "retiring" });

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
    pub value: Zeroizing<Vec<u8>>,
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

/// Opens a sealed value.
pub(super) fn open(seal: &dyn Seal, context: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
    seal.open(context, sealed).map_err(|why| StoreError::Damaged(format!("{context}: {why}")))
}

pub(super) fn context(name: &str, version: u32) -> String {
    format!("secret/{name}/{version}")
}

fn read(seal: &dyn Seal, row: &Row) -> Result<SecretRow, StoreError> {
    let (name, version): (String, u32) = (row.get("name")?, row.get("version")?);
    let value = open(seal, &context(&name, version), &row.get::<Vec<u8>>("sealed")?)?;
    Ok(SecretRow {
        version,
        state: row.get("state")?,
        value: Zeroizing::new(value),
        created_at: row.get("created_at")?,
        name,
    })
}

/// The version in use steps back when another one takes its place.
async fn retire_current(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE secrets SET state = $2 WHERE name = $1 AND state = $3",
        args![name, SecretState::Retiring, SecretState::Current],
    )
    .await
    .map(drop)
}

/// Adds a version: one more than the newest. A new current one makes the old one retiring.
///
/// # Errors
/// [`StoreError::TooLarge`] past [`VERSIONS_MAX`].
pub async fn add(tx: &mut Tx, name: &str, state: SecretState, value: &[u8]) -> Result<SecretRow, WriteError> {
    let present = tx
        .row(
            "SELECT COUNT(*) AS n, COALESCE(MAX(version), 0) + 1 AS version FROM secrets WHERE name = $1",
            args![name],
        )
        .await?;
    let version: u32 = present.as_ref().map(|row| row.get("version")).transpose()?.unwrap_or(1);
    super::within(present, VERSIONS_MAX, "versions of a secret")?;
    if state == SecretState::Current {
        retire_current(tx, name).await?;
    }
    let now = tx.now();
    let sealed = tx.seal.seal(&context(name, version), value);
    tx.insert(
        "secret",
        "INSERT INTO secrets (name, version, state, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![name, version, state, sealed, now],
    )
    .await?;
    Ok(SecretRow {
        name: name.to_owned(),
        version,
        state,
        value: Zeroizing::new(value.to_vec()),
        created_at: now,
    })
}

/// The current version.
///
/// # Errors
/// [`StoreError::Damaged`] if it cannot be opened: altered, or the master key is another one.
pub async fn current(tx: &mut ReadTx, name: &str) -> Result<Option<SecretRow>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM secrets WHERE name = $1 AND state = $2 ORDER BY version DESC LIMIT 1",
            args![name, SecretState::Current],
        )
        .await?;
    row.map(|row| read(&*tx.seal, &row)).transpose()
}

/// One version.
pub async fn get(tx: &mut ReadTx, name: &str, version: u32) -> Result<Option<SecretRow>, StoreError> {
    let row = tx.row("SELECT * FROM secrets WHERE name = $1 AND version = $2", args![name, version]).await?;
    row.map(|row| read(&*tx.seal, &row)).transpose()
}

/// All versions, newest first; at most [`VERSIONS_MAX`].
pub async fn list(tx: &mut ReadTx, name: &str) -> Result<Vec<SecretRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM secrets WHERE name = $1 ORDER BY version DESC LIMIT $2",
            args![name, VERSIONS_MAX],
        )
        .await?;
    rows.iter().map(|row| read(&*tx.seal, row)).collect()
}

/// Changes what a version is for. A new current one makes the old one retiring.
pub async fn set_state(tx: &mut Tx, name: &str, version: u32, state: SecretState) -> Result<(), WriteError> {
    if state == SecretState::Current {
        retire_current(tx, name).await?;
    }
    tx.change(
        "secret",
        "UPDATE secrets SET state = $3 WHERE name = $1 AND version = $2",
        args![name, version, state],
    )
    .await
}

/// Puts another value in a version's place, as when the same secret is written in another form.
pub async fn replace(tx: &mut Tx, name: &str, version: u32, value: &[u8]) -> Result<(), WriteError> {
    let sealed = tx.seal.seal(&context(name, version), value);
    tx.change(
        "secret",
        "UPDATE secrets SET sealed = $3 WHERE name = $1 AND version = $2",
        args![name, version, sealed],
    )
    .await
}

/// Forgets a version.
pub async fn delete(tx: &mut Tx, name: &str, version: u32) -> Result<(), WriteError> {
    tx.change("secret", "DELETE FROM secrets WHERE name = $1 AND version = $2", args![name, version]).await
}
