//! Signing up: an address, a mail to it, and behind its link a name and a password.
//!
//! ```text
//!  by_mail: an address, and a mail to it
//!
//!  the mail's link ──open──▶ Choose ──complete(name, hash)──▶ SignedIn   (user made, address verified, link taken)
//!                              └── used, 30 min over, closed meanwhile, address taken meanwhile ──▶ refused
//! ```
//!
//! Nothing is stored before the mail, and only the link then: an account begins when its owner has shown to read the
//! mail of its address, so nobody can sit on somebody else's. An address that has an account gets a mail that says so;
//! whoever asked sees no difference, in words or in work (R13). Whether a directory takes sign-ups at all, and from
//! which domains, is its own setting, looked at when asked and again when the link is used.

use std::collections::BTreeMap;

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::identity::Method;
use mezusphere_model::token::Token;
use mezusphere_store::WriteError;
use mezusphere_store::primary::directory::{self, SignUp as Policy};
use mezusphere_store::primary::one_time_link;
use mezusphere_store::primary::user::{self, UserRow};
use mezusphere_store::primary::{ReadTx, Tx};
use serde::{Deserialize, Serialize};

use super::link::{self, For, Purpose};
use super::{Authenticated, Onward, Refusal};
use crate::account::{self, AccountError, Email, NewUser, check_name};
use crate::factor::Proof;
use crate::factor::password::PasswordHash;
use crate::message::{Message, MessageKind};

/// What a link of a sign-up leads to: choosing a name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where the account will live.
    pub directory: DirectoryId,
    /// Its address, which the mail has proved.
    pub email: Email,
    /// Where they wanted to go.
    pub onward: Option<Onward>,
    /// When the link ends.
    pub ends_at: Timestamp,
}

/// Somebody has signed up.
#[derive(Clone, Debug)]
pub struct Completed {
    /// They.
    pub user: UserRow,
    /// What their sign-in is made from.
    pub who: Authenticated,
    /// Where they wanted to go.
    pub onward: Option<Onward>,
}

#[derive(Default, Serialize, Deserialize)]
struct Detail {
    #[serde(default)]
    onward: Option<Onward>,
}

/// Whether strangers may begin to sign up here, for the link on the sign-in page.
pub const fn is_offered(policy: &Policy) -> bool {
    matches!(policy, Policy::Open | Policy::Domains(_))
}

/// Whether strangers may begin to sign up here.
pub(super) const fn may_begin(policy: &Policy) -> Result<(), Refusal> {
    match policy {
        Policy::Open | Policy::Domains(_) => Ok(()),
        Policy::Invitation => Err(Refusal::InvitationOnly),
        Policy::Closed => Err(Refusal::SignUpClosed),
    }
}

/// Whether this address may sign up here. Says nothing of whether it has.
pub(super) fn allow(policy: &Policy, email: &Email) -> Result<(), Refusal> {
    match policy {
        Policy::Domains(domains) if !domains.contains(&email.domain().to_lowercase()) => {
            Err(Refusal::OtherDomain)
        }
        policy => may_begin(policy),
    }
}

/// Makes the link and says what to mail.
pub(super) async fn send(
    tx: &mut Tx,
    directory: DirectoryId,
    email: &Email,
    onward: Option<&Onward>,
) -> Result<Vec<Message>, WriteError> {
    let known = user::find(tx, directory, email.as_str()).await?;
    // Made in both cases, so that both cost the same; without its token it opens nothing.
    let whom = For { directory, user: None, email: email.as_str() };
    let token = link::make(tx, Purpose::SignUp, whom, &Detail { onward: onward.cloned() }).await?;
    let message = match known {
        Some(user) => {
            Message::new(directory, email.clone(), user.shown_name(), MessageKind::AlreadyRegistered)
        }
        None => Message::new(directory, email.clone(), "", MessageKind::SignUp { token }),
    };
    Ok(vec![message])
}

/// What this link leads to; it stays good.
///
/// # Errors
/// [`Refusal::LinkDead`]; [`Refusal::SignUpClosed`] and the like if the directory has changed its mind;
/// [`Refusal::Taken`] if the address has an account meanwhile.
pub async fn open(tx: &mut ReadTx, token: &Token) -> Result<Opened, Refusal> {
    let row = link::peek(tx, Purpose::SignUp, token).await?;
    let directory = directory::by_id(tx, row.directory).await?.ok_or(Refusal::LinkDead)?;
    let email = Email::parse(&row.email)?;
    allow(&directory.settings.sign_up, &email)?;
    if user::find(tx, row.directory, email.as_str()).await?.is_some() {
        return Err(Refusal::Taken);
    }
    let onward = link::detail::<Detail>(&row)?.onward;
    Ok(Opened { directory: row.directory, email, onward, ends_at: row.expires_at })
}

/// Takes the link and makes the user; exactly one of any number of attempts does.
///
/// # Errors
/// As [`open`]'s, and [`Refusal::Field`] for a name that cannot be shown.
pub async fn complete(
    tx: &mut Tx,
    token: &Token,
    name: &str,
    hash: PasswordHash,
) -> Result<Completed, Refusal> {
    let Opened { directory, email, onward, .. } = open(tx, token).await?;
    let name = check_name(name)?;
    link::take(tx, Purpose::SignUp, token).await?;
    let user = add(tx, directory, email, name, hash).await?;
    let who = who(user.id, tx.now())?;
    Ok(Completed { user, who, onward })
}

/// Adds a user whose address a mail has proved; every other link to it ends.
pub(super) async fn add(
    tx: &mut Tx,
    directory: DirectoryId,
    email: Email,
    name: &str,
    hash: PasswordHash,
) -> Result<UserRow, Refusal> {
    let (now, entropy) = (tx.now(), tx.entropy().clone());
    let (name, display_name) = (name.to_owned(), String::new());
    let new = NewUser { directory, email, name, display_name, claims: BTreeMap::new(), password: Some(hash) };
    let user = account::create(tx, &entropy, now, new).await.map_err(|error| match error {
        AccountError::Field(field) => Refusal::Field(field),
        AccountError::Write(WriteError::Conflict { .. }) => Refusal::Taken,
        AccountError::Write(error) => Refusal::Store(error),
    })?;
    user::verify_email(tx, directory, user.id).await?;
    one_time_link::remove_of(tx, directory, user.id, &user.email).await?;
    Ok(UserRow { email_verified_at: Some(now), ..user })
}

/// What choosing a password behind a mailed link proves.
pub(super) fn who(user: UserId, now: Timestamp) -> Result<Authenticated, Refusal> {
    let proof = Proof::new(user, Method::Password, now);
    Authenticated::from_proofs(&[proof]).ok_or(Refusal::LinkDead)
}
