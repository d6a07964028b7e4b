//! What the upstream of a route is told of a caller beyond the `mezu-` headers that every route sets.

use serde::{Deserialize, Serialize};

use super::demand::{CLAIMS_MAX, claim_name};
use crate::rules::RuleError;

/// More that the upstream is told of a caller; the default tells nothing more. The warpgate writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityForward {
    /// Families of header names that applications know from other proxies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<IdentityProfile>,
    /// Custom claims that the upstream is told; no others are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
}

/// A family of header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityProfile {
    /// `Remote-User`, `Remote-Email`, `Remote-Name`, `Remote-Groups`.
    RemoteUser,
    /// `X-Forwarded-User`, `X-Forwarded-Email`, `X-Forwarded-Preferred-Username`, `X-Forwarded-Groups`.
    XForwardedUser,
}

impl IdentityProfile {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::RemoteUser, Self::XForwardedUser];

    /// Its word, as in the API and the CLI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RemoteUser => "remote-user",
            Self::XForwardedUser => "x-forwarded-user",
        }
    }
}

impl IdentityForward {
    /// Whether it tells nothing more.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether each claim can be told.
    pub(super) fn check(&self) -> Result<(), RuleError> {
        if self.claims.len() > CLAIMS_MAX {
            return Err(RuleError::TooManyClaims);
        }
        self.claims.iter().try_for_each(|name| claim_name(name))
    }
}
