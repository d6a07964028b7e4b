//! What joining and coming back have in common: how far two clocks may differ, the certificate with all that goes along with
//! it, and what is said where the fault is not the edge's.

use std::time::Duration;

use mezusphere_edge_link::join::{JoinRefused, JoinReply, refusal};
use mezusphere_model::Timestamp;
use mezusphere_model::id::EdgeId;
use mezusphere_pki::IssuedLeaf;
use mezusphere_pki::lifetime::skew_allowance;
use mezusphere_store::primary::Tx;

use crate::Shared;
use crate::node::row::controls;
use crate::publish::PublishError;

/// The next step of a machine whose clock is wrong.
pub(super) const SET_CLOCK: &str = "set the clock of this machine and start it again";

/// The next step of a machine whose version control does not understand.
pub(super) const SAME_VERSION: &str = "install the version of mezusphere that control runs on this machine";

/// What an edge hears while control cannot answer it; why is for control's log.
pub(super) fn busy() -> JoinRefused {
    JoinRefused::new(
        refusal::BUSY,
        "control cannot answer now",
        "try again; if it stays, look at the control node's log",
    )
}

/// By how much clocks may differ for certificates that live so long, if these two differ by more.
pub(super) fn clocks_beyond(edge: Timestamp, control: Timestamp, ttl: Duration) -> Option<Duration> {
    let allowed = skew_allowance(ttl);
    (edge.since(control).max(control.since(edge)) > allowed).then_some(allowed)
}

impl Shared {
    /// The reply to an edge that is let in with this certificate.
    pub(super) async fn welcome_edge(
        &self,
        tx: &mut Tx,
        edge: EdgeId,
        name: String,
        leaf: &IssuedLeaf,
    ) -> Result<JoinReply, PublishError> {
        Ok(JoinReply {
            edge,
            name,
            chain_der: leaf.chain.iter().map(|der| der.to_vec()).collect(),
            trust: self.trust_doc(tx).await?,
            controls: controls(tx).await?,
            control_time: tx.now(),
        })
    }
}
