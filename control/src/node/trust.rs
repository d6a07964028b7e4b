//! Keeping this node's trust current: an edge that is evicted on any control node loses its link on all of them.

use std::sync::PoisonError;

use mezusphere_model::document::TrustDoc;
use mezusphere_pki::Trust;

use super::Node;
use crate::Shared;
use crate::publish::PublishError;

impl Node {
    /// Trusts what `doc` says from now on; says whether that is something new. One that cannot be used changes nothing.
    fn follow(&self, doc: TrustDoc) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == doc {
            return false;
        }
        match Trust::from_doc(&doc) {
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
