//! Who may open a link: an edge that shows a certificate from this installation's own list.
//!
//! A chain proves only that somebody had the CA's key. Whoever took that key could name itself like any edge, ask over its
//! link for the next certificate, which is a real one, and come back with that after the CA was thrown out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::LinkError;
use mezusphere_store::StoreError;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::certificate;
use mezusphere_store::primary::node::NodeId;

use super::keep::{KeepError, still_in};
use crate::Shared;
use crate::digest::{hex, sha256};

/// Between two audit entries about one edge's name on certificates that are not in the list: whoever shows one tries for
/// ever.
const TOLD_EVERY: Duration = Duration::from_mins(10);

/// Of which edges the audit log was told lately.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeMap<EdgeId, Timestamp>>);

impl Told {
    /// Whether it is time to tell of this edge (again). Remembers only what is known of edges there are, and not for long.
    fn is_due(&self, edge: EdgeId, now: Timestamp) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.since(*at) < TOLD_EVERY);
        if told.contains_key(&edge) {
            return false;
        }
        told.insert(edge, now);
        true
    }
}

impl Shared {
    /// Whether `edge` may come with this certificate, which the handshake has judged; notes that it did.
    pub(crate) async fn admit_link(&self, edge: EdgeId, leaf_der: &[u8]) -> Result<(), LinkError> {
        Ok(self.enter(edge, &sha256(leaf_der)).await?)
    }

    async fn enter(&self, edge: EdgeId, leaf: &[u8; 32]) -> Result<(), KeepError> {
        let name = self.node_name(NodeId::Edge(edge)).to_string();
        let known = self
            .primary
            .read(async |tx| {
                still_in(tx, edge).await?;
                Ok::<_, KeepError>(certificate::is_seen(tx, &name, leaf).await?)
            })
            .await?;
        match known {
            Some(true) => Ok(()),
            Some(false) => Ok(self.primary.write(async |tx| certificate::seen(tx, leaf).await).await?),
            None => {
                self.tell_of_stranger(edge, leaf).await;
                Err(KeepError::NotListed(edge))
            }
        }
    }

    /// Says that somebody holds a CA's key, or that the list is older than the edge. The refusal does not depend on it.
    async fn tell_of_stranger(&self, edge: EdgeId, leaf: &[u8; 32]) {
        if !self.strangers_told.is_due(edge, self.clock.now()) {
            return;
        }
        let sha256 = hex(leaf);
        tracing::error!(
            %edge,
            sha256,
            "Somebody came as this edge with a certificate that control never issued: the CA's key is in other hands, or \
             the database is older than the certificate"
        );
        let told = self.primary.write(async |tx| {
            tx.audit(AuditEntry {
                organization: self.installation.organization,
                project: None,
                actor: edge.to_string(),
                action: "edge.not_listed".to_owned(),
                target: edge.to_string(),
                address: None,
                detail: serde_json::json!({ "sha256": sha256 }),
            });
            Ok::<_, StoreError>(())
        });
        if let Err(error) = told.await {
            tracing::error!(%error, "The audit log could not be told of it");
        }
    }
}
