//! Letting an invited edge in: its certificate, its row and the spent invitation are one transaction, so a join that
//! fails half-way leaves the invitation as good as before.

use std::net::SocketAddr;
use std::time::Duration;

use mezusphere_edge_link::join::{JoinRefused, JoinReply, JoinRequest, refusal};
use mezusphere_model::Timestamp;
use mezusphere_model::id::EdgeId;
use mezusphere_pki::Role;
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::invitation::{self, Admission, InvitationRow};
use mezusphere_store::primary::node::{self as nodes, NodeId, NodeRow};
use mezusphere_store::{StoreError, WriteError};

use super::admit::{SAME_VERSION, SET_CLOCK, busy, clocks_beyond};
use super::words;
use crate::Shared;
use crate::connect::is_older;
use crate::leaf::LeafError;
use crate::node::row::numbered_name;
use crate::publish::PublishError;

/// Oldest edge that can still join: its major and minor version.
const EDGE_MIN: (u64, u64) = (0, 1);

const INVITE: &str = "invite it anew with: mezusphere edge invite NAME";

/// Why an edge may not join.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error("this installation has no such invitation")]
    Unknown,
    #[error("an edge has joined with this token before; it is good once")]
    Used,
    #[error("the invitation was taken back")]
    Revoked,
    #[error("the invitation has expired")]
    Expired,
    #[error("the edge's clock shows {edge}, control's shows {control}; at most {} s apart work", .allowed.as_secs())]
    Clock { edge: Timestamp, control: Timestamp, allowed: Duration },
    #[error("an edge of version {0} is too old for this installation")]
    TooOld(String),
    #[error(transparent)]
    Leaf(#[from] LeafError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for JoinError {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl From<JoinError> for JoinRefused {
    fn from(why: JoinError) -> Self {
        let (code, next) = match &why {
            JoinError::Unknown => (refusal::UNKNOWN, INVITE),
            JoinError::Used => (
                refusal::USED,
                "if this machine is in already, start it without --join; else invite it anew with: mezusphere edge \
                 invite NAME",
            ),
            JoinError::Revoked => (refusal::USED, INVITE),
            JoinError::Expired => (refusal::EXPIRED, INVITE),
            JoinError::Clock { .. } => (refusal::CLOCK, SET_CLOCK),
            JoinError::TooOld(_) => (refusal::TOO_OLD, SAME_VERSION),
            JoinError::Leaf(LeafError::Issue(_)) => (refusal::MALFORMED, SAME_VERSION),
            JoinError::Leaf(_) | JoinError::Publish(_) | JoinError::Write(_) => {
                tracing::error!(error = %why, "An edge could not join");
                return busy();
            }
        };
        Self::new(code, why.to_string(), next)
    }
}

impl Shared {
    /// Judges a join, and lets the edge in.
    pub(crate) async fn join(&self, ask: JoinRequest, from: SocketAddr) -> Result<JoinReply, JoinRefused> {
        match self.admit_edge(&ask, from).await {
            Ok(reply) => {
                tracing::info!(edge = %reply.edge, name = reply.name, from = %from.ip(), "An edge joined");
                self.drift.notify_one();
                Ok(reply)
            }
            Err(why) => {
                tracing::warn!(invitation = %ask.id, from = %from.ip(), reason = %why, "An edge may not join");
                Err(why.into())
            }
        }
    }

    async fn admit_edge(&self, ask: &JoinRequest, from: SocketAddr) -> Result<JoinReply, JoinError> {
        if is_older(&ask.about.version, EDGE_MIN) {
            return Err(JoinError::TooOld(words(&ask.about.version)));
        }
        let secret = ask.secret.hash();
        // Looked up before anything is written: a stranger who guesses must not make the database work.
        let known = self.primary.read(async |tx| invitation::get(tx, ask.id).await).await?;
        if known.is_none_or(|row| row.secret_hash != secret) {
            return Err(JoinError::Unknown);
        }
        let edge = EdgeId::random(&self.entropy);
        self.primary
            .write(async |tx| {
                let now = tx.now();
                let invitation = match invitation::admit(tx, ask.id, &secret, edge).await? {
                    Admission::Admitted(row) => row,
                    Admission::Unknown => return Err(JoinError::Unknown),
                    Admission::Used => return Err(JoinError::Used),
                    Admission::Revoked => return Err(JoinError::Revoked),
                    Admission::Expired => return Err(JoinError::Expired),
                };
                // After the invitation, so that a stranger learns nothing of our clock.
                if let Some(allowed) = clocks_beyond(ask.edge_time, now, self.config.leaf_ttl.edge) {
                    return Err(JoinError::Clock { edge: ask.edge_time, control: now, allowed });
                }
                let leaf =
                    self.issue_leaf(tx, &ask.csr_der, Role::Edge(edge), self.config.leaf_ttl.edge).await?;
                let name = write(tx, edge, &invitation, ask).await?;
                self.note_join(tx, edge, &name, &invitation, from);
                Ok(self.welcome_edge(tx, edge, name, &leaf).await?)
            })
            .await
    }

    fn note_join(&self, tx: &mut Tx, edge: EdgeId, name: &str, invitation: &InvitationRow, from: SocketAddr) {
        tx.audit(AuditEntry {
            organization: self.installation.organization,
            project: None,
            actor: invitation.id.to_string(),
            action: "edge.join".to_owned(),
            target: edge.to_string(),
            address: Some(from.ip().to_string()),
            detail: serde_json::json!({ "name": name, "invited_by": invitation.created_by }),
        });
    }
}

/// Writes the new edge down; says what it is called.
async fn write(
    tx: &mut Tx,
    edge: EdgeId,
    invitation: &InvitationRow,
    ask: &JoinRequest,
) -> Result<String, WriteError> {
    let now = tx.now();
    let region = words(&ask.about.region);
    let name = numbered_name(tx, &invitation.name, NodeId::Edge(edge)).await?;
    let row = NodeRow {
        id: NodeId::Edge(edge),
        name: name.clone(),
        region: if region.is_empty() { invitation.region.clone() } else { region },
        // Its first word about itself over the link brings the address into the bundles: until then it serves nobody.
        host: String::new(),
        port: 0,
        version: words(&ask.about.version),
        node: None,
        connected_to: None,
        draining_at: None,
        created_at: now,
        seen_at: now,
        denied_at: None,
    };
    nodes::put(tx, &row).await?;
    Ok(name)
}
