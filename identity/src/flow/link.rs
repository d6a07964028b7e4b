//! The links flows give away: how long each is good, how many may be live, and how they are made and taken.
//!
//! A link proves as much as reading somebody's mail does. Only the hash of its token is kept; it is good once (R17).

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::{DirectoryId, FlowId, UserId};
use mezusphere_model::slug::Name;
use mezusphere_model::token::Token;
use mezusphere_store::primary::one_time_link::{self, LinkRow};
use mezusphere_store::primary::{ReadTx, Tx};
use mezusphere_store::{StoreError, WriteError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Refusal;

/// How long a mailed link works (R17).
pub const LINK_TTL: Duration = Duration::from_mins(30);

/// How long an invitation works: people are on holiday.
pub const INVITATION_TTL: Duration = Duration::from_hours(7 * 24);

/// Mailed links of one purpose that are live for one address. More than one, so that somebody else who asks for a link
/// in its owner's name does not kill the one the owner is looking at.
const LIVE_MAX: u32 = 5;

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    FirstSignIn,
    SignUp,
    VerifyEmail,
    Recovery,
    ChangeEmail,
    Invitation,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::FirstSignIn => "first-sign-in",
            Self::SignUp => "sign-up",
            Self::VerifyEmail => "verify-email",
            Self::Recovery => "recovery",
            Self::ChangeEmail => "change-email",
            Self::Invitation => "invitation",
        }
    }

    const fn ttl(self) -> Duration {
        match self {
            Self::Invitation => INVITATION_TTL,
            _ => LINK_TTL,
        }
    }

    /// Links that only operators and their own user make are replaced by the next one.
    const fn live_max(self) -> u32 {
        match self {
            Self::FirstSignIn | Self::ChangeEmail | Self::Invitation => 1,
            Self::SignUp | Self::VerifyEmail | Self::Recovery => LIVE_MAX,
        }
    }

    pub(super) fn name(self) -> Result<Name, StoreError> {
        Name::parse(self.as_str()).map_err(|error| StoreError::Damaged(error.to_string()))
    }
}

/// For whom a link is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct For<'a> {
    pub(super) directory: DirectoryId,
    pub(super) user: Option<UserId>,
    /// The address it is mailed to; empty: handed over otherwise.
    pub(super) email: &'a str,
}

/// Makes a link.
pub(super) async fn make<D: Serialize>(
    tx: &mut Tx,
    purpose: Purpose,
    whom: For<'_>,
    detail: &D,
) -> Result<Token, WriteError> {
    let now = tx.now();
    let token = Token::random(tx.entropy());
    put(tx, purpose, whom, &token, now, detail).await?;
    Ok(token)
}

/// Makes a link with this token.
pub(super) async fn put<D: Serialize>(
    tx: &mut Tx,
    purpose: Purpose,
    whom: For<'_>,
    token: &Token,
    now: Timestamp,
    detail: &D,
) -> Result<(), WriteError> {
    let row = LinkRow {
        id: FlowId::random(tx.entropy()),
        token_hash: token.hash(),
        purpose: purpose.name()?,
        directory: whom.directory,
        user: whom.user,
        email: whom.email.to_owned(),
        detail: serde_json::to_value(detail).map_err(|error| StoreError::Damaged(error.to_string()))?,
        created_at: now,
        expires_at: now.after(purpose.ttl()),
    };
    one_time_link::insert(tx, &row, purpose.live_max()).await
}

/// The link, which stays good.
pub(super) async fn peek(tx: &mut ReadTx, purpose: Purpose, token: &Token) -> Result<LinkRow, Refusal> {
    let found = one_time_link::peek(tx, &token.hash(), &purpose.name()?).await?;
    found.ok_or(Refusal::LinkDead)
}

/// Takes the link: exactly one of any number of attempts gets it.
pub(super) async fn take(tx: &mut Tx, purpose: Purpose, token: &Token) -> Result<LinkRow, Refusal> {
    let found = one_time_link::take(tx, &token.hash(), &purpose.name()?).await?;
    found.ok_or(Refusal::LinkDead)
}

/// What a link does beside.
pub(super) fn detail<D: DeserializeOwned>(row: &LinkRow) -> Result<D, StoreError> {
    D::deserialize(&row.detail).map_err(|error| StoreError::Damaged(format!("a link's detail: {error}")))
}
