//! API keys: credentials of service accounts. Only the hash of a secret is here.

use mezusphere_model::Timestamp;
use mezusphere_model::document::{ApiKeyDoc, Document, DocumentKey, Partition};
use mezusphere_model::id::{ApiKeyId, EnvironmentId, ProjectId, ServiceAccountId};
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;
use mezusphere_model::token::TokenHash;

use super::value::{Row, args, json};
use super::{ReadTx, StoreError, Tx, WriteError, principal};

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

fn read(row: &Row) -> Result<ApiKeyRow, StoreError> {
    Ok(ApiKeyRow {
        id: row.get("id")?,
        secret_hash: row.get("secret_hash")?,
        project: row.get("project")?,
        account: row.get("account")?,
        environment: row.opt("environment")?,
        scopes: row.json("scopes")?,
        hint: row.get("hint")?,
        created_at: row.get("created_at")?,
        expires_at: row.opt("expires_at")?,
        revoked_at: row.opt("revoked_at")?,
        last_used_at: row.opt("last_used_at")?,
    })
}

/// Adds a key. Publishes it, and its account's principal.
///
/// At most two live keys per account is the use case's rule: ask [`count_live`] in the same transaction.
pub async fn insert(tx: &mut Tx, row: &ApiKeyRow) -> Result<(), WriteError> {
    tx.insert(
        "service account or environment",
        "INSERT INTO api_keys (id, secret_hash, project, account, environment, scopes, hint, created_at,
                               expires_at, revoked_at, last_used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        args![
            row.id,
            &row.secret_hash,
            row.project,
            row.account,
            row.environment,
            json(&row.scopes)?,
            row.hint.as_str(),
            row.created_at,
            row.expires_at,
            row.revoked_at,
            row.last_used_at
        ],
    )
    .await?;
    let partition = Partition::Project(row.project);
    tx.publish(
        partition,
        &Document::ApiKey(ApiKeyDoc {
            id: row.id,
            secret_hash: row.secret_hash,
            account: row.account,
            project: row.project,
            scopes: row.scopes.clone(),
            environment: row.environment,
            expires_at: row.expires_at,
        }),
    )?;
    principal::publish_once(tx, row.project, Subject::ServiceAccount(row.account)).await
}

/// The key with this id in the whole installation, revoked ones too: for a caller who presents it. Its project is the
/// tenant of everything after.
pub async fn find(tx: &mut ReadTx, id: ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
    let row = tx.row("SELECT * FROM api_keys WHERE id = $1", args![id]).await?;
    row.as_ref().map(read).transpose()
}

/// A project's key.
pub async fn get(tx: &mut ReadTx, project: ProjectId, id: ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
    let row = tx.row("SELECT * FROM api_keys WHERE project = $1 AND id = $2", args![project, id]).await?;
    row.as_ref().map(read).transpose()
}

/// An account's keys, newest first; at most [`KEYS_LISTED_MAX`].
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    account: ServiceAccountId,
) -> Result<Vec<ApiKeyRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM api_keys WHERE project = $1 AND account = $2
             ORDER BY created_at DESC, id LIMIT $3",
            args![project, account, KEYS_LISTED_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Keeps the last characters of the text that a key's holder has, where that is not the key's own: a connection key.
pub async fn set_hint(tx: &mut Tx, project: ProjectId, id: ApiKeyId, hint: &str) -> Result<(), WriteError> {
    tx.change(
        "API key",
        "UPDATE api_keys SET hint = $3 WHERE project = $1 AND id = $2",
        args![project, id, hint],
    )
    .await
}

/// How many of an account's keys are neither revoked nor expired now.
pub async fn count_live(
    tx: &mut ReadTx,
    project: ProjectId,
    account: ServiceAccountId,
) -> Result<u32, StoreError> {
    let now = tx.now();
    let row = tx
        .row(
            "SELECT COUNT(*) AS n FROM api_keys WHERE project = $1 AND account = $2
               AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)",
            args![project, account, now],
        )
        .await?;
    row.map_or(Ok(0), |row| row.get("n"))
}

/// Revokes a key; a second time changes nothing. Retracts its document.
pub async fn revoke(tx: &mut Tx, project: ProjectId, id: ApiKeyId) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "API key",
        "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE project = $1 AND id = $2",
        args![project, id, now],
    )
    .await?;
    Ok(tx.retract(Partition::Project(project), DocumentKey::api_key(id))?)
}

/// Notes that a key was used; an older time than the known one changes nothing.
pub async fn used(tx: &mut Tx, project: ProjectId, id: ApiKeyId, at: Timestamp) -> Result<(), WriteError> {
    tx.change(
        "API key",
        "UPDATE api_keys SET last_used_at = CASE WHEN last_used_at > $3 THEN last_used_at ELSE $3 END
         WHERE project = $1 AND id = $2",
        args![project, id, at],
    )
    .await
}
