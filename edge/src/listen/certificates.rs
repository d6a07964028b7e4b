//! Keeps the public certificates as fresh as the replica.

use std::sync::Arc;

use mezusphere_model::Clock;
use mezusphere_model::document::{CertificateDoc, DocumentKey};
use mezusphere_store::Replica;
use mezusphere_store::replica::{Changed, Changes};
use tracing::{info, warn};

use crate::tls::PublicCertificates;

/// Follows the replica's certificate documents.
pub(super) struct Follower {
    replica: Arc<Replica>,
    changes: Changes,
    certificates: PublicCertificates,
    clock: Clock,
}

impl Follower {
    /// Loads what is there. Reads the disk.
    pub(super) fn new(replica: Arc<Replica>, certificates: PublicCertificates, clock: Clock) -> Self {
        // Subscribed before it reads, so that no change falls between.
        let changes = replica.subscribe();
        let follower = Self { replica, changes, certificates, clock };
        follower.load();
        follower
    }

    /// Loads again whenever a certificate changes. Ends with the replica, or when dropped.
    pub(super) async fn run(mut self) {
        loop {
            match self.changes.changed().await {
                Changed::Keys(keys) if !keys.iter().any(|changed| is_certificate(&changed.key)) => {}
                Changed::Keys(_) | Changed::Everything => self.load(),
                Changed::Closed => return,
            }
        }
    }

    fn load(&self) {
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

fn is_certificate(key: &DocumentKey) -> bool {
    key.as_str().starts_with("certificate/")
}
