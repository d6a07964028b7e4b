//! Many new users at once: in one transaction, so all of them or none, and many rows to a statement.
//!
//! Nothing is published: a user's principal is on a feed from their first session on.

use std::sync::LazyLock;

use mezusphere_model::id::{DirectoryId, ProjectId};
use mezusphere_model::slug::Name;

use super::search::{self, WORDS};
use super::{UserRow, key};
use crate::primary::batch::{Insertion, ROWS_AT_ONCE};
use crate::primary::password::PasswordRow;
use crate::primary::value::{IntoValue as _, Value, args, json};
use crate::primary::{ReadTx, StoreError, Tx, WriteError, open};

/// Most users of one import: what one transaction may hold up other writers with.
pub const IMPORTED_MAX: usize = 100_000;

/// SQLite's page cache during an import, in KiB: with its usual one it writes the same pages out again and again.
const IMPORT_CACHE_KIB: i64 = 64 * 1024;

static USERS: LazyLock<Insertion> = LazyLock::new(|| {
    Insertion::new(
        "INSERT INTO users (id, directory, email, email_key, email_verified_at, name, display_name, status, claims,
                            version, sessions_valid_from, signed_in_at, created_at, updated_at)",
        14,
    )
});
static ROLES: LazyLock<Insertion> =
    LazyLock::new(|| Insertion::new("INSERT INTO user_roles (project, user_id, role, granted_at)", 4));
static PASSWORDS: LazyLock<Insertion> =
    LazyLock::new(|| Insertion::new("INSERT INTO passwords (user_id, hash, pepper_version, changed_at)", 4));

/// A user who is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedUser {
    /// The user.
    pub row: UserRow,
    /// Roles in the project of the import, each once.
    pub roles: Vec<Name>,
    /// Their password, if it is known.
    pub password: Option<PasswordRow>,
}

/// Adds users with roles in `project`, which must be one of their directory.
///
/// # Errors
/// Not found: the project, if it has another directory; a role. A conflict: an address that is taken.
/// [`StoreError::TooLarge`] past [`IMPORTED_MAX`].
pub async fn import(
    tx: &mut Tx,
    directory: DirectoryId,
    project: ProjectId,
    users: &[&ImportedUser],
) -> Result<(), WriteError> {
    if users.len() > IMPORTED_MAX {
        return Err(StoreError::TooLarge(format!("{IMPORTED_MAX} users at once are allowed")).into());
    }
    let serves = tx
        .row("SELECT 1 AS one FROM projects WHERE id = $1 AND directory = $2", args![project, directory])
        .await?;
    serves.ok_or(WriteError::NotFound { what: "project" })?;
    tx.sqlite_cache(IMPORT_CACHE_KIB).await?;
    let added = add(tx, directory, project, users).await;
    tx.sqlite_cache(open::CACHE_KIB).await?;
    added
}

async fn add(
    tx: &mut Tx,
    directory: DirectoryId,
    project: ProjectId,
    users: &[&ImportedUser],
) -> Result<(), WriteError> {
    let now = tx.now();
    // In the order of most indexes: each page of those is then written once.
    let mut users = users.to_vec();
    users.sort_unstable_by_key(|user| user.row.id);
    // Batch by batch, so that no second copy of all of them is made.
    for batch in users.chunks(ROWS_AT_ONCE) {
        let mut rows = Vec::with_capacity(batch.len());
        let (mut words, mut roles, mut passwords) = (Vec::new(), Vec::new(), Vec::new());
        for ImportedUser { row, roles: held, password } in batch {
            rows.push(args![
                row.id,
                directory,
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
            ]);
            let found_by = search::words(&row.email, [&row.name, &row.display_name]);
            words.extend(found_by.into_iter().map(|word| args![directory, word, row.id]));
            roles.extend(held.iter().map(|role| args![project, row.id, role, now]));
            if let Some(password) = password {
                let hash = password.hash.as_str();
                passwords.push(args![row.id, hash, password.pepper_version, password.changed_at]);
            }
        }
        tx.insert_many("directory", &USERS, rows).await?;
        tx.insert_many("user", &WORDS, words).await?;
        tx.insert_many("role", &ROLES, roles).await?;
        tx.insert_many("user", &PASSWORDS, passwords).await?;
    }
    Ok(())
}

/// Which of these addresses a directory's users have already, folded.
pub async fn taken(
    tx: &mut ReadTx,
    directory: DirectoryId,
    emails: &[&str],
) -> Result<Vec<String>, StoreError> {
    static SELECT: LazyLock<String> = LazyLock::new(|| {
        let places: Vec<_> = (0..ROWS_AT_ONCE).map(|at| format!("${}", at + 2)).collect();
        let places = places.join(", ");
        format!("SELECT email_key FROM users WHERE directory = $1 AND email_key IN ({places})")
    });
    let mut taken = Vec::new();
    for batch in emails.chunks(ROWS_AT_ONCE) {
        let mut values = args![directory];
        values.extend(batch.iter().map(|email| key(email).into_value()));
        values.resize_with(ROWS_AT_ONCE + 1, || Value::Text(None)); // nothing equals NULL
        for row in tx.rows(&SELECT, values).await? {
            taken.push(row.get("email_key")?);
        }
    }
    Ok(taken)
}
