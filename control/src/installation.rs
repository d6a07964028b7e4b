//! What an installation is made of, from its first start on: the ids of its own objects, and the keys it alone holds.

use std::fmt;

use mezusphere_model::document::PlatformDoc;
use mezusphere_model::id::{ControlId, DirectoryId, EdgeId, OrganizationId, ProjectId};
use mezusphere_model::seal::Seal;
use mezusphere_model::token::CookieKey;
use mezusphere_model::{Entropy, Platform};
use mezusphere_pki::Issuing;
use mezusphere_pki::trust::{certificates_from_pem, root_fingerprint};
use mezusphere_store::primary::secret::SecretRow;
use mezusphere_store::primary::{ReadTx, StoreError, secret, setting};
use serde::{Deserialize, Serialize};
use tunnel_proto::jws::{Jwk, SigningKey};
use zeroize::Zeroizing;

use crate::OpenError;

/// Name of the setting that holds [`Installation`]; its presence says that the first start is over.
pub(crate) const SETTING: &str = "installation";

/// Name of the setting that holds the root certificates, PEM, newest first: all are trusted, the first is the pin of
/// new connection keys.
pub(crate) const ROOTS_SETTING: &str = "ca/roots";

/// Names of the installation's sealed secrets.
pub(crate) mod secret_name {
    /// The root CA with its key; needed only to make an issuing CA.
    pub(crate) const ROOT: &str = "ca/root";
    /// The issuing CA.
    pub(crate) const ISSUING: &str = "ca/issuing";
    /// The keys that sign assertions, PKCS #8.
    pub(crate) const ASSERTION: &str = "assertion";
    /// The keys that sign the revision in session cookies.
    pub(crate) const COOKIE: &str = "cookie";
    /// What password hashes are made with besides the password.
    pub(crate) const PEPPER: &str = "pepper";
    /// What the hosted forms are authenticated with.
    pub(crate) const FORM: &str = "form-key";
    /// This node's own certificate and key.
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
    /// This control node.
    pub(crate) control: ControlId,
    /// The edge in the same process.
    pub(crate) edge: EdgeId,
}

/// The keys of the installation, opened.
pub(crate) struct Keys {
    /// Root certificates to trust, PEM, newest first.
    pub(crate) roots_pem: Vec<String>,
    /// SHA-256 of the current root certificate.
    pub(crate) root_sha256: [u8; 32],
    /// Signs leaves.
    pub(crate) issuing: Issuing,
    /// Signs assertions.
    pub(crate) assertion: SigningKey,
    /// What assertions are verified with.
    pub(crate) assertion_jwks: serde_json::Value,
    /// Sign session cookies, newest first.
    pub(crate) cookies: Vec<CookieKey>,
    /// Version of the pepper that new password hashes are made with.
    pub(crate) pepper_version: u32,
    /// Authenticates hosted forms.
    pub(crate) form: Zeroizing<[u8; 32]>,
}

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
        StoreError::Unavailable(_) | StoreError::TooLarge(_) => OpenError::Store(why),
    }
}

impl Keys {
    /// Opens all of them.
    pub(crate) async fn load(tx: &mut ReadTx, seal: &dyn Seal, entropy: &Entropy) -> Result<Self, OpenError> {
        let roots_pem: Vec<String> = setting::get(tx, ROOTS_SETTING).await?.unwrap_or_default();
        let damaged = || OpenError::KeyDamaged(ROOTS_SETTING);
        let current = certificates_from_pem(roots_pem.first().ok_or_else(damaged)?).map_err(|_| damaged())?;
        let issuing = Issuing::open(&need(tx, secret_name::ISSUING).await?.value, seal, entropy)?;
        let (mut public, mut assertion) = (Vec::new(), None);
        let current_assertion = need(tx, secret_name::ASSERTION).await?.version;
        for row in secret::list(tx, secret_name::ASSERTION).await.map_err(unopened)? {
            let damaged = |_| OpenError::KeyDamaged(secret_name::ASSERTION);
            let key = SigningKey::from_pkcs8(&row.value).map_err(damaged)?;
            public.push(key.public().clone());
            if row.version == current_assertion {
                assertion = Some(key);
            }
        }
        let mut cookies = Vec::new();
        for row in secret::list(tx, secret_name::COOKIE).await.map_err(unopened)? {
            let key = serde_json::from_slice(&row.value);
            cookies.push(key.map_err(|_| OpenError::KeyDamaged(secret_name::COOKIE))?);
        }
        let pepper = need(tx, secret_name::PEPPER).await?;
        let form = need(tx, secret_name::FORM).await?;
        let form = form.value.as_slice().try_into().map_err(|_| OpenError::KeyDamaged(secret_name::FORM))?;
        Ok(Self {
            roots_pem,
            root_sha256: root_fingerprint(current.first().ok_or_else(damaged)?),
            issuing,
            assertion: assertion.ok_or(OpenError::KeyMissing(secret_name::ASSERTION))?,
            assertion_jwks: Jwk::write_set(&public),
            cookies,
            pepper_version: pepper.version,
            form: Zeroizing::new(form),
        })
    }

    /// What every edge needs to know of the installation.
    pub(crate) fn platform_doc(
        &self,
        platform: &Platform,
        trust_domain: &str,
        denied: Vec<String>,
    ) -> PlatformDoc {
        PlatformDoc {
            platform: platform.clone(),
            trust_domain: trust_domain.to_owned(),
            roots_pem: self.roots_pem.clone(),
            cookie_keys: self.cookies.clone(),
            assertion_jwks: self.assertion_jwks.clone(),
            denied,
        }
    }
}
