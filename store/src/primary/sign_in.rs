//! Sign-ins: a user signed in at the login host. App sessions are its children and end with it.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, SignInId, UserId};
use mezusphere_model::identity::{Assurance, Method};
use mezusphere_model::token::TokenHash;

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// A sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInRow {
    /// Its id.
    pub id: SignInId,
    /// SHA-256 of the token in the login host's cookie.
    pub token_hash: TokenHash,
    /// Where the user lives.
    pub directory: DirectoryId,
    /// Who.
    pub user: UserId,
    /// How, sorted.
    pub methods: Vec<Method>,
    /// How strongly.
    pub assurance: Assurance,
    /// When they last proved it.
    pub authenticated_at: Timestamp,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends whatever happens.
    pub expires_at: Timestamp,
    /// It also ends after this long unused, in seconds; 0: never for idleness.
    pub idle_s_max: u32,
    /// When it was last used.
    pub seen_at: Timestamp,
    /// From which address.
    pub address: String,
    /// With which browser, as it said.
    pub agent: String,
    /// When it was ended, if it was.
    pub ended_at: Option<Timestamp>,
}

/// Adds a sign-in, and notes the user's last one.
pub async fn insert(tx: &mut Tx, row: &SignInRow) -> Result<(), WriteError> {
    todo!()
}

/// The sign-in whose token hashes to this, if it has not been ended. Whether it is expired or idle is the caller's check.
pub async fn find(tx: &mut ReadTx, token: &TokenHash) -> Result<Option<SignInRow>, StoreError> {
    todo!()
}

/// A directory's sign-in, ended or not.
pub async fn get(
    tx: &mut ReadTx,
    directory: DirectoryId,
    id: SignInId,
) -> Result<Option<SignInRow>, StoreError> {
    todo!()
}

/// A user's sign-ins that have not ended, by id, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    directory: DirectoryId,
    user: UserId,
    page: &PageRequest,
) -> Result<Paged<SignInRow>, StoreError> {
    todo!()
}

/// Notes that a sign-in was used; an older time than the known one changes nothing.
pub async fn seen(
    tx: &mut Tx,
    directory: DirectoryId,
    id: SignInId,
    at: Timestamp,
) -> Result<(), WriteError> {
    todo!()
}

/// Ends a sign-in with all its sessions; `false`: it had ended before.
/// Publishes a revocation in each of their projects and retracts the sessions.
pub async fn end(tx: &mut Tx, directory: DirectoryId, id: SignInId) -> Result<bool, WriteError> {
    todo!()
}

/// Ends all sign-ins of a user but `keep`, as [`end`]; returns how many.
pub async fn end_all(
    tx: &mut Tx,
    directory: DirectoryId,
    user: UserId,
    keep: Option<SignInId>,
) -> Result<u32, WriteError> {
    todo!()
}
