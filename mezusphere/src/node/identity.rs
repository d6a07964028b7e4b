//! An edge's certificate, renewed at half-life, and its trust, kept current from its replica.
//!
//! Whoever answers [`ControlLink::certify`] issues: control in the same process, or a control node over the edge
//! link. The key is made here each time; only a certificate request leaves.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::document::{DocumentKey, TrustDoc};
use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::{CurrentIdentity, CurrentTrust, NodeIdentity, NodeKey, Trust, TrustError};
use mezusphere_store::Replica;
use mezusphere_store::replica::{Changed, Changes};
use rustls::pki_types::CertificateDer;
use tracing::{info, warn};

/// Longest sleep before the clock is looked at again: a machine that slept must not miss its renewal for long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Makes a key and has it certified.
pub(crate) async fn certified(link: &dyn ControlLink) -> Result<NodeIdentity, String> {
    let key = NodeKey::generate().map_err(|why| why.to_string())?;
    let csr = key.csr_der().map_err(|why| why.to_string())?;
    let chain = link.certify(csr.clone()).await.map_err(|why| why.to_string())?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    NodeIdentity::new(chain, key).map_err(|why| why.to_string())
}

/// Renews `identity` for ever. `keep` is given each new one before it is used.
pub(crate) async fn renew(
    identity: CurrentIdentity,
    link: Arc<dyn ControlLink>,
    clock: Clock,
    entropy: Entropy,
    keep: impl Fn(&NodeIdentity),
) {
    let mut schedule = identity.get().renewal(&entropy);
    loop {
        let wait = schedule.wait(clock.now());
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
            continue;
        }
        match certified(&*link).await {
            Ok(fresh) => {
                info!(until = %fresh.not_after(), "Edge certificate renewed");
                schedule.renewed(fresh.not_before(), fresh.not_after(), &entropy);
                keep(&fresh);
                identity.replace(fresh);
            }
            Err(error) => {
                schedule.failed(clock.now(), &entropy);
                warn!(error, failures = schedule.failures(), "Edge certificate not renewed; trying again");
            }
        }
    }
}

/// Trust as a document says.
pub(crate) fn trust_of(doc: &TrustDoc) -> Result<Trust, TrustError> {
    let roots = doc.roots_pem.iter().map(String::as_str);
    Trust::from_pem(&doc.trust_domain, roots, doc.denied.iter().cloned())
}

/// Waits until the document with this key may have changed; `false` once the replica is closed and nothing will any more.
pub(crate) async fn changed(changes: &mut Changes, key: &DocumentKey) -> bool {
    loop {
        match changes.changed().await {
            Changed::Everything => return true,
            Changed::Keys(keys) if keys.iter().any(|changed| changed.key == *key) => return true,
            Changed::Keys(_) => {}
            Changed::Closed => return false,
        }
    }
}

/// Keeps `current` as the replica says, until the replica is closed. `keep` is given each document that was taken.
pub(crate) async fn follow_trust(current: CurrentTrust, replica: Arc<Replica>, keep: impl Fn(&TrustDoc)) {
    let key = DocumentKey::trust();
    let mut changes = replica.subscribe();
    loop {
        match replica.trust() {
            Ok(Some(doc)) => match trust_of(&doc) {
                Ok(trust) => {
                    current.replace(trust);
                    keep(&doc);
                }
                // The last good one stays.
                Err(error) => warn!(%error, "The new trust cannot be used"),
            },
            Ok(None) => {}
            Err(error) => warn!(%error, "The replica's trust cannot be read"),
        }
        if !changed(&mut changes, &key).await {
            return;
        }
    }
}
