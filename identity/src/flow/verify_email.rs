//! Verifying an address: a mail to it, and a button behind its link.
//!
//! ```text
//!  signed in, address not verified ──ask, send──▶ Inbox
//!  the mail's link ──open──▶ Confirm ──complete──▶ Verified
//!                              └── used, 30 min over, user suspended, address changed meanwhile ──▶ dead
//! ```
//!
//! For users who were added by an operator or an import: who signed up, accepted an invitation or recovered has shown
//! already that the address is theirs. The link may be opened anywhere; it signs nobody in.

use mezusphere_model::Timestamp;
use mezusphere_model::token::Token;
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::primary::{ReadTx, Tx};
use serde::{Deserialize, Serialize};

use super::link::{self, For, Purpose};
use super::recovery::owner;
use super::{Onward, Refusal};
use crate::account::Email;
use crate::desk::{Desk, Visit};
use crate::message::{Message, MessageKind};
use crate::sign_in::SignedIn;
use crate::throttle::Mailing;

/// That somebody's address may be mailed for its verification; spent by [`send`].
#[derive(Clone, Debug)]
pub struct Asked {
    user: UserRow,
    email: Email,
}

/// What a link leads to: a button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whose address.
    pub user: UserRow,
    /// Where they wanted to go.
    pub onward: Option<Onward>,
    /// When the link ends.
    pub ends_at: Timestamp,
}

#[derive(Default, Serialize, Deserialize)]
struct Detail {
    #[serde(default)]
    onward: Option<Onward>,
}

/// Asks leave to mail who is signed in; what comes back is for [`send`].
///
/// # Errors
/// [`Refusal::Unchanged`] if the address is verified already, [`Refusal::Throttled`].
pub fn ask(desk: &Desk, visit: &Visit, signed_in: &SignedIn) -> Result<Asked, Refusal> {
    let user = signed_in.user.clone();
    if user.email_verified_at.is_some() {
        return Err(Refusal::Unchanged);
    }
    let email = desk.mailing(visit, user.directory, Mailing::Verify, &user.email)?;
    Ok(Asked { user, email })
}

/// Makes the link and says what to mail.
pub async fn send(tx: &mut Tx, asked: &Asked, onward: Option<&Onward>) -> Result<Vec<Message>, Refusal> {
    let Asked { user, email } = asked;
    let whom = For { directory: user.directory, user: Some(user.id), email: email.as_str() };
    let token = link::make(tx, Purpose::VerifyEmail, whom, &Detail { onward: onward.cloned() }).await?;
    let kind = MessageKind::VerifyEmail { token };
    Ok(vec![Message::new(user.directory, email.clone(), user.shown_name(), kind)])
}

/// What this link leads to; it stays good.
///
/// # Errors
/// [`Refusal::LinkDead`].
pub async fn open(tx: &mut ReadTx, token: &Token) -> Result<Opened, Refusal> {
    let row = link::peek(tx, Purpose::VerifyEmail, token).await?;
    let user = owner(tx, &row).await?;
    Ok(Opened { user, onward: link::detail::<Detail>(&row)?.onward, ends_at: row.expires_at })
}

/// Takes the link and notes that the address is the user's.
///
/// # Errors
/// [`Refusal::LinkDead`].
pub async fn complete(tx: &mut Tx, token: &Token) -> Result<Opened, Refusal> {
    let row = link::take(tx, Purpose::VerifyEmail, token).await?;
    let user = owner(tx, &row).await?;
    user::verify_email(tx, user.directory, user.id).await?;
    let user = UserRow { email_verified_at: Some(tx.now()), ..user };
    Ok(Opened { user, onward: link::detail::<Detail>(&row)?.onward, ends_at: row.expires_at })
}
