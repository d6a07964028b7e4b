//! Challenges that are open: what edges answer and which DNS records are set, for which certificate.
//!
//! Written down in the transaction that publishes them, so that a node that takes over can clean up after one that died.

use std::collections::BTreeMap;
use std::time::Duration;

use mezusphere_model::document::{AcmeChallengeDoc, Document, DocumentKey, Partition};
use mezusphere_store::StoreError;
use mezusphere_store::primary::{ReadTx, Tx, acme, setting};
use serde::{Deserialize, Serialize};

use super::dns::DnsRecord;

/// Name of the setting that holds them.
const SETTING: &str = "acme/open";

/// How long edges answer a challenge if nobody takes it back: longer than any one try.
pub(super) const OPEN_FOR: Duration = Duration::from_hours(1);

/// What is open for one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Tokens of challenges that edges answer.
    pub(super) tokens: Vec<String>,
    /// Records that were set, or may have been.
    pub(super) records: Vec<DnsRecord>,
}

async fn load(tx: &mut ReadTx) -> Result<BTreeMap<String, Open>, StoreError> {
    Ok(setting::get(tx, SETTING).await?.unwrap_or_default())
}

/// Certificates whose challenges are open and whose order nobody goes on with.
pub(super) async fn left(tx: &mut ReadTx) -> Result<Vec<String>, StoreError> {
    let mut left = Vec::new();
    for name in load(tx).await?.into_keys() {
        let row = acme::get(tx, &name).await?;
        if row.is_none_or(|row| row.order_url.is_none()) {
            left.push(name);
        }
    }
    Ok(left)
}

/// Publishes challenges, and notes records that are about to be set.
pub(super) async fn add(
    tx: &mut Tx,
    name: &str,
    docs: Vec<AcmeChallengeDoc>,
    records: &[DnsRecord],
) -> Result<(), StoreError> {
    let mut all = load(tx).await?;
    let open = all.entry(name.to_owned()).or_default();
    for doc in docs {
        if !open.tokens.contains(&doc.token) {
            open.tokens.push(doc.token.clone());
        }
        tx.publish(Partition::Platform, &Document::AcmeChallenge(doc))?;
    }
    for record in records {
        if !open.records.contains(record) {
            open.records.push(record.clone());
        }
    }
    setting::put(tx, SETTING, &all).await
}

/// Takes back what edges answer for a certificate. Records stay noted until [`forget_records`].
pub(super) async fn close(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    let mut all = load(tx).await?;
    let Some(open) = all.get_mut(name) else { return Ok(()) };
    for token in std::mem::take(&mut open.tokens) {
        tx.retract(Partition::Platform, DocumentKey::acme_challenge(&token))?;
    }
    all.retain(|_, open| !open.records.is_empty());
    setting::put(tx, SETTING, &all).await
}

/// Records that a certificate's challenges set.
pub(super) async fn records(tx: &mut ReadTx, name: &str) -> Result<Vec<DnsRecord>, StoreError> {
    Ok(load(tx).await?.remove(name).unwrap_or_default().records)
}

/// Forgets a certificate's records: they were removed, or nothing more can be done about them.
pub(super) async fn forget_records(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    let mut all = load(tx).await?;
    let Some(open) = all.get_mut(name) else { return Ok(()) };
    open.records.clear();
    all.retain(|_, open| !open.tokens.is_empty());
    setting::put(tx, SETTING, &all).await
}
