//! Machines: service accounts of a project and their API keys.

use mezusphere_model::id::{ApiKeyId, EnvironmentId, ServiceAccountId};
use mezusphere_model::slug::{Name, Slug};
use serde::{Deserialize, Serialize};

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// Its id.
    pub id: ServiceAccountId,
    /// Its short name within the project.
    pub name: String,
    /// Roles in this project, sorted: what routes ask of it.
    pub roles: Vec<Name>,
    /// Since when.
    pub created_at: String,
}

/// `POST …/service-accounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateServiceAccount {
    /// Its short name within the project.
    pub name: Slug,
    /// Roles in this project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
}

/// Whether a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyState {
    /// It does.
    Live,
    /// Its time has passed.
    Expired,
    /// It was taken back.
    Revoked,
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Whose.
    pub account: ServiceAccountId,
    /// The account's short name.
    pub account_name: String,
    /// What it may do, sorted.
    pub scopes: Vec<Name>,
    /// The only environment it connects to; `null`: any of the project's.
    pub environment: Option<EnvironmentId>,
    /// Whether it works.
    pub state: ApiKeyState,
    /// Last characters of its text, to tell keys apart.
    pub hint: String,
    /// Since when.
    pub created_at: String,
    /// When it ends by itself.
    pub expires_at: Option<String>,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<String>,
}

/// `POST …/api-keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// The service account's short name or id. If absent, `connect-` and the environment for a connection key and
    /// `default` for others; those two are made if need be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What it may do: `connect` (run a warpgate), `request` (call protected routes), or permissions of this API.
    /// `connect` stands alone: its key is a connection key.
    pub scopes: Vec<Name>,
    /// For `connect`: the environment, by slug or id; `production` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Life in seconds; absent: until revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// `POST …/api-keys/{key}/rotate`: a second live key with the same rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateApiKey {
    /// Life of the new key in seconds; absent: until revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A new key with its secret, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedApiKey {
    /// The key.
    pub key: ApiKey,
    /// Its text: a connection key (`mzw_…`) for scope `connect`, an API key (`mzk_…`) otherwise.
    pub secret: String,
}

impl std::fmt::Debug for CreatedApiKey {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedApiKey").field("key", &self.key).finish_non_exhaustive()
    }
}
