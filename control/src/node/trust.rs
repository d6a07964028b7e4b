//! Keeping this node's trust current: an edge that is evicted on any control node loses its link on all of them.

use std::sync::PoisonError;

use mezusphere_model::document::TrustDoc;
use mezusphere_pki::{Trust, TrustError};

use super::Node;
use crate::Shared;
use crate::publish::PublishError;

/// What a trust document says.
pub(super) fn read(doc: &TrustDoc) -> Result<Trust, TrustError> {
    Trust::from_pem(&doc.trust_domain, doc.roots_pem.iter().map(String::as_str), doc.denied.iter().cloned())
}

impl Node {
    /// Trusts what `doc` says from now on; says whether that is something new. One that cannot be used changes nothing.
    fn follow(&self, doc: TrustDoc) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == doc {
            return false;
        }
        match read(&doc) {
            Ok(trust) => {
                self.trust.replace(trust);
                *known = doc;
                true
            }
            Err(error) => {
                tracing::error!(%error, "The new trust cannot be used; the last good one stays");
                false
            }
        }
    }
}

impl Shared {
    /// Reads whom to trust and follows it. Says whether that is something new.
    pub(crate) async fn refresh_trust(&self) -> Result<bool, PublishError> {
        let doc = self.primary.read(async |tx| self.trust_doc(tx).await).await?;
        Ok(self.node.follow(doc))
    }
}
