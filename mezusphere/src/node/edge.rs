//! The in-process edge's certificate and trust: got from control by direct call, renewed at half-life, kept
//! current from the replica. A split edge does the same over the network.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_control::Control;
use mezusphere_model::id::EdgeId;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::{CurrentIdentity, CurrentTrust, NodeIdentity, NodeKey, Trust};
use mezusphere_store::Replica;
use mezusphere_store::replica::Changed;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::failure::{Failure, Kind};

/// Longest sleep before the clock is looked at again: a machine that slept must not miss its renewal for long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What an edge's certificate is got with.
#[derive(Clone)]
pub(crate) struct Node {
    /// Which edge.
    pub(crate) id: EdgeId,
    /// Who issues.
    pub(crate) control: Arc<Control>,
    /// Tells the time.
    pub(crate) clock: Clock,
    /// Spreads renewals.
    pub(crate) entropy: Entropy,
}

impl Node {
    /// A new key, and a certificate for it.
    pub(crate) async fn identity(&self) -> Result<CurrentIdentity, Failure> {
        self.issue().await.map(CurrentIdentity::new).map_err(|why| {
            Failure::new(Kind::Unexpected, format!("the edge gets no certificate: {why}"))
                .next("look at the log above")
        })
    }

    async fn issue(&self) -> Result<NodeIdentity, String> {
        let key = NodeKey::generate().map_err(|why| why.to_string())?;
        let csr = key.csr_der().map_err(|why| why.to_string())?;
        let leaf = self.control.enroll_edge(&csr, self.id).await.map_err(|why| why.to_string())?;
        NodeIdentity::new(leaf.chain, key).map_err(|why| why.to_string())
    }

    /// Keeps certificate and trust current until `stop`.
    pub(crate) fn keep_current(
        self,
        identity: CurrentIdentity,
        current: CurrentTrust,
        replica: Arc<Replica>,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            tokio::select! {
                () = self.renew(identity) => {}
                () = follow_trust(current, replica) => {}
                () = stop.cancelled() => {}
            }
        })
    }

    async fn renew(&self, identity: CurrentIdentity) {
        let mut schedule = identity.get().renewal(&self.entropy);
        loop {
            let wait = schedule.wait(self.clock.now());
            if !wait.is_zero() {
                tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
                continue;
            }
            match self.issue().await {
                Ok(fresh) => {
                    info!(until = %fresh.not_after(), "Edge certificate renewed");
                    schedule.renewed(fresh.not_before(), fresh.not_after(), &self.entropy);
                    identity.replace(fresh);
                }
                Err(error) => {
                    schedule.failed(self.clock.now(), &self.entropy);
                    warn!(
                        error,
                        failures = schedule.failures(),
                        "Edge certificate not renewed; trying again"
                    );
                }
            }
        }
    }
}

/// Whom the edge trusts, as its replica says now.
pub(crate) fn trust(replica: &Replica) -> Result<CurrentTrust, Failure> {
    read_trust(replica).map(CurrentTrust::new).map_err(|why| {
        Failure::new(Kind::Unexpected, format!("the edge does not know whom to trust: {why}"))
            .next("stop the server, delete the replica folder and start again")
    })
}

fn read_trust(replica: &Replica) -> Result<Trust, String> {
    let platform = replica.platform().map_err(|why| why.to_string())?;
    let platform = platform.ok_or("the platform document is missing")?;
    let roots = platform.roots_pem.iter().map(String::as_str);
    Trust::from_pem(&platform.trust_domain, roots, platform.denied.iter().cloned())
        .map_err(|why| why.to_string())
}

async fn follow_trust(current: CurrentTrust, replica: Arc<Replica>) {
    let key = mezusphere_model::document::DocumentKey::platform();
    let mut changes = replica.subscribe();
    loop {
        let concerns_us = match changes.changed().await {
            Changed::Everything => true,
            Changed::Keys(keys) => keys.iter().any(|changed| changed.key == key),
            Changed::Closed => return,
        };
        if concerns_us {
            match read_trust(&replica) {
                Ok(trust) => current.replace(trust),
                // The last good one stays.
                Err(error) => warn!(error, "The new trust cannot be used"),
            }
        }
    }
}
