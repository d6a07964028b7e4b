//! Removing what nobody needs any more: expired sign-ins, codes and links, superseded feed entries.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::id::{ProjectId, UserId};
use mezusphere_model::identity::Subject;

use super::value::args;
use super::{StoreError, Tx};

/// Most rows of each kind removed in one transaction, so that a writer never waits long for a prune.
pub const PRUNE_BATCH_MAX: u32 = 500;

/// Newest entries of a partition that are kept though superseded: what a follower can catch up on without starting over.
pub const RETAINED_ENTRIES: u64 = 10_000;

/// A partition is pruned once so many entries beyond [`RETAINED_ENTRIES`] have come, so that it is not pruned all the time.
const PRUNE_AFTER: u64 = 1_000;

/// How long a used or expired hand-off code is remembered, so that a second use is told from an unknown code.
const CODES_REMEMBERED: Duration = Duration::from_mins(10);

/// How long dead keys, certificates and warpgates stay in lists.
const DEAD_REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// Removes a batch of what is over; returns how many rows, so that the caller repeats until 0.
///
/// Retracts expired sessions, dead keys and forgotten revocations, and principals nobody needs.
pub async fn prune(tx: &mut Tx) -> Result<u64, StoreError> {
    let now = tx.now();
    let mut removed = sessions(tx, now).await?;
    removed += plain(tx, now).await?;
    removed += revocations(tx, now).await?;
    removed += keys(tx, now.before(DEAD_REMEMBERED)).await?;
    // Alone in its transaction: it locks heads of partitions, which other changes do at their end and in order.
    if removed == 0 {
        removed += feed(tx).await?;
    }
    Ok(removed)
}

async fn sessions(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    let rows = tx
        .rows(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= $1 LIMIT $2)
             RETURNING project, user_id, token_hash",
            args![now, PRUNE_BATCH_MAX],
        )
        .await?;
    for row in &rows {
        let (project, user): (ProjectId, UserId) = (row.get("project")?, row.get("user_id")?);
        let partition = Partition::Project(project);
        tx.retract(partition, DocumentKey::session(&row.get("token_hash")?))?;
        let left = tx
            .row(
                "SELECT 1 AS one FROM sessions WHERE project = $1 AND user_id = $2 AND ended_at IS NULL LIMIT 1",
                args![project, user],
            )
            .await?;
        if left.is_none() {
            tx.retract(partition, DocumentKey::principal(Subject::User(user)))?;
        }
    }
    Ok(rows.len() as u64)
}

/// What leaves no trace on the feed.
async fn plain(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    let dead = now.before(DEAD_REMEMBERED);
    let statements = [
        (
            // Not while a session is left: its own end comes first, and retracts it.
            "DELETE FROM sign_ins WHERE id IN (
                 SELECT id FROM sign_ins WHERE expires_at <= $1
                   AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.sign_in = sign_ins.id) LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM hand_offs WHERE code_hash IN (
                 SELECT code_hash FROM hand_offs WHERE expires_at <= $1 LIMIT $2)",
            now.before(CODES_REMEMBERED),
        ),
        (
            "DELETE FROM links WHERE token_hash IN (
                 SELECT token_hash FROM links WHERE expires_at <= $1 LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM host_claims WHERE (host, project) IN (
                 SELECT host, project FROM host_claims WHERE expires_at <= $1 LIMIT $2)",
            now,
        ),
        (
            // Of the version before this one.
            "DELETE FROM one_time_links WHERE token_hash IN (
                 SELECT token_hash FROM one_time_links WHERE expires_at <= $1 LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM issued_certificates WHERE fingerprint IN (
                 SELECT fingerprint FROM issued_certificates WHERE not_after <= $1 LIMIT $2)",
            dead,
        ),
        ("DELETE FROM warpgates WHERE id IN (SELECT id FROM warpgates WHERE not_after <= $1 LIMIT $2)", dead),
        (
            "DELETE FROM invitations WHERE id IN (SELECT id FROM invitations WHERE expires_at <= $1 LIMIT $2)",
            dead,
        ),
        (
            // Of nodes that are gone only: what a quiet partition's followers said long ago still counts.
            "DELETE FROM applied WHERE (follower, partition) IN (
                 SELECT follower, partition FROM applied WHERE at <= $1
                   AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = applied.follower) LIMIT $2)",
            dead,
        ),
    ];
    let mut removed = 0;
    for (sql, end) in statements {
        removed += tx.execute(sql, args![end, PRUNE_BATCH_MAX]).await?;
    }
    Ok(removed)
}

async fn revocations(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    let rows = tx
        .rows(
            "DELETE FROM revocations WHERE (project, sign_in) IN (
                 SELECT project, sign_in FROM revocations WHERE forget_at <= $1 LIMIT $2)
             RETURNING project, sign_in",
            args![now, PRUNE_BATCH_MAX],
        )
        .await?;
    for row in &rows {
        tx.retract(Partition::Project(row.get("project")?), DocumentKey::revocation(row.get("sign_in")?))?;
    }
    Ok(rows.len() as u64)
}

async fn keys(tx: &mut Tx, dead: Timestamp) -> Result<u64, StoreError> {
    let rows = tx
        .rows(
            "DELETE FROM api_keys WHERE id IN (
                 SELECT id FROM api_keys WHERE revoked_at <= $1 OR expires_at <= $1 LIMIT $2)
             RETURNING project, id",
            args![dead, PRUNE_BATCH_MAX],
        )
        .await?;
    for row in &rows {
        tx.retract(Partition::Project(row.get("project")?), DocumentKey::api_key(row.get("id")?))?;
    }
    Ok(rows.len() as u64)
}

/// Removes old entries of the feed that no snapshot needs: superseded ones and tombstones.
async fn feed(tx: &mut Tx) -> Result<u64, StoreError> {
    let heads = tx
        .rows(
            "SELECT partition, revision, pruned_to FROM feed_heads
             WHERE revision - pruned_to > $1 ORDER BY partition",
            args![RETAINED_ENTRIES + PRUNE_AFTER],
        )
        .await?;
    let mut removed = 0;
    for head in heads {
        let partition: Partition = head.get("partition")?;
        let (revision, pruned_to): (u64, u64) = (head.get("revision")?, head.get("pruned_to")?);
        let cut = (pruned_to + u64::from(PRUNE_BATCH_MAX)).min(revision.saturating_sub(RETAINED_ENTRIES));
        removed += tx
            .execute(
                "DELETE FROM feed_entries WHERE partition = $1 AND revision > $2 AND revision <= $3
                   AND (is_current = 0 OR (body IS NULL AND sealed IS NULL))",
                args![partition, pruned_to, cut],
            )
            .await?;
        tx.execute("UPDATE feed_heads SET pruned_to = $2 WHERE partition = $1", args![partition, cut])
            .await?;
        removed += 1; // so that the caller comes back while there is more to cut
    }
    Ok(removed)
}
