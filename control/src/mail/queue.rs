//! The job that sends what is queued, on whichever control node holds its lease.
//!
//! A mail is claimed under the lease's token and settled under the same: what was sent is deleted, what failed is put off
//! or given up. A node that dies while it sends leaves its claims behind; the next holder, or the same node started
//! again, has another token and takes them up, so a mail may arrive twice and is never lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_store::StoreError;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::lease::{self, Lease};
use mezusphere_store::primary::mail::{self, ClaimedMail, MailRow};
use mezusphere_store::primary::{Tx, directory};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::letter::Letter;
use super::looks::Looks;
use super::{MailFigures, SendError};
use crate::Shared;
use crate::lease::Job;

/// Mails sent at the same time, each on a connection of its own; relays begin to refuse at about ten.
const SENDING_MAX: usize = 4;

/// Between two looks at the queue: another control node's mails ring no bell here.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// From the bell to the look: the change that queued the mail has to be committed first. If it is not, the next look
/// finds it.
const BELL_TO_LOOK: Duration = Duration::from_millis(20);

/// Between two renewals of the lease while mails are being sent, which may take longer than a lease is good.
const HOLD_EVERY: Duration = Duration::from_secs(8);

/// Between two removals of what failed long ago.
const FORGET_EVERY: Duration = Duration::from_mins(10);

/// Before the second attempt; doubled for each further one, up to [`BACK_OFF_MAX`].
const BACK_OFF_MIN: Duration = Duration::from_secs(10);

/// Between two attempts at most.
const BACK_OFF_MAX: Duration = Duration::from_hours(1);

/// No mail is begun so long after a server that could not be reached: it is the same for all of them.
const PAUSE: Duration = Duration::from_secs(2);

/// Kinds that anybody can ask for to any address: nobody outside may make the audit log grow (R25). The log tells of them.
const ASKED_BY_STRANGERS: [&str; 3] = ["sign_up", "already_registered", "recovery"];

/// How long sending may go on when the node stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What became of a mail.
#[derive(Debug)]
enum Outcome {
    Sent,
    Failed(SendError),
}

/// The job's state on this node.
struct Queue<'a> {
    shared: &'a Arc<Shared>,
    figures: MailFigures,
    /// The lease, if this node holds it; a new one has another token.
    lease: Option<Lease>,
    /// Something failed half-way, so mails may be claimed that this node knows nothing of: go on under a new token, once
    /// all that is under way has ended.
    is_unsure: bool,
    /// What is being sent.
    sending: JoinSet<Outcome>,
    claims: HashMap<Id, MailRow>,
    /// What is done and not written down yet.
    done: Vec<(MailRow, Outcome)>,
    paused_until: Instant,
    hold_at: Instant,
    forget_at: Instant,
}

/// Sends what is queued until `cancel`. Ends at once where there is no way to send mail.
pub(crate) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let Some(config) = shared.mail.config() else { return };
    tracing::info!(to = %config.way, from = %config.sender.address(), "Mail is sent");
    let now = Instant::now();
    let mut queue = Queue {
        shared: &shared,
        figures: config.figures.clone(),
        lease: None,
        is_unsure: false,
        sending: JoinSet::new(),
        claims: HashMap::new(),
        done: Vec::new(),
        paused_until: now,
        hold_at: now,
        forget_at: now,
    };
    let mut look_at = now;
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep_until(look_at) => {}
            () = shared.mail.queued() => {
                look_at = look_at.min(Instant::now() + BELL_TO_LOOK);
                continue;
            }
            Some(ended) = queue.sending.join_next_with_id() => queue.ended(ended),
        }
        look_at = Instant::now() + LOOK_EVERY;
        if let Err(why) = queue.look().await {
            tracing::warn!(error = %why, "Mails that wait could not be looked at");
            queue.is_unsure = true;
        }
    }
    queue.stop().await;
}

impl Queue<'_> {
    /// Writes down what is done, and begins what is due.
    async fn look(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        if self.is_unsure || self.lease.is_none() {
            if !self.claims.is_empty() {
                // Under a new token these would be claimed a second time.
                return Ok(());
            }
            self.lease = None;
            self.is_unsure = false;
        }
        self.hold().await?;
        if Instant::now() < self.paused_until || self.sending.len() >= SENDING_MAX {
            return Ok(());
        }
        let token = self.lease.as_ref().map_or(0, |lease| lease.token);
        let due = self.shared.primary.read(async |tx| mail::next_due(tx, token).await).await?;
        if due.is_none_or(|due| due > self.shared.clock.now()) {
            return Ok(());
        }
        self.begin().await
    }

    /// Keeps the lease while mails are on their way, and forgets old failures.
    async fn hold(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        let forget = now >= self.forget_at;
        let Some(held) = self.lease.clone() else { return Ok(()) };
        if now < self.hold_at || (self.sending.is_empty() && !forget) {
            return Ok(());
        }
        let shared = self.shared;
        let (kept, waiting) = shared
            .primary
            .write(async |tx| {
                if !shared.keep_lease(tx, &held).await? {
                    return Ok((false, 0));
                }
                if forget {
                    mail::forget_failed(tx).await?;
                }
                Ok::<_, StoreError>((true, mail::counts(tx).await?.0))
            })
            .await?;
        self.figures.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.hold_at = now + HOLD_EVERY;
        if forget {
            self.forget_at = now + FORGET_EVERY;
        }
        if !kept {
            self.lease = None;
        }
        Ok(())
    }

    /// Claims what is due and sends it, unless another control node is at it.
    async fn begin(&mut self) -> Result<(), StoreError> {
        let shared = self.shared;
        let (held, room) = (self.lease.clone(), SENDING_MAX - self.sending.len());
        let claimed = shared.primary.write(async |tx| {
            let Some(lease) = take(shared, tx, held.as_ref()).await? else { return Ok(None) };
            let mut mails = Vec::with_capacity(room);
            for claimed in mail::claim(tx, lease.token, room).await? {
                let home = shared.installation.directory;
                let looks = Looks::load(tx, claimed.row.directory, home).await?;
                mails.push((claimed, looks));
            }
            let waiting = mail::counts(tx).await?.0;
            Ok::<_, StoreError>(Some((lease, mails, waiting)))
        });
        let Some((lease, mails, waiting)) = claimed.await? else {
            self.figures.waiting.set(0);
            self.lease = None;
            return Ok(());
        };
        if self.lease.as_ref().is_none_or(|known| known.token != lease.token) {
            tracing::info!(token = lease.token, "This node sends the mails");
        }
        self.lease = Some(lease);
        self.hold_at = Instant::now() + HOLD_EVERY;
        self.figures.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        for (claimed, looks) in mails {
            let row = claimed.row.clone();
            let handle = self.sending.spawn(send(Arc::clone(shared), claimed, looks));
            self.claims.insert(handle.id(), row);
        }
        Ok(())
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(why) => {
                let outcome = Outcome::Failed(SendError::Never(format!("a fault of ours: {why}")));
                (why.id(), outcome)
            }
        };
        if matches!(outcome, Outcome::Failed(SendError::Unreachable(_))) {
            self.paused_until = Instant::now() + PAUSE;
        }
        if let Some(row) = self.claims.remove(&id) {
            self.done.push((row, outcome));
        }
    }

    /// Writes down what became of mails. What cannot be written now stays in `done`.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let Some(lease) = self.lease.clone() else {
            // Whoever holds the lease now has taken these up.
            self.done.clear();
            return Ok(());
        };
        while let Some((row, outcome)) = self.done.last() {
            self.settle_one(&lease, row, outcome).await?;
            self.done.pop();
        }
        Ok(())
    }

    async fn settle_one(&self, lease: &Lease, row: &MailRow, outcome: &Outcome) -> Result<(), StoreError> {
        let (shared, token) = (self.shared, lease.token);
        let error = match outcome {
            Outcome::Sent => {
                let known = shared.primary.write(async |tx| mail::sent(tx, row.id, token).await).await?;
                self.figures.sent.inc();
                tracing::debug!(mail = %row.id, kind = row.kind, known, "A mail was sent");
                return Ok(());
            }
            Outcome::Failed(error) => error,
        };
        let now = shared.clock.now();
        let next_at = now.after(back_off(row.attempts, shared.entropy.bytes()));
        let why = error.to_string();
        if matches!(error, SendError::Never(_)) || next_at >= row.give_up_at {
            let failed = shared.primary.write(async |tx| give_up(shared, tx, row, token, &why).await);
            if failed.await? {
                self.figures.failed.inc();
                tracing::warn!(mail = %row.id, kind = row.kind, attempts = row.attempts, error = %why, "A mail was given up");
            }
        } else {
            let put_off =
                shared.primary.write(async |tx| mail::put_off(tx, row.id, token, next_at, &why).await);
            put_off.await?;
            self.figures.put_off.inc();
            tracing::info!(mail = %row.id, kind = row.kind, attempts = row.attempts, again_at = %next_at, error = %why, "A mail is tried again later");
        }
        Ok(())
    }

    /// Lets what is being sent end, writes it down, and gives the lease back.
    async fn stop(mut self) {
        let end = Instant::now() + STOP_GRACE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(end, self.sending.join_next_with_id()).await {
            self.ended(ended);
        }
        // What is cut off here stays claimed, and is taken up under another token.
        self.sending.shutdown().await;
        let settled = self.settle().await;
        let Some(lease) = self.lease.take() else { return };
        let released = self.shared.primary.write(async |tx| lease::release(tx, &lease).await).await;
        if let Err(why) = settled.and(released) {
            tracing::warn!(error = %why, "Mails could not be left in order; the next start does it");
        }
    }
}

/// Takes or prolongs the lease. One that this node holds from an earlier life is given up first, so that what was
/// claimed then is taken up again.
async fn take(shared: &Shared, tx: &mut Tx, held: Option<&Lease>) -> Result<Option<Lease>, StoreError> {
    let Some(lease) = shared.take_lease(tx, Job::Mail).await? else { return Ok(None) };
    if held.is_some_and(|held| held.token == lease.token) {
        return Ok(Some(lease));
    }
    lease::release(tx, &lease).await?;
    shared.take_lease(tx, Job::Mail).await
}

async fn send(shared: Arc<Shared>, claimed: ClaimedMail, looks: Looks) -> Outcome {
    let (row, body) = (claimed.row, claimed.body);
    let letter = match Letter::from_bytes(&body) {
        Ok(letter) => letter,
        // A newer node wrote it; it may be there again, so nothing is lost yet.
        Err(why) => return Outcome::Failed(SendError::Later(format!("this node cannot read it: {why}"))),
    };
    if letter.decoy {
        return Outcome::Sent;
    }
    if shared.clock.now() >= row.give_up_at {
        let why = row.error.unwrap_or_else(|| "it could not be sent in time".to_owned());
        return Outcome::Failed(SendError::Never(why));
    }
    match shared.mail.send(row.id, &letter, &looks, shared.clock.now()).await {
        Ok(()) => Outcome::Sent,
        Err(why) => Outcome::Failed(why),
    }
}

/// Gives a mail up, and says so in its organization's audit log, unless a stranger asked for it.
async fn give_up(
    shared: &Shared,
    tx: &mut Tx,
    row: &MailRow,
    token: u64,
    why: &str,
) -> Result<bool, StoreError> {
    if !mail::fail(tx, row.id, token, why).await? {
        return Ok(false);
    }
    if ASKED_BY_STRANGERS.contains(&row.kind.as_str()) {
        return Ok(true);
    }
    if let Some(of) = directory::by_id(tx, row.directory).await? {
        tx.audit(AuditEntry {
            organization: of.organization,
            project: of.project,
            actor: shared.config.node.id.to_string(),
            action: "mail.give_up".to_owned(),
            target: row.id.to_string(),
            address: None,
            detail: serde_json::json!({
                "email": row.recipient, "kind": row.kind, "attempts": row.attempts, "error": why,
            }),
        });
    }
    Ok(true)
}

/// Before the attempt after `attempts`: doubled each time, ± a fifth, so that mails that failed together do not come
/// back together.
fn back_off(attempts: u32, random: [u8; 2]) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let wait = BACK_OFF_MIN.saturating_mul(1 << doublings).min(BACK_OFF_MAX);
    let spread = f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX);
    wait.mul_f64(0.8 + 0.4 * spread).min(BACK_OFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_never_fall_on_one_moment() {
        let waits = |random| (1..=12).map(|n| back_off(n, random).as_secs()).collect::<Vec<_>>();
        assert_eq!(waits([0, 0])[..4], [8, 16, 32, 64]);
        assert_eq!(waits([255, 255])[..4], [12, 24, 48, 96]);
        assert_eq!(waits([255, 255]).last(), Some(&3600));
        assert!(back_off(u32::MAX, [0, 0]) >= Duration::from_mins(48));
    }
}
