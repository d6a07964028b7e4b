//! Giving an edge its next certificate when the last one opens no link any more: it ended while the edge was off, or the CA
//! that issued it was retired. The edge proves that it holds the key of it.
//!
//! The certificate itself is believed only because this installation's own list has it: a chain proves nothing once the CA
//! behind it was taken.

use std::net::SocketAddr;
use std::time::Duration;

use mezusphere_edge_link::join::{JoinRefused, JoinReply, RejoinRequest, refusal};
use mezusphere_model::Timestamp;
use mezusphere_model::id::EdgeId;
use mezusphere_pki::{Peer, Role, possession};
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::node::NodeId;
use mezusphere_store::primary::{ReadTx, certificate};
use mezusphere_store::{StoreError, WriteError};

use super::admit::{SAME_VERSION, SET_CLOCK, busy, clocks_beyond};
use super::keep::still_in;
use crate::Shared;
use crate::digest::sha256;
use crate::edge::keep::KeepError;
use crate::leaf::LeafError;
use crate::publish::PublishError;

const INVITE: &str = "empty its data directory and invite it anew with: mezusphere edge invite NAME";

/// Why an edge does not come back.
#[derive(Debug, thiserror::Error)]
enum RejoinError {
    #[error("the certificate is not one this installation issued to an edge, or the edge has a newer one")]
    Unknown,
    #[error("the request does not prove that its sender holds the certificate's key")]
    Unproven,
    #[error("the edge {0} was evicted")]
    Evicted(EdgeId),
    #[error("the edge's clock shows {edge}, control's shows {control}; at most {} s apart work", .allowed.as_secs())]
    Clock { edge: Timestamp, control: Timestamp, allowed: Duration },
    #[error(transparent)]
    Leaf(#[from] LeafError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for RejoinError {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl From<KeepError> for RejoinError {
    fn from(why: KeepError) -> Self {
        match why {
            KeepError::Evicted(edge) => Self::Evicted(edge),
            KeepError::Leaf(why) => Self::Leaf(why),
            KeepError::Write(why) => Self::Write(why),
            KeepError::Unknown(_) | KeepError::NotListed(_) | KeepError::Address => Self::Unknown,
        }
    }
}

impl From<RejoinError> for JoinRefused {
    fn from(why: RejoinError) -> Self {
        let (code, next) = match &why {
            RejoinError::Unknown | RejoinError::Unproven => (refusal::NOT_MEMBER, INVITE),
            RejoinError::Evicted(_) => (refusal::EVICTED, INVITE),
            RejoinError::Clock { .. } => (refusal::CLOCK, SET_CLOCK),
            RejoinError::Leaf(LeafError::Issue(_)) => (refusal::MALFORMED, SAME_VERSION),
            RejoinError::Leaf(_) | RejoinError::Publish(_) | RejoinError::Write(_) => {
                tracing::error!(error = %why, "An edge could not come back");
                return busy();
            }
        };
        Self::new(code, why.to_string(), next)
    }
}

impl Shared {
    /// Judges an edge that was in before, and gives it its next certificate.
    pub(crate) async fn rejoin(
        &self,
        ask: RejoinRequest,
        from: SocketAddr,
    ) -> Result<JoinReply, JoinRefused> {
        match self.readmit_edge(&ask, from).await {
            Ok(reply) => {
                tracing::info!(edge = %reply.edge, name = reply.name, from = %from.ip(), "An edge is back");
                Ok(reply)
            }
            Err(why) => {
                tracing::warn!(from = %from.ip(), reason = %why, "An edge may not come back");
                Err(why.into())
            }
        }
    }

    async fn readmit_edge(&self, ask: &RejoinRequest, from: SocketAddr) -> Result<JoinReply, RejoinError> {
        // Read, and looked up before anything is written: a stranger must not make the database work.
        let edge = self.owner(&ask.leaf_der).await?;
        if !possession::is_proven(&ask.leaf_der, &ask.csr_der, &ask.proof) {
            return Err(RejoinError::Unproven);
        }
        self.primary
            .write(async |tx| {
                let row = still_in(tx, edge).await?;
                let now = tx.now();
                // After the proof, so that a stranger learns nothing of our clock.
                if let Some(allowed) = clocks_beyond(ask.edge_time, now, self.config.leaf_ttl.edge) {
                    return Err(RejoinError::Clock { edge: ask.edge_time, control: now, allowed });
                }
                let leaf =
                    self.issue_leaf(tx, &ask.csr_der, Role::Edge(edge), self.config.leaf_ttl.edge).await?;
                tx.audit(AuditEntry {
                    organization: self.installation.organization,
                    project: None,
                    actor: edge.to_string(),
                    action: "edge.rejoin".to_owned(),
                    target: edge.to_string(),
                    address: Some(from.ip().to_string()),
                    detail: serde_json::json!({
                        "name": row.name,
                        "serial": leaf.serial,
                        "until": leaf.not_after.to_string(),
                    }),
                });
                Ok(self.welcome_edge(tx, edge, row.name, &leaf).await?)
            })
            .await
    }

    /// The edge that was issued this certificate, unless it has used one since that was issued later. One that was only issued
    /// is not enough: each answer may be lost on its way.
    async fn owner(&self, leaf_der: &[u8]) -> Result<EdgeId, RejoinError> {
        // What it says of itself only tells where to look.
        let said = Peer::read(&[leaf_der.into()]).map_err(|_| RejoinError::Unknown)?;
        let Role::Edge(edge) = said.name.role else { return Err(RejoinError::Unknown) };
        let name = self.node_name(NodeId::Edge(edge)).to_string();
        let leaf = sha256(leaf_der);
        let is_latest =
            self.primary.read(async |tx: &mut ReadTx| certificate::is_latest(tx, &name, &leaf).await).await?;
        if is_latest { Ok(edge) } else { Err(RejoinError::Unknown) }
    }
}
