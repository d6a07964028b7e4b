//! Whether the two ends of a tunnel may go on: the ends of their certificates, the CAs behind them, and what the
//! installation trusts now (R20).
//!
//! Asked before every step of a tunnel's control stream; costs two comparisons while nothing has changed. Decides
//! nothing about exchanges.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_pki::{ExpectedRole, NodeIdentity, Peer, PeerError, Trust, verify_peer};
use rustls_pki_types::CertificateDer;

/// What a tunnel's life rests on.
pub(super) struct Standing {
    /// What the warpgate showed in the handshake; kept, because the roots behind it may change.
    chain: Vec<CertificateDer<'static>>,
    peer: Peer,
    /// What we showed.
    own: Peer,
    /// When the first of the two certificates ends.
    ends_at: Timestamp,
    /// From when the warpgate is told to leave, so that what runs can finish before the end.
    leave_at: Timestamp,
    /// What it was judged by last.
    trust: Arc<Trust>,
}

/// Why a tunnel has to end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// One of the two certificates has ended.
    Ended,
    /// The CA that issued one of them was retired; a renewed one is another CA's.
    Retired,
    /// No trusted root stands behind the warpgate's certificate any more; a renewed one may do.
    Untrusted,
    /// The warpgate was evicted.
    Evicted,
    /// This edge was.
    EdgeEvicted,
}

impl Standing {
    /// Of a warpgate that `trust` accepted, at an edge that shows `own`. `lead_max`: how long before the end, at most, the
    /// warpgate is told.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        peer: &Peer,
        own: &NodeIdentity,
        trust: Arc<Trust>,
        lead_max: Duration,
    ) -> Self {
        let ends_at = peer.not_after.min(own.not_after());
        // At most a tenth of the certificate's life, for the short ones of tests.
        let lead = lead_max.min(peer.not_after.since(peer.not_before) / 10);
        Self {
            chain,
            peer: peer.clone(),
            own: own.leaf().clone(),
            ends_at,
            leave_at: ends_at.before(lead),
            trust,
        }
    }

    /// Judges anew if there is anything new. `told`: what the feed said last, if it ever did.
    pub(super) fn judge(&mut self, told: Option<Arc<Trust>>, now: Timestamp) -> Result<(), Lost> {
        if now >= self.ends_at {
            return Err(Lost::Ended);
        }
        let Some(trust) = told.filter(|told| !Arc::ptr_eq(told, &self.trust)) else { return Ok(()) };
        match (trust.refuses(&self.own), trust.refuses(&self.peer)) {
            (Some(PeerError::Denied(_)), _) => return Err(Lost::EdgeEvicted),
            (_, Some(PeerError::Denied(_))) => return Err(Lost::Evicted),
            (Some(why), _) | (None, Some(why)) => {
                tracing::info!(warpgate = %self.peer.name, %why, "A tunnel's certificate is no longer good");
                return Err(Lost::Retired);
            }
            (None, None) => {}
        }
        // Signatures are checked only when it matters: thousands of tunnels hear of each eviction.
        if (trust.domain(), trust.roots()) != (self.trust.domain(), self.trust.roots())
            && let Err(error) = verify_peer(&self.chain, &trust, now, ExpectedRole::AnyWarpgate)
        {
            tracing::warn!(warpgate = %self.peer.name, %error, "A tunnel's certificate is no longer trusted");
            return Err(Lost::Untrusted);
        }
        self.trust = trust;
        Ok(())
    }

    /// Whether it is time to tell the warpgate that the end comes.
    pub(super) fn is_leaving(&self, now: Timestamp) -> bool {
        now >= self.leave_at
    }

    /// Until the end.
    pub(super) fn left(&self, now: Timestamp) -> Duration {
        self.ends_at.since(now)
    }

    /// Until the next moment of the wall clock at which something is due.
    pub(super) fn next_look(&self, now: Timestamp) -> Duration {
        let next = if now < self.leave_at { self.leave_at } else { self.ends_at };
        next.since(now).max(Duration::from_millis(1))
    }
}
