//! Changing one's address: the password, a mail to the new address, and a button behind its link.
//!
//! ```text
//!  begin ──▶ Address ──prove(password), ask, send──▶ Inbox    (the same whether the new address has an account or not)
//!              │ ▲          │
//!              │ └──wrong───┘
//!              └── ends_at passes, the sign-in ends ──▶ refused
//!
//!  the mail's link ──open──▶ Confirm ──complete──▶ Changed     (a mail to the old address says so)
//!                              └── used, 30 min over, user suspended, address changed or taken meanwhile ──▶ refused
//! ```
//!
//! Until the link is used nothing changes, so a slip of the keyboard locks nobody out. Links that were mailed to the old
//! address end with it: whoever reads that mailbox has no way back in.

use std::time::Duration;

use mezusphere_model::document::Status;
use mezusphere_model::id::{FlowId, SignInId};
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::WriteError;
use mezusphere_store::primary::one_time_link::{self, LinkRow};
use mezusphere_store::primary::user::{self, UserChange, UserRow};
use mezusphere_store::primary::{ReadTx, Tx};
use serde::{Deserialize, Serialize};

use super::change_password::current;
use super::link::{self, For, Purpose};
use super::{Authenticated, FlowError, Refusal};
use crate::account::Email;
use crate::desk::{Desk, Visit};
use crate::history::{self, Outcome};
use crate::message::{Message, MessageKind};
use crate::sign_in::{Place, SignedIn};
use crate::throttle::Mailing;

/// How long the page may stay open before it has to be loaded anew.
pub const CHANGE_TTL: Duration = Duration::from_mins(30);

/// One run of a change of address, until the mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeEmail {
    id: FlowId,
    sign_in: SignInId,
    ends_at: Timestamp,
    is_asked: bool,
}

/// What a change of address waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The new address and the password.
    Address,
    /// Nothing here: the way on is in the mail to the new address.
    Inbox,
}

/// That a new address may be mailed; spent by [`send`].
#[derive(Clone, Debug)]
pub struct Asked {
    who: Authenticated,
    new: Email,
}

/// What a link leads to: a button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whose address, as it is now.
    pub user: UserRow,
    /// What it will be.
    pub new: Email,
    /// When the link ends.
    pub ends_at: Timestamp,
}

/// An address was changed.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Whose, as it is now.
    pub user: UserRow,
    /// What to mail.
    pub messages: Vec<Message>,
}

/// The address the user had when the link was made: after another change the link is dead.
#[derive(Serialize, Deserialize)]
struct Detail {
    from: String,
}

impl ChangeEmail {
    /// Begins, for who is signed in.
    pub fn begin(entropy: &Entropy, signed_in: &SignedIn, now: Timestamp) -> Self {
        let (id, sign_in) = (FlowId::random(entropy), signed_in.sign_in.id);
        Self { id, sign_in, ends_at: now.after(CHANGE_TTL), is_asked: false }
    }

    /// Which flow.
    pub const fn id(&self) -> FlowId {
        self.id
    }

    /// When it ends.
    pub const fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    /// What it waits for.
    pub const fn next_step(&self) -> Step {
        if self.is_asked { Step::Inbox } else { Step::Address }
    }

    /// Takes the new address and checks the password; what comes back is for [`send`].
    ///
    /// # Errors
    /// [`Refusal::Unchanged`] for the address they have, [`Refusal::Field`] for none, too, [`Refusal::Incomplete`] without
    /// a password, [`Refusal::OtherPerson`],
    /// [`Refusal::Expired`], [`Refusal::Wrong`], [`Refusal::Throttled`]…
    pub async fn ask(
        &mut self,
        desk: &Desk,
        visit: &Visit,
        signed_in: &SignedIn,
        new: &str,
        password: String,
    ) -> Result<Asked, Refusal> {
        if desk.clock.now() >= self.ends_at {
            return Err(FlowError::Expired.into());
        }
        if signed_in.sign_in.id != self.sign_in {
            return Err(Refusal::OtherPerson);
        }
        // Another spelling of the same address is a change, too: it is what people are shown.
        if Email::parse(new)?.as_str() == signed_in.user.email {
            return Err(Refusal::Unchanged);
        }
        let proof = desk.prove_again(visit, signed_in, password).await?;
        let who = Authenticated::from_proofs(&[proof]).ok_or(Refusal::Wrong)?;
        let new = desk.mailing(visit, signed_in.user.directory, Mailing::ChangeEmail, new)?;
        self.is_asked = true;
        Ok(Asked { who, new })
    }
}

/// Makes the link and says what to mail. A new address that has an account gets no mail, and whoever asked sees no
/// difference.
pub async fn send(tx: &mut Tx, signed_in: &SignedIn, asked: &Asked) -> Result<Vec<Message>, Refusal> {
    let user = current(tx, signed_in, &asked.who).await?;
    let holder = user::find(tx, user.directory, asked.new.as_str()).await?;
    let is_taken = holder.is_some_and(|holder| holder.id != user.id);
    let whom = For { directory: user.directory, user: Some(user.id), email: asked.new.as_str() };
    let token = link::make(tx, Purpose::ChangeEmail, whom, &Detail { from: user.email.clone() }).await?;
    let kind = MessageKind::ChangeEmail { token };
    let message = Message::new(user.directory, asked.new.clone(), user.shown_name(), kind);
    Ok(vec![if is_taken { message.into_decoy() } else { message }])
}

/// What this link leads to; it stays good.
///
/// # Errors
/// [`Refusal::LinkDead`]; [`Refusal::Taken`] if the new address has another account meanwhile.
pub async fn open(tx: &mut ReadTx, token: &Token) -> Result<Opened, Refusal> {
    let row = link::peek(tx, Purpose::ChangeEmail, token).await?;
    opened(tx, &row).await
}

async fn opened(tx: &mut ReadTx, row: &LinkRow) -> Result<Opened, Refusal> {
    let id = row.user.ok_or(Refusal::LinkDead)?;
    let user = user::get(tx, row.directory, id).await?.ok_or(Refusal::LinkDead)?;
    let is_same = user.email == link::detail::<Detail>(row)?.from;
    if user.status != Status::Active || !is_same {
        return Err(Refusal::LinkDead);
    }
    let holder = user::find(tx, row.directory, &row.email).await?;
    if holder.is_some_and(|holder| holder.id != id) {
        return Err(Refusal::Taken);
    }
    Ok(Opened { user, new: Email::parse(&row.email)?, ends_at: row.expires_at })
}

/// Takes the link and changes the address, which is verified by it. Every other link of the user ends.
///
/// # Errors
/// As [`open`]'s.
pub async fn complete(tx: &mut Tx, token: &Token, place: &Place) -> Result<Changed, Refusal> {
    let row = link::take(tx, Purpose::ChangeEmail, token).await?;
    let Opened { user: old, new, .. } = opened(tx, &row).await?;
    let change = UserChange { email: Some(new.as_str().to_owned()), ..UserChange::default() };
    user::update(tx, old.directory, old.id, &change).await.map_err(|error| match error {
        WriteError::Conflict { .. } => Refusal::Taken,
        error => Refusal::Store(error),
    })?;
    user::verify_email(tx, old.directory, old.id).await?;
    one_time_link::remove_of(tx, old.directory, old.id, &old.email).await?;
    one_time_link::remove_of(tx, old.directory, old.id, new.as_str()).await?;
    history::record(tx, &old, Outcome::EmailChanged, None, place).await?;
    let kind = MessageKind::EmailChanged { new };
    let messages = vec![Message::new(old.directory, Email::parse(&old.email)?, &old.name, kind)];
    let user = user::get(tx, old.directory, old.id).await?.ok_or(Refusal::LinkDead)?;
    Ok(Changed { user, messages })
}
