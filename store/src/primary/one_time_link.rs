//! One-time links: what a flow gives away, by mail or by hand, for somebody to come back with. Good once.
//!
//! Only the hash of a link's token is kept. A link is for a user, or for an address that belongs to nobody yet; of one
//! purpose only so many are live for one of these, the oldest making room, so that whoever asks for links in somebody's
//! name cannot fill the table. How often links may be asked for is `identity`'s to limit.

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, FlowId, UserId};
use mezusphere_model::slug::Name;
use mezusphere_model::token::TokenHash;

use super::value::{Row, args, json};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Longest detail of a link, in octets of JSON: a return path of 8 KiB, and a project's roles.
pub const DETAIL_LEN_MAX: usize = 32 * 1024;

/// A one-time link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// Its id: for lists, where it says nothing of the token.
    pub id: FlowId,
    /// SHA-256 of its token.
    pub token_hash: TokenHash,
    /// What it does: `first-sign-in`, `recovery`….
    pub purpose: Name,
    /// In which directory.
    pub directory: DirectoryId,
    /// For which user, if there is one.
    pub user: Option<UserId>,
    /// To which address it was mailed; empty: it was handed over otherwise.
    pub email: String,
    /// What it does beside; at most [`DETAIL_LEN_MAX`] as text.
    pub detail: serde_json::Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends unused.
    pub expires_at: Timestamp,
}

impl LinkRow {
    /// For whom, as links of one purpose are counted.
    fn subject(&self) -> String {
        self.user.map_or_else(|| self.email.to_lowercase(), |user| user.to_string())
    }
}

fn read(row: &Row) -> Result<LinkRow, StoreError> {
    Ok(LinkRow {
        id: row.get("id")?,
        token_hash: row.get("token_hash")?,
        purpose: row.get("purpose")?,
        directory: row.get("directory")?,
        user: row.opt("user_id")?,
        email: row.get("email")?,
        detail: row.json("detail")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
    })
}

/// Adds a link. Of its purpose, at most `live_max` stay for the same user, or the same address: older ones stop working.
pub async fn insert(tx: &mut Tx, row: &LinkRow, live_max: u32) -> Result<(), WriteError> {
    let detail = row.detail.to_string();
    if detail.len() > DETAIL_LEN_MAX {
        return Err(StoreError::TooLarge(format!("{DETAIL_LEN_MAX} octets of detail are allowed")).into());
    }
    let subject = row.subject();
    tx.execute(
        "DELETE FROM links WHERE directory = $1 AND purpose = $2 AND subject = $3 AND token_hash NOT IN (
             SELECT token_hash FROM links WHERE directory = $1 AND purpose = $2 AND subject = $3
             ORDER BY created_at DESC, id LIMIT $4)",
        args![row.directory, &row.purpose, subject.as_str(), live_max.saturating_sub(1)],
    )
    .await?;
    tx.insert(
        "user",
        "INSERT INTO links (token_hash, id, purpose, directory, user_id, email, subject, detail, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        args![
            &row.token_hash,
            row.id,
            &row.purpose,
            row.directory,
            row.user,
            row.email.as_str(),
            subject,
            json(&row.detail)?,
            row.created_at,
            row.expires_at
        ],
    )
    .await
    .map(drop)
}

/// The link, if it is good now; it stays good. For showing the form, because a GET changes nothing.
pub async fn peek(tx: &mut ReadTx, token: &TokenHash, purpose: &Name) -> Result<Option<LinkRow>, StoreError> {
    let now = tx.now();
    let row = tx
        .row(
            "SELECT * FROM links WHERE token_hash = $1 AND purpose = $2 AND expires_at > $3",
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
            "DELETE FROM links WHERE token_hash = $1 AND purpose = $2 AND expires_at > $3 RETURNING *",
            args![token, purpose, now],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// A directory's links of one purpose that are good now, by id, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    directory: DirectoryId,
    purpose: &Name,
    page: &PageRequest,
) -> Result<Paged<LinkRow>, StoreError> {
    let now = tx.now();
    let rows = tx
        .rows(
            "SELECT * FROM links WHERE directory = $1 AND purpose = $2 AND expires_at > $3 AND id > $4
             ORDER BY id LIMIT $5",
            args![directory, purpose, now, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.id.to_string()))
}

/// Takes a directory's link of this purpose back.
pub async fn revoke(
    tx: &mut Tx,
    directory: DirectoryId,
    purpose: &Name,
    id: FlowId,
) -> Result<(), WriteError> {
    tx.change(
        "link",
        "DELETE FROM links WHERE directory = $1 AND purpose = $2 AND id = $3",
        args![directory, purpose, id],
    )
    .await
}

/// Removes every link of a user, and those of one address: after a change that makes them worth nothing.
pub async fn remove_of(
    tx: &mut Tx,
    directory: DirectoryId,
    user: UserId,
    email: &str,
) -> Result<(), StoreError> {
    tx.execute("DELETE FROM links WHERE directory = $1 AND user_id = $2", args![directory, user]).await?;
    tx.execute(
        "DELETE FROM links WHERE directory = $1 AND user_id IS NULL AND subject = $2",
        args![directory, email.to_lowercase()],
    )
    .await
    .map(drop)
}
