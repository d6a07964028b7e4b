//! Password credentials: the hash and nothing else. Hashing is `identity`'s.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, UserId};

use super::value::{Row, args};
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

fn read(row: &Row) -> Result<PasswordRow, StoreError> {
    Ok(PasswordRow {
        user: row.get("user_id")?,
        hash: row.get("hash")?,
        pepper_version: row.get("pepper_version")?,
        changed_at: row.get("changed_at")?,
    })
}

/// Sets or replaces the password of a directory's user.
pub async fn put(tx: &mut Tx, directory: DirectoryId, row: &PasswordRow) -> Result<(), WriteError> {
    tx.change(
        "user",
        "INSERT INTO passwords (user_id, hash, pepper_version, changed_at)
         SELECT id, $3, $4, $5 FROM users WHERE directory = $1 AND id = $2
         ON CONFLICT (user_id) DO UPDATE SET
             hash = excluded.hash, pepper_version = excluded.pepper_version, changed_at = excluded.changed_at",
        args![directory, row.user, row.hash.as_str(), row.pepper_version, row.changed_at],
    )
    .await
}

/// The password credential of a directory's user.
pub async fn get(
    tx: &mut ReadTx,
    directory: DirectoryId,
    user: UserId,
) -> Result<Option<PasswordRow>, StoreError> {
    let row = tx
        .row(
            "SELECT w.* FROM passwords w JOIN users u ON u.id = w.user_id
             WHERE u.directory = $1 AND u.id = $2",
            args![directory, user],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Replaces the hash if it still is `old`, keeping `changed_at`: for re-hashing at sign-in with new parameters.
/// `false`: it was changed meanwhile, or there is none.
pub async fn rehash(
    tx: &mut Tx,
    directory: DirectoryId,
    old: &str,
    new: &PasswordRow,
) -> Result<bool, StoreError> {
    let changed = tx
        .execute(
            "UPDATE passwords SET hash = $4, pepper_version = $5
             WHERE user_id = (SELECT id FROM users WHERE directory = $1 AND id = $2) AND hash = $3",
            args![directory, new.user, old, new.hash.as_str(), new.pepper_version],
        )
        .await?;
    Ok(changed > 0)
}
