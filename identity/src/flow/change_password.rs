//! Changing one's password, signed in and knowing the old one.
//!
//! ```text
//!  begin ──▶ Choose ──choose(current, new)──▶ Chosen ──complete──▶ Changed
//!              │ ▲          │                            (every sign-in has ended; this browser begins anew)
//!              │ └──wrong, too weak, the old one again
//!              └── ends_at passes, the sign-in ends ──▶ refused
//! ```
//!
//! Who knew the old password is out: every sign-in ends, with every session of every application (R12). The browser that
//! made the change gets a new sign-in at once, from the proof it has just given, so its owner notices nothing.

use std::time::Duration;

use mezusphere_model::document::Status;
use mezusphere_model::id::{FlowId, SignInId};
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::one_time_link;
use mezusphere_store::primary::user::{self, UserRow};
use serde::{Deserialize, Serialize};

use super::{Authenticated, FlowError, Refusal};
use crate::account::Email;
use crate::desk::{Desk, Visit};
use crate::factor::password::{self, Password, PasswordHash};
use crate::history::{self, Outcome};
use crate::message::{Message, MessageKind};
use crate::sign_in::{Place, SignedIn};

/// How long the page may stay open before it has to be loaded anew.
pub const CHANGE_TTL: Duration = Duration::from_mins(30);

/// One run of a change of password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePassword {
    id: FlowId,
    sign_in: SignInId,
    ends_at: Timestamp,
}

/// What a change of password waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The current password and the new one.
    Choose,
}

/// The current password was right, and another one may follow it.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Who proved it; a sign-in may begin with it.
    pub who: Authenticated,
    hash: PasswordHash,
}

/// A password was changed.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Whose.
    pub user: UserRow,
    /// What to mail.
    pub messages: Vec<Message>,
}

impl ChangePassword {
    /// Begins, for who is signed in.
    pub fn begin(entropy: &Entropy, signed_in: &SignedIn, now: Timestamp) -> Self {
        let id = FlowId::random(entropy);
        Self { id, sign_in: signed_in.sign_in.id, ends_at: now.after(CHANGE_TTL) }
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
        Step::Choose
    }

    /// Checks the current password, and then the new one: against the rules, with `about` as what an attacker knows of its
    /// owner, and that it is another. `signed_in` is who is signed in now: another than this was begun for is refused, so
    /// that a page left open in another tab changes nobody else's password.
    ///
    /// # Errors
    /// [`Refusal::OtherPerson`], [`Refusal::Expired`], [`Refusal::Wrong`], [`Refusal::SamePassword`], [`Refusal::Weak`],
    /// [`Refusal::Throttled`]…
    pub async fn choose(
        &self,
        desk: &Desk,
        visit: &Visit,
        signed_in: &SignedIn,
        (current, new): (String, String),
        about: Vec<String>,
    ) -> Result<Chosen, Refusal> {
        let old = Password::new(current.clone());
        let who = self.prove(desk, visit, signed_in, current).await?;
        // Only now: a stranger at an open browser is told nothing of the old one.
        if Password::new(new.clone())?.is_same(&old?) {
            return Err(Refusal::SamePassword);
        }
        Ok(Chosen { who, hash: desk.new_password(new, about).await? })
    }

    async fn prove(
        &self,
        desk: &Desk,
        visit: &Visit,
        signed_in: &SignedIn,
        current: String,
    ) -> Result<Authenticated, Refusal> {
        if desk.clock.now() >= self.ends_at {
            return Err(FlowError::Expired.into());
        }
        if signed_in.sign_in.id != self.sign_in {
            return Err(Refusal::OtherPerson);
        }
        let proof = desk.prove_again(visit, signed_in, current).await?;
        Authenticated::from_proofs(&[proof]).ok_or(Refusal::Wrong)
    }
}

/// Sets the password. Every sign-in of the user ends; begin one for this browser with [`Chosen::who`], in the same
/// transaction.
///
/// # Errors
/// [`Refusal::Inactive`] if the user was suspended meanwhile.
pub async fn complete(
    tx: &mut Tx,
    signed_in: &SignedIn,
    chosen: &Chosen,
    place: &Place,
) -> Result<Changed, Refusal> {
    let user = current(tx, signed_in, &chosen.who).await?;
    password::set(tx, user.directory, user.id, chosen.hash.clone()).await?;
    one_time_link::remove_of(tx, user.directory, user.id, &user.email).await?;
    history::record(tx, &user, Outcome::PasswordChanged, None, place).await?;
    let kind = MessageKind::PasswordChanged { at: tx.now(), place: place.clone() };
    let messages = vec![Message::new(user.directory, Email::parse(&user.email)?, user.shown_name(), kind)];
    Ok(Changed { user, messages })
}

/// Who is signed in, as they are now, if they have just proved it.
pub(super) async fn current(
    tx: &mut Tx,
    signed_in: &SignedIn,
    who: &Authenticated,
) -> Result<UserRow, Refusal> {
    if who.user() != signed_in.user.id {
        return Err(Refusal::OtherPerson);
    }
    let user = user::get(tx, signed_in.user.directory, who.user()).await?.ok_or(Refusal::Inactive)?;
    if user.status == Status::Active { Ok(user) } else { Err(Refusal::Inactive) }
}
