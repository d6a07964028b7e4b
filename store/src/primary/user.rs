//! Users: people in a directory.

use std::collections::BTreeMap;

use mezusphere_model::Timestamp;
use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, UserId};

use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// Their id.
    pub id: UserId,
    /// Where they live.
    pub directory: DirectoryId,
    /// E-mail address as typed; unique in the directory whatever its case.
    pub email: String,
    /// When they proved that the address is theirs.
    pub email_verified_at: Option<Timestamp>,
    /// Name to show.
    pub name: String,
    /// Whether they may act.
    pub status: Status,
    /// Custom claims.
    pub claims: BTreeMap<String, serde_json::Value>,
    /// Grows with every change of the user, their roles or what those give; the store raises it.
    pub version: u64,
    /// Sessions that began before this moment are dead.
    pub sessions_valid_from: Timestamp,
    /// When they last signed in.
    pub signed_in_at: Option<Timestamp>,
    /// When they were added.
    pub created_at: Timestamp,
    /// When they were last changed.
    pub updated_at: Timestamp,
}

/// What to change of a user; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// E-mail address; a new one is unverified.
    pub email: Option<String>,
    /// Name to show.
    pub name: Option<String>,
    /// Whether they may act.
    pub status: Option<Status>,
    /// Custom claims, replaced whole.
    pub claims: Option<BTreeMap<String, serde_json::Value>>,
}

/// Adds a user.
pub async fn insert(tx: &mut Tx, row: &UserRow) -> Result<(), WriteError> {
    todo!()
}

/// A directory's user.
pub async fn get(
    tx: &mut ReadTx,
    directory: DirectoryId,
    id: UserId,
) -> Result<Option<UserRow>, StoreError> {
    todo!()
}

/// A directory's user by e-mail address, whatever its case.
pub async fn find(
    tx: &mut ReadTx,
    directory: DirectoryId,
    email: &str,
) -> Result<Option<UserRow>, StoreError> {
    todo!()
}

/// A directory's users by folded e-mail address, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    directory: DirectoryId,
    page: &PageRequest,
) -> Result<Paged<UserRow>, StoreError> {
    todo!()
}

/// Changes a user. Publishes their principals anew wherever one is published.
pub async fn update(
    tx: &mut Tx,
    directory: DirectoryId,
    id: UserId,
    change: &UserChange,
) -> Result<(), WriteError> {
    todo!()
}

/// Makes every session that began before now dead. Publishes their principals anew.
///
/// Sign-ins at the login host live on; [`super::sign_in::end_all`] ends those.
pub async fn invalidate_sessions(
    tx: &mut Tx,
    directory: DirectoryId,
    id: UserId,
) -> Result<(), WriteError> {
    todo!()
}

/// Notes that the user has proved their e-mail address.
pub async fn verify_email(tx: &mut Tx, directory: DirectoryId, id: UserId) -> Result<(), WriteError> {
    todo!()
}

/// Removes a user with password, roles, sign-ins and sessions. Ends their sign-ins and retracts their principals.
pub async fn delete(tx: &mut Tx, directory: DirectoryId, id: UserId) -> Result<(), WriteError> {
    todo!()
}
