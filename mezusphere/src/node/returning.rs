//! How a split edge gets its next certificate when the last one opens no link any more: it ended while the edge was off or
//! control was away, the CA behind it was retired, or the root was replaced and the edge knows the old one alone. The edge
//! proves that it holds the key of it.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_edge_link::client::{CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CONTROL_UNTRUSTED, LinkState};
use mezusphere_edge_link::join::{self, JoinError, refusal};
use mezusphere_model::link::AboutEdge;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::{CurrentTrust, NodeIdentity};
use tokio::sync::watch;
use tracing::{info, warn};

use super::announce;
use super::ends::Signals;
use super::identity::trust_of;
use super::joined::Membership;
use crate::failure::{Failure, Kind};

/// Between two tries: one small message, and until one is answered the edge serves nobody. Up to as much again is added, so
/// that edges which lost their certificates together do not come together.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What an edge needs to come back.
pub(crate) struct Returning {
    membership: Arc<Membership>,
    about: AboutEdge,
    trust: CurrentTrust,
    clock: Clock,
    entropy: Entropy,
    link: watch::Receiver<LinkState>,
    /// Set when control says no for good.
    refused: watch::Sender<Option<Arc<JoinError>>>,
}

impl Returning {
    /// For the edge whose link this is the state of; `trust` follows what control answers.
    pub(crate) fn new(
        membership: Arc<Membership>,
        about: AboutEdge,
        trust: CurrentTrust,
        (clock, entropy): (Clock, Entropy),
        link: watch::Receiver<LinkState>,
    ) -> Self {
        Self { membership, about, trust, clock, entropy, link, refused: watch::Sender::new(None) }
    }

    /// Resolves when there is no link because of the certificate it is made with, or because no control node that answers is
    /// trusted. Cancel safe.
    pub(crate) async fn shut_out(&self) {
        if self.link.clone().wait_for(is_shut_out).await.is_err() {
            // The link has ended, and this edge with it.
            std::future::pending::<()>().await;
        }
    }

    /// How long to wait after a try, whatever came of it: the link needs a moment to be made anew.
    pub(crate) fn pause(&self) -> Duration {
        let more = self.entropy.below(u64::try_from(AGAIN_AFTER.as_millis()).unwrap_or(u64::MAX));
        AGAIN_AFTER + Duration::from_millis(more)
    }

    /// Asks once for a certificate in the place of `was`.
    pub(crate) async fn come_back(&self, was: &NodeIdentity) -> Option<NodeIdentity> {
        let controls = self.membership.controls();
        let asked = join::rejoin(was, &self.trust, &controls, self.about.clone(), &self.clock).await;
        match asked.map_err(Arc::new) {
            Ok(joined) => {
                self.membership.came_back(&joined);
                match trust_of(&joined.trust) {
                    Ok(trust) => self.trust.replace(trust),
                    // The reply was judged by it.
                    Err(error) => warn!(%error, "The trust that control answered cannot be used"),
                }
                info!(until = %joined.identity.not_after(), "This edge is back with a new certificate");
                Some(joined.identity)
            }
            Err(error) => {
                warn!(%error, code = error.code(), "This edge gets no certificate; trying again");
                if is_no_member(&error) {
                    self.refused.send_replace(Some(error));
                }
                None
            }
        }
    }

    /// Resolves when control has said that this edge may not come back. Cancel safe.
    pub(crate) async fn refused(&self) -> Failure {
        let mut refused = self.refused.subscribe();
        // Its sender lives as long as this.
        match refused.wait_for(Option::is_some).await.ok().and_then(|error| (*error).clone()) {
            Some(error) => failure(&error),
            None => std::future::pending().await,
        }
    }
}

/// Brings an edge back whose certificate ended while it was off, however long control takes to answer; `None`: a signal came.
///
/// # Errors
/// Control says no.
pub(crate) async fn at_start(
    was: NodeIdentity,
    membership: &Membership,
    about: &AboutEdge,
    clock: &Clock,
    (signals, json): (&Signals, bool),
) -> Result<Option<NodeIdentity>, Failure> {
    let (ended, now) = (was.not_after(), clock.now());
    info!(%ended, %now, "This edge's certificate ended while it was off; asking for a new one");
    let trust = membership.current_trust()?;
    let mut told = String::new();
    loop {
        let controls = membership.controls();
        let asked = tokio::select! {
            asked = join::rejoin(&was, &trust, &controls, about.clone(), clock) => asked,
            () = signals.first() => return Ok(None),
        };
        let error = match asked {
            Ok(joined) => {
                membership.came_back(&joined);
                return Ok(Some(joined.identity));
            }
            Err(error) if is_final(&error) => return Err(failure(&error)),
            Err(error) => error.to_string(),
        };
        if error != told {
            announce::waiting(&error, json)?;
            told = error;
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            () = signals.first() => return Ok(None),
        }
    }
}

/// Whether coming back may help. An edge that knows only a root that was replaced meanwhile trusts nobody on the link, where
/// control shows no more than its own chain.
fn is_shut_out(state: &LinkState) -> bool {
    matches!(state, LinkState::Away(problem)
        if [CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CONTROL_UNTRUSTED].contains(&problem.code))
}

/// Whether whoever starts this edge must do something first.
fn is_final(error: &JoinError) -> bool {
    matches!(error, JoinError::Refused(refused) if refused.code != refusal::BUSY)
}

/// Whether this edge has no place any more.
fn is_no_member(error: &JoinError) -> bool {
    matches!(error, JoinError::Refused(refused)
        if [refusal::NOT_MEMBER, refusal::EVICTED].contains(&refused.code.as_str()))
}

fn failure(error: &JoinError) -> Failure {
    Failure::new(Kind::Refused, error).next(error.next()).code(error.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezusphere_edge_link::client::LinkProblem;
    use mezusphere_model::Timestamp;

    #[test]
    fn r20_an_edge_comes_back_where_its_certificate_or_its_trust_is_of_no_use_and_waits_otherwise() {
        let away = |code| {
            is_shut_out(&LinkState::Away(LinkProblem {
                code,
                message: String::new(),
                next: "",
                control: None,
                at: Timestamp::default(),
            }))
        };
        // A root that was replaced while it was off shows as a control node that is not to be trusted.
        for code in [CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CONTROL_UNTRUSTED] {
            assert!(away(code), "{code}");
        }
        for code in ["edge.control_silent", "edge.no_control", "edge.evicted"] {
            assert!(!away(code), "{code}");
        }
        assert!(!is_shut_out(&LinkState::Connecting));
    }
}
