//! The login history of accounts: what is written at once, and what is written later.
//!
//! What changes something anyway (a sign-in, a new password) is written in the same transaction: [`record`]. A failed
//! attempt changes nothing, and must cost the same whether the account exists (R13), so it goes into a bounded queue in
//! memory ([`History::note`]) that a job of control writes down in batches ([`History::flush`]). A full queue forgets its
//! oldest attempts and says in the log how many; what is lost is a line of history, never a sign-in.
//!
//! The queue also takes bursts of spraying ([`crate::throttle`]), which become one audit entry each.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::identity::Method;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::login_event::{self, LoginEvent};
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{PageRequest, ReadTx, Tx, directory};
use mezusphere_store::{Primary, StoreError, WriteError};

use crate::desk::Visit;
use crate::sign_in::Place;
use crate::throttle::{Network, Spraying};

/// Attempts that wait to be written: those of ten seconds at the rate at which the throttle lets strangers try, and the
/// burst before.
pub const QUEUE_LEN_MAX: usize = 512;

/// Attempts written in one transaction, so that no sign-in waits long behind them.
pub const BATCH_LEN_MAX: usize = 64;

/// What happened to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody signed in.
    SignedIn,
    /// They proved it again, or more.
    SteppedUp,
    /// A wrong password.
    WrongPassword,
    /// The right password, but the account may not be used.
    Refused,
    /// A browser ended its own sign-in.
    SignedOut,
    /// A sign-in was ended from elsewhere: from another browser of its user's, or by an operator.
    SessionEnded,
    /// The password was changed by who knew the old one, or set by an operator.
    PasswordChanged,
    /// A new password was chosen with a mailed link.
    Recovered,
    /// The address was changed.
    EmailChanged,
}

impl Outcome {
    /// As it is kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::SteppedUp => "stepped_up",
            Self::WrongPassword => "wrong_password",
            Self::Refused => "refused",
            Self::SignedOut => "signed_out",
            Self::SessionEnded => "session_ended",
            Self::PasswordChanged => "password_changed",
            Self::Recovered => "recovered",
            Self::EmailChanged => "email_changed",
        }
    }
}

/// Writes down what happened, in the transaction that made it happen.
pub async fn record(
    tx: &mut Tx,
    user: &UserRow,
    outcome: Outcome,
    methods: Option<&[Method]>,
    place: &Place,
) -> Result<(), WriteError> {
    let methods = methods.unwrap_or_default();
    let event = LoginEvent {
        user: user.id,
        directory: user.directory,
        at: tx.now(),
        outcome: outcome.as_str().to_owned(),
        method: methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join("+"),
        address: place.address.clone(),
        agent: place.agent.clone(),
    };
    login_event::record_many(tx, &[event]).await
}

/// Whether a user was never seen at this place: neither in this network nor with this browser. A user who never signed
/// in before has no new place.
pub async fn is_new_place(tx: &mut ReadTx, user: &UserRow, place: &Place) -> Result<bool, StoreError> {
    let events = login_event::list(tx, user.directory, user.id, &PageRequest::first()).await?.rows;
    let network = network(&place.address);
    let mut before = events.iter().filter(|event| event.outcome == Outcome::SignedIn.as_str()).peekable();
    let any = before.peek().is_some();
    let browser = browser(&place.agent);
    let seen = |event: &LoginEvent| {
        self::network(&event.address) == network && self::browser(&event.agent) == browser
    };
    Ok(any && !before.any(seen))
}

/// A browser's name without its version: an update is no new browser.
fn browser(agent: &str) -> String {
    agent.chars().filter(|c| !c.is_ascii_digit() && *c != '.' && !c.is_control()).collect()
}

fn network(address: &str) -> Option<Network> {
    address.parse().ok().map(Network::of)
}

/// What waits to be written.
#[derive(Default)]
struct Queue {
    events: VecDeque<Noted>,
    forgotten: u64,
}

#[derive(Clone)]
struct Noted {
    directory: DirectoryId,
    at: Timestamp,
    place: Place,
    what: What,
}

#[derive(Clone)]
enum What {
    Attempt { user: UserId, outcome: Outcome },
    Spraying(Spraying),
}

/// The queue of attempts. Cheap to clone: all clones are one queue.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Queue>>);

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

impl History {
    /// Notes an attempt, to be written later. Costs the same for an account that does not exist.
    pub(crate) fn note(
        &self,
        directory: DirectoryId,
        user: Option<UserId>,
        outcome: Outcome,
        visit: &Visit,
        at: Timestamp,
    ) {
        let place = visit.place();
        let mut queue = self.lock();
        if let Some(user) = user {
            queue.push(Noted { directory, at, place, what: What::Attempt { user, outcome } });
        }
    }

    /// Notes a burst of spraying, to be audited.
    pub(crate) fn note_spraying(
        &self,
        directory: DirectoryId,
        spraying: Spraying,
        visit: &Visit,
        at: Timestamp,
    ) {
        let what = What::Spraying(spraying);
        self.lock().push(Noted { directory, at, place: visit.place(), what });
    }

    /// Writes down what has been noted, oldest first, [`BATCH_LEN_MAX`] at a time; returns how much. What could not be
    /// written is noted again.
    pub async fn flush(&self, primary: &Primary) -> Result<usize, WriteError> {
        let mut written = 0;
        loop {
            let (batch, forgotten) = self.take();
            if forgotten > 0 {
                tracing::warn!(forgotten, "Attempts to sign in came faster than their history is written");
            }
            if batch.is_empty() {
                return Ok(written);
            }
            let done = primary.write(async |tx| write(tx, &batch).await).await;
            if let Err(error) = done {
                self.put_back(batch);
                return Err(error);
            }
            written += batch.len();
        }
    }

    fn take(&self) -> (Vec<Noted>, u64) {
        let mut queue = self.lock();
        let len = queue.events.len().min(BATCH_LEN_MAX);
        (queue.events.drain(..len).collect(), std::mem::take(&mut queue.forgotten))
    }

    fn put_back(&self, batch: Vec<Noted>) {
        let mut queue = self.lock();
        for noted in batch.into_iter().rev() {
            if queue.events.len() < QUEUE_LEN_MAX {
                queue.events.push_front(noted);
            } else {
                queue.forgotten += 1;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, noted: Noted) {
        if self.events.len() >= QUEUE_LEN_MAX {
            self.events.pop_front();
            self.forgotten += 1;
        }
        self.events.push_back(noted);
    }
}

async fn write(tx: &mut Tx, batch: &[Noted]) -> Result<(), WriteError> {
    let mut events = Vec::with_capacity(batch.len());
    for Noted { directory, at, place, what } in batch {
        match what {
            What::Attempt { user, outcome } => events.push(LoginEvent {
                user: *user,
                directory: *directory,
                at: *at,
                outcome: outcome.as_str().to_owned(),
                method: Method::Password.as_str().to_owned(),
                address: place.address.clone(),
                agent: place.agent.clone(),
            }),
            What::Spraying(spraying) => {
                let Some(row) = directory::by_id(tx, *directory).await? else { continue };
                tx.audit(AuditEntry {
                    organization: row.organization,
                    project: row.project,
                    actor: "strangers".to_owned(),
                    action: "sign_in.spraying".to_owned(),
                    target: directory.to_string(),
                    address: Some(place.address.clone()),
                    detail: serde_json::json!({
                        "kind": spraying.kind.as_str(),
                        "accounts": spraying.accounts,
                        "networks": spraying.networks,
                        "noticed_at": at.to_string(),
                    }),
                });
            }
        }
    }
    login_event::record_many(tx, &events).await
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn visit() -> Visit {
        Visit { address: IpAddr::V4(Ipv4Addr::LOCALHOST), agent: String::new() }
    }

    fn note(history: &History, second: i64) {
        let (directory, user) = (DirectoryId::from_bits(1), Some(UserId::from_bits(1)));
        history.note(directory, user, Outcome::WrongPassword, &visit(), Timestamp::from_seconds(second));
    }

    fn seconds(batch: &[Noted]) -> (i64, i64) {
        (batch[0].at.as_seconds(), batch[batch.len() - 1].at.as_seconds())
    }

    #[test]
    fn a_full_queue_forgets_the_oldest_and_says_how_many() {
        let history = History::default();
        let len = i64::try_from(QUEUE_LEN_MAX).unwrap();
        for second in 0..len + 10 {
            note(&history, second);
        }
        let (batch, forgotten) = history.take();
        assert_eq!((batch.len(), forgotten), (BATCH_LEN_MAX, 10));
        assert_eq!(seconds(&batch).0, 10);
        for second in 0..len {
            note(&history, second);
        }
        history.put_back(batch);
        assert_eq!(history.lock().events.len(), QUEUE_LEN_MAX);
    }

    #[test]
    fn what_could_not_be_written_is_written_later_in_its_order() {
        let history = History::default();
        for second in 0..100 {
            note(&history, second);
        }
        let (batch, _) = history.take();
        note(&history, 100);
        history.put_back(batch);
        let (batch, _) = history.take();
        assert_eq!(seconds(&batch), (0, i64::try_from(BATCH_LEN_MAX).unwrap() - 1));
        let (rest, _) = history.take();
        assert_eq!(seconds(&rest), (i64::try_from(BATCH_LEN_MAX).unwrap(), 100));
    }

    #[test]
    fn an_attempt_on_an_account_that_does_not_exist_takes_no_place() {
        let history = History::default();
        let at = Timestamp::from_seconds(0);
        history.note(DirectoryId::from_bits(1), None, Outcome::WrongPassword, &visit(), at);
        assert!(history.take().0.is_empty());
    }
}
