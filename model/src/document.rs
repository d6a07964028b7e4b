//! What an edge may know: the documents on the feed, and where each is filed.
//!
//! Never raw rows, password hashes or CA keys. Each document lives in one partition under one key; the next
//! version replaces it, a tombstone removes it.

use serde::{Deserialize, Serialize};

use crate::bundle::SignedBundle;
use crate::clock::Timestamp;
use crate::host::Host;
use crate::id::{ApiKeyId, EnvironmentId, OrganizationId, ProjectId, ServiceAccountId, SignInId, UserId};
use crate::identity::Subject;
use crate::platform::Platform;
use crate::route::SiteDoc;
use crate::session::SessionDoc;
use crate::slug::Name;
use crate::token::{CookieKey, TokenHash};

/// A stretch of the feed with its own revisions: changes in one never wait for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Partition {
    /// The installation's own documents.
    Platform,
    /// What only a node that runs control may hold: certificates of the platform's hosts. Never leaves over an edge link.
    Control,
    /// An organization's.
    Organization(OrganizationId),
    /// A project's.
    Project(ProjectId),
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Control => f.write_str("control"),
            Self::Organization(id) => id.fmt(f),
            Self::Project(id) => id.fmt(f),
        }
    }
}

impl std::str::FromStr for Partition {
    type Err = crate::id::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "platform" => return Ok(Self::Platform),
            "control" => return Ok(Self::Control),
            _ => {}
        }
        text.parse().map(Self::Project).or_else(|_| text.parse().map(Self::Organization))
    }
}

/// Whether somebody may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// May act.
    Active,
    /// May not for now.
    Suspended,
    /// May not any more.
    Deactivated,
}

/// What can change about somebody while they are signed in; one per project they can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalDoc {
    /// Who.
    pub subject: Subject,
    /// In which project these roles hold.
    pub project: ProjectId,
    /// Anything but active ends every session and key.
    pub status: Status,
    /// E-mail address; empty for machines.
    pub email: String,
    /// Name to show.
    pub name: String,
    /// Sorted.
    pub roles: Vec<Name>,
    /// What those roles give, sorted.
    pub permissions: Vec<Name>,
    /// Custom claims.
    #[serde(default)]
    pub claims: std::collections::BTreeMap<String, serde_json::Value>,
    /// Grows with every change; an assertion made for an older one is asked for anew.
    pub version: u64,
    /// Sessions that began before this moment are dead (password change, "sign out everywhere").
    #[serde(default)]
    pub sessions_valid_from: Timestamp,
}

/// An API key as edges know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyDoc {
    /// Which key.
    pub id: ApiKeyId,
    /// SHA-256 of its secret.
    pub secret_hash: TokenHash,
    /// Whose.
    pub account: ServiceAccountId,
    /// The only project it is good for.
    pub project: ProjectId,
    /// What it may do, sorted: `connect` (run a warpgate), `request` (call protected routes), admin permissions.
    pub scopes: Vec<Name>,
    /// The only environment it connects to; `None`: any of the project's.
    pub environment: Option<EnvironmentId>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A public certificate with its key, for every edge that may answer for its hosts. The one document that holds a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateDoc {
    /// Names in the certificate; `*.` in front of one stands for any single label.
    pub names: Vec<String>,
    /// The chain, leaf first, PEM.
    pub chain_pem: String,
    /// The private key, PKCS #8 PEM. Sealed wherever it is written.
    pub key_pem: String,
    /// When it ends.
    pub not_after: Timestamp,
}

impl std::fmt::Debug for CertificateDoc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateDoc").field("names", &self.names).finish_non_exhaustive()
    }
}

/// What every edge needs to know of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformDoc {
    /// Its hosts and port.
    pub platform: Platform,
    /// Keys that may sign session cookies, newest first: the first one signs.
    pub cookie_keys: Vec<CookieKey>,
    /// What applications verify assertions with, as a JWK set (RFC 7517 §5).
    pub assertion_jwks: serde_json::Value,
    /// Where edges reach control nodes, in no order; empty where edge and control are one process.
    #[serde(default)]
    pub controls: Vec<NodeAddress>,
}

/// Whom every node of the installation trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustDoc {
    /// SPIFFE trust domain (SPIFFE-ID §2.1).
    pub trust_domain: String,
    /// Root certificates to trust, PEM, newest first.
    pub roots_pem: Vec<String>,
    /// Certificates refused before their end: SPIFFE URIs of evicted nodes.
    pub denied: Vec<String>,
    /// Issuing CAs that were retired: SHA-256 of each one's public key, base64url without padding. A leaf that one
    /// of them issued is refused, and a connection made with it is closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// Roots signed by the roots before them, PEM, newest first. Nobody trusts them for being here: they are shown to
    /// whoever comes with a pin of an older root, so that it leads to the root of now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crosses_pem: Vec<String>,
    /// Roots that are trusted no more but that connection keys and join tokens may still name, PEM, newest first. Only
    /// shown, with the crosses, to whoever comes with a pin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_pem: Vec<String>,
    /// Which CA nodes' certificates come from; `None` in documents of older control nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_from: Option<RenewFrom>,
}

/// Which CA a node's certificate is to come from: who holds one of another CA renews it, without waiting for half-life.
///
/// Names the CA and no moment, so that neither a clock that was set nor a node that slept through a rotation matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewFrom {
    /// SHA-256 of the issuing CA's public key, base64url without padding.
    pub issuer: String,
    /// Nodes spread their renewals evenly over so many seconds from when they learn of it; 0: at once.
    pub within_s: u32,
}

/// Where nodes reach a control node: its node port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeAddress {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A challenge of a certificate authority that any edge may be asked to answer (RFC 8555 §8, RFC 8737).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeChallengeDoc {
    /// The host to be certified.
    pub host: Host,
    /// Names the challenge: the last segment of the http-01 path.
    pub token: String,
    /// What proves control over the account: the http-01 body, and what tls-alpn-01 certifies a digest of.
    pub key_authorization: String,
    /// After this nobody asks any more.
    pub expires_at: Timestamp,
}

/// A sign-in that has ended: every session of it is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationDoc {
    /// Which sign-in.
    pub sign_in: SignInId,
    /// Whose.
    pub user: UserId,
    /// When.
    pub at: Timestamp,
    /// Until when it must be remembered: the end of its longest session.
    pub forget_at: Timestamp,
}

/// A document on the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "doc", rename_all = "snake_case")]
pub enum Document {
    /// Partition: platform.
    Platform(PlatformDoc),
    /// Partition: platform.
    Trust(TrustDoc),
    /// Partition: control (for the platform's own hosts), platform (for the wildcard of endpoints) or project.
    Certificate(CertificateDoc),
    /// Partition: platform.
    AcmeChallenge(AcmeChallengeDoc),
    /// Partition: project.
    Site(Box<SiteDoc>),
    /// Partition: project.
    Bundle(SignedBundle),
    /// Partition: project.
    Principal(PrincipalDoc),
    /// Partition: project.
    Session(SessionDoc),
    /// Partition: project.
    ApiKey(ApiKeyDoc),
    /// Partition: project.
    Revocation(RevocationDoc),
}

impl Document {
    /// Where it is filed within its partition: kind and id, `session/…`. A later document with the same key replaces it.
    pub fn key(&self) -> DocumentKey {
        match self {
            Self::Platform(_) => DocumentKey::platform(),
            Self::Trust(_) => DocumentKey::trust(),
            Self::AcmeChallenge(doc) => DocumentKey::acme_challenge(&doc.token),
            Self::Certificate(doc) => DocumentKey::certificate(doc.names.first().map_or("", String::as_str)),
            Self::Site(doc) => DocumentKey::site(doc.environment),
            Self::Bundle(doc) => DocumentKey::bundle(doc.environment),
            Self::Principal(doc) => DocumentKey::principal(doc.subject),
            Self::Session(doc) => DocumentKey::session(&doc.token_hash),
            Self::ApiKey(doc) => DocumentKey::api_key(doc.id),
            Self::Revocation(doc) => DocumentKey::revocation(doc.sign_in),
        }
    }
}

/// A document's place within its partition. Sessions and API keys are looked up by it alone, without
/// knowing the project, because their keys are unguessable and unique everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentKey(String);

impl DocumentKey {
    /// The one platform document.
    pub fn platform() -> Self {
        Self("platform".to_owned())
    }

    /// The one trust document.
    pub fn trust() -> Self {
        Self("trust".to_owned())
    }

    /// The challenge with this token.
    pub fn acme_challenge(token: &str) -> Self {
        Self(format!("acme-challenge/{token}"))
    }

    /// The certificate whose first name this is.
    pub fn certificate(first_name: &str) -> Self {
        Self(format!("certificate/{first_name}"))
    }

    /// An environment's site.
    pub fn site(environment: EnvironmentId) -> Self {
        Self(format!("site/{environment}"))
    }

    /// An environment's bundle.
    pub fn bundle(environment: EnvironmentId) -> Self {
        Self(format!("bundle/{environment}"))
    }

    /// Somebody's principal; unique within a project's partition.
    pub fn principal(subject: Subject) -> Self {
        Self(format!("principal/{subject}"))
    }

    /// The session whose token hashes to this.
    pub fn session(hash: &TokenHash) -> Self {
        use base64::Engine as _;
        Self(format!("session/{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.as_bytes())))
    }

    /// An API key.
    pub fn api_key(id: ApiKeyId) -> Self {
        Self(format!("api-key/{id}"))
    }

    /// A sign-in that has ended.
    pub fn revocation(sign_in: SignInId) -> Self {
        Self(format!("revocation/{sign_in}"))
    }

    /// A key read back from storage.
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Its text: the kind, `/`, the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
