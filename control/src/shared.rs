//! What every part of control works with. Made once by `Control::open`, shared by all handlers and jobs.

use mezusphere_identity::factor::password::PasswordPool;
use mezusphere_identity::throttle::Throttle;
use mezusphere_model::{Clock, Entropy};
use mezusphere_store::Primary;

use crate::ControlConfig;
use crate::certificate::PublicCertificates;
use crate::installation::{Installation, Keys};
use crate::login::FormKey;
use crate::node::CurrentSigner;

/// The parts of an open control.
pub(crate) struct Shared {
    /// The database.
    pub(crate) primary: Primary,
    /// Tells the time.
    pub(crate) clock: Clock,
    /// Draws ids and tokens.
    pub(crate) entropy: Entropy,
    /// How it is set up.
    pub(crate) config: ControlConfig,
    /// Ids of the installation's own objects.
    pub(crate) installation: Installation,
    /// The installation's keys.
    pub(crate) keys: Keys,
    /// This node's certificate, which signs bundles.
    pub(crate) signer: CurrentSigner,
    /// Where browsers' certificates come from.
    pub(crate) certificates: PublicCertificates,
    /// Hashes and verifies passwords.
    pub(crate) passwords: PasswordPool,
    /// Slows down guessing.
    pub(crate) throttle: Throttle,
    /// Authenticates hosted forms.
    pub(crate) form_key: FormKey,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("installation", &self.installation).finish_non_exhaustive()
    }
}
