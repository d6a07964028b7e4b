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

use std::time::Duration;

use mezusphere_model::document::Status;
use mezusphere_model::id::{DirectoryId, UserId};
use mezusphere_model::identity::Method;
use mezusphere_model::slug::Name;
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::primary::one_time_link::{self, LinkRow};
use mezusphere_store::primary::{ReadTx, Tx, user};
use mezusphere_store::{StoreError, WriteError};

use super::Authenticated;
use crate::factor::Proof;
use crate::factor::password::{PasswordHash, set};

/// How long a link works (R17).
pub const LINK_TTL: Duration = Duration::from_mins(30);

const PURPOSE: &str = "first-sign-in";

/// A first sign-in that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstSignIn {
    /// Where the user lives.
    pub directory: DirectoryId,
    /// Who it is for.
    pub user: UserId,
    /// Their address, to show and to keep them from choosing it as the password.
    pub email: String,
    /// Their name, likewise.
    pub name: String,
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
    let row = LinkRow {
        token_hash: token.hash(),
        purpose: purpose()?,
        directory,
        user,
        created_at: now,
        expires_at: now.after(LINK_TTL),
    };
    one_time_link::insert(tx, &row).await?;
    Ok(token)
}

/// The first sign-in this link opens, if it does; the link stays good.
pub async fn peek(tx: &mut ReadTx, token: &Token) -> Result<Option<FirstSignIn>, StoreError> {
    let Some(link) = one_time_link::peek(tx, &token.hash(), &purpose()?).await? else {
        return Ok(None);
    };
    let user = user::get(tx, link.directory, link.user).await?;
    Ok(user.filter(|user| user.status == Status::Active).map(|user| FirstSignIn {
        directory: link.directory,
        user: link.user,
        email: user.email,
        name: user.name,
        ends_at: link.expires_at,
    }))
}

/// Takes the link and sets the password; exactly one of any number of attempts does. Earlier sign-ins of the
/// user end.
pub async fn complete(
    tx: &mut Tx,
    token: &Token,
    hash: PasswordHash,
) -> Result<(FirstSignIn, Authenticated), CompleteError> {
    let open = peek(tx, token).await?.ok_or(CompleteError::Dead)?;
    one_time_link::take(tx, &token.hash(), &purpose()?).await?.ok_or(CompleteError::Dead)?;
    set(tx, open.directory, open.user, hash).await?;
    let proof = Proof::new(open.user, Method::Password, tx.now());
    let done = Authenticated::from_proofs(&[proof]).ok_or(CompleteError::Dead)?;
    Ok((open, done))
}

fn purpose() -> Result<Name, StoreError> {
    Name::parse(PURPOSE).map_err(|error| StoreError::Damaged(error.to_string()))
}
