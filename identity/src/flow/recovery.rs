//! Recovery: a new password for somebody who reads the mail of their account's address.
//!
//! ```text
//!  by_mail: an address, and a mail to it
//!
//!  the mail's link ──open──▶ Choose ──complete(hash)──▶ Recovered   (not signed in; every sign-in has ended)
//!                              └── used, 30 min over, user suspended, address changed meanwhile ──▶ dead
//! ```
//!
//! For an address without an account, or of one that may not be used, everything is done but the sending (R13). Whoever
//! recovers is not signed in by it: they show that they know what they chose, and meet whatever else a sign-in asks
//! (R17). A mail tells the owner that it happened.

use mezusphere_model::Timestamp;
use mezusphere_model::document::Status;
use mezusphere_model::id::DirectoryId;
use mezusphere_model::token::Token;
use mezusphere_store::WriteError;
use mezusphere_store::primary::one_time_link::{self, LinkRow};
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::primary::{ReadTx, Tx};
use serde::{Deserialize, Serialize};

use super::link::{self, For, Purpose};
use super::{Onward, Refusal};
use crate::account::Email;
use crate::factor::password::{self, PasswordHash};
use crate::history::{self, Outcome};
use crate::message::{Message, MessageKind};
use crate::sign_in::Place;

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

/// Makes the link and says what to mail.
pub(super) async fn send(
    tx: &mut Tx,
    directory: DirectoryId,
    email: &Email,
    onward: Option<&Onward>,
) -> Result<Vec<Message>, WriteError> {
    let known = user::find(tx, directory, email.as_str()).await?;
    let known = known.filter(|user| user.status == Status::Active);
    let user = known.as_ref().map(|user| user.id);
    let whom = For { directory, user, email: email.as_str() };
    let token = link::make(tx, Purpose::Recovery, whom, &Detail { onward: onward.cloned() }).await?;
    let name = known.as_ref().map_or("", UserRow::shown_name);
    let message = Message::new(directory, email.clone(), name, MessageKind::Recovery { token });
    Ok(vec![if known.is_some() { message } else { message.into_decoy() }])
}

/// Makes the link for an operator who hands the user a way back in, whatever the throttle says.
pub async fn send_to(tx: &mut Tx, user: &UserRow) -> Result<Vec<Message>, Refusal> {
    Ok(send(tx, user.directory, &Email::parse(&user.email)?, None).await?)
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
    let messages = vec![Message::new(user.directory, Email::parse(&user.email)?, user.shown_name(), kind)];
    Ok(Completed { user, onward: link::detail::<Detail>(&row)?.onward, messages })
}

/// The user a mailed link is for, if they may act and the address is still theirs.
pub(super) async fn owner(tx: &mut ReadTx, row: &LinkRow) -> Result<UserRow, Refusal> {
    let id = row.user.ok_or(Refusal::LinkDead)?;
    let user = user::get(tx, row.directory, id).await?.ok_or(Refusal::LinkDead)?;
    let same = user.email.to_lowercase() == row.email.to_lowercase();
    if user.status == Status::Active && same { Ok(user) } else { Err(Refusal::LinkDead) }
}
