//! One-time links: the first sign-in of an operator, later recovery and verification. Good once.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::slug::Name;
use mezusphere_model::token::TokenHash;

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

/// Adds a link, and removes the user's older ones of the same purpose.
pub async fn insert(tx: &mut Tx, row: &LinkRow) -> Result<(), WriteError> {
    todo!()
}

/// The link, if it is good now; it stays good. For showing the form, because a GET changes nothing.
pub async fn peek(
    tx: &mut ReadTx,
    token: &TokenHash,
    purpose: &Name,
) -> Result<Option<LinkRow>, StoreError> {
    todo!()
}

/// Takes the link: exactly one of any number of attempts gets it.
pub async fn take(tx: &mut Tx, token: &TokenHash, purpose: &Name) -> Result<Option<LinkRow>, StoreError> {
    todo!()
}
