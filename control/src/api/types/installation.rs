//! The installation: its hosts and trust, organizations, operators, and who is asking.

use mezusphere_model::id::{OrganizationId, UserId};
use mezusphere_model::slug::{Name, Slug};
use serde::{Deserialize, Serialize};

/// What the installation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Parent of the platform's hosts.
    pub base: String,
    /// Parent of the environments' endpoints.
    pub apps: String,
    /// The public port.
    pub port: u16,
    /// SPIFFE trust domain.
    pub trust_domain: String,
    /// SHA-256 of the root certificate, hexadecimal.
    pub root_sha256: String,
    /// The root certificate, PEM.
    pub root_pem: String,
    /// Version of the server.
    pub version: String,
}

/// Who the caller is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoAmI {
    /// As the audit log names it: `local-operator` or a key's id.
    pub actor: String,
    /// Slug of the only project it reaches; `null`: all.
    pub project: Option<Slug>,
    /// What it may do.
    pub permissions: Vec<Name>,
}

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its short name, unique.
    pub slug: Slug,
    /// Its name for people.
    pub name: String,
    /// Since when.
    pub created_at: String,
}

/// `POST /organizations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateOrganization {
    /// Its short name, unique.
    pub slug: Slug,
    /// Its name for people; the slug if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Somebody who administers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Their user in the installation's own directory.
    pub id: UserId,
    /// E-mail address.
    pub email: String,
    /// Name to show.
    pub name: String,
    /// Whether they have set a password.
    pub can_sign_in: bool,
    /// Since when.
    pub created_at: String,
}

/// A link that signs somebody in once, to set a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInLink {
    /// The link. A secret until it is used.
    pub url: String,
    /// When it ends by itself.
    pub expires_at: String,
}

/// `POST /operator-keys`: an API key that administers the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateOperatorKey {
    /// What it is for: the short name of its service account in the project `operators`, made if need be.
    pub name: String,
    /// What it may do; absent: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<Name>>,
    /// Life in seconds; absent: until revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}
