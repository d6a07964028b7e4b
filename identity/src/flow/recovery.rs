//! Recovery: a new password for somebody who reads the mail of their account's address.
//!
//! ```text
//!  begin ──▶ Address ──ask, send──▶ Inbox        (the same whether the address has an account or not)
//!               └── ends_at passes ──▶ Expired
//!
//!  the mail's link ──open──▶ Choose ──complete(hash)──▶ Recovered   (not signed in; every sign-in has ended)
//!                              └── used, 30 min over, user suspended, address changed meanwhile ──▶ dead
//! ```
//!
//! For an address without an account, or of one that may not be used, everything is done but the sending (R13). Whoever
//! recovers is not signed in by it: they show that they know what they chose, and meet whatever else a sign-in asks
//! (R17). A mail tells the owner that it happened.

use std::time::Duration;

use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, FlowId};
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::WriteError;
use mezusphere_store::primary::one_time_link::{self, LinkRow};
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::primary::{ReadTx, Tx};
use serde::{Deserialize, Serialize};

use super::link::{self, For, Purpose};
use super::{FlowError, Onward, Refusal};
use crate::account::Email;
use crate::desk::{Desk, Visit};
use crate::factor::password::{self, PasswordHash};
use crate::history::{self, Outcome};
use crate::message::{Message, MessageKind};
use crate::sign_in::Place;
use crate::throttle::Mailing;

/// How long the page may stay open before it has to be loaded anew.
pub const RECOVERY_TTL: Duration = Duration::from_mins(30);

/// One run of a recovery, until the mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    id: FlowId,
    directory: DirectoryId,
    ends_at: Timestamp,
    is_asked: bool,
}

/// What a recovery waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An address.
    Address,
    /// Nothing here: the way on is in the mail, if there is an account.
    Inbox,
}

/// That an address may be mailed about its recovery; spent by [`send`].
#[derive(Clone, Debug)]
pub struct Asked {
    directory: DirectoryId,
    email: Email,
}

/// What a link of a recovery leads to: choosing a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whose password.
    pub user: UserRow,
    /// Where they wanted to go.
    pub onward: Option<Onward>,
    /// When the link ends.
    pub ends_at: Timestamp,
}

/// A password was recovered.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Whose.
    pub user: UserRow,
    /// Where they wanted to go, once they have signed in.
    pub onward: Option<Onward>,
    /// What to mail.
    pub messages: Vec<Message>,
}

#[derive(Default, Serialize, Deserialize)]
struct Detail {
    #[serde(default)]
    onward: Option<Onward>,
}

impl Recovery {
    /// Begins a recovery in `directory`.
    pub fn begin(entropy: &Entropy, directory: DirectoryId, now: Timestamp) -> Self {
        Self { id: FlowId::random(entropy), directory, ends_at: now.after(RECOVERY_TTL), is_asked: false }
    }

    /// Which flow.
    pub const fn id(&self) -> FlowId {
        self.id
    }

    /// Where the account lives.
    pub const fn directory(&self) -> DirectoryId {
        self.directory
    }

    /// When it ends.
    pub const fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    /// What it waits for.
    pub const fn next_step(&self) -> Step {
        if self.is_asked { Step::Inbox } else { Step::Address }
    }

    /// Takes an address; what comes back is for [`send`].
    ///
    /// # Errors
    /// [`Refusal::Incomplete`], [`Refusal::Field`], [`Refusal::Throttled`]; the flow goes on.
    pub fn ask(&mut self, desk: &Desk, visit: &Visit, email: &str) -> Result<Asked, Refusal> {
        if desk.clock.now() >= self.ends_at {
            return Err(FlowError::Expired.into());
        }
        let email = desk.mailing(visit, self.directory, Mailing::Recovery, email)?;
        self.is_asked = true;
        Ok(Asked { directory: self.directory, email })
    }
}

/// Makes the link and says what to mail.
pub async fn send(tx: &mut Tx, asked: &Asked, onward: Option<&Onward>) -> Result<Vec<Message>, WriteError> {
    let Asked { directory, email } = asked;
    let known = user::find(tx, *directory, email.as_str()).await?;
    let known = known.filter(|user| user.status == Status::Active);
    let user = known.as_ref().map(|user| user.id);
    let whom = For { directory: *directory, user, email: email.as_str() };
    let token = link::make(tx, Purpose::Recovery, whom, &Detail { onward: onward.cloned() }).await?;
    let name = known.as_ref().map_or("", |user| &user.name);
    let message = Message::new(*directory, email.clone(), name, MessageKind::Recovery { token });
    Ok(vec![if known.is_some() { message } else { message.into_decoy() }])
}

/// Makes the link for an operator who hands the user a way back in, whatever the throttle says.
pub async fn send_to(tx: &mut Tx, user: &UserRow) -> Result<Vec<Message>, Refusal> {
    let asked = Asked { directory: user.directory, email: Email::parse(&user.email)? };
    Ok(send(tx, &asked, None).await?)
}

/// What this link leads to; it stays good.
///
/// # Errors
/// [`Refusal::LinkDead`].
pub async fn open(tx: &mut ReadTx, token: &Token) -> Result<Opened, Refusal> {
    let row = link::peek(tx, Purpose::Recovery, token).await?;
    let user = owner(tx, &row).await?;
    Ok(Opened { user, onward: link::detail::<Detail>(&row)?.onward, ends_at: row.expires_at })
}

/// Takes the link and sets the password; exactly one of any number of attempts does. Every sign-in of the user ends, and
/// every other link of theirs.
///
/// # Errors
/// [`Refusal::LinkDead`].
pub async fn complete(
    tx: &mut Tx,
    token: &Token,
    hash: PasswordHash,
    place: &Place,
) -> Result<Completed, Refusal> {
    let row = link::take(tx, Purpose::Recovery, token).await?;
    let user = owner(tx, &row).await?;
    password::set(tx, user.directory, user.id, hash).await?;
    if user.email_verified_at.is_none() {
        user::verify_email(tx, user.directory, user.id).await?;
    }
    one_time_link::remove_of(tx, user.directory, user.id, &user.email).await?;
    history::record(tx, &user, Outcome::Recovered, None, place).await?;
    let kind = MessageKind::PasswordChanged { at: tx.now(), place: place.clone() };
    let messages = vec![Message::new(user.directory, Email::parse(&user.email)?, &user.name, kind)];
    Ok(Completed { user, onward: link::detail::<Detail>(&row)?.onward, messages })
}

/// The user a mailed link is for, if they may act and the address is still theirs.
pub(super) async fn owner(tx: &mut ReadTx, row: &LinkRow) -> Result<UserRow, Refusal> {
    let id = row.user.ok_or(Refusal::LinkDead)?;
    let user = user::get(tx, row.directory, id).await?.ok_or(Refusal::LinkDead)?;
    let same = user.email.to_lowercase() == row.email.to_lowercase();
    if user.status == Status::Active && same { Ok(user) } else { Err(Refusal::LinkDead) }
}
