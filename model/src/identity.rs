//! Who sends a request, in the one shape that edge and warpgate both decide on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{ServiceAccountId, SessionId, UserId};
use crate::slug::Name;

/// Whose identity it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A person.
    User(UserId),
    /// A machine.
    ServiceAccount(ServiceAccountId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::ServiceAccount(id) => id.fmt(f),
        }
    }
}

impl std::str::FromStr for Subject {
    type Err = crate::id::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::User).or_else(|_| text.parse().map(Self::ServiceAccount))
    }
}

/// A way a person proved who they are (RFC 8176 values where it has one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// `pwd`: a password.
    #[serde(rename = "pwd")]
    Password,
    /// `otp`: a one-time code.
    #[serde(rename = "otp")]
    OneTimeCode,
    /// `hwk`: a passkey.
    #[serde(rename = "hwk")]
    Passkey,
    /// `email`: a link or code sent by mail.
    #[serde(rename = "email")]
    Email,
    /// `key`: a machine's API key.
    #[serde(rename = "key")]
    ApiKey,
}

impl Method {
    /// The value in `amr` and in `mezu-auth-method`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::OneTimeCode => "otp",
            Self::Passkey => "hwk",
            Self::Email => "email",
            Self::ApiKey => "key",
        }
    }
}

/// How strongly somebody signed in (`acr`); ordered, stronger is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assurance {
    /// `aal1`: one factor.
    #[default]
    #[serde(rename = "aal1")]
    Aal1,
    /// `aal2`: two independent factors, or a passkey with user verification.
    #[serde(rename = "aal2")]
    Aal2,
}

impl Assurance {
    /// The value in `acr`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aal1 => "aal1",
            Self::Aal2 => "aal2",
        }
    }
}

/// An authenticated caller. An anonymous one is `None`, never an empty identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub subject: Subject,
    /// The session it came with; `None` for machines.
    pub session: Option<SessionId>,
    /// E-mail address; empty for machines.
    pub email: String,
    /// Name to show.
    pub name: String,
    /// Roles in the route's project, sorted.
    pub roles: Vec<Name>,
    /// Permissions those roles give in the route's project, sorted; for a machine, its scopes.
    pub permissions: Vec<Name>,
    /// How they signed in, sorted.
    pub methods: Vec<Method>,
    /// How strongly.
    pub assurance: Assurance,
    /// When they last proved it.
    pub authenticated_at: Timestamp,
    /// Custom claims, as JSON values.
    pub claims: BTreeMap<String, serde_json::Value>,
}
