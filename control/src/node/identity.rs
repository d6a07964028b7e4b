//! This control node's own certificate: what edges see on its node port.
//!
//! Its key is made at each start and never leaves memory, so a stolen disk or database holds nothing to pose with.

use mezusphere_model::Entropy;
use mezusphere_model::seal::Seal;
use mezusphere_pki::{NodeIdentity, NodeKey, Role, SpiffeName};
use mezusphere_store::Primary;

use crate::ca::Ca;
use crate::installation::Installation;
use crate::leaf::note_issued;
use crate::{ControlConfig, OpenError, Shared};

/// A new key and a certificate for it.
pub(crate) async fn issue(
    primary: &Primary,
    config: &ControlConfig,
    installation: &Installation,
    seal: &dyn Seal,
    entropy: &Entropy,
) -> Result<NodeIdentity, OpenError> {
    let key = NodeKey::generate().map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    let csr = key.csr_der().map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    let name = SpiffeName::new(installation.trust_domain()?, Role::Control(config.node.id));
    let leaf = primary
        .write(async |tx| {
            let ca = Ca::load(tx, seal, entropy).await?;
            let leaf = ca.issuing.issue(&csr, &name, tx.now(), config.leaf_ttl.control)?;
            note_issued(tx, installation, &leaf, &name).await?;
            Ok::<_, OpenError>(leaf)
        })
        .await?;
    NodeIdentity::new(leaf.chain, key).map_err(|why| OpenError::KeyMaking(why.to_string()))
}

impl Shared {
    /// Gives this node a new certificate for new connections; those that are up keep the one they were made with.
    pub(crate) async fn renew_identity(&self) -> Result<(), OpenError> {
        let identity =
            issue(&self.primary, &self.config, &self.installation, &*self.seal, &self.entropy).await?;
        tracing::info!(until = %identity.not_after(), "This node's certificate renewed");
        self.node.identity.replace(identity);
        Ok(())
    }
}
