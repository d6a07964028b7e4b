//! One-time links: the first sign-in of an operator, later recovery and verification. Good once.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::slug::Name;
use mezusphere_model::token::TokenHash;

use super::value::{Row, args};
use super::{ReadTx, StoreError, Tx, WriteError};

/// A one-time link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// SHA-256 of its token.
    pub token_hash: TokenHash,
    /// What it does: `first-sign-in`….
    pub purpose: Name,
    /// Where the user lives.
    pub directory: DirectoryId,
    /// For whom.
    pub user: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends unused.
    pub expires_at: Timestamp,
}

fn read(row: &Row) -> Result<LinkRow, StoreError> {
    Ok(LinkRow {
        token_hash: row.get("token_hash")?,
        purpose: row.get("purpose")?,
        directory: row.get("directory")?,
        user: row.get("user_id")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
    })
}

/// Adds a link, and removes the user's older ones of the same purpose.
pub async fn insert(tx: &mut Tx, row: &LinkRow) -> Result<(), WriteError> {
    tx.execute(
        "DELETE FROM one_time_links WHERE directory = $1 AND user_id = $2 AND purpose = $3",
        args![row.directory, row.user, &row.purpose],
    )
    .await?;
    tx.insert(
        "user",
        "INSERT INTO one_time_links (token_hash, purpose, directory, user_id, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        args![&row.token_hash, &row.purpose, row.directory, row.user, row.created_at, row.expires_at],
    )
    .await
    .map(drop)
}

/// The link, if it is good now; it stays good. For showing the form, because a GET changes nothing.
pub async fn peek(tx: &mut ReadTx, token: &TokenHash, purpose: &Name) -> Result<Option<LinkRow>, StoreError> {
    let now = tx.now();
    let row = tx
        .row(
            "SELECT * FROM one_time_links WHERE token_hash = $1 AND purpose = $2 AND expires_at > $3",
            args![token, purpose, now],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Takes the link: exactly one of any number of attempts gets it.
pub async fn take(tx: &mut Tx, token: &TokenHash, purpose: &Name) -> Result<Option<LinkRow>, StoreError> {
    let now = tx.now();
    let row = tx
        .row(
            "DELETE FROM one_time_links WHERE token_hash = $1 AND purpose = $2 AND expires_at > $3 RETURNING *",
            args![token, purpose, now],
        )
        .await?;
    row.as_ref().map(read).transpose()
}
