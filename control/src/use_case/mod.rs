//! What can be done, one file per object. Each use case asks [`Caller::allow`](crate::caller::Caller::allow) first, then
//! runs one store transaction with the change, its audit entry and what edges must know of it.
//!
//! A use case takes what the caller wrote and returns what the caller is shown (`api::types`), or a
//! [`Refusal`] with code, sentence and next step.

pub(crate) mod api_key;
pub(crate) mod assertion_key;
pub(crate) mod audit;
pub(crate) mod ca;
pub(crate) mod certificate;
pub(crate) mod control_node;
pub(crate) mod directory;
pub(crate) mod edge;
pub(crate) mod environment;
pub(crate) mod explain;
pub(crate) mod host;
pub(crate) mod installation;
pub(crate) mod mail;
pub(crate) mod operator;
pub(crate) mod organization;
pub(crate) mod project;
pub(crate) mod role;
pub(crate) mod route;
mod scope;
pub(crate) mod service_account;
pub(crate) mod user;
pub(crate) mod warpgate;

use mezusphere_identity::account::{AccountError, FieldError};
use mezusphere_identity::factor::password::{PoolError, SetError};
use mezusphere_identity::service_account::KeyError;
use mezusphere_store::primary::PageRequest;
use mezusphere_store::{StoreError, WriteError};

use crate::certificate::CertificateError;
use crate::problem::{self, Refusal};
use crate::publish::PublishError;

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    /// Most entries to return.
    pub(crate) limit: u32,
    /// Where the page before ended.
    pub(crate) after: Option<String>,
}

impl From<Paging> for PageRequest {
    fn from(paging: Paging) -> Self {
        Self { after: paging.after, limit: usize::try_from(paging.limit).unwrap_or(usize::MAX) }
    }
}

impl From<StoreError> for Refusal {
    fn from(why: StoreError) -> Self {
        match why {
            StoreError::Unavailable(_) => {
                tracing::warn!(error = %why, "The database is not available");
                Self::new(&problem::BUSY, "the database is not available now")
            }
            StoreError::Moved => Self::new(&problem::MOVED, "the state has moved to PostgreSQL"),
            StoreError::OutcomeUnknown(_) => {
                tracing::warn!(error = %why, "The database went away while a change was made");
                Self::new(&problem::BUSY, "the database went away while the change was made")
                    .with_next("look whether it was made before trying again")
            }
            StoreError::Confined => {
                tracing::error!(error = %why, "A transaction left its tenant");
                Self::new(&problem::INTERNAL, "something broke in control")
            }
            StoreError::Damaged(_) => {
                tracing::error!(error = %why, "The database holds a value that cannot be read");
                Self::new(&problem::INTERNAL, "something stored cannot be read")
            }
            StoreError::TooLarge(what) => {
                Self::new(&problem::LIMIT, format!("too much for one change: {what}"))
            }
        }
    }
}

impl From<WriteError> for Refusal {
    fn from(why: WriteError) -> Self {
        match why {
            WriteError::Conflict { what } => Self::new(&problem::EXISTS, format!("{what} is already in use")),
            WriteError::NotFound { what } => {
                Self::new(&problem::NOT_FOUND, format!("there is no such {what}"))
            }
            WriteError::Store(why) => why.into(),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(why: PublishError) -> Self {
        match why {
            PublishError::Mint(tunnel_proto::bundle::MintError::TooLong) => {
                Self::new(&problem::LIMIT, "the environment's routes are too large for its warpgates")
            }
            PublishError::Mint(_) | PublishError::Host(_) => {
                tracing::error!(error = %why, "A bundle cannot be published");
                Self::new(&problem::INTERNAL, "the environment's bundle cannot be signed")
            }
            PublishError::Write(why) => why.into(),
        }
    }
}

impl From<CertificateError> for Refusal {
    fn from(why: CertificateError) -> Self {
        match why {
            CertificateError::Issue(why) => {
                tracing::error!(error = %why, "A public certificate cannot be issued");
                Self::new(&problem::INTERNAL, "a certificate for the host cannot be issued")
            }
            CertificateError::Write(why) => why.into(),
        }
    }
}

impl From<FieldError> for Refusal {
    fn from(why: FieldError) -> Self {
        let refusal = |code| Self::new(code, why.to_string());
        match why {
            FieldError::Email => refusal(&problem::EMAIL_INVALID),
            FieldError::Name | FieldError::DisplayName => {
                refusal(&problem::NAME_INVALID).with_next("choose a shorter name for people, in one line")
            }
        }
    }
}

impl From<AccountError> for Refusal {
    fn from(why: AccountError) -> Self {
        match why {
            AccountError::Field(why) => why.into(),
            AccountError::Write(why) => why.into(),
        }
    }
}

impl From<PoolError> for Refusal {
    fn from(_: PoolError) -> Self {
        Self::new(&problem::BUSY, "too many passwords are being checked at once")
    }
}

impl From<SetError> for Refusal {
    fn from(why: SetError) -> Self {
        match why {
            SetError::Weak(why) => Self::new(&problem::PASSWORD_REJECTED, why.to_string()),
            SetError::Pool(why) => why.into(),
        }
    }
}

impl From<KeyError> for Refusal {
    fn from(why: KeyError) -> Self {
        match why {
            KeyError::TooMany => Self::new(&problem::LIMIT, why.to_string())
                .with_next("revoke one of them, or create the key for another account with --account NAME"),
            KeyError::Scopes => Self::new(&problem::SCOPE_INVALID, why.to_string()),
            KeyError::Past => Self::new(&problem::REQUEST_INVALID, why.to_string()),
            KeyError::NotLive => Self::new(&problem::IN_USE, why.to_string())
                .with_next("create a new key with: mezusphere api-key create"),
            KeyError::Write(why) => why.into(),
        }
    }
}
