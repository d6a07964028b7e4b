//! Password credentials: the hash and nothing else. Hashing is `identity`'s.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, UserId};

use super::{ReadTx, StoreError, Tx, WriteError};

/// A user's password credential.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordRow {
    /// Whose.
    pub user: UserId,
    /// The hash in PHC string format.
    pub hash: String,
    /// Version of the secret `pepper` it was made with.
    pub pepper_version: u32,
    /// When it was set.
    pub changed_at: Timestamp,
}

impl std::fmt::Debug for PasswordRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordRow").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Sets or replaces the password of a directory's user.
pub async fn put(tx: &mut Tx, directory: DirectoryId, row: &PasswordRow) -> Result<(), WriteError> {
    todo!()
}

/// The password credential of a directory's user.
pub async fn get(
    tx: &mut ReadTx,
    directory: DirectoryId,
    user: UserId,
) -> Result<Option<PasswordRow>, StoreError> {
    todo!()
}

/// Replaces the hash if it still is `old`: for re-hashing at sign-in with new parameters. `false`: it was changed meanwhile.
pub async fn rehash(
    tx: &mut Tx,
    directory: DirectoryId,
    user: UserId,
    old: &str,
    new: &PasswordRow,
) -> Result<bool, WriteError> {
    todo!()
}
