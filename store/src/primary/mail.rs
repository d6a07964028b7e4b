//! Mails that wait to be sent: written in the transaction of the change that wants something said, sent by whoever holds
//! the lease of control's mail job.
//!
//! What a mail says is opaque here, and sealed: it holds links that sign people in. A mail that was handed over is
//! deleted; one that cannot be is kept for a while as failed, so that an operator can see why.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, MailId};
use zeroize::Zeroizing;

use super::value::{Column, IntoValue, Row, Value, args, word};
use super::{PageRequest, Paged, ReadTx, StoreError, Tx, WriteError};

/// Most mails of one directory that wait: with a mail server that is away, a day of a busy directory.
pub const WAITING_OF_DIRECTORY_MAX: usize = 2_000;

/// Most mails that wait in all. In a transaction confined to a tenant only that tenant's are seen and counted.
pub const WAITING_MAX: usize = 50_000;

/// Most failed mails that are kept; the oldest are forgotten first.
pub const FAILED_MAX: usize = 1_000;

/// How long a failed mail is kept.
const FAILED_REMEMBERED: Duration = Duration::from_hours(7 * 24);

/// Longest text of a mail server's answer that is kept, in characters.
const ERROR_LEN_MAX: usize = 300;

/// Where a mail stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailState {
    /// It waits for its time.
    Queued,
    /// Somebody is at it, or was when their node died.
    Sending,
    /// It was given up.
    Failed,
}

word!(MailState { Queued = "queued", Sending = "sending", Failed = "failed" });

/// A mail to be queued.
pub struct NewMail<'a> {
    /// Its id.
    pub id: MailId,
    /// On whose behalf.
    pub directory: DirectoryId,
    /// To whom.
    pub recipient: &'a str,
    /// What it is for, as one word.
    pub kind: &'a str,
    /// What it says; sealed here.
    pub body: &'a [u8],
    /// When it is of no use any more.
    pub give_up_at: Timestamp,
}

/// A mail, without what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRow {
    /// Its id.
    pub id: MailId,
    /// On whose behalf.
    pub directory: DirectoryId,
    /// To whom.
    pub recipient: String,
    /// What it is for, as one word.
    pub kind: String,
    /// Where it stands.
    pub state: MailState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_at: Timestamp,
    /// When it is of no use any more.
    pub give_up_at: Timestamp,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was queued.
    pub created_at: Timestamp,
}

/// A mail to be sent now.
pub struct ClaimedMail {
    /// The mail.
    pub row: MailRow,
    /// What it says, opened.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for ClaimedMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimedMail").field("row", &self.row).finish_non_exhaustive()
    }
}

/// Whether a mail was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It will be sent.
    Yes,
    /// Too many wait already, so it was dropped.
    Full,
}

fn read(row: &Row) -> Result<MailRow, StoreError> {
    Ok(MailRow {
        id: row.get("id")?,
        directory: row.get("directory")?,
        recipient: row.get("recipient")?,
        kind: row.get("kind")?,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        next_at: row.get("next_at")?,
        give_up_at: row.get("give_up_at")?,
        error: row.opt("error")?,
        created_at: row.get("created_at")?,
    })
}

/// A body opens only as that of its own mail.
pub(super) fn context(id: MailId) -> String {
    format!("mail/{id}")
}

/// Queues a mail.
///
/// # Errors
/// Not found: the directory.
pub async fn add(tx: &mut Tx, mail: &NewMail<'_>) -> Result<Queued, WriteError> {
    let waiting = tx
        .row(
            "SELECT (SELECT COUNT(*) FROM mails WHERE directory = $1 AND state <> 'failed') AS of_directory,
                    (SELECT COUNT(*) FROM mails WHERE state <> 'failed') AS in_all",
            args![mail.directory],
        )
        .await?;
    if let Some(row) = waiting {
        let (of_directory, in_all): (usize, usize) = (row.get("of_directory")?, row.get("in_all")?);
        if of_directory >= WAITING_OF_DIRECTORY_MAX || in_all >= WAITING_MAX {
            return Ok(Queued::Full);
        }
    }
    let now = tx.now();
    let sealed = tx.seal.seal(&context(mail.id), mail.body);
    tx.insert(
        "directory",
        "INSERT INTO mails (id, directory, recipient, kind, state, claim, attempts, next_at, give_up_at, sealed, created_at)
         VALUES ($1, $2, $3, $4, $5, 0, 0, $6, $7, $8, $6)",
        args![
            mail.id,
            mail.directory,
            mail.recipient,
            mail.kind,
            MailState::Queued,
            now,
            mail.give_up_at,
            sealed
        ],
    )
    .await?;
    Ok(Queued::Yes)
}

/// When the next mail is due that nobody holding `token` is at; `None`: none waits.
pub async fn next_due(tx: &mut ReadTx, token: u64) -> Result<Option<Timestamp>, StoreError> {
    let row = tx
        .row(
            "SELECT MIN(next_at) AS due FROM mails
             WHERE state = 'queued' OR (state = 'sending' AND claim <> $1)",
            args![token],
        )
        .await?;
    row.map_or(Ok(None), |row| row.opt("due"))
}

/// Takes up to `limit` mails that are due, in turn from each directory, so that one with many does not hold up the
/// others, and those never tried before those that failed. Those that an earlier holder of the lease was at come again: it may have died before it handed them over.
pub async fn claim(tx: &mut Tx, token: u64, limit: usize) -> Result<Vec<ClaimedMail>, StoreError> {
    let now = tx.now();
    let rows = tx
        .rows(
            "SELECT * FROM (
                 SELECT mails.*, ROW_NUMBER() OVER (
                     PARTITION BY directory ORDER BY CASE WHEN attempts = 0 THEN 0 ELSE 1 END, next_at, id) AS place
                 FROM mails
                 WHERE next_at <= $1 AND (state = 'queued' OR (state = 'sending' AND claim <> $2))) AS due
             ORDER BY place, next_at, id LIMIT $3",
            args![now, token, limit],
        )
        .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut mail = read(row)?;
        tx.execute(
            "UPDATE mails SET state = $2, claim = $3, attempts = attempts + 1 WHERE id = $1",
            args![mail.id, MailState::Sending, token],
        )
        .await?;
        mail.state = MailState::Sending;
        mail.attempts += 1;
        let sealed: Vec<u8> = row.get("sealed")?;
        let Ok(body) = tx.seal.open(&context(mail.id), &sealed) else {
            // One that was altered must not hold up all others.
            fail(
                tx,
                mail.id,
                token,
                "what it says cannot be opened: it was altered, or sealed with another key",
            )
            .await?;
            continue;
        };
        claimed.push(ClaimedMail { row: mail, body: Zeroizing::new(body) });
    }
    Ok(claimed)
}

/// Forgets a mail that was handed over. `false`: somebody else has it now.
pub async fn sent(tx: &mut Tx, id: MailId, token: u64) -> Result<bool, StoreError> {
    let deleted = tx
        .execute("DELETE FROM mails WHERE id = $1 AND state = 'sending' AND claim = $2", args![id, token])
        .await?;
    Ok(deleted > 0)
}

/// Puts a mail off until `next_at`. `false`: somebody else has it now.
pub async fn put_off(
    tx: &mut Tx,
    id: MailId,
    token: u64,
    next_at: Timestamp,
    error: &str,
) -> Result<bool, StoreError> {
    let changed = tx
        .execute(
            "UPDATE mails SET state = 'queued', next_at = $3, error = $4
             WHERE id = $1 AND state = 'sending' AND claim = $2",
            args![id, token, next_at, shortened(error)],
        )
        .await?;
    Ok(changed > 0)
}

/// Gives a mail up. `false`: somebody else has it now.
pub async fn fail(tx: &mut Tx, id: MailId, token: u64, error: &str) -> Result<bool, StoreError> {
    let now = tx.now();
    let changed = tx
        .execute(
            "UPDATE mails SET state = 'failed', next_at = $3, error = $4
             WHERE id = $1 AND state = 'sending' AND claim = $2",
            args![id, token, now, shortened(error)],
        )
        .await?;
    Ok(changed > 0)
}

fn shortened(error: &str) -> String {
    error.chars().take(ERROR_LEN_MAX).collect()
}

/// Mails that wait or failed, oldest first.
pub async fn list(
    tx: &mut ReadTx,
    state: Option<MailState>,
    page: &PageRequest,
) -> Result<Paged<MailRow>, StoreError> {
    // The key is `<micros>/<id>`; what does not read as one is before every mail.
    let (at, id) = page.start().split_once('/').unwrap_or_default();
    let at: i64 = at.parse().unwrap_or(i64::MIN);
    let rows = tx
        .rows(
            "SELECT * FROM mails WHERE (created_at, id) > ($1, $2) AND state = COALESCE($3, state)
             ORDER BY created_at, id LIMIT $4",
            args![at, id, state, page.fetch()],
        )
        .await?;
    let rows = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(page.cut(rows, |row: &MailRow| format!("{}/{}", row.created_at.as_micros(), row.id)))
}

/// The mail with this id.
pub async fn get(tx: &mut ReadTx, id: MailId) -> Result<Option<MailRow>, StoreError> {
    let row = tx.row("SELECT * FROM mails WHERE id = $1", args![id]).await?;
    row.as_ref().map(read).transpose()
}

/// Makes a waiting or failed mail due now, to be given up at `give_up_at`.
///
/// # Errors
/// Not found: no such mail waits or failed.
pub async fn retry(tx: &mut Tx, id: MailId, give_up_at: Timestamp) -> Result<(), WriteError> {
    let now = tx.now();
    tx.change(
        "mail that waits or failed",
        "UPDATE mails SET state = 'queued', next_at = $2, give_up_at = $3 WHERE id = $1 AND state <> 'sending'",
        args![id, now, give_up_at],
    )
    .await
}

/// Forgets failed mails that are old or too many; says how many.
pub async fn forget_failed(tx: &mut Tx) -> Result<u64, StoreError> {
    let old = tx.now().before(FAILED_REMEMBERED);
    tx.execute(
        "DELETE FROM mails WHERE state = 'failed' AND (next_at <= $1 OR id IN (
             SELECT id FROM mails WHERE state = 'failed' ORDER BY next_at DESC, id LIMIT 1000000 OFFSET $2))",
        args![old, FAILED_MAX],
    )
    .await
}

/// How many mails wait, and how many were given up and are still remembered.
pub async fn counts(tx: &mut ReadTx) -> Result<(u64, u64), StoreError> {
    let row = tx
        .row(
            "SELECT COALESCE(SUM(CASE WHEN state = 'failed' THEN 0 ELSE 1 END), 0) AS waiting,
                    COALESCE(SUM(CASE WHEN state = 'failed' THEN 1 ELSE 0 END), 0) AS failed FROM mails",
            args![],
        )
        .await?;
    row.map_or(Ok((0, 0)), |row| Ok((row.get("waiting")?, row.get("failed")?)))
}
