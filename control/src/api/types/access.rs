//! What a route demands of its callers, and what its upstream is told of them, as changes.

use mezusphere_model::identity::Assurance;
use mezusphere_model::route::{ClaimRule, IdentityForward, IdentityProfile, Requirement, StepUp};
use mezusphere_model::slug::Name;
use serde::{Deserialize, Serialize};

use super::Change;

/// Changes of what an identity must hold. A list that is given takes the place of the one before; an empty one asks for
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequireChanges {
    /// At least one of these roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any_role: Option<Vec<Name>>,
    /// Each of these roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_roles: Option<Vec<Name>>,
    /// At least one of these permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any_permission: Option<Vec<Name>>,
    /// Each of these permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_permissions: Option<Vec<Name>>,
    /// Each of these claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Vec<ClaimRule>>,
}

impl RequireChanges {
    /// Whether nothing changes.
    pub fn is_keep(&self) -> bool {
        *self == Self::default()
    }

    /// `now` with these changes.
    pub fn applied(&self, now: Requirement) -> Requirement {
        Requirement {
            any_role: self.any_role.clone().unwrap_or(now.any_role),
            all_roles: self.all_roles.clone().unwrap_or(now.all_roles),
            any_permission: self.any_permission.clone().unwrap_or(now.any_permission),
            all_permissions: self.all_permissions.clone().unwrap_or(now.all_permissions),
            claims: self.claims.clone().unwrap_or(now.claims),
        }
    }
}

/// Changes of how strongly and how lately a caller must have proved who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepUpChanges {
    /// At least so strongly: `aal1`, `aal2`.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub acr: Change<Assurance>,
    /// No longer ago than this, in seconds.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub max_auth_age_s: Change<u32>,
}

impl StepUpChanges {
    /// Whether nothing changes.
    pub fn is_keep(&self) -> bool {
        *self == Self::default()
    }

    /// `now` with these changes.
    pub fn applied(self, now: StepUp) -> StepUp {
        StepUp {
            acr: self.acr.applied(now.acr),
            max_auth_age_s: self.max_auth_age_s.applied(now.max_auth_age_s),
        }
    }
}

/// Changes of what the upstream is told of a caller. A list that is given takes the place of the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityChanges {
    /// Families of headers: `remote-user`, `x-forwarded-user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<IdentityProfile>>,
    /// Custom claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Vec<String>>,
}

impl IdentityChanges {
    /// Whether nothing changes.
    pub fn is_keep(&self) -> bool {
        *self == Self::default()
    }

    /// `now` with these changes, each name once.
    pub fn applied(&self, now: IdentityForward) -> IdentityForward {
        let mut profiles = self.profiles.clone().unwrap_or(now.profiles);
        profiles.sort_unstable();
        profiles.dedup();
        let mut claims = self.claims.clone().unwrap_or(now.claims);
        claims.sort_unstable();
        claims.dedup();
        IdentityForward { profiles, claims }
    }
}
