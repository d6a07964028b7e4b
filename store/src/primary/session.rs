//! Sessions: a signed-in client on one app host.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::document::{Document, DocumentKey, Partition};
use mezusphere_model::id::{DirectoryId, ProjectId, SessionId, UserId};
use mezusphere_model::identity::Subject;
use mezusphere_model::link::Activity;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::TokenHash;

use super::value::{Row, args, json};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError, principal};

/// A session in use is published anew so many times within its idle limit.
const REPUBLISHED_PER_IDLE: u64 = 4;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The session as published, with the newest reported `seen_at`.
    pub doc: SessionDoc,
    /// When it was ended, if it was.
    pub ended_at: Option<Timestamp>,
}

pub(super) fn read(row: &Row) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        doc: SessionDoc {
            id: row.get("id")?,
            token_hash: row.get("token_hash")?,
            sign_in: row.get("sign_in")?,
            user: row.get("user_id")?,
            project: row.get("project")?,
            host: row.get("host")?,
            methods: row.json("methods")?,
            assurance: row.get("assurance")?,
            authenticated_at: row.get("authenticated_at")?,
            issued_at: row.get("issued_at")?,
            expires_at: row.get("expires_at")?,
            idle_s_max: row.get("idle_s_max")?,
            seen_at: row.get("seen_at")?,
        },
        ended_at: row.opt("ended_at")?,
    })
}

/// Adds a session. Publishes it, and its user's principal in the project. Sessions of the same sign-in on the same host
/// that rest on an older proof end: after a step-up, what was held before it is dead (R11). Those of the same proof stay,
/// because two tabs may have asked at once.
///
/// # Errors
/// Not found: the sign-in, if it has ended, is another user's, or its user does not live in the project's directory.
pub async fn insert(tx: &mut Tx, doc: &SessionDoc) -> Result<(), WriteError> {
    let added = tx
        .insert(
            "sign-in",
            "INSERT INTO sessions (id, token_hash, project, sign_in, user_id, host, methods, assurance,
                                   authenticated_at, issued_at, expires_at, idle_s_max, seen_at, published_seen_at)
             SELECT $1, $2, p.id, s.id, s.user_id, $6, $7, $8, $9, $10, $11, $12, $13, $13
             FROM sign_ins s JOIN projects p ON p.directory = s.directory
             WHERE p.id = $3 AND s.id = $4 AND s.user_id = $5 AND s.ended_at IS NULL",
            args![
                doc.id,
                &doc.token_hash,
                doc.project,
                doc.sign_in,
                doc.user,
                &doc.host,
                json(&doc.methods)?,
                doc.assurance,
                doc.authenticated_at,
                doc.issued_at,
                doc.expires_at,
                doc.idle_s_max,
                doc.seen_at
            ],
        )
        .await?;
    if added == 0 {
        return Err(WriteError::NotFound { what: "sign-in" });
    }
    let now = tx.now();
    let older = tx
        .rows(
            "UPDATE sessions SET ended_at = $5
             WHERE sign_in = $1 AND project = $2 AND host = $3 AND authenticated_at < $4 AND ended_at IS NULL
             RETURNING token_hash",
            args![doc.sign_in, doc.project, &doc.host, doc.authenticated_at, now],
        )
        .await?;
    for row in &older {
        tx.retract(Partition::Project(doc.project), DocumentKey::session(&row.get("token_hash")?))?;
    }
    principal::publish_once(tx, doc.project, Subject::User(doc.user)).await?;
    Ok(tx.publish(Partition::Project(doc.project), &Document::Session(doc.clone()))?)
}

/// The session whose token hashes to this, ended ones too: for a caller who presents the token.
pub async fn find(tx: &mut ReadTx, token: &TokenHash) -> Result<Option<SessionRow>, StoreError> {
    let row = tx.row("SELECT * FROM sessions WHERE token_hash = $1", args![token]).await?;
    row.as_ref().map(read).transpose()
}

/// A project's session.
pub async fn get(
    tx: &mut ReadTx,
    project: ProjectId,
    id: SessionId,
) -> Result<Option<SessionRow>, StoreError> {
    let row = tx.row("SELECT * FROM sessions WHERE project = $1 AND id = $2", args![project, id]).await?;
    row.as_ref().map(read).transpose()
}

/// A user's sessions in a project that have not ended, by id, which is the key of a page.
pub async fn list(
    tx: &mut ReadTx,
    project: ProjectId,
    user: UserId,
    page: &PageRequest,
) -> Result<Paged<SessionRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM sessions
             WHERE project = $1 AND user_id = $2 AND ended_at IS NULL AND id > $3 ORDER BY id LIMIT $4",
            args![project, user, page.start(), page.fetch()],
        )
        .await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_, _>>()?, |row| row.doc.id.to_string()))
}

/// Most sessions [`of_user`] gives: what one account page shows.
pub const OF_USER_MAX: u32 = 500;

/// A directory's user's sessions in all projects that are good now but for idleness, by sign-in and host.
pub async fn of_user(
    tx: &mut ReadTx,
    directory: DirectoryId,
    user: UserId,
) -> Result<Vec<SessionRow>, StoreError> {
    let now = tx.now();
    let rows = tx
        .rows(
            "SELECT s.* FROM sign_ins i JOIN sessions s ON s.sign_in = i.id
             WHERE i.directory = $1 AND i.user_id = $2 AND i.ended_at IS NULL
               AND s.ended_at IS NULL AND s.expires_at > $3
             ORDER BY s.sign_in, s.host, s.id LIMIT $4",
            args![directory, user, now, OF_USER_MAX],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Notes when sessions and their sign-ins were last used; unknown ones and older times change nothing.
///
/// Publishes a session anew when a quarter of its idle limit has passed since it was last published, so that
/// other edges learn of it in time.
pub async fn seen(tx: &mut Tx, batch: &[Activity]) -> Result<(), StoreError> {
    for activity in batch {
        let row = tx
            .row(
                "UPDATE sessions SET seen_at = $3
                 WHERE project = $1 AND id = $2 AND ended_at IS NULL AND seen_at < $3 RETURNING *",
                args![activity.project, activity.session, activity.seen_at],
            )
            .await?;
        let Some(row) = row else { continue };
        let doc = read(&row)?.doc;
        tx.execute(
            "UPDATE sign_ins SET seen_at = $2 WHERE id = $1 AND seen_at < $2",
            args![doc.sign_in, activity.seen_at],
        )
        .await?;
        let republish_after = Duration::from_secs(u64::from(doc.idle_s_max) / REPUBLISHED_PER_IDLE);
        if doc.idle_s_max != 0 && doc.seen_at.since(row.get("published_seen_at")?) >= republish_after {
            tx.execute(
                "UPDATE sessions SET published_seen_at = seen_at WHERE project = $1 AND id = $2",
                args![doc.project, doc.id],
            )
            .await?;
            tx.publish(Partition::Project(doc.project), &Document::Session(doc))?;
        }
    }
    Ok(())
}

/// Ends one session; `false`: it had ended before. Retracts its document.
pub async fn end(tx: &mut Tx, project: ProjectId, id: SessionId) -> Result<bool, WriteError> {
    let now = tx.now();
    let ended = tx
        .row(
            "UPDATE sessions SET ended_at = $3 WHERE project = $1 AND id = $2 AND ended_at IS NULL
             RETURNING token_hash",
            args![project, id, now],
        )
        .await?;
    let Some(ended) = ended else {
        let known = get(tx, project, id).await?;
        return known.map(|_| false).ok_or(WriteError::NotFound { what: "session" });
    };
    tx.retract(Partition::Project(project), DocumentKey::session(&ended.get("token_hash")?))?;
    Ok(true)
}
