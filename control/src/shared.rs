//! What every part of control works with. Made once by `Control::open`, shared by all handlers and jobs.

use std::sync::Arc;

use mezusphere_identity::desk::Desk;
use mezusphere_identity::factor::password::PasswordPool;
use mezusphere_model::seal::Seal;
use mezusphere_model::{Clock, Entropy};
use mezusphere_store::Primary;
use tokio::sync::{Notify, Semaphore, watch};

use crate::ControlConfig;
use crate::ca::CurrentCa;
use crate::certificate::PublicCertificates;
use crate::domain::{Resolver, Turns};
use crate::edge::entry::Told;
use crate::installation::{CurrentKeys, Installation, Keys};
use crate::login::FormKey;
use crate::mail::Mail;
use crate::node::Node;
use crate::signer::CurrentSigner;

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
    /// The installation's keys; ask [`Shared::keys`].
    pub(crate) current_keys: CurrentKeys,
    /// The internal CA; ask [`Shared::ca`] in a transaction, [`Shared::known_ca`] elsewhere.
    pub(crate) current_ca: CurrentCa,
    /// The roots that are trusted, PEM, as [`Shared::refresh_ca`] found them last.
    pub(crate) roots: watch::Sender<Vec<String>>,
    /// Rung when a rotation may go on; the job listens.
    pub(crate) rotation: Notify,
    /// Rung when the keys that sign assertions may have something to do; the job listens.
    pub(crate) keys_due: Notify,
    /// What signs bundles; a transaction that signs asks [`Shared::signer`].
    pub(crate) signer: CurrentSigner,
    /// This control node.
    pub(crate) node: Node,
    /// Of whom the audit log was told that somebody else came in their name.
    pub(crate) strangers_told: Told,
    /// Opens sealed keys.
    pub(crate) seal: Arc<dyn Seal>,
    /// Rung when bundles may not be in line with the nodes any more; the jobs listen.
    pub(crate) drift: Notify,
    /// Rung when a certificate may be due to be ordered; the jobs listen.
    pub(crate) acme_due: Notify,
    /// Rung when a directory's session limits may have become shorter; the jobs listen.
    pub(crate) limits: Notify,
    /// Whoever holds it imports users: one at a time, because an import is held in memory.
    pub(crate) importing: Semaphore,
    /// Asks the DNS who holds a custom domain.
    pub(crate) resolver: Resolver,
    /// Whoever asks it because a person waits takes a turn.
    pub(crate) looking: Turns,
    /// Where browsers' certificates come from.
    pub(crate) certificates: PublicCertificates,
    /// Hashes and verifies passwords.
    pub(crate) passwords: PasswordPool,
    /// Where sign-in's flows are served, to pages and to the JSON API. Its throttle is this node's own: with n control nodes
    /// behind one name, an attacker who spreads over them gets n times the guesses, which stays far from enough.
    pub(crate) desk: Desk,
    /// The way out of mails.
    pub(crate) mail: Mail,
    /// Authenticates hosted forms.
    pub(crate) form_key: FormKey,
}

impl Shared {
    /// The installation's keys now.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.current_keys.load_full()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("installation", &self.installation).finish_non_exhaustive()
    }
}
