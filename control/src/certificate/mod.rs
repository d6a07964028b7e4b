//! Certificates that browsers see: where they come from, and which are published for whom.
//!
//! The platform's hosts have a certificate of their own, published to the partition that never leaves control: an edge
//! that is a process of its own must not hold the key of `login.`. Where one can be had, a wildcard covers every endpoint;
//! elsewhere, and for custom domains, each host has a certificate of its own.
//!
//! What the internal CA issues is [`own`]'s, what an authority is asked for [`ordered`]'s, what is read from files
//! [`crate::certificate_files`]'. [`published`] has those of the whole installation, [`host`] those of single hosts.

mod host;
mod ordered;
mod own;
mod published;

use mezusphere_model::{Host, Platform, Timestamp};
use mezusphere_pki::authority::IssueError;
use mezusphere_pki::public::covers;
use mezusphere_store::{StoreError, WriteError};

pub(crate) use self::host::{add_host, first_route, is_due, remove_host};
pub(crate) use self::own::{is_good_for, renewed_at};
pub(crate) use self::published::{Published, ensure_platform, published};
use crate::certificate_files::WatchedFiles;
use crate::config::{ControlConfig, PublicCertificate};
use crate::{AcmeConfig, OpenError};

/// Where certificates come from.
pub(crate) enum PublicCertificates {
    /// The internal CA.
    Internal,
    /// Files; the internal CA for hosts they do not cover.
    Files(WatchedFiles),
    /// A certificate authority; the internal CA for names under `localhost`.
    Acme(Box<AcmeConfig>),
}

/// Why a certificate was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The internal CA does not issue it.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The database did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for CertificateError {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl From<CertificateError> for OpenError {
    fn from(why: CertificateError) -> Self {
        match why {
            CertificateError::Issue(why) => Self::Issue(why),
            CertificateError::Write(why) => why.into(),
        }
    }
}

impl PublicCertificates {
    /// Reads and checks what the configuration names.
    pub(crate) fn load(config: &ControlConfig, now: Timestamp) -> Result<Self, OpenError> {
        match &config.public_certificate {
            PublicCertificate::Internal => Ok(Self::Internal),
            PublicCertificate::Files(files) => WatchedFiles::load(config, files, now).map(Self::Files),
            PublicCertificate::Acme(acme) => {
                acme.check()?;
                Ok(Self::Acme(acme.clone()))
            }
        }
    }

    /// Whether a certificate of the whole installation is good for `host`, so that it needs none of its own.
    pub(crate) fn covers(&self, platform: &Platform, host: &Host) -> bool {
        covers(&self.names(platform), host)
    }

    /// Whether an authority is asked for a certificate of the whole installation that is filed under this name.
    pub(crate) fn is_ordered(&self, platform: &Platform, name: &str) -> bool {
        let Self::Acme(config) = self else { return false };
        let all = ordered::names(config, platform).into_iter();
        all.filter_map(|(_, names, _)| names.into_iter().next()).any(|first| first == name)
    }

    /// What decides which hosts need a certificate of their own, for telling whether that has changed.
    pub(crate) fn names(&self, platform: &Platform) -> Vec<String> {
        match self {
            Self::Internal => own::names(platform).into_iter().flat_map(|(_, names)| names).collect(),
            Self::Files(files) => files.docs().iter().flat_map(|(_, doc)| doc.names.clone()).collect(),
            Self::Acme(config) => {
                let names = ordered::names(config, platform).into_iter().flat_map(|(_, names, _)| names);
                // A mark that is no name: hosts have certificates of the internal CA if this one was another source before.
                names.chain([ordered::MARK.to_owned()]).collect()
            }
        }
    }
}
