//! Factors: ways to prove who somebody is. Each yields a [`Proof`]; none knows which flow asked.
//!
//! A password is the only one so far. TOTP, passkeys, recovery codes and e-mail codes each become a module
//! beside [`password`] that returns the same [`Proof`].

pub mod password;

use mezusphere_model::Timestamp;
use mezusphere_model::id::UserId;
use mezusphere_model::identity::Method;
use serde::{Deserialize, Serialize};

/// That somebody proved to be this user. Made by factors only, so a flow cannot be advanced by a mere claim; read back
/// only as part of a flow that the caller sealed itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    user: UserId,
    method: Method,
    at: Timestamp,
}

impl Proof {
    pub(crate) const fn new(user: UserId, method: Method, at: Timestamp) -> Self {
        Self { user, method, at }
    }

    /// Who.
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// By what.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// When.
    pub const fn at(&self) -> Timestamp {
        self.at
    }
}
