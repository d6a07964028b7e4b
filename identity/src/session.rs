//! Where somebody is signed in: listing it, and ending it.
//!
//! A *sign-in* is one browser at the login host; each application it went on to has a *session* that is a child of it.
//! Ending a sign-in ends its sessions on every edge within seconds (R12), with their open connections. A single session is
//! never ended by itself: the application would ask again and get a new one, so people and operators are shown sign-ins.
//!
//! Everything takes the user beside the id: another user's sign-in is not found (R22).

use mezusphere_model::id::{DirectoryId, SignInId};
use mezusphere_model::{Host, Timestamp};
use mezusphere_store::primary::session::{self, SessionRow};
use mezusphere_store::primary::sign_in::{self, SignInRow};
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::primary::{PageRequest, ReadTx, Tx};
use mezusphere_store::{StoreError, WriteError};

use crate::history::{self, Outcome};
use crate::sign_in::{Place, SignedIn, is_good};

/// A sign-in with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The sign-in: from where, with which browser, since when, last used when, until when.
    pub sign_in: SignInRow,
    /// Whether it is the one of the browser that asks.
    pub is_current: bool,
    /// Its sessions on app hosts, by host.
    pub apps: Vec<SessionRow>,
}

/// Where a user is signed in now: the current one first, then the last used. A user has at most
/// [`LIVE_MAX`](crate::sign_in::LIVE_MAX) of them.
pub async fn list(
    tx: &mut ReadTx,
    user: &UserRow,
    current: Option<SignInId>,
) -> Result<Vec<Signed>, StoreError> {
    let now = tx.now();
    let sign_ins = sign_in::list(tx, user.directory, user.id, &PageRequest::first()).await?.rows;
    let sessions = session::of_user(tx, user.directory, user.id).await?;
    let live = |row: &SessionRow| row.doc.check(row.doc.project, &row.doc.host, now, None).is_ok();
    let mut signed: Vec<Signed> = sign_ins
        .into_iter()
        .filter(|row| is_good(row, user, now))
        .map(|sign_in| Signed {
            is_current: current == Some(sign_in.id),
            apps: sessions.iter().filter(|row| row.doc.sign_in == sign_in.id && live(row)).cloned().collect(),
            sign_in,
        })
        .collect();
    signed.sort_by_key(|signed| (!signed.is_current, std::cmp::Reverse(signed.sign_in.seen_at)));
    Ok(signed)
}

/// Ends one sign-in of a user with all its sessions; `false`: it had ended before. `by` is the sign-in of the browser that
/// asks, `place` is where that is; `None`: an operator asks.
///
/// # Errors
/// Not found: it is another user's, or there is none.
pub async fn end_one(
    tx: &mut Tx,
    user: &UserRow,
    id: SignInId,
    by: Option<SignInId>,
    place: &Place,
) -> Result<bool, WriteError> {
    own(tx, user, id).await?;
    let ended = sign_in::end(tx, user.directory, id).await?;
    if ended {
        let outcome = if by == Some(id) { Outcome::SignedOut } else { Outcome::SessionEnded };
        history::record(tx, user, outcome, None, place).await?;
    }
    Ok(ended)
}

/// Ends the sign-in a session belongs to, with all its sessions, because its browser signed out at an application. The
/// browser is known from the sign-in; from where it did so is not. `false`: it had ended before.
///
/// # Errors
/// Not found: the sign-in, or its user.
pub async fn end_at_app(tx: &mut Tx, directory: DirectoryId, id: SignInId) -> Result<bool, WriteError> {
    let row = sign_in::get(tx, directory, id).await?.ok_or(WriteError::NotFound { what: "sign-in" })?;
    let user = user::get(tx, directory, row.user).await?.ok_or(WriteError::NotFound { what: "user" })?;
    end_one(tx, &user, id, Some(id), &Place { address: String::new(), agent: row.agent }).await
}

/// Ends every sign-in of a user but `keep`; returns how many.
///
/// # Errors
/// Not found: `keep` is another user's.
pub async fn end_others(
    tx: &mut Tx,
    user: &UserRow,
    keep: SignInId,
    place: &Place,
) -> Result<u32, WriteError> {
    own(tx, user, keep).await?;
    end_many(tx, user, Some(keep), Outcome::SessionEnded, place).await
}

/// Ends every sign-in of a user; returns how many. `by` is the sign-in of the browser that asks; `None`: an operator asks.
pub async fn end_all(
    tx: &mut Tx,
    user: &UserRow,
    by: Option<SignInId>,
    place: &Place,
) -> Result<u32, WriteError> {
    let outcome = if by.is_some() { Outcome::SignedOut } else { Outcome::SessionEnded };
    end_many(tx, user, None, outcome, place).await
}

/// The application this browser used last, as far as it is known.
pub async fn last_app(tx: &mut ReadTx, signed_in: &SignedIn) -> Result<Option<Host>, StoreError> {
    let SignedIn { sign_in, user } = signed_in;
    let sessions = session::of_user(tx, user.directory, user.id).await?.into_iter();
    let last = sessions.filter(|row| row.doc.sign_in == sign_in.id).max_by_key(|row| row.doc.seen_at);
    Ok(last.map(|row| row.doc.host))
}

/// When a session or sign-in was last used, as far as it is known: edges report in batches.
pub fn last_seen(signed: &Signed) -> Timestamp {
    signed.apps.iter().map(|row| row.doc.seen_at).fold(signed.sign_in.seen_at, Timestamp::max)
}

async fn end_many(
    tx: &mut Tx,
    user: &UserRow,
    keep: Option<SignInId>,
    outcome: Outcome,
    place: &Place,
) -> Result<u32, WriteError> {
    let ended = sign_in::end_all(tx, user.directory, user.id, keep).await?;
    if ended > 0 {
        history::record(tx, user, outcome, None, place).await?;
    }
    Ok(ended)
}

async fn own(tx: &mut ReadTx, user: &UserRow, id: SignInId) -> Result<(), WriteError> {
    let row = sign_in::get(tx, user.directory, id).await?.filter(|row| row.user == user.id);
    row.map(drop).ok_or(WriteError::NotFound { what: "sign-in" })
}
