//! API keys: credentials of service accounts. Only the hash of a secret is here.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, ServiceAccountId};
use mezusphere_model::slug::Name;
use mezusphere_model::token::TokenHash;

use super::{ReadTx, StoreError, Tx, WriteError};

/// Most keys listed of one account, newest first; live ones are at most two, revoked ones are pruned.
pub const KEYS_LISTED_MAX: usize = 100;

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Its id, which its holder presents.
    pub id: ApiKeyId,
    /// SHA-256 of its secret.
    pub secret_hash: TokenHash,
    /// The only project it is good for.
    pub project: ProjectId,
    /// Whose.
    pub account: ServiceAccountId,
    /// The only environment it connects to; `None`: any of the project's.
    pub environment: Option<EnvironmentId>,
    /// What it may do, sorted.
    pub scopes: Vec<Name>,
    /// The last characters of its text, for people to tell keys apart.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, as far as reported.
    pub last_used_at: Option<Timestamp>,
}

/// Adds a key. Publishes it, and its account's principal.
///
/// At most two live keys per account is the use case's rule: ask [`count_live`] in the same transaction.
pub async fn insert(tx: &mut Tx, row: &ApiKeyRow) -> Result<(), WriteError> {
    todo!()
}

/// The key with this id in the whole installation, revoked ones too: for a caller who presents it. Its project is the
/// tenant of everything after.
pub async fn find(tx: &mut ReadTx, id: ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
    todo!()
}

/// A project's key.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: ApiKeyId,
) -> Result<Option<ApiKeyRow>, StoreError> {
    todo!()
}

/// An account's keys, newest first; at most [`KEYS_LISTED_MAX`].
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    account: ServiceAccountId,
) -> Result<Vec<ApiKeyRow>, StoreError> {
    todo!()
}

/// How many of an account's keys are neither revoked nor expired now.
pub async fn count_live(
    tx: &mut ReadTx,
    project: ProjectId,
    account: ServiceAccountId,
) -> Result<u32, StoreError> {
    todo!()
}

/// Revokes a key; a second time changes nothing. Retracts its document.
pub async fn revoke(tx: &mut Tx, project: ProjectId, id: ApiKeyId) -> Result<(), WriteError> {
    todo!()
}

/// Notes that a key was used; an older time than the known one changes nothing.
pub async fn used(
    tx: &mut Tx,
    project: ProjectId,
    id: ApiKeyId,
    at: Timestamp,
) -> Result<(), WriteError> {
    todo!()
}
