//! A directory's session limits, for those who signed in when they were longer.
//!
//! New sign-ins are made within the limits. Older ones are brought in line by a job: it looks at all of them, some at a
//! time ([`over`]), and shortens those that may last longer ([`shorten`]), which tells the edges of their sessions.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::document::{Document, Partition};
use mezusphere_model::id::{DirectoryId, SignInId, UserId};

use super::{DirectoryRow, SessionLimits};
use crate::primary::value::args;
use crate::primary::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError, session};

/// Most sign-ins one look at a directory covers.
pub const LOOKED_AT_MAX: usize = 2_000;

/// Most sign-ins shortened in one transaction, so that other writers never wait long.
pub const SHORTENED_MAX: usize = 100;

/// Every directory that has limits of its own, by id, which is the key of a page.
pub async fn limited(tx: &mut ReadTx, page: &PageRequest) -> Result<Paged<DirectoryRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT d.*, s.document AS settings
             FROM directory_settings s JOIN directories d ON d.id = s.directory
             WHERE s.directory > $1 ORDER BY s.directory LIMIT $2",
            args![page.start(), page.fetch()],
        )
        .await?;
    let rows = rows.iter().map(super::read).collect::<Result<Vec<_>, _>>()?;
    let Paged { mut rows, next } = page.cut(rows, |row| row.id.to_string());
    rows.retain(|row| row.settings.sessions.is_some());
    Ok(Paged { rows, next })
}

/// Sign-ins of a directory that may last longer than its limits say, among the next [`LOOKED_AT_MAX`] after a place.
/// The place of the next look comes along; `None`: this was the last.
pub async fn over(
    tx: &mut ReadTx,
    directory: DirectoryId,
    limits: SessionLimits,
    after: Option<(UserId, SignInId)>,
) -> Result<(Vec<SignInId>, Option<(UserId, SignInId)>), StoreError> {
    let (user, sign_in) =
        after.map_or_else(Default::default, |(user, id)| (user.to_string(), id.to_string()));
    let rows = tx
        .rows(
            "SELECT id, user_id, created_at, expires_at, idle_s_max, ended_at FROM sign_ins
             WHERE directory = $1 AND (user_id, id) > ($2, $3) ORDER BY user_id, id LIMIT $4",
            args![directory, user, sign_in, LOOKED_AT_MAX],
        )
        .await?;
    let mut found = Vec::new();
    let mut last = None;
    for row in &rows {
        last = Some((row.get("user_id")?, row.get("id")?));
        let ended: Option<Timestamp> = row.opt("ended_at")?;
        let (expires_at, idle_s): (Timestamp, u32) = (row.get("expires_at")?, row.get("idle_s_max")?);
        if ended.is_none()
            && (expires_at > end(limits, row.get("created_at")?) || idle_s != idle(limits, idle_s))
        {
            found.push(row.get("id")?);
        }
    }
    Ok((found, if rows.len() < LOOKED_AT_MAX { None } else { last }))
}

/// Shortens sign-ins, and their sessions, to the limits; those that have ended since change nothing. Publishes the
/// sessions anew.
///
/// # Errors
/// [`StoreError::TooLarge`] past [`SHORTENED_MAX`].
pub async fn shorten(
    tx: &mut Tx,
    directory: DirectoryId,
    limits: SessionLimits,
    sign_ins: &[SignInId],
) -> Result<(), WriteError> {
    if sign_ins.len() > SHORTENED_MAX {
        return Err(StoreError::TooLarge(format!("{SHORTENED_MAX} sign-ins at once are allowed")).into());
    }
    for id in sign_ins {
        let row = tx
            .row(
                "SELECT created_at, expires_at, idle_s_max FROM sign_ins
                 WHERE directory = $1 AND id = $2 AND ended_at IS NULL",
                args![directory, *id],
            )
            .await?;
        let Some(row) = row else { continue };
        let expires_at = end(limits, row.get("created_at")?).min(row.get("expires_at")?);
        let idle_s = idle(limits, row.get("idle_s_max")?);
        tx.execute(
            "UPDATE sign_ins SET expires_at = $2, idle_s_max = $3 WHERE id = $1",
            args![*id, expires_at, idle_s],
        )
        .await?;
        let sessions = tx
            .rows(
                "UPDATE sessions SET expires_at = CASE WHEN expires_at > $2 THEN $2 ELSE expires_at END,
                        idle_s_max = $3, published_seen_at = seen_at
                 WHERE sign_in = $1 AND ended_at IS NULL RETURNING *",
                args![*id, expires_at, idle_s],
            )
            .await?;
        for row in &sessions {
            let doc = session::read(row)?.doc;
            tx.publish(Partition::Project(doc.project), &Document::Session(doc))?;
        }
    }
    Ok(())
}

/// When a sign-in of this age must end.
fn end(limits: SessionLimits, created_at: Timestamp) -> Timestamp {
    created_at.after(Duration::from_secs(u64::from(limits.absolute_s)))
}

/// The shorter of two idle limits; 0 is none.
fn idle(limits: SessionLimits, now_s: u32) -> u32 {
    match (limits.idle_s, now_s) {
        (0, idle_s) | (idle_s, 0) => idle_s,
        (one, other) => one.min(other),
    }
}
