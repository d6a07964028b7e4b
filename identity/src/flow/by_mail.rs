//! Asking for a mailed link by an address alone: how signing up and a recovery begin.
//!
//! ```text
//!  begin ──▶ Address ──ask, send──▶ Inbox        (the same whether the address has an account or not)
//!               └── ends_at passes ──▶ Expired
//! ```
//!
//! What is mailed, and what its link leads to, is [`sign_up`]'s and [`recovery`]'s. Neither is to be told apart by what
//! is answered here, nor by the work that is done (R13).

use std::time::Duration;

use mezusphere_model::id::{DirectoryId, FlowId};
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::WriteError;
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::directory::DirectoryRow;
use serde::{Deserialize, Serialize};

use super::{FlowError, Onward, Refusal, recovery, sign_up};
use crate::account::Email;
use crate::desk::{Desk, Visit};
use crate::message::Message;
use crate::throttle::Mailing;

/// How long the page may stay open before it has to be loaded anew.
pub const ASK_TTL: Duration = Duration::from_mins(30);

/// What the mail is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// To sign up.
    SignUp,
    /// To recover an account whose password is forgotten.
    Recovery,
}

/// One run of asking, until the mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByMail {
    id: FlowId,
    cause: Cause,
    directory: DirectoryId,
    ends_at: Timestamp,
    is_asked: bool,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An address.
    Address,
    /// Nothing here: the way on is in the mail, if there is one.
    Inbox,
}

/// That an address may be mailed; spent by [`send`].
#[derive(Clone, Debug)]
pub struct Asked {
    cause: Cause,
    directory: DirectoryId,
    email: Email,
}

impl ByMail {
    /// Begins in `directory`.
    ///
    /// # Errors
    /// To sign up: [`Refusal::SignUpClosed`], [`Refusal::InvitationOnly`].
    pub fn begin(
        cause: Cause,
        entropy: &Entropy,
        directory: &DirectoryRow,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        if cause == Cause::SignUp {
            sign_up::may_begin(&directory.settings.sign_up)?;
        }
        let (id, ends_at) = (FlowId::random(entropy), now.after(ASK_TTL));
        Ok(Self { id, cause, directory: directory.id, ends_at, is_asked: false })
    }

    /// Which flow.
    pub const fn id(&self) -> FlowId {
        self.id
    }

    /// What the mail is asked for.
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// Where the account lives, or will.
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

    /// Takes an address; what comes back is for [`send`]. `directory` is this flow's, as it is now.
    ///
    /// # Errors
    /// [`Refusal::Incomplete`], [`Refusal::Field`], [`Refusal::OtherDomain`], [`Refusal::Throttled`]; the flow goes on.
    pub fn ask(
        &mut self,
        desk: &Desk,
        visit: &Visit,
        directory: &DirectoryRow,
        email: &str,
    ) -> Result<Asked, Refusal> {
        if desk.clock.now() >= self.ends_at || directory.id != self.directory {
            return Err(FlowError::Expired.into());
        }
        let mailing = match self.cause {
            Cause::SignUp => {
                if !email.trim().is_empty() {
                    sign_up::allow(&directory.settings.sign_up, &Email::parse(email)?)?;
                }
                Mailing::SignUp
            }
            Cause::Recovery => Mailing::Recovery,
        };
        let email = desk.mailing(visit, self.directory, mailing, email)?;
        self.is_asked = true;
        Ok(Asked { cause: self.cause, directory: self.directory, email })
    }
}

/// Makes the link and says what to mail.
pub async fn send(tx: &mut Tx, asked: &Asked, onward: Option<&Onward>) -> Result<Vec<Message>, WriteError> {
    let Asked { cause, directory, email } = asked;
    match cause {
        Cause::SignUp => sign_up::send(tx, *directory, email, onward).await,
        Cause::Recovery => recovery::send(tx, *directory, email, onward).await,
    }
}
