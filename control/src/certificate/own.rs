//! What the internal CA issues for browsers, which do not know it: for development, for closed networks, and for names that
//! nobody else certifies.
//!
//! Where browsers allow it, a wildcard covers every endpoint; one directly below a single label (`*.localhost`) they
//! refuse, so there, and for custom domains, each host gets a certificate of its own when it is added.

use std::time::Duration;

use mezusphere_model::document::{CertificateDoc, Document, Partition};
use mezusphere_model::id::ProjectId;
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::{Host, Platform, Timestamp};
use mezusphere_pki::PublicCertificate as Verified;
use mezusphere_pki::authority::IssuedPublic;
use mezusphere_pki::lifetime::PUBLIC_TTL_MAX;
use mezusphere_store::StoreError;
use mezusphere_store::primary::certificate::{self, IssuedRow};
use mezusphere_store::primary::{ReadTx, Tx};

use super::{CertificateError, Published};
use crate::Shared;
use crate::ca::Ca;
use crate::digest::sha256;
use crate::leaf::audit_issued;

/// Life of a certificate from the internal CA.
const TTL: Duration = PUBLIC_TTL_MAX;

/// Renewed when less than this is left: a third, as design §9 says of public certificates.
const RENEW_BELOW: Duration = Duration::from_secs(PUBLIC_TTL_MAX.as_secs() / 3);

/// What the internal CA issues for the whole installation: the platform's hosts, and the wildcard for endpoints if
/// browsers accept it and it is not good for a platform host too.
pub(super) fn names(platform: &Platform) -> Vec<(Partition, Vec<String>)> {
    let hosts = [PlatformHost::Console, PlatformHost::Login, PlatformHost::Connect];
    let own: Vec<String> = hosts.map(|which| format!("{}.{}", which.label(), platform.base)).to_vec();
    let mut all = vec![(Partition::Control, own)];
    if platform.apps.as_str().contains('.') && platform.apps != platform.base {
        all.push((Partition::Platform, vec![format!("*.{}", platform.apps)]));
    }
    all
}

/// What the internal CA issues for the whole installation under these names: what is published, if it is good for a while,
/// or a new one.
pub(super) async fn ensure(
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
    let mut new = Published::of(&doc, partition, true);
    new.issuer = issuer;
    tx.publish(partition, &Document::Certificate(doc))?;
    Ok(new)
}

/// When a certificate of the internal CA that ends then is renewed.
pub(crate) fn renewed_at(not_after: Timestamp) -> Timestamp {
    not_after.before(RENEW_BELOW)
}

/// Whether it is to be renewed by now.
pub(super) fn ends_soon(not_after: Timestamp, now: Timestamp) -> bool {
    not_after.since(now) < RENEW_BELOW
}

/// Whether a host has a certificate of the internal CA that has not ended.
pub(crate) async fn is_good_for(tx: &mut ReadTx, host: &Host) -> Result<bool, StoreError> {
    let now = tx.now();
    Ok(certificate::list_of(tx, host.as_str()).await?.iter().any(|row| row.not_after > now))
}

/// Issues a certificate, and notes that it did.
pub(super) async fn issue(
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
    use mezusphere_pki::public::covers;

    use super::*;
    use crate::certificate::PublicCertificates;

    #[test]
    fn a_wildcard_is_used_only_where_browsers_accept_one() {
        let development = Platform::development(8443).unwrap();
        assert_eq!(names(&development).len(), 1);
        let apps = Host::parse("apps.example").unwrap();
        let real = Platform { base: Host::parse("mezu.example").unwrap(), apps, port: 443 };
        assert!(names(&real).contains(&(Partition::Platform, vec!["*.apps.example".to_owned()])));
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
            for (partition, names) in names(&platform) {
                assert_eq!(covers(&names, &login), partition == Partition::Control, "{names:?}");
            }
        }
    }
}
