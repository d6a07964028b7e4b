//! The certificates of the whole installation: which are published, and bringing that into line with where they come from.

use mezusphere_model::document::{CertificateDoc, Document, DocumentKey, Partition};
use mezusphere_model::{Host, Timestamp};
use mezusphere_pki::public::covers;
use mezusphere_store::StoreError;
use mezusphere_store::primary::{ReadTx, Tx, acme, host, setting};
use serde::{Deserialize, Serialize};

use super::ordered::{self, Issuer};
use super::{CertificateError, PublicCertificates, own};
use crate::Shared;
use crate::acme::wanted;
use crate::digest::sha256;

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
    pub(super) issuer: Option<String>,
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
    /// What is kept of a document that is published there.
    pub(super) fn of(doc: &CertificateDoc, partition: Partition, internal: bool) -> Self {
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

    /// Whether it can go on, wherever it came from, until a better one is there.
    fn serves(&self, partition: Partition, names: &[String], now: Timestamp) -> bool {
        self.partition() == partition
            && self.not_after > now
            && names.iter().all(|name| self.stands_for(name))
    }

    /// Whether it is good for all that a name in another certificate is good for.
    fn stands_for(&self, name: &str) -> bool {
        // A wildcard is no host, and only the same wildcard stands for it.
        self.names.iter().any(|own| own == name)
            || Host::parse(name).is_ok_and(|host| covers(&self.names, &host))
    }

    /// Where it is published.
    pub(super) fn partition(&self) -> Partition {
        if self.control { Partition::Control } else { Partition::Platform }
    }
}

/// The certificates of the whole installation that are published.
pub(crate) async fn published(tx: &mut ReadTx) -> Result<Vec<Published>, StoreError> {
    let record: Option<Record> = setting::get(tx, SETTING).await?;
    Ok(record.map(Record::all).unwrap_or_default())
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
            for (partition, names) in own::names(&shared.config.platform) {
                kept.push(own::ensure(tx, shared, &published, partition, &names).await?);
            }
        }
        PublicCertificates::Acme(config) => {
            acme::move_to(tx, config.directory.url()).await?;
            let mut filed_as = Vec::new();
            for (partition, names, issuer) in ordered::names(config, &shared.config.platform) {
                if issuer == Issuer::Internal {
                    kept.push(own::ensure(tx, shared, &published, partition, &names).await?);
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
                    // Until the first one is there, what another source left goes on.
                    None => published.iter().find(|old| old.serves(partition, &names, now)).cloned(),
                };
                kept.extend(good);
            }
            wanted::forget_own(tx, &filed_as).await?;
        }
    }
    for old in &published {
        let replaced = |new: &Published| (new.partition(), &new.filed_as) == (old.partition(), &old.filed_as);
        if kept.iter().any(replaced) {
            continue;
        }
        if is_needed(tx, shared, old, &kept).await? {
            kept.push(old.clone());
        } else {
            tx.retract(old.partition(), DocumentKey::certificate(&old.filed_as))?;
        }
    }
    let kept = Record::All(kept);
    if record.as_ref() != Some(&kept) {
        setting::put(tx, SETTING, &kept).await?;
    }
    Ok(())
}

/// Whether one that is not wanted any more still is the only one that some host with a route has: what an authority is asked for
/// may take long, and nothing that works is taken away before. The internal CA issues at once, so nothing has to wait for it.
async fn is_needed(
    tx: &mut ReadTx,
    shared: &Shared,
    old: &Published,
    kept: &[Published],
) -> Result<bool, StoreError> {
    if !matches!(shared.certificates, PublicCertificates::Acme(_)) || old.not_after <= tx.now() {
        return Ok(false);
    }
    for name in &old.names {
        let is_served = wanted::is_local(name) || kept.iter().any(|other| other.stands_for(name));
        if !is_served && host::is_any_unserved(tx, name).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_goes_on_for_the_same_wildcard_and_for_hosts_below_it() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let doc = |names: &[&str]| CertificateDoc {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            chain_pem: String::new(),
            key_pem: String::new(),
            not_after: now.after(std::time::Duration::from_secs(1)),
        };
        let old = Published::of(&doc(&["*.apps.example", "www.shop.example"]), Partition::Platform, false);
        let serves = |names: &[&str]| old.serves(Partition::Platform, &doc(names).names, now);
        assert!(serves(&["*.apps.example"]));
        assert!(serves(&["a.apps.example", "www.shop.example"]));
        assert!(!serves(&["*.example"]) && !serves(&["*.a.apps.example"]) && !serves(&["a.b.apps.example"]));
        assert!(!old.serves(Partition::Control, &old.names, now), "another partition");
        assert!(!old.serves(Partition::Platform, &old.names, old.not_after), "it has ended");
    }
}
