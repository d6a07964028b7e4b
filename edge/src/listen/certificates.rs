//! Keeps the public certificates, and the answers to certificate authorities, as fresh as the replica.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Clock;
use mezusphere_model::document::CertificateDoc;
use mezusphere_store::Replica;
use mezusphere_store::replica::{Changed, ChangedKey, Changes};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use crate::tls::{Challenges, PublicCertificates};

/// How often it is asked whether a certificate has begun or ended: no later than this is one used from when it begins.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Follows the replica's certificates and challenges.
pub(super) struct Follower {
    replica: Arc<Replica>,
    changes: Changes,
    certificates: PublicCertificates,
    challenges: Challenges,
    clock: Clock,
}

impl Follower {
    /// Loads what is there. Reads the disk.
    pub(super) fn new(
        replica: Arc<Replica>,
        certificates: PublicCertificates,
        challenges: Challenges,
        clock: Clock,
    ) -> Self {
        // Subscribed before it reads, so that no change falls between.
        let changes = replica.subscribe();
        let follower = Self { replica, changes, certificates, challenges, clock };
        follower.load_certificates();
        follower.load_challenges();
        follower
    }

    /// Loads again whenever one changes, begins or has ended. Ends with the replica, or when dropped.
    pub(super) async fn run(mut self) {
        // Not begun anew with each change: there may be one every second.
        let mut look_again = interval(LOOK_AGAIN);
        look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has =
                |keys: &[ChangedKey], kind| keys.iter().any(|changed| changed.key.as_str().starts_with(kind));
            let changed = tokio::select! {
                changed = self.changes.changed() => Some(changed),
                _ = look_again.tick() => None,
            };
            let (certificates, challenges) = match changed {
                Some(Changed::Keys(keys)) => (has(&keys, CERTIFICATE), has(&keys, CHALLENGE)),
                Some(Changed::Everything) => (true, true),
                Some(Changed::Closed) => return,
                None => (self.certificates.table().is_outdated(self.clock.now()), false),
            };
            if certificates {
                self.load_certificates();
            }
            if challenges {
                self.load_challenges();
            }
        }
    }

    fn load_challenges(&self) {
        match self.replica.acme_challenges() {
            Ok(documents) => {
                let open = documents.len();
                self.challenges.replace(documents, &self.clock);
                debug!(open, "Challenges of certificate authorities loaded");
            }
            // The ones in use stay; the next change tries again.
            Err(error) => warn!(%error, "Challenges of certificate authorities could not be loaded"),
        }
    }

    fn load_certificates(&self) {
        match self.replica.certificates() {
            Ok(documents) => {
                let documents: Vec<CertificateDoc> =
                    documents.into_iter().map(|(_, document)| document).collect();
                self.certificates.replace(&documents, self.clock.now());
                info!(documents = documents.len(), "Public certificates loaded");
            }
            // The ones in use stay; the next change tries again.
            Err(error) => warn!(%error, "Public certificates could not be loaded"),
        }
    }
}

/// Where keys of certificates begin.
const CERTIFICATE: &str = "certificate/";

/// Where keys of challenges begin.
const CHALLENGE: &str = "acme-challenge/";
