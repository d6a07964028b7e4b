//! A root whose key is kept elsewhere: the issuing CA's key is made here, its request is signed there, and the certificate
//! that comes back is brought in by a rotation.
//!
//! ```text
//!  here: request ──CSR──▶ there: mezusphere ca root sign ──PEM──▶ here: install
//! ```
//!
//! An installation may begin so: its first start gives the request and ends, the next one brings the certificate.

use mezusphere_model::Entropy;
use mezusphere_pki::ceremony::{CeremonyError, IssuingRequest, certificate_to_pem};
use mezusphere_pki::trust::{certificates_from_pem, root_trust_domain};
use mezusphere_pki::{Issuing, Trust, TrustDomain, TrustError};
use mezusphere_store::primary::secret::{self, SecretRow, SecretState};
use mezusphere_store::primary::{Primary, ReadTx, Tx};
use mezusphere_store::{StoreError, WriteError};
use rustls_pki_types::CertificateDer;

use super::machine::{NewRoot, Rotation};
use super::run::RotationError;
use super::state::What;
use super::{keep_issuing, root_here, unopened};
use crate::digest::hex;
use crate::installation::secret_name;
use crate::{OpenError, RootElsewhere, Shared};

/// Why what came back from the root is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// Nobody asked for it.
    #[error("no request waits for a certificate")]
    NoRequest,
    /// The text holds no certificate, or more than one.
    #[error("the text holds {0} certificates; give one file for each certificate")]
    Count(usize),
    /// The new root cannot be one.
    #[error("the new root cannot be trusted: {0}")]
    Root(TrustError),
    /// It is trusted already: taking the rotation back would take it away.
    #[error("the new root is trusted already; leave --root and --cross out to have it sign a new issuing CA")]
    SameRoot,
    /// It does not fit.
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    /// A rotation runs, or the root is not here.
    #[error(transparent)]
    Rotation(#[from] RotationError),
}

impl From<OpenError> for InstallError {
    fn from(why: OpenError) -> Self {
        Self::Rotation(why.into())
    }
}

impl From<WriteError> for InstallError {
    fn from(why: WriteError) -> Self {
        OpenError::from(why).into()
    }
}

impl From<StoreError> for InstallError {
    fn from(why: StoreError) -> Self {
        OpenError::from(why).into()
    }
}

/// How a CA is brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bring {
    /// By a rotation.
    Rotate {
        /// Waits only for nodes that are here now.
        hurry: bool,
        /// How long each phase waits.
        max_wait: std::time::Duration,
    },
    /// At once, because the key of the one in use is in other hands.
    Taint,
}

/// What came back from the root.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    /// The issuing CA's certificate, PEM.
    pub(crate) certificate_pem: String,
    /// The root that replaces the one in use, and that root as the one in use signed it, PEM.
    pub(crate) root: Option<(String, String)>,
}

/// The request that waits for a root's signature, PEM; a new one if none does.
pub(crate) async fn request(tx: &mut Tx) -> Result<String, OpenError> {
    let request = if let Some((waiting, _)) = waiting(tx).await? {
        waiting
    } else {
        let request = IssuingRequest::create().map_err(key_making)?;
        let name = secret_name::ISSUING_REQUEST;
        secret::add(tx, name, SecretState::Current, request.secret_der()).await?;
        request
    };
    request.csr_pem().map_err(key_making)
}

/// The request that waits, and its version; `None`: none does.
async fn waiting(tx: &mut ReadTx) -> Result<Option<(IssuingRequest, u32)>, OpenError> {
    let row = secret::current(tx, secret_name::ISSUING_REQUEST).await.map_err(unopened)?;
    let read = |row: SecretRow| {
        IssuingRequest::from_secret_der(&row.value).map(|request| (request, row.version)).map_err(key_making)
    };
    row.map(read).transpose()
}

/// What an installation begins with whose root is kept elsewhere.
pub(crate) struct FirstRoot {
    /// Whose it becomes.
    pub(crate) domain: TrustDomain,
    /// The root's certificate.
    pub(crate) pem: String,
    root: CertificateDer<'static>,
    issuing: Option<CertificateDer<'static>>,
}

impl FirstRoot {
    /// Reads what was given.
    pub(crate) fn read(given: &RootElsewhere) -> Result<Self, OpenError> {
        let read = |pem: &str| one(pem).map_err(|why| OpenError::RootElsewhere(why.to_string()));
        let root = read(&given.root_pem)?;
        let domain = root_trust_domain(&root)
            .ok_or_else(|| OpenError::RootElsewhere(CeremonyError::NotARoot.to_string()))?;
        let issuing = given.issuing_pem.as_deref().map(read).transpose()?;
        Ok(Self { domain, pem: certificate_to_pem(&root), root, issuing })
    }

    /// The issuing CA, of the request that waits, which is used up.
    pub(crate) async fn issuing(&self, tx: &mut Tx, entropy: &Entropy) -> Result<Issuing, OpenError> {
        let refused = |why: &dyn std::fmt::Display| OpenError::RootElsewhere(why.to_string());
        let (request, version) =
            waiting(tx).await?.ok_or_else(|| refused(&"no request waits for what it signed"))?;
        let certificate = self.issuing.clone().ok_or_else(|| refused(&"it has signed no issuing CA yet"))?;
        let trust = Trust::new(self.domain.clone(), vec![self.root.clone()], [])?;
        let issuing = request.install(certificate, &trust, tx.now(), entropy).map_err(|why| refused(&why))?;
        secret::delete(tx, secret_name::ISSUING_REQUEST, version).await?;
        Ok(issuing)
    }
}

/// What a root must sign before an installation can begin under it; `None`: nothing. A start that was not finished stands in
/// the way of one without its root.
pub(crate) async fn unsigned(
    primary: &Primary,
    root: Option<&FirstRoot>,
) -> Result<Option<String>, OpenError> {
    let is_unsigned = match root {
        Some(root) => root.issuing.is_none(),
        None => primary.read(async |tx| waiting(tx).await).await?.is_some(),
    };
    if is_unsigned { primary.write(async |tx| request(tx).await).await.map(Some) } else { Ok(None) }
}

impl Shared {
    /// Brings in the issuing CA whose request a root signed, and with it the root, if that is another one.
    pub(crate) async fn install_ca(
        &self,
        tx: &mut Tx,
        brought: &Brought,
        by: &str,
        bring: Bring,
    ) -> Result<(), InstallError> {
        let issuing = self.certified(tx, brought).await?;
        match bring {
            Bring::Taint => {
                self.taint(tx, by, Some(issuing)).await?;
                // A rotation that ran is dropped with the taint, and perhaps the root that signed this CA: then nobody would
                // believe it, and the one before is gone.
                let ca = self.ca(tx).await?;
                ca.issuing.prove(&ca.trust(&self.installation.trust_domain)?, tx.now())?;
            }
            Bring::Rotate { hurry, max_wait } => {
                let mut state = self.ca_to_change(tx).await?;
                let what = if brought.root.is_some() { What::Root } else { What::Issuing };
                let from = state.issuing.clone();
                let mut rotation = Rotation::new(what, by.to_owned(), hurry, max_wait, from, tx.now());
                rotation.to = Some(keep_issuing(tx, &issuing, SecretState::Next).await?);
                if let Some((pem, cross_pem)) = brought.root.clone() {
                    let root = NewRoot { pem, cross_pem, version: None };
                    state.announce_root(&root);
                    rotation.root = Some(root);
                }
                state.begin(rotation)?;
                self.put(tx, &mut state).await?;
            }
        }
        Ok(())
    }

    /// The CA that a certificate makes of the request that waits, which is used up.
    async fn certified(&self, tx: &mut Tx, brought: &Brought) -> Result<Issuing, InstallError> {
        let (request, version) = waiting(tx).await?.ok_or(InstallError::NoRequest)?;
        let certificate = one(&brought.certificate_pem)?;
        let trust = self.ca(tx).await?.trust(&self.installation.trust_domain)?;
        let issuing = match &brought.root {
            None => request.install(certificate, &trust, tx.now(), &self.entropy)?,
            Some((root, cross)) => {
                // Under the new root alone, and for a node that knows the old one alone through the cross.
                let root = one(root)?;
                if trust.roots().contains(&root) {
                    return Err(InstallError::SameRoot);
                }
                let new = Trust::new(trust.domain().clone(), vec![root], []).map_err(InstallError::Root)?;
                let issuing = request.install(certificate, &new, tx.now(), &self.entropy)?;
                let issuing = issuing.with_crosses(vec![one(cross)?]);
                issuing.prove(&trust, tx.now())?;
                issuing
            }
        };
        secret::delete(tx, secret_name::ISSUING_REQUEST, version).await?;
        Ok(issuing)
    }

    /// Forgets the key of the root in use, if it is this one (SHA-256 of its certificate, hexadecimal).
    pub(crate) async fn forget_root(&self, tx: &mut Tx, sha256: &str) -> Result<(), RotationError> {
        let root = root_here(tx, &*self.seal).await?.ok_or(RotationError::Offline)?;
        if hex(&root.fingerprint()) != sha256 {
            return Err(RotationError::OtherRoot);
        }
        if self.ca(tx).await?.state.rotation.is_some() {
            return Err(RotationError::Runs);
        }
        for row in secret::list(tx, secret_name::ROOT).await? {
            secret::delete(tx, secret_name::ROOT, row.version).await.map_err(OpenError::from)?;
        }
        Ok(())
    }
}

/// The one certificate in a PEM text.
fn one(pem: &str) -> Result<CertificateDer<'static>, InstallError> {
    let found = certificates_from_pem(pem).unwrap_or_default();
    match <[_; 1]>::try_from(found) {
        Ok([certificate]) => Ok(certificate),
        Err(found) => Err(InstallError::Count(found.len())),
    }
}

fn key_making(why: impl std::fmt::Display) -> OpenError {
    OpenError::KeyMaking(why.to_string())
}
