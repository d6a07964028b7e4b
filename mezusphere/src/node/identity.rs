//! An edge's certificate, renewed at half-life or when certificates are to come from another CA, and its trust, kept
//! current from its replica.
//!
//! Whoever answers [`ControlLink::certify`] issues: control in the same process, or a control node over the edge
//! link. The key is made here each time; only a certificate request leaves.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::document::{DocumentKey, TrustDoc};
use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::{
    CurrentIdentity, CurrentTrust, NodeIdentity, NodeKey, RenewalSchedule, Trust, TrustError,
};
use mezusphere_store::Replica;
use mezusphere_store::replica::{Changed, Changes};
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::edge::Keeps;
use super::returning::Returning;

/// Longest sleep before the clock is looked at again: a machine that slept must not miss its renewal for long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Makes a key and has it certified.
pub(crate) async fn certified(link: &dyn ControlLink) -> Result<NodeIdentity, String> {
    let key = NodeKey::generate().map_err(|why| why.to_string())?;
    let csr = key.csr_der().map_err(|why| why.to_string())?;
    let chain = link.certify(csr.clone()).await.map_err(|why| why.to_string())?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    NodeIdentity::new(chain, key).map_err(|why| why.to_string())
}

/// The renewals of an edge's certificate.
pub(crate) struct Renewal {
    pub(crate) identity: CurrentIdentity,
    /// Who certifies.
    pub(crate) link: Arc<dyn ControlLink>,
    /// Where the trust document says which CA certificates come from.
    pub(crate) replica: Arc<Replica>,
    /// Who is asked when the link is refused because of the certificate; `None` where control is in the same process.
    pub(crate) returning: Option<Arc<Returning>>,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
}

impl Renewal {
    /// Renews for ever. `keeps` is given each new certificate before it is used.
    pub(crate) async fn run(self, keeps: Arc<dyn Keeps>) {
        let mut schedule = self.identity.get().renewal(&self.entropy);
        let (mut changes, key) = (self.replica.subscribe(), DocumentKey::trust());
        let mut is_told = true;
        let mut return_at = Instant::now();
        loop {
            self.follow_ca(&mut schedule);
            let wait = schedule.wait(self.clock.now()).min(LOOK_AGAIN);
            let fresh = tokio::select! {
                () = sleep(wait) => self.renew_if_due(&mut schedule).await,
                returning = self.shut_out(return_at) => {
                    let fresh = returning.come_back(&self.identity.get()).await;
                    return_at = Instant::now() + returning.pause();
                    fresh
                }
                told = changed(&mut changes, &key), if is_told => {
                    is_told = told;
                    None
                }
            };
            if let Some(fresh) = fresh {
                schedule.renewed(fresh.not_before(), fresh.not_after(), &self.entropy);
                keeps.identity(&fresh);
                self.identity.replace(fresh);
            }
        }
    }

    /// Brings the renewal forward if certificates are to come from another CA than the present one's.
    fn follow_ca(&self, schedule: &mut RenewalSchedule) {
        // What cannot be read says nothing; half-life counts then.
        let from = self.replica.trust().ok().flatten().and_then(|doc| doc.renew_from);
        let issuer = self.identity.get().leaf().issuer;
        schedule.follow(issuer.as_ref(), from.as_ref(), self.clock.now(), &self.entropy);
    }

    async fn renew_if_due(&self, schedule: &mut RenewalSchedule) -> Option<NodeIdentity> {
        if !schedule.is_due(self.clock.now()) {
            return None;
        }
        match certified(&*self.link).await {
            Ok(fresh) => {
                info!(until = %fresh.not_after(), "Edge certificate renewed");
                Some(fresh)
            }
            Err(error) => {
                schedule.failed(self.clock.now(), &self.entropy);
                warn!(error, failures = schedule.failures(), "Edge certificate not renewed; trying again");
                None
            }
        }
    }

    /// Resolves with whom to ask when the link is refused because of the certificate, not before `at`; never, where there is no
    /// other way than the link.
    async fn shut_out(&self, at: Instant) -> &Returning {
        let Some(returning) = &self.returning else { return std::future::pending().await };
        sleep_until(at).await;
        returning.shut_out().await;
        returning
    }
}

/// Trust as a document says.
pub(crate) fn trust_of(doc: &TrustDoc) -> Result<Trust, TrustError> {
    Trust::from_doc(doc)
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

/// Keeps `current` as the replica says, until the replica is closed; `keeps` is given what was taken.
pub(crate) async fn follow_trust(current: CurrentTrust, replica: Arc<Replica>, keeps: Arc<dyn Keeps>) {
    let key = DocumentKey::trust();
    let mut changes = replica.subscribe();
    // What the copy has from before may be older than what control said when this edge came back; what comes now is not.
    let mut is_news = !matches!(replica.trust(), Ok(Some(doc)) if keeps.is_superseded(&doc));
    loop {
        match replica.trust() {
            Ok(Some(doc)) if is_news => match trust_of(&doc) {
                Ok(trust) => {
                    current.replace(trust);
                    keeps.trust(&doc);
                }
                // The last good one stays.
                Err(error) => warn!(%error, "The new trust cannot be used"),
            },
            Ok(_) => {}
            Err(error) => warn!(%error, "The replica's trust cannot be read"),
        }
        if !changed(&mut changes, &key).await {
            return;
        }
        is_news = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::edge::KeepsNothing;
    use mezusphere_model::Timestamp;
    use mezusphere_model::clock::ManualClock;
    use mezusphere_model::document::{Document, Partition};
    use mezusphere_model::link::Answer;
    use mezusphere_model::seal::Seal;
    use mezusphere_pki::seal::{MasterKey, Sealer};
    use mezusphere_pki::trust::digest_text;
    use mezusphere_pki::{Root, TrustDomain};
    use mezusphere_store::feed::{
        AppliedReport, Bell, Changes, Cursor, Digest, Epoch, FeedError, FeedSource, Filed, Head,
        SnapshotPage, Wake,
    };
    use serde_json::value::RawValue;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    /// A CA that was thrown out.
    const RETIRED: [u8; 32] = [7; 32];

    /// A feed of one trust document, to which nothing happens.
    struct Feed {
        doc: TrustDoc,
        bell: Bell,
    }

    impl Feed {
        fn body(&self) -> String {
            serde_json::to_string(&Document::Trust(self.doc.clone())).unwrap()
        }

        fn cursor(&self) -> Cursor {
            let digest = Digest::EMPTY.then(1, &DocumentKey::trust(), Some(&self.body()));
            Cursor { epoch: Epoch(1), revision: 1, digest }
        }
    }

    impl FeedSource for Feed {
        fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
            Box::pin(async { Ok(vec![Head { partition: Partition::Platform, cursor: self.cursor() }]) })
        }

        fn snapshot(
            &self,
            _: Partition,
            _: Option<DocumentKey>,
            _: usize,
        ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
            Box::pin(async {
                let body = RawValue::from_string(self.body()).unwrap();
                let documents = vec![Filed { key: DocumentKey::trust(), body }];
                Ok(SnapshotPage { cursor: self.cursor(), documents, more: false })
            })
        }

        fn changes(&self, _: Partition, _: Cursor, _: usize) -> Answer<'_, Result<Changes, FeedError>> {
            Box::pin(async { Ok(Changes::Entries { entries: Vec::new(), more: false }) })
        }

        fn applied(&self, _: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
            Box::pin(async { Ok(()) })
        }

        fn wake(&self) -> Wake {
            self.bell.listen()
        }
    }

    /// Knows that this is not the last word.
    struct Superseded(TrustDoc);

    impl Keeps for Superseded {
        fn identity(&self, _: &NodeIdentity) {}

        fn trust(&self, _: &TrustDoc) {}

        fn is_superseded(&self, trust: &TrustDoc) -> bool {
            self.0 == *trust
        }
    }

    #[tokio::test]
    async fn r20_a_copy_that_is_older_than_what_control_said_brings_no_retired_ca_back() {
        let (dir, entropy) = (tempfile::tempdir().unwrap(), Entropy::counting());
        let domain = TrustDomain::parse("mezu.example").unwrap();
        let root = Root::create(&domain, NOW, &entropy).unwrap();
        let before = TrustDoc {
            trust_domain: domain.to_string(),
            roots_pem: vec![root.certificate_pem()],
            ..TrustDoc::default()
        };
        let since = TrustDoc { retired: vec![digest_text(&RETIRED)], ..before.clone() };
        let seal: Arc<dyn Seal> = Arc::new(Sealer::new(MasterKey::generate(&entropy), entropy.clone()));
        let replica = Replica::open_for("edge", dir.path(), ManualClock::at(NOW).clock(), seal).unwrap();
        let replica = Arc::new(replica);
        let feed = Arc::new(Feed { doc: before.clone(), bell: Bell::new() });
        let follower = replica.follow(feed, "edge".to_owned(), entropy);
        follower.caught_up().await;

        let still_retired = async |keeps: Arc<dyn Keeps>| {
            let current = CurrentTrust::new(trust_of(&since).unwrap());
            let following = follow_trust(current.clone(), Arc::clone(&replica), keeps);
            // What is there is looked at before anything is waited for.
            drop(tokio::time::timeout(Duration::ZERO, following).await);
            current.get().has_retired(&RETIRED)
        };
        assert!(still_retired(Arc::new(Superseded(before))).await);
        assert!(!still_retired(Arc::new(KeepsNothing)).await, "where nothing newer is known it counts");
        follower.stop().await;
    }
}
