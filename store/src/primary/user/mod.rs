//! Users: people in a directory.

mod import;
mod search;
mod standing;

use std::collections::BTreeMap;

use mezusphere_model::Timestamp;
use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::identity::Subject;

pub use import::{IMPORTED_MAX, ImportedUser, import, taken};
pub use search::{MENDED_MAX, SCANNED_MAX, TERMS_MAX, UserQuery, mend, must_mend, search};
pub use standing::{Standing, standing};

use super::value::{IntoValue, Row, Value, args, json};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError, principal, sign_in};

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
    /// Full name.
    pub name: String,
    /// What they are called where a name is shown; empty: by their name.
    pub display_name: String,
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
    /// Full name.
    pub name: Option<String>,
    /// What they are called where a name is shown; empty: by their name.
    pub display_name: Option<String>,
    /// Whether they may act.
    pub status: Option<Status>,
    /// Custom claims, replaced whole.
    pub claims: Option<BTreeMap<String, serde_json::Value>>,
}

impl UserRow {
    /// What they are called: on pages, in mails, and to workloads.
    pub fn shown_name(&self) -> &str {
        if self.display_name.is_empty() { &self.name } else { &self.display_name }
    }
}

pub(super) fn read(row: &Row) -> Result<UserRow, StoreError> {
    Ok(UserRow {
        id: row.get("id")?,
        directory: row.get("directory")?,
        email: row.get("email")?,
        email_verified_at: row.opt("email_verified_at")?,
        name: row.get("name")?,
        display_name: row.get("display_name")?,
        status: row.get("status")?,
        claims: row.json("claims")?,
        version: row.get("version")?,
        sessions_valid_from: row.get("sessions_valid_from")?,
        signed_in_at: row.opt("signed_in_at")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// An address in the one spelling it is compared in.
fn key(email: &str) -> String {
    email.to_lowercase()
}

/// Adds a user.
pub async fn insert(tx: &mut Tx, row: &UserRow) -> Result<(), WriteError> {
    tx.insert(
        "directory",
        "INSERT INTO users (id, directory, email, email_key, email_verified_at, name, display_name, status, claims,
                            version, sessions_valid_from, signed_in_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        args![
            row.id,
            row.directory,
            row.email.as_str(),
            key(&row.email),
            row.email_verified_at,
            row.name.as_str(),
            row.display_name.as_str(),
            row.status,
            json(&row.claims)?,
            row.version,
            row.sessions_valid_from,
            row.signed_in_at,
            row.created_at,
            row.updated_at
        ],
    )
    .await?;
    search::file(tx, row.directory, row.id, &row.email, [&row.name, &row.display_name]).await
}

/// A directory's user.
pub async fn get(tx: &mut ReadTx, directory: DirectoryId, id: UserId) -> Result<Option<UserRow>, StoreError> {
    let row = tx.row("SELECT * FROM users WHERE directory = $1 AND id = $2", args![directory, id]).await?;
    row.as_ref().map(read).transpose()
}

/// A directory's user by e-mail address, whatever its case.
pub async fn find(
    tx: &mut ReadTx,
    directory: DirectoryId,
    email: &str,
) -> Result<Option<UserRow>, StoreError> {
    let row = tx
        .row("SELECT * FROM users WHERE directory = $1 AND email_key = $2", args![directory, key(email)])
        .await?;
    row.as_ref().map(read).transpose()
}

/// A directory's users by folded e-mail address, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    directory: DirectoryId,
    page: &PageRequest,
) -> Result<Paged<UserRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM users WHERE directory = $1 AND email_key > $2 ORDER BY email_key LIMIT $3",
            args![directory, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| key(&row.email)))
}

/// Changes a user. Publishes their principals anew wherever one is published.
pub async fn update(
    tx: &mut Tx,
    directory: DirectoryId,
    id: UserId,
    change: &UserChange,
) -> Result<(), WriteError> {
    let now = tx.now();
    let claims = change.claims.as_ref().map(json).transpose()?;
    let claims = claims.unwrap_or(<Value as IntoValue>::NULL);
    tx.change(
        "user",
        "UPDATE users SET
             email = COALESCE($3, email), email_key = COALESCE($4, email_key),
             email_verified_at = CASE WHEN $4 IS NULL OR $4 = email_key THEN email_verified_at ELSE NULL END,
             name = COALESCE($5, name), display_name = COALESCE($6, display_name),
             status = COALESCE($7, status), claims = COALESCE($8, claims), updated_at = $9
         WHERE directory = $1 AND id = $2",
        args![
            directory,
            id,
            change.email.as_deref(),
            change.email.as_deref().map(key),
            change.name.as_deref(),
            change.display_name.as_deref(),
            change.status,
            claims,
            now
        ],
    )
    .await?;
    if (change.email.is_some() || change.name.is_some() || change.display_name.is_some())
        && let Some(row) = get(tx, directory, id).await?
    {
        search::file(tx, directory, id, &row.email, [&row.name, &row.display_name]).await?;
    }
    principal::changed(tx, Subject::User(id)).await
}

/// Makes every session that began before now dead. Publishes their principals anew.
///
/// Sign-ins at the login host live on; [`super::sign_in::end_all`] ends those.
pub async fn invalidate_sessions(tx: &mut Tx, directory: DirectoryId, id: UserId) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "user",
        "UPDATE users SET sessions_valid_from = $3, updated_at = $3 WHERE directory = $1 AND id = $2",
        args![directory, id, now],
    )
    .await?;
    principal::changed(tx, Subject::User(id)).await
}

/// Notes that the user has proved their e-mail address.
pub async fn verify_email(tx: &mut Tx, directory: DirectoryId, id: UserId) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "user",
        "UPDATE users SET email_verified_at = $3, updated_at = $3 WHERE directory = $1 AND id = $2",
        args![directory, id, now],
    )
    .await
}

/// Notes that it is not known any more that the e-mail address is the user's.
pub async fn unverify_email(tx: &mut Tx, directory: DirectoryId, id: UserId) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "user",
        "UPDATE users SET email_verified_at = NULL, updated_at = $3 WHERE directory = $1 AND id = $2",
        args![directory, id, now],
    )
    .await
}

/// Removes a user with password, roles, sign-ins and sessions. Ends their sign-ins and retracts their principals.
pub async fn delete(tx: &mut Tx, directory: DirectoryId, id: UserId) -> Result<(), WriteError> {
    sign_in::end_all(tx, directory, id, None).await?;
    tx.change("user", "DELETE FROM users WHERE directory = $1 AND id = $2", args![directory, id]).await?;
    principal::changed(tx, Subject::User(id)).await
}
