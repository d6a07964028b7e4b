//! Certificates that browsers see, in an installation without ACME: from the internal CA, or from files.
//!
//! One certificate covers the platform's hosts and, where browsers allow it, every endpoint by a wildcard. A
//! wildcard directly below a single label (`*.localhost`) is refused by browsers, so there, and for custom
//! domains, each host gets a certificate of its own when it is added.

use std::path::Path;
use std::time::Duration;

use mezusphere_model::document::{CertificateDoc, Document, DocumentKey, Partition};
use mezusphere_model::id::ProjectId;
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::{Host, Platform, Timestamp};
use mezusphere_pki::PublicCertificate as Verified;
use mezusphere_pki::authority::{IssueError, IssuedPublic};
use mezusphere_pki::lifetime::PUBLIC_TTL_MAX;
use mezusphere_pki::public::covers;
use mezusphere_store::primary::certificate::{self, IssuedRow};
use mezusphere_store::primary::{ReadTx, Tx, setting};
use mezusphere_store::{StoreError, WriteError};
use serde::{Deserialize, Serialize};

use crate::config::{ControlConfig, PublicCertificate};
use crate::installation::Keys;
use crate::node::sha256;
use crate::{OpenError, Shared};

/// Life of a certificate from the internal CA.
const TTL: Duration = PUBLIC_TTL_MAX;

/// Renewed when less than this is left: a third, as design §9 says of public certificates.
const RENEW_BELOW: Duration = Duration::from_secs(PUBLIC_TTL_MAX.as_secs() / 3);

/// Name of the setting that says what the platform certificate is.
const SETTING: &str = "certificate/platform";

/// The platform certificate as published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    /// Its first name, under which it is filed.
    filed_as: String,
    /// All its names.
    names: Vec<String>,
    /// SHA-256 of the chain's text: tells a replaced file from the same one.
    chain_sha256: [u8; 32],
    /// Whether the internal CA issued it.
    internal: bool,
    /// When it ends.
    not_after: Timestamp,
}

/// Where certificates come from.
pub(crate) enum PublicCertificates {
    /// The internal CA.
    Internal,
    /// Files, read at start; the internal CA for hosts they do not cover.
    Files(CertificateDoc),
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
        let (chain, key) = match &config.public_certificate {
            PublicCertificate::Internal => return Ok(Self::Internal),
            PublicCertificate::Files { chain, key } => (chain, key),
        };
        let (chain_pem, key_pem) = (read(chain)?, read(key)?);
        let verified = Verified::from_pem(&chain_pem, &key_pem, now)
            .map_err(|why| OpenError::Certificate { chain: chain.clone(), key: key.clone(), why })?;
        for which in [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect] {
            let host = config.platform.host(which)?;
            if !verified.covers(&host) {
                let missing = host.to_string();
                return Err(OpenError::CertificateNames { chain: chain.clone(), missing });
            }
        }
        Ok(Self::Files(CertificateDoc {
            names: verified.names().to_vec(),
            chain_pem,
            key_pem,
            not_after: verified.not_after(),
        }))
    }

    /// Whether the platform certificate is good for `host`, so that it needs none of its own.
    pub(crate) fn covers(&self, platform: &Platform, host: &Host) -> bool {
        match self {
            Self::Internal => covers(&internal_names(platform), host),
            Self::Files(doc) => covers(&doc.names, host),
        }
    }

    /// What decides which hosts need a certificate of their own, for telling whether that has changed.
    pub(crate) fn names(&self, platform: &Platform) -> Vec<String> {
        match self {
            Self::Internal => internal_names(platform),
            Self::Files(doc) => doc.names.clone(),
        }
    }
}

fn read(path: &Path) -> Result<String, OpenError> {
    std::fs::read_to_string(path)
        .map_err(|source| OpenError::CertificateFile { path: path.to_owned(), source })
}

/// The platform's hosts, and the wildcard for endpoints if browsers accept it.
fn internal_names(platform: &Platform) -> Vec<String> {
    let hosts = [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect];
    let mut names: Vec<String> = hosts.map(|which| format!("{}.{}", which.label(), platform.base)).to_vec();
    if platform.apps.as_str().contains('.') {
        names.push(format!("*.{}", platform.apps));
    }
    names
}

/// Publishes the platform certificate, if what is published is not it or ends soon.
pub(crate) async fn ensure_platform(tx: &mut Tx, shared: &Shared) -> Result<(), CertificateError> {
    let now = tx.now();
    let published: Option<Published> = setting::get(tx, SETTING).await?;
    let (doc, internal) = match &shared.certificates {
        PublicCertificates::Files(doc) => {
            let same =
                |old: &Published| !old.internal && old.chain_sha256 == sha256(doc.chain_pem.as_bytes());
            if published.as_ref().is_some_and(same) {
                return Ok(());
            }
            (doc.clone(), false)
        }
        PublicCertificates::Internal => {
            let names = internal_names(&shared.config.platform);
            let good = |old: &Published| old.internal && old.names == names && !ends_soon(old.not_after, now);
            if published.as_ref().is_some_and(good) {
                return Ok(());
            }
            (issue(tx, &shared.keys, &names, None).await?, true)
        }
    };
    let record = Published {
        filed_as: doc.names.first().cloned().unwrap_or_default(),
        names: doc.names.clone(),
        chain_sha256: sha256(doc.chain_pem.as_bytes()),
        internal,
        not_after: doc.not_after,
    };
    if let Some(old) = published
        && old.filed_as != record.filed_as
    {
        tx.retract(Partition::Platform, DocumentKey::certificate(&old.filed_as))?;
    }
    tx.publish(Partition::Platform, &Document::Certificate(doc))?;
    setting::put(tx, SETTING, &record).await?;
    Ok(())
}

/// Publishes a certificate for a host that has just been added; the platform's serves it if it can.
pub(crate) async fn add_host(
    tx: &mut Tx,
    shared: &Shared,
    project: ProjectId,
    host: &Host,
) -> Result<(), CertificateError> {
    if shared.certificates.covers(&shared.config.platform, host) {
        return remove_host(tx, project, host).map_err(CertificateError::from);
    }
    if let PublicCertificates::Files(_) = shared.certificates {
        tracing::warn!(
            %host,
            "The certificate from files does not cover this host; the internal CA's serves it, which browsers do not trust"
        );
    }
    let names = [host.to_string()];
    let doc = issue(tx, &shared.keys, &names, Some(project)).await?;
    tx.publish(Partition::Project(project), &Document::Certificate(doc))?;
    Ok(())
}

/// Takes a host's own certificate away; nothing happens if it has none.
pub(crate) fn remove_host(tx: &mut Tx, project: ProjectId, host: &Host) -> Result<(), StoreError> {
    tx.retract(Partition::Project(project), DocumentKey::certificate(host.as_str()))
}

/// Whether a host's own certificate is missing or ends soon.
pub(crate) async fn is_due(tx: &mut ReadTx, shared: &Shared, host: &Host) -> Result<bool, StoreError> {
    if shared.certificates.covers(&shared.config.platform, host) {
        return Ok(false);
    }
    let now = tx.now();
    let issued = certificate::list_of(tx, host.as_str()).await?;
    Ok(issued.iter().all(|row| ends_soon(row.not_after, now)))
}

fn ends_soon(not_after: Timestamp, now: Timestamp) -> bool {
    not_after.since(now) < RENEW_BELOW
}

async fn issue(
    tx: &mut Tx,
    keys: &Keys,
    names: &[String],
    project: Option<ProjectId>,
) -> Result<CertificateDoc, CertificateError> {
    let now = tx.now();
    let issued = keys.issuing.issue_public(names, now, TTL)?;
    let row = IssuedRow {
        fingerprint: leaf_sha256(&issued, now),
        name: names.first().cloned().unwrap_or_default(),
        project,
        not_before: issued.not_before,
        not_after: issued.not_after,
        issued_at: now,
    };
    certificate::insert(tx, &row).await?;
    Ok(CertificateDoc {
        names: issued.names,
        chain_pem: issued.chain_pem,
        key_pem: issued.key_pem.to_string(),
        not_after: issued.not_after,
    })
}

fn leaf_sha256(issued: &IssuedPublic, now: Timestamp) -> [u8; 32] {
    // What the CA has just made parses; if it ever did not, the text still tells certificates apart.
    match Verified::from_pem(&issued.chain_pem, &issued.key_pem, now) {
        Ok(verified) => verified.certified_key().cert.first().map(|leaf| sha256(leaf)).unwrap_or_default(),
        Err(_) => sha256(issued.chain_pem.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_used_only_where_browsers_accept_one() {
        let development = Platform::development(8443).unwrap();
        assert!(internal_names(&development).iter().all(|name| !name.starts_with('*')));
        let apps = Host::parse("apps.example").unwrap();
        let real = Platform { base: Host::parse("mezu.example").unwrap(), apps, port: 443 };
        assert!(internal_names(&real).contains(&"*.apps.example".to_owned()));
        let endpoint = Host::parse("shop.apps.example").unwrap();
        assert!(PublicCertificates::Internal.covers(&real, &endpoint));
        assert!(!PublicCertificates::Internal.covers(&real, &Host::parse("shop.example").unwrap()));
        assert!(!PublicCertificates::Internal.covers(&development, &Host::parse("shop.localhost").unwrap()));
    }
}
