//! What an installation is made of, from its first start on: the ids of its own objects, and the keys it alone holds.

use std::fmt;

use mezusphere_model::Platform;
use mezusphere_model::document::{NodeAddress, PlatformDoc};
use mezusphere_model::id::{ControlId, DirectoryId, EdgeId, OrganizationId, ProjectId};
use mezusphere_model::token::CookieKey;
use mezusphere_store::primary::secret::SecretRow;
use mezusphere_store::primary::{ReadTx, StoreError, secret};
use serde::{Deserialize, Serialize};
use tunnel_proto::jws::{Jwk, SigningKey};
use zeroize::Zeroizing;

use crate::OpenError;
use crate::digest::sha256;

/// Name of the setting that holds [`Installation`]; its presence says that the first start is over.
pub(crate) const SETTING: &str = "installation";

/// Names of the installation's sealed secrets.
pub(crate) mod secret_name {
    /// The root CA with its key; needed only to make an issuing CA.
    pub(crate) const ROOT: &str = "ca/root";
    /// The issuing CAs, of which [`crate::ca::state::CaState`] says which one signs.
    pub(crate) const ISSUING: &str = "ca/issuing";
    /// The key of an issuing CA that a root kept elsewhere is to certify.
    pub(crate) const ISSUING_REQUEST: &str = "ca/issuing-request";
    /// The keys that sign assertions, PKCS #8.
    pub(crate) const ASSERTION: &str = "assertion";
    /// The keys that sign the revision in session cookies.
    pub(crate) const COOKIE: &str = "cookie";
    /// What password hashes are made with besides the password.
    pub(crate) const PEPPER: &str = "pepper";
    /// What the hosted forms are authenticated with.
    pub(crate) const FORM: &str = "form-key";
    /// The certificate and key that sign bundles.
    pub(crate) const LEAF: &str = "leaf/control";
}

/// Slug of the organization that owns what belongs to nobody else.
pub(crate) const OWN_ORGANIZATION: &str = "default";

/// Slug of the installation's own project: its users are the operators, keys of its service accounts
/// administer the installation.
pub(crate) const OPERATORS: &str = "operators";

/// The ids of the installation's own objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Installation {
    /// Owns the operators' project, and every project that names no other owner.
    pub(crate) organization: OrganizationId,
    /// The operators' project.
    pub(crate) project: ProjectId,
    /// Where operators live.
    pub(crate) directory: DirectoryId,
    /// SPIFFE trust domain.
    pub(crate) trust_domain: String,
    /// The name under which bundles are signed. Control nodes have ids of their own.
    pub(crate) control: ControlId,
    /// The first edge: the one in the process that made the installation.
    pub(crate) edge: EdgeId,
}

/// The keys of the installation, opened. Replaced as a whole when another control node changed one.
pub(crate) struct Keys {
    /// Signs assertions.
    pub(crate) assertion: SigningKey,
    /// Versions of the keys that assertions are verified with, newest first.
    pub(crate) assertion_versions: Vec<u32>,
    /// What assertions are verified with.
    pub(crate) assertion_jwks: serde_json::Value,
    /// Sign session cookies, newest first.
    pub(crate) cookies: Vec<CookieKey>,
    /// Version of the pepper that new password hashes are made with.
    pub(crate) pepper_version: u32,
    /// Authenticates hosted forms.
    pub(crate) form: Zeroizing<[u8; 32]>,
    /// Tells these keys from others: SHA-256 of what is public of them, and of the cookie keys.
    pub(crate) digest: [u8; 32],
}

/// The keys in use.
pub(crate) type CurrentKeys = arc_swap::ArcSwap<Keys>;

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// A secret that must be there after the first start.
async fn need(tx: &mut ReadTx, name: &'static str) -> Result<SecretRow, OpenError> {
    secret::current(tx, name).await.map_err(unopened)?.ok_or(OpenError::KeyMissing(name))
}

/// A secret that cannot be opened is nearly always the wrong master key; say so instead of "damaged".
fn unopened(why: StoreError) -> OpenError {
    match why {
        StoreError::Damaged(detail) => OpenError::MasterKey(detail),
        why => OpenError::Store(why),
    }
}

impl Keys {
    /// Opens all of them.
    pub(crate) async fn load(tx: &mut ReadTx) -> Result<Self, OpenError> {
        let (mut public, mut assertion, mut assertion_versions) = (Vec::new(), None, Vec::new());
        let current_assertion = need(tx, secret_name::ASSERTION).await?.version;
        for row in secret::list(tx, secret_name::ASSERTION).await.map_err(unopened)? {
            let damaged = |_| OpenError::KeyDamaged(secret_name::ASSERTION);
            let key = SigningKey::from_pkcs8(&row.value).map_err(damaged)?;
            public.push(key.public().clone());
            assertion_versions.push(row.version);
            if row.version == current_assertion {
                assertion = Some(key);
            }
        }
        let mut cookies: Vec<CookieKey> = Vec::new();
        for row in secret::list(tx, secret_name::COOKIE).await.map_err(unopened)? {
            let key = serde_json::from_slice(&row.value);
            cookies.push(key.map_err(|_| OpenError::KeyDamaged(secret_name::COOKIE))?);
        }
        let pepper = need(tx, secret_name::PEPPER).await?;
        let form = need(tx, secret_name::FORM).await?;
        let form = form.value.as_slice().try_into().map_err(|_| OpenError::KeyDamaged(secret_name::FORM))?;
        let assertion_jwks = Jwk::write_set(&public);
        let marks = serde_json::json!([assertion_jwks, current_assertion, cookies,]);
        Ok(Self {
            digest: sha256(marks.to_string().as_bytes()),
            assertion: assertion.ok_or(OpenError::KeyMissing(secret_name::ASSERTION))?,
            assertion_versions,
            assertion_jwks,
            cookies,
            pepper_version: pepper.version,
            form: Zeroizing::new(form),
        })
    }

    /// What every edge needs to know of the installation.
    pub(crate) fn platform_doc(&self, platform: &Platform, controls: Vec<NodeAddress>) -> PlatformDoc {
        PlatformDoc {
            platform: platform.clone(),
            cookie_keys: self.cookies.clone(),
            assertion_jwks: self.assertion_jwks.clone(),
            controls,
        }
    }
}
