//! Sign-ins: a user signed in at the login host. App sessions are its children and end with it.

use std::collections::BTreeMap;

use mezusphere_model::Timestamp;
use mezusphere_model::document::{Document, DocumentKey, Partition, RevocationDoc};
use mezusphere_model::id::{DirectoryId, ProjectId, SignInId, UserId};
use mezusphere_model::identity::{Assurance, Method};
use mezusphere_model::token::TokenHash;

use super::value::{Row, args, json};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Most sign-ins [`end_oldest`] ends in one transaction: it is called at every sign-in, and none waits long for it.
pub const ENDED_AT_ONCE_MAX: u32 = 20;

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

fn read(row: &Row) -> Result<SignInRow, StoreError> {
    Ok(SignInRow {
        id: row.get("id")?,
        token_hash: row.get("token_hash")?,
        directory: row.get("directory")?,
        user: row.get("user_id")?,
        methods: row.json("methods")?,
        assurance: row.get("assurance")?,
        authenticated_at: row.get("authenticated_at")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        idle_s_max: row.get("idle_s_max")?,
        seen_at: row.get("seen_at")?,
        address: row.get("address")?,
        agent: row.get("agent")?,
        ended_at: row.opt("ended_at")?,
    })
}

/// Adds a sign-in, and notes the user's last one.
pub async fn insert(tx: &mut Tx, row: &SignInRow) -> Result<(), WriteError> {
    tx.insert(
        "user",
        "INSERT INTO sign_ins (id, token_hash, directory, user_id, methods, assurance, authenticated_at, created_at,
                               expires_at, idle_s_max, seen_at, address, agent, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        args![
            row.id,
            &row.token_hash,
            row.directory,
            row.user,
            json(&row.methods)?,
            row.assurance,
            row.authenticated_at,
            row.created_at,
            row.expires_at,
            row.idle_s_max,
            row.seen_at,
            row.address.as_str(),
            row.agent.as_str(),
            row.ended_at
        ],
    )
    .await?;
    tx.change(
        "user",
        "UPDATE users SET signed_in_at = $3 WHERE directory = $1 AND id = $2",
        args![row.directory, row.user, row.created_at],
    )
    .await
}

/// The sign-in whose token hashes to this, if it has not been ended. Whether it is expired or idle is the caller's check.
pub async fn find(tx: &mut ReadTx, token: &TokenHash) -> Result<Option<SignInRow>, StoreError> {
    let row =
        tx.row("SELECT * FROM sign_ins WHERE token_hash = $1 AND ended_at IS NULL", args![token]).await?;
    row.as_ref().map(read).transpose()
}

/// A directory's sign-in, ended or not.
pub async fn get(
    tx: &mut ReadTx,
    directory: DirectoryId,
    id: SignInId,
) -> Result<Option<SignInRow>, StoreError> {
    let row = tx.row("SELECT * FROM sign_ins WHERE directory = $1 AND id = $2", args![directory, id]).await?;
    row.as_ref().map(read).transpose()
}

/// A user's sign-ins that have not ended, by id, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    directory: DirectoryId,
    user: UserId,
    page: &PageRequest,
) -> Result<Paged<SignInRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM sign_ins
             WHERE directory = $1 AND user_id = $2 AND ended_at IS NULL AND id > $3 ORDER BY id LIMIT $4",
            args![directory, user, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.id.to_string()))
}

/// Notes that a sign-in was used; an older time than the known one changes nothing.
pub async fn seen(
    tx: &mut Tx,
    directory: DirectoryId,
    id: SignInId,
    at: Timestamp,
) -> Result<(), WriteError> {
    tx.change(
        "sign-in",
        "UPDATE sign_ins SET seen_at = CASE WHEN seen_at > $3 THEN seen_at ELSE $3 END
         WHERE directory = $1 AND id = $2",
        args![directory, id, at],
    )
    .await
}

/// What a sign-in becomes when somebody has proved themselves again.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// SHA-256 of its new token; the old one finds nothing any more.
    pub token_hash: TokenHash,
    /// How, sorted.
    pub methods: Vec<Method>,
    /// How strongly.
    pub assurance: Assurance,
    /// When they proved it.
    pub authenticated_at: Timestamp,
}

/// Renews a sign-in whose token hashes to `old`; its id, its end and its sessions stay. `None`: it was renewed or ended
/// meanwhile.
pub async fn renew(
    tx: &mut Tx,
    directory: DirectoryId,
    id: SignInId,
    old: &TokenHash,
    renewal: &Renewal,
) -> Result<Option<SignInRow>, WriteError> {
    let now = tx.now();
    let row = tx
        .row(
            "UPDATE sign_ins SET token_hash = $4, methods = $5, assurance = $6, authenticated_at = $7, seen_at = $8
             WHERE directory = $1 AND id = $2 AND token_hash = $3 AND ended_at IS NULL RETURNING *",
            args![
                directory,
                id,
                old,
                &renewal.token_hash,
                json(&renewal.methods)?,
                renewal.assurance,
                renewal.authenticated_at,
                now
            ],
        )
        .await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Ends a sign-in with all its sessions; `false`: it had ended before.
/// Publishes a revocation in each of their projects and retracts the sessions.
pub async fn end(tx: &mut Tx, directory: DirectoryId, id: SignInId) -> Result<bool, WriteError> {
    tx.need_whole_organization()?; // its sessions are in any of the projects
    let now = tx.now();
    let ended = tx
        .row(
            "UPDATE sign_ins SET ended_at = $3 WHERE directory = $1 AND id = $2 AND ended_at IS NULL
             RETURNING user_id",
            args![directory, id, now],
        )
        .await?;
    let Some(ended) = ended else {
        let known = get(tx, directory, id).await?;
        return known.map(|_| false).ok_or(WriteError::NotFound { what: "sign-in" });
    };
    end_sessions(tx, id, ended.get("user_id")?).await?;
    tx.execute("DELETE FROM hand_offs WHERE sign_in = $1", args![id]).await?;
    Ok(true)
}

/// Ends all sign-ins of a user but `keep`, as [`end`]; returns how many.
pub async fn end_all(
    tx: &mut Tx,
    directory: DirectoryId,
    user: UserId,
    keep: Option<SignInId>,
) -> Result<u32, WriteError> {
    let rows = tx
        .rows(
            "SELECT id FROM sign_ins WHERE directory = $1 AND user_id = $2 AND ended_at IS NULL",
            args![directory, user],
        )
        .await?;
    let mut ended = 0;
    for row in rows {
        let id = row.get("id")?;
        if Some(id) != keep && end(tx, directory, id).await? {
            ended += 1;
        }
    }
    Ok(ended)
}

/// Ends the oldest sign-ins of a user past the newest `keep_max`, [`ENDED_AT_ONCE_MAX`] at most; returns how many.
pub async fn end_oldest(
    tx: &mut Tx,
    directory: DirectoryId,
    user: UserId,
    keep_max: u32,
) -> Result<u32, WriteError> {
    let rows = tx
        .rows(
            "SELECT id FROM sign_ins WHERE directory = $1 AND user_id = $2 AND ended_at IS NULL
             ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4",
            args![directory, user, ENDED_AT_ONCE_MAX, keep_max],
        )
        .await?;
    let mut ended = 0;
    for row in rows {
        ended += u32::from(end(tx, directory, row.get("id")?).await?);
    }
    Ok(ended)
}

/// Ends the sessions of a sign-in that has just ended: a revocation per project, for edges that hold one in memory, and no
/// document any more.
async fn end_sessions(tx: &mut Tx, id: SignInId, user: UserId) -> Result<(), WriteError> {
    let now = tx.now();
    let sessions = tx
        .rows(
            "UPDATE sessions SET ended_at = $2 WHERE sign_in = $1 AND ended_at IS NULL
             RETURNING project, token_hash, expires_at",
            args![id, now],
        )
        .await?;
    let mut last_end: BTreeMap<ProjectId, Timestamp> = BTreeMap::new();
    for row in &sessions {
        let project: ProjectId = row.get("project")?;
        let end = last_end.entry(project).or_default();
        *end = (*end).max(row.get("expires_at")?);
        tx.retract(Partition::Project(project), DocumentKey::session(&row.get("token_hash")?))?;
    }
    for (project, forget_at) in last_end {
        tx.insert(
            "project",
            "INSERT INTO revocations (project, sign_in, forget_at) VALUES ($1, $2, $3)
             ON CONFLICT (project, sign_in) DO UPDATE SET forget_at = excluded.forget_at",
            args![project, id, forget_at],
        )
        .await?;
        let doc = RevocationDoc { sign_in: id, user, at: now, forget_at };
        tx.publish(Partition::Project(project), &Document::Revocation(doc))?;
    }
    Ok(())
}
