//! Certificates that browsers see, in an installation without ACME: from the internal CA, or from files.
//!
//! The platform's hosts have a certificate of their own, published to the partition that never leaves control: an edge
//! that is a process of its own must not hold the key of `login.`. Where browsers allow it, a wildcard covers every
//! endpoint; one directly below a single label (`*.localhost`) they refuse, so there, and for custom domains, each
//! host gets a certificate of its own when it is added.
//!
//! Which certificates there are is [`crate::certificate_files`]'s for files; what is issued and published is this file's.

use std::time::Duration;

use mezusphere_model::document::{CertificateDoc, Document, DocumentKey, Partition};
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::{Host, Platform, Timestamp};
use mezusphere_pki::PublicCertificate as Verified;
use mezusphere_pki::authority::{IssueError, IssuedPublic};
use mezusphere_pki::lifetime::PUBLIC_TTL_MAX;
use mezusphere_pki::public::covers;
use mezusphere_store::primary::certificate::{self, IssuedRow};
use mezusphere_store::primary::{ReadTx, Tx, acme, host, setting};
use mezusphere_store::{StoreError, WriteError};
use serde::{Deserialize, Serialize};

use crate::acme::wanted;
use crate::ca::Ca;
use crate::certificate_files::WatchedFiles;
use crate::config::{ControlConfig, PublicCertificate};
use crate::digest::sha256;
use crate::leaf::audit_issued;
use crate::{AcmeConfig, OpenError, Shared};

/// Life of a certificate from the internal CA.
const TTL: Duration = PUBLIC_TTL_MAX;

/// Renewed when less than this is left: a third, as design §9 says of public certificates.
const RENEW_BELOW: Duration = Duration::from_secs(PUBLIC_TTL_MAX.as_secs() / 3);

/// Name of the setting that says which certificates of the whole installation are published.
const SETTING: &str = "certificate/platform";

/// A certificate as published for the whole installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Whether it is in the partition that never leaves control.
    #[serde(default)]
    control: bool,
    /// Its first name, under which it is filed.
    pub(crate) filed_as: String,
    /// All its names.
    pub(crate) names: Vec<String>,
    /// SHA-256 of the chain's text: tells a replaced file from the same one.
    chain_sha256: [u8; 32],
    /// Whether the internal CA issued it.
    pub(crate) internal: bool,
    /// Which internal CA did; absent for files, and in what older versions kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// When it ends.
    pub(crate) not_after: Timestamp,
}

/// What is kept about those that are published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Record {
    /// All of them.
    All(Vec<Published>),
    /// As versions before 0.2 kept it: the one certificate, in the partition every edge copies.
    One(Published),
}

impl Record {
    fn all(self) -> Vec<Published> {
        match self {
            Self::All(all) => all,
            Self::One(one) => vec![one],
        }
    }
}

impl Published {
    fn of(doc: &CertificateDoc, partition: Partition, internal: bool) -> Self {
        Self {
            control: partition == Partition::Control,
            filed_as: doc.names.first().cloned().unwrap_or_default(),
            names: doc.names.clone(),
            chain_sha256: sha256(doc.chain_pem.as_bytes()),
            internal,
            issuer: None,
            not_after: doc.not_after,
        }
    }

    /// Whether it can go on until a better one is there.
    fn serves(&self, partition: Partition, names: &[String], now: Timestamp) -> bool {
        let is_named = |name: &String| Host::parse(name).is_ok_and(|host| covers(&self.names, &host));
        !self.internal && self.partition() == partition && self.not_after > now && names.iter().all(is_named)
    }

    fn partition(&self) -> Partition {
        if self.control { Partition::Control } else { Partition::Platform }
    }
}

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

    /// What decides which hosts need a certificate of their own, for telling whether that has changed.
    pub(crate) fn names(&self, platform: &Platform) -> Vec<String> {
        match self {
            Self::Internal => internal(platform).into_iter().flat_map(|(_, names)| names).collect(),
            Self::Files(files) => files.docs().iter().flat_map(|(_, doc)| doc.names.clone()).collect(),
            Self::Acme(config) => {
                let names = ordered(config, platform).into_iter().flat_map(|(_, names, _)| names);
                // A mark that is no name: hosts have certificates of the internal CA if this one was another source before.
                names.chain([ORDERED.to_owned()]).collect()
            }
        }
    }
}

/// Says among names that an authority certifies them.
const ORDERED: &str = "(ordered)";

/// Who issues a certificate of the whole installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Issuer {
    Internal,
    Authority,
}

/// What the whole installation needs where an authority certifies: the platform's hosts, and the wildcard for endpoints if
/// it was asked for. Names under `localhost` are the internal CA's.
fn ordered(config: &AcmeConfig, platform: &Platform) -> Vec<(Partition, Vec<String>, Issuer)> {
    let of = |local: bool| if local { Issuer::Internal } else { Issuer::Authority };
    let by_us = internal(platform).into_iter().filter_map(|(partition, names)| match partition {
        Partition::Control => Some((partition, names, of(wanted::is_local(platform.base.as_str())))),
        _ => wanted::is_local(platform.apps.as_str()).then_some((partition, names, Issuer::Internal)),
    });
    let wildcard = wanted::wildcard(config, platform);
    by_us.chain(wildcard.map(|name| (Partition::Platform, vec![name], Issuer::Authority))).collect()
}

/// What the internal CA issues for the whole installation: the platform's hosts, and the wildcard for endpoints if
/// browsers accept it and it is not good for a platform host too.
fn internal(platform: &Platform) -> Vec<(Partition, Vec<String>)> {
    let hosts = [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect];
    let own: Vec<String> = hosts.map(|which| format!("{}.{}", which.label(), platform.base)).to_vec();
    let mut all = vec![(Partition::Control, own)];
    if platform.apps.as_str().contains('.') && platform.apps != platform.base {
        all.push((Partition::Platform, vec![format!("*.{}", platform.apps)]));
    }
    all
}

/// Publishes the certificates of the whole installation, as far as what is published is not them or ends soon.
pub(crate) async fn ensure_platform(tx: &mut Tx, shared: &Shared) -> Result<(), CertificateError> {
    let now = tx.now();
    let record: Option<Record> = setting::get(tx, SETTING).await?;
    let published = record.clone().map(Record::all).unwrap_or_default();
    let mut kept = Vec::new();
    match &shared.certificates {
        PublicCertificates::Files(files) => {
            for (partition, doc) in files.docs().iter() {
                let wanted = Published::of(doc, *partition, false);
                if !published.contains(&wanted) {
                    tx.publish(*partition, &Document::Certificate(doc.clone()))?;
                }
                kept.push(wanted);
            }
        }
        PublicCertificates::Internal => {
            for (partition, names) in internal(&shared.config.platform) {
                kept.push(ensure_internal(tx, shared, &published, partition, &names).await?);
            }
        }
        PublicCertificates::Acme(config) => {
            acme::move_to(tx, config.directory.url()).await?;
            let mut filed_as = Vec::new();
            for (partition, names, issuer) in ordered(config, &shared.config.platform) {
                if issuer == Issuer::Internal {
                    kept.push(ensure_internal(tx, shared, &published, partition, &names).await?);
                    continue;
                }
                filed_as.extend(names.first().cloned());
                let good = match wanted::ensure_own(tx, config, &names).await? {
                    Some(doc) => {
                        let good = Published::of(&doc, partition, false);
                        if !published.contains(&good) {
                            tx.publish(partition, &Document::Certificate(doc))?;
                        }
                        Some(good)
                    }
                    // Until the first one is there, one from files goes on.
                    None => published.iter().find(|old| old.serves(partition, &names, now)).cloned(),
                };
                kept.extend(good);
            }
            wanted::forget_own(tx, &filed_as).await?;
        }
    }
    for old in &published {
        let replaced = |new: &Published| (new.partition(), &new.filed_as) == (old.partition(), &old.filed_as);
        if !kept.iter().any(replaced) {
            tx.retract(old.partition(), DocumentKey::certificate(&old.filed_as))?;
        }
    }
    let kept = Record::All(kept);
    if record.as_ref() != Some(&kept) {
        setting::put(tx, SETTING, &kept).await?;
    }
    Ok(())
}

/// What the internal CA issues for the whole installation under these names: what is published, if it is good for a while,
/// or a new one.
async fn ensure_internal(
    tx: &mut Tx,
    shared: &Shared,
    published: &[Published],
    partition: Partition,
    names: &[String],
) -> Result<Published, CertificateError> {
    let now = tx.now();
    let ca = shared.ca(tx).await?;
    let issuer = Some(ca.state.issuing.key_sha256.clone());
    let good = |old: &&Published| {
        old.internal
            && old.issuer == issuer
            && old.partition() == partition
            && old.names == names
            && !ends_soon(old.not_after, now)
    };
    if let Some(good) = published.iter().find(good) {
        return Ok(good.clone());
    }
    let doc = issue(tx, shared, &ca, names, None).await?;
    let new = Published { issuer, ..Published::of(&doc, partition, true) };
    tx.publish(partition, &Document::Certificate(doc))?;
    Ok(new)
}

/// Publishes a certificate for a host that has just been added; the platform's serves it if it can.
pub(crate) async fn add_host(
    tx: &mut Tx,
    shared: &Shared,
    project: ProjectId,
    host: &Host,
) -> Result<(), CertificateError> {
    if shared.certificates.covers(&shared.config.platform, host) {
        if let PublicCertificates::Acme(config) = &shared.certificates {
            if !is_covered_now(tx, config, &shared.config.platform, host).await? {
                // The wildcard is still to come: a certificate of the host's own goes on until then.
                return Ok(());
            }
            acme::delete(tx, host.as_str()).await?;
        }
        return remove_host(tx, project, host).map_err(CertificateError::from);
    }
    if let PublicCertificates::Acme(config) = &shared.certificates
        && !wanted::is_local(host.as_str())
    {
        wanted::ensure_host(tx, config, project, host).await?;
        shared.acme_due.notify_one();
        return Ok(());
    }
    if let PublicCertificates::Files(_) = shared.certificates {
        tracing::warn!(
            %host,
            "The certificate from files does not cover this host; the internal CA's serves it, which browsers do not trust"
        );
    }
    let names = [host.to_string()];
    let ca = shared.ca(tx).await?;
    let doc = issue(tx, shared, &ca, &names, Some(project)).await?;
    tx.publish(Partition::Project(project), &Document::Certificate(doc))?;
    Ok(())
}

/// Wants certificates for an environment's hosts, which have just got their first route; nothing happens where nobody has
/// to be asked for them.
pub(crate) async fn first_route(
    tx: &mut Tx,
    shared: &Shared,
    project: ProjectId,
    environment: EnvironmentId,
) -> Result<(), CertificateError> {
    if let PublicCertificates::Acme(_) = &shared.certificates {
        for row in host::list(tx, project, environment).await? {
            if !wanted::is_local(row.host.as_str()) {
                add_host(tx, shared, project, &row.host).await?;
            }
        }
    }
    Ok(())
}

/// Whether a certificate of the whole installation serves the host by now; one of the internal CA always does.
async fn is_covered_now(
    tx: &mut ReadTx,
    config: &AcmeConfig,
    platform: &Platform,
    host: &Host,
) -> Result<bool, StoreError> {
    for (_, names, issuer) in ordered(config, platform) {
        if covers(&names, host) {
            let name = names.first().map_or("", String::as_str);
            return Ok(issuer == Issuer::Internal || wanted::in_use(tx, name).await?.is_some());
        }
    }
    Ok(false)
}

/// Takes a host's own certificate away; nothing happens if it has none.
pub(crate) fn remove_host(tx: &mut Tx, project: ProjectId, host: &Host) -> Result<(), StoreError> {
    tx.retract(Partition::Project(project), DocumentKey::certificate(host.as_str()))
}

/// Whether a host's own certificate is missing or ends soon.
pub(crate) async fn is_due(tx: &mut ReadTx, shared: &Shared, host: &Host) -> Result<bool, StoreError> {
    if shared.certificates.covers(&shared.config.platform, host) {
        let PublicCertificates::Acme(config) = &shared.certificates else { return Ok(false) };
        return Ok(acme::get(tx, host.as_str()).await?.is_some()
            && is_covered_now(tx, config, &shared.config.platform, host).await?);
    }
    if matches!(shared.certificates, PublicCertificates::Acme(_)) && !wanted::is_local(host.as_str()) {
        return wanted::lacks(tx, host).await;
    }
    let now = tx.now();
    let issued = certificate::list_of(tx, host.as_str()).await?;
    Ok(issued.iter().all(|row| ends_soon(row.not_after, now)))
}

/// The certificates of the whole installation that are published.
pub(crate) async fn published(tx: &mut ReadTx) -> Result<Vec<Published>, StoreError> {
    let record: Option<Record> = setting::get(tx, SETTING).await?;
    Ok(record.map(Record::all).unwrap_or_default())
}

/// When a certificate of the internal CA that ends then is renewed.
pub(crate) fn renewed_at(not_after: Timestamp) -> Timestamp {
    not_after.before(RENEW_BELOW)
}

fn ends_soon(not_after: Timestamp, now: Timestamp) -> bool {
    not_after.since(now) < RENEW_BELOW
}

async fn issue(
    tx: &mut Tx,
    shared: &Shared,
    ca: &Ca,
    names: &[String],
    project: Option<ProjectId>,
) -> Result<CertificateDoc, CertificateError> {
    let now = tx.now();
    let issued = ca.issuing.issue_public(names, now, TTL)?;
    let row = IssuedRow {
        fingerprint: leaf_sha256(&issued, now),
        name: names.first().cloned().unwrap_or_default(),
        project,
        not_before: issued.not_before,
        not_after: issued.not_after,
        issued_at: now,
        issuer: Some(ca.issuing.digest()),
    };
    certificate::insert(tx, &row).await?;
    if project.is_none() {
        audit_issued(tx, &shared.installation, &row);
    }
    Ok(CertificateDoc {
        names: issued.names,
        // Browsers and programs that were told of an older root go on with what the new one signed.
        chain_pem: issued.chain_pem + &ca.state.crosses.concat(),
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
        assert_eq!(internal(&development).len(), 1);
        let apps = Host::parse("apps.example").unwrap();
        let real = Platform { base: Host::parse("mezu.example").unwrap(), apps, port: 443 };
        assert!(internal(&real).contains(&(Partition::Platform, vec!["*.apps.example".to_owned()])));
        let endpoint = Host::parse("shop.apps.example").unwrap();
        assert!(PublicCertificates::Internal.covers(&real, &endpoint));
        assert!(!PublicCertificates::Internal.covers(&real, &Host::parse("shop.example").unwrap()));
        assert!(!PublicCertificates::Internal.covers(&development, &Host::parse("shop.localhost").unwrap()));
    }

    #[test]
    fn what_is_good_for_a_platform_host_is_for_control_alone() {
        for (base, apps) in [("mezu.example", "apps.example"), ("mezu.example", "mezu.example")] {
            let [base, apps] = [base, apps].map(|name| Host::parse(name).unwrap());
            let platform = Platform { base, apps, port: 443 };
            let login = platform.host(PlatformHost::Login).unwrap();
            for (partition, names) in internal(&platform) {
                assert_eq!(covers(&names, &login), partition == Partition::Control, "{names:?}");
            }
        }
    }
}
