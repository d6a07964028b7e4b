//! What an edge that is in asks for itself: its next certificate, and to be known where it is.

use mezusphere_model::Timestamp;
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::{ABOUT_EVERY, AboutEdge, LinkError};
use mezusphere_pki::Role;
use mezusphere_store::primary::node::{self as nodes, NodeId, NodeRow};
use mezusphere_store::primary::{ReadTx, Tx};
use mezusphere_store::{StoreError, WriteError};

use super::words;
use crate::Shared;
use crate::leaf::LeafError;
use crate::link::{away, refused};

/// Longest host name or address an edge may give, in octets; a DNS name has at most 253.
const HOST_LEN_MAX: usize = 253;

/// Why an edge is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error("there is no edge {0}")]
    Unknown(EdgeId),
    #[error("the edge {0} was evicted")]
    Evicted(EdgeId),
    #[error("control never issued the certificate that the edge {0} showed")]
    NotListed(EdgeId),
    #[error("an edge's address needs a host name of at most {HOST_LEN_MAX} octets and a port")]
    Address,
    #[error(transparent)]
    Leaf(#[from] LeafError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for KeepError {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl From<KeepError> for LinkError {
    fn from(why: KeepError) -> Self {
        match &why {
            KeepError::Evicted(_) => refused("edge.evicted", why),
            KeepError::NotListed(_) => refused("edge.not_listed", why),
            KeepError::Address => refused("edge.address", why),
            KeepError::Leaf(LeafError::Issue(_)) => refused("csr.invalid", why),
            KeepError::Write(WriteError::Store(why))
            | KeepError::Leaf(LeafError::Write(WriteError::Store(why))) => away(why),
            KeepError::Unknown(_) | KeepError::Leaf(LeafError::Write(_)) | KeepError::Write(_) => {
                refused("edge.unknown", why)
            }
        }
    }
}

impl Shared {
    /// The next certificate of an edge that is in.
    pub(crate) async fn certify_edge(
        &self,
        edge: EdgeId,
        csr_der: Vec<u8>,
    ) -> Result<Vec<Vec<u8>>, LinkError> {
        let work = self.primary.write(async |tx| {
            still_in(tx, edge).await?;
            let leaf = self.issue_leaf(tx, &csr_der, Role::Edge(edge), self.config.leaf_ttl.edge).await?;
            Ok::<_, KeepError>(leaf.chain.iter().map(|der| der.to_vec()).collect())
        });
        Ok(work.await?)
    }

    /// Notes what an edge says of itself. A new address goes into every bundle.
    pub(crate) async fn about_edge(&self, edge: EdgeId, about: AboutEdge) -> Result<(), LinkError> {
        Ok(self.note_edge(edge, about).await?)
    }

    async fn note_edge(&self, edge: EdgeId, about: AboutEdge) -> Result<(), KeepError> {
        if about.host.is_empty() || about.host.len() > HOST_LEN_MAX || about.port == 0 {
            return Err(KeepError::Address);
        }
        let (known, now) = self
            .primary
            .read(async |tx| {
                let row = still_in(tx, edge).await?;
                Ok::<_, KeepError>((row, tx.now()))
            })
            .await?;
        let own = self.config.node.id;
        let said = said(&known, &about, now);
        // Each write waits for the disk; half the interval still notes every report that comes in time.
        let lately = now.since(known.seen_at) < ABOUT_EVERY / 2;
        if said == known && lately && known.connected_to == Some(own) {
            return Ok(());
        }
        self.primary
            .write(async |tx| {
                let row = still_in(tx, edge).await?;
                put(tx, &self::said(&row, &about, tx.now()), &row).await?;
                nodes::connected(tx, edge, own).await?;
                Ok::<_, KeepError>(())
            })
            .await?;
        if (&said.host, said.port) != (&known.host, known.port) {
            tracing::info!(%edge, host = said.host, port = said.port, "An edge has a new address");
            self.drift.notify_one();
        }
        Ok(())
    }
}

async fn put(tx: &mut Tx, said: &NodeRow, known: &NodeRow) -> Result<(), WriteError> {
    if said == known { Ok(()) } else { nodes::put(tx, said).await }
}

/// The edge, unless it was evicted.
pub(super) async fn still_in(tx: &mut ReadTx, edge: EdgeId) -> Result<NodeRow, KeepError> {
    let row = nodes::get(tx, NodeId::Edge(edge)).await?.ok_or(KeepError::Unknown(edge))?;
    if row.denied_at.is_some() { Err(KeepError::Evicted(edge)) } else { Ok(row) }
}

/// What is known of an edge, with what it says now.
fn said(known: &NodeRow, about: &AboutEdge, now: Timestamp) -> NodeRow {
    let region = words(&about.region);
    NodeRow {
        host: about.host.clone(),
        port: about.port,
        version: words(&about.version),
        // One that was given none keeps what the operator who invited it said.
        region: if region.is_empty() { known.region.clone() } else { region },
        draining_at: about.draining.then(|| known.draining_at.unwrap_or(now)),
        ..known.clone()
    }
}
