//! Why a step of a flow was not taken: all that a person who goes through one can be told.
//!
//! One list for all flows, because pages and the JSON API say each of these in one place and one way. None of them
//! says whether an account exists, but to whoever has shown to hold its address or its password.

use std::time::Duration;

use mezusphere_store::{StoreError, WriteError};

use super::FlowError;
use crate::account::FieldError;
use crate::factor::password::{
    PASSWORD_BUSY_RETRY_AFTER, PasswordTooLong, PoolError, ProveError, SetError, Weakness,
};
use crate::throttle::Throttled;

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The form was left open for too long; begin anew.
    #[error("this was left open for too long; begin anew")]
    Expired,
    /// The flow is complete; it runs once.
    #[error("this is already complete")]
    Done,
    /// A field is empty.
    #[error("a field is missing")]
    Incomplete,
    /// A field is not what it should be.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The password is longer than any may be.
    #[error(transparent)]
    TooLong(#[from] PasswordTooLong),
    /// The rules do not take this new password.
    #[error(transparent)]
    Weak(#[from] Weakness),
    /// The new password is the old one.
    #[error("this is the password already")]
    SamePassword,
    /// The password is wrong, or there is no such account: which one is told to nobody.
    #[error("the e-mail address and the password do not match")]
    Wrong,
    /// The password is right, but the account may not be used.
    #[error("the account is not active")]
    Inactive,
    /// The proof is another person's: a step-up is for who is signed in, and nobody else.
    #[error("this is for the account that is signed in")]
    OtherPerson,
    /// Too many attempts.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Too much to do at the moment; nothing was decided.
    #[error("too much to do at the moment; try again in {} s", .retry_after.as_secs())]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The link was used, replaced, taken back, or is too old; or it is none of ours.
    #[error("the link no longer works")]
    LinkDead,
    /// Nobody signs up here by themselves.
    #[error("this directory takes no sign-ups")]
    SignUpClosed,
    /// Only who is invited signs up.
    #[error("signing up needs an invitation")]
    InvitationOnly,
    /// Addresses of this domain do not sign up here.
    #[error("addresses of this domain cannot sign up here")]
    OtherDomain,
    /// Told to the holder of the address only: it has an account.
    #[error("this address has an account already")]
    Taken,
    /// The address is verified already, or is the one in use: there is nothing to do.
    #[error("nothing to change")]
    Unchanged,
    /// The store refused, and nothing was changed.
    #[error(transparent)]
    Store(#[from] WriteError),
}

impl Refusal {
    /// When it makes sense to try again, for `Retry-After`.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled(throttled) => Some(throttled.retry_after),
            Self::Busy { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl From<ProveError> for Refusal {
    fn from(error: ProveError) -> Self {
        match error {
            ProveError::Wrong => Self::Wrong,
            ProveError::Inactive => Self::Inactive,
            ProveError::Pool(pool) => pool.into(),
            ProveError::Store(store) => store.into(),
        }
    }
}

impl From<PoolError> for Refusal {
    fn from(_: PoolError) -> Self {
        Self::Busy { retry_after: PASSWORD_BUSY_RETRY_AFTER }
    }
}

impl From<SetError> for Refusal {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Weak(weakness) => Self::Weak(weakness),
            SetError::Pool(pool) => pool.into(),
        }
    }
}

impl From<FlowError> for Refusal {
    fn from(error: FlowError) -> Self {
        match error {
            FlowError::Expired => Self::Expired,
            FlowError::OtherPerson => Self::OtherPerson,
            FlowError::Done => Self::Done,
        }
    }
}
