//! The first sign-in: a one-time link leads to choosing a password, which signs in.
//!
//! ```text
//!  create_link ──▶ Open ──peek──▶ Open          (showing the form changes nothing)
//!                   │  └─complete(hash)──▶ SignedIn   (the link is taken, the password set, all in one)
//!                   └── used, replaced, or ends_at passes ──▶ dead
//! ```
//!
//! A link is good once and for [`LINK_TTL`]; a newer one for the same user replaces it. Only the hash of its
//! token is stored. It proves who opens it as well as a password would: whoever makes one must know whom they
//! give it to.

use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::primary::one_time_link::{self, LinkRow};
use mezusphere_store::primary::{ReadTx, Tx, user};
use mezusphere_store::{StoreError, WriteError};

use super::link::{self, For, Purpose};
use super::sign_up::who;
use super::{Authenticated, Refusal};
use crate::factor::password::{PasswordHash, set};

pub use super::link::LINK_TTL;

/// A first sign-in that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstSignIn {
    /// Where the user lives.
    pub directory: DirectoryId,
    /// Who it is for.
    pub user: UserId,
    /// Their address, to show and to keep them from choosing it as the password.
    pub email: String,
    /// Their names, likewise.
    pub name: String,
    /// The one to show, if it is another.
    pub display_name: String,
    /// When the link ends.
    pub ends_at: Timestamp,
}

/// Why a first sign-in was not completed.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// The link was used, replaced, or is too old.
    #[error("the link no longer works")]
    Dead,
    /// Nothing was changed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<Refusal> for CompleteError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Store(error) => Self::Write(error),
            _ => Self::Dead,
        }
    }
}

impl From<StoreError> for CompleteError {
    fn from(error: StoreError) -> Self {
        Self::Write(error.into())
    }
}

/// The path of a link's page on the login host.
pub fn path(token: &Token) -> String {
    format!("/first-sign-in/{}", token.reveal())
}

/// Makes a link for a user of `directory`; older ones stop working.
///
/// # Errors
/// [`WriteError::NotFound`] if there is no such user in the directory.
pub async fn create_link(
    tx: &mut Tx,
    entropy: &Entropy,
    directory: DirectoryId,
    user: UserId,
    now: Timestamp,
) -> Result<Token, WriteError> {
    let token = Token::random(entropy);
    let whom = For { directory, user: Some(user), email: "" };
    link::put(tx, Purpose::FirstSignIn, whom, &token, now, &()).await?;
    Ok(token)
}

/// The first sign-in this link opens; the link stays good.
///
/// # Errors
/// [`Refusal::LinkDead`].
pub async fn open(tx: &mut ReadTx, token: &Token) -> Result<FirstSignIn, Refusal> {
    let row = link::peek(tx, Purpose::FirstSignIn, token).await?;
    opened(tx, &row).await
}

/// The first sign-in this link opens, if it does; the link stays good.
pub async fn peek(tx: &mut ReadTx, token: &Token) -> Result<Option<FirstSignIn>, StoreError> {
    match open(tx, token).await {
        Ok(open) => Ok(Some(open)),
        Err(Refusal::Store(WriteError::Store(error))) => Err(error),
        Err(_) => Ok(None),
    }
}

async fn opened(tx: &mut ReadTx, row: &LinkRow) -> Result<FirstSignIn, Refusal> {
    let id = row.user.ok_or(Refusal::LinkDead)?;
    let user = user::get(tx, row.directory, id).await?.filter(|user| user.status == Status::Active);
    let user = user.ok_or(Refusal::LinkDead)?;
    let (directory, ends_at) = (row.directory, row.expires_at);
    let (email, name, display_name) = (user.email, user.name, user.display_name);
    Ok(FirstSignIn { directory, user: id, email, name, display_name, ends_at })
}

/// Takes the link and sets the password; exactly one of any number of attempts does. Earlier sign-ins of the
/// user end, and every other link of theirs.
pub async fn complete(
    tx: &mut Tx,
    token: &Token,
    hash: PasswordHash,
) -> Result<(FirstSignIn, Authenticated), CompleteError> {
    let row = link::take(tx, Purpose::FirstSignIn, token).await?;
    let open = opened(tx, &row).await?;
    set(tx, open.directory, open.user, hash).await?;
    one_time_link::remove_of(tx, open.directory, open.user, &open.email).await?;
    let done = who(open.user, tx.now())?;
    Ok((open, done))
}
