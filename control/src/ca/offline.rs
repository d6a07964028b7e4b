//! A root whose key is kept elsewhere: the issuing CA's key is made here, its request is signed there, and the certificate
//! that comes back is brought in by a rotation.
//!
//! ```text
//!  here: request ──CSR──▶ there: mezusphere ca root sign ──PEM──▶ here: install
//! ```

use mezusphere_pki::Issuing;
use mezusphere_pki::ceremony::{CeremonyError, IssuingRequest};
use mezusphere_pki::trust::certificates_from_pem;
use mezusphere_store::primary::Tx;
use mezusphere_store::{StoreError, WriteError};
use mezusphere_store::primary::secret::{self, SecretState};

use super::keep_issuing;
use super::machine::Rotation;
use super::run::RotationError;
use super::state::What;
use crate::installation::secret_name;
use crate::{OpenError, Shared};

/// Why what came back from the root is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// Nobody asked for it.
    #[error("no request waits for a certificate")]
    NoRequest,
    /// The text holds no certificate, or more than one.
    #[error("the text holds {0} certificates; give the issuing CA's alone")]
    Count(usize),
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

impl Shared {
    /// The request that waits for a root's signature, PEM; a new one if none does.
    pub(crate) async fn ca_request(&self, tx: &mut Tx) -> Result<String, OpenError> {
        let request = match secret::current(tx, secret_name::ISSUING_REQUEST).await? {
            Some(row) => IssuingRequest::from_secret_der(&row.value).map_err(key_making)?,
            None => {
                let request = IssuingRequest::create().map_err(key_making)?;
                let name = secret_name::ISSUING_REQUEST;
                secret::add(tx, name, SecretState::Current, request.secret_der()).await?;
                request
            }
        };
        request.csr_pem().map_err(key_making)
    }

    /// Brings in the issuing CA whose request a root signed.
    pub(crate) async fn install_ca(
        &self,
        tx: &mut Tx,
        pem: &str,
        by: &str,
        bring: Bring,
    ) -> Result<(), InstallError> {
        let issuing = self.certified(tx, pem).await?;
        match bring {
            Bring::Taint => self.taint(tx, by, Some(issuing)).await?,
            Bring::Rotate { hurry, max_wait } => {
                let mut state = self.ca_to_change(tx).await?;
                if state.rotation.is_some() {
                    return Err(RotationError::Runs.into());
                }
                let from = state.issuing.clone();
                let mut rotation =
                    Rotation::new(What::Issuing, by.to_owned(), hurry, max_wait, from, tx.now());
                rotation.to = Some(keep_issuing(tx, &issuing, SecretState::Next).await?);
                state.begin(rotation);
                state.write(tx).await?;
            }
        }
        Ok(())
    }

    /// The CA that a certificate makes of the request that waits, which is used up.
    async fn certified(&self, tx: &mut Tx, pem: &str) -> Result<Issuing, InstallError> {
        let name = secret_name::ISSUING_REQUEST;
        let row = secret::current(tx, name).await?.ok_or(InstallError::NoRequest)?;
        let certificates = certificates_from_pem(pem).unwrap_or_default();
        let [certificate] = certificates.as_slice() else {
            return Err(InstallError::Count(certificates.len()));
        };
        let request = IssuingRequest::from_secret_der(&row.value).map_err(key_making)?;
        let trust = self.ca(tx).await?.trust(&self.installation.trust_domain)?;
        let issuing = request.install(certificate.clone(), &trust, tx.now(), &self.entropy)?;
        secret::delete(tx, name, row.version).await?;
        Ok(issuing)
    }
}

fn key_making(why: impl std::fmt::Display) -> OpenError {
    OpenError::KeyMaking(why.to_string())
}
