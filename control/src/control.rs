//! Opening control, and what it hands to the program around it.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use mezusphere_edge_link::join::{JoinRefused, JoinReply, JoinRequest, RejoinRequest};
use mezusphere_identity::desk::Desk;
use mezusphere_identity::factor::password::{PasswordPool, Peppers, PoolLimits};
use mezusphere_identity::history::History;
use mezusphere_identity::throttle::Throttle;
use mezusphere_model::id::{ControlId, EdgeId};
use mezusphere_model::link::{ControlLink, LinkError};
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::seal::Seal;
use mezusphere_model::{Clock, Entropy, Timestamp};
use mezusphere_pki::{CurrentIdentity, CurrentTrust};
use mezusphere_store::feed::FeedSource;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::{Primary, Tx, secret};
use tokio::sync::watch;

use crate::api::{self, Door};
use crate::ca::Ca;
use crate::certificate::{PublicCertificates, ensure_platform};
use crate::domain::{Resolver, Turns};
use crate::edge::entry::Told;
use crate::first_start::{self, First};
use crate::installation::{Keys, secret_name};
use crate::jobs::Jobs;
use crate::keys::Resealed;
use crate::link::Link;
use crate::login::{self, FormKey};
use crate::mail::Mail;
use crate::node::{Node, identity, row};
use crate::platform::{PlatformService, Services, service};
use crate::shared::Shared;
use crate::{ControlConfig, OpenError, signer};

/// An open control plane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
    login: Router,
    sign_in_link: Option<Arc<str>>,
}

impl Control {
    /// Whether a new installation can start with this configuration, as far as that shows before anything of it is made.
    ///
    /// # Errors
    /// What [`Control::open`] would say.
    pub fn check(config: &ControlConfig, now: Timestamp) -> Result<(), OpenError> {
        usable(config, now)?;
        First::of(config).map(drop)
    }

    /// Opens the installation in `primary`; makes it if there is none yet.
    ///
    /// Needs a tokio runtime. Brings what is published into line with `config` before it returns, so an edge
    /// started after it serves the configuration of now. Starts the password threads, but no jobs:
    /// [`Control::start_jobs`] does.
    pub async fn open(
        config: ControlConfig,
        primary: Primary,
        seal: Arc<dyn Seal>,
        clock: Clock,
        entropy: Entropy,
    ) -> Result<Self, OpenError> {
        let certificates = usable(&config, clock.now())?;
        let installation = first_start::ensure(&primary, &config, &entropy).await?;
        let (keys, ca, peppers) = primary
            .read(async |tx| {
                let keys = Keys::load(tx).await?;
                let ca = Ca::load(tx, &*seal, &entropy).await?;
                let peppers = peppers(secret::list(tx, secret_name::PEPPER).await?, keys.pepper_version)?;
                Ok::<_, OpenError>((keys, ca, peppers))
            })
            .await?;
        let signer = signer::load(&primary, &config, &installation, &*seal, &entropy).await?;
        let identity = identity::issue(&primary, &config, &installation, &*seal, &entropy).await?;
        let node = Node::new(identity, ca.trust_doc(&installation.trust_domain, Vec::new()))?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let passwords = PasswordPool::start(peppers, PoolLimits::for_cores(cores), &entropy)
            .map_err(OpenError::Threads)?;
        let desk = Desk {
            primary: primary.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            passwords: passwords.clone(),
            throttle: Throttle::new(clock.clone(), &entropy),
            history: History::default(),
        };
        let login_origin = config.platform.origin(&config.platform.host(PlatformHost::Login)?);
        let mail = Mail::new(config.mail.clone(), &config.platform, login_origin).map_err(OpenError::Mail)?;
        let shared = Arc::new(Shared {
            mail,
            desk,
            form_key: FormKey::from_secret(&keys.form),
            passwords,
            resolver: Resolver::new(config.dns_resolver),
            looking: Turns::new(),
            certificates,
            signer: ArcSwap::new(signer),
            current_keys: ArcSwap::from_pointee(keys),
            roots: watch::Sender::new(ca.state.roots.clone()),
            current_ca: ArcSwap::from_pointee(ca),
            rotation: tokio::sync::Notify::new(),
            keys_due: tokio::sync::Notify::new(),
            drift: tokio::sync::Notify::new(),
            acme_due: tokio::sync::Notify::new(),
            limits: tokio::sync::Notify::new(),
            importing: tokio::sync::Semaphore::new(1),
            node,
            strangers_told: Told::default(),
            seal,
            installation,
            config,
            entropy,
            clock,
            primary,
        });
        shared
            .primary
            .write(async |tx| {
                first_start::note_base(tx, &shared.config.platform.base).await?;
                announce(tx, &shared).await
            })
            .await?;
        shared.refresh_trust().await?;
        // If another control node is at one of these now, it knows what there is to do as well as this one.
        shared.reconcile().await?;
        shared.renew_certificates().await?;
        let link =
            first_start::sign_in_link(&shared.primary, &shared.config, &shared.installation, &shared.entropy)
                .await?;
        let login = login::router(&shared)?;
        Ok(Self { shared, login, sign_in_link: link.map(Arc::from) })
    }

    /// A link with which the first operator signs in, once, within 30 minutes; there is one at every start until
    /// an operator has set a password. A secret: show it to whoever started the program, and keep it out of logs.
    pub fn sign_in_link(&self) -> Option<&str> {
        self.sign_in_link.as_deref()
    }

    /// The id of the edge in the same process, if there is one; it stays over restarts.
    pub fn edge_id(&self) -> Option<EdgeId> {
        row::local_edge(&self.shared.config, self.shared.installation.edge)
    }

    /// The id of this control node.
    pub fn control_id(&self) -> ControlId {
        self.shared.config.node.id
    }

    /// SPIFFE trust domain of the installation.
    pub fn trust_domain(&self) -> &str {
        &self.shared.installation.trust_domain
    }

    /// Root certificates of the installation, PEM, newest first.
    pub fn roots_pem(&self) -> Vec<String> {
        self.shared.known_ca().state.roots.clone()
    }

    /// The same, and what becomes of them, while the jobs run.
    pub fn roots(&self) -> watch::Receiver<Vec<String>> {
        self.shared.roots.subscribe()
    }

    /// This control node's own certificate, for its node port. Renewed while the jobs run.
    pub fn node_identity(&self) -> CurrentIdentity {
        self.shared.node.identity.clone()
    }

    /// Whom this control node trusts on its node port. Follows the installation within a second while the jobs run:
    /// close what [`Trust::denies`](mezusphere_pki::Trust::denies).
    pub fn node_trust(&self) -> CurrentTrust {
        self.shared.node.trust.clone()
    }

    /// Whether this edge may open a link with this certificate, which the handshake has judged: whether it was issued it
    /// here. To be asked before anything else of a link is answered.
    ///
    /// # Errors
    /// [`LinkError::Refused`] if it was not, or the edge was evicted; [`LinkError::Away`] if the database does not answer.
    pub async fn admit_link(&self, edge: EdgeId, leaf_der: &[u8]) -> Result<(), LinkError> {
        self.shared.admit_link(edge, leaf_der).await
    }

    /// What this edge asks of control, in the same process or over the edge link alike. Whoever hands it out has
    /// authenticated the edge, and let it in ([`Control::admit_link`]).
    pub fn link(&self, edge: EdgeId) -> Arc<dyn ControlLink> {
        Arc::new(Link { shared: Arc::clone(&self.shared), edge })
    }

    /// What is published. Holds keys of public certificates, and in `Partition::Control` those of the platform's hosts,
    /// which must not leave this process.
    pub fn feed(&self) -> Arc<dyn FeedSource> {
        Arc::new(self.shared.primary.clone())
    }

    /// Serves `console.`, `login.` and `connect.` of the platform domain. Requests carry a
    /// [`ClientAddress`](mezusphere_model::link::ClientAddress) extension.
    pub fn platform_service(&self) -> PlatformService {
        let services =
            Services { console: api::router(&self.shared, Door::Console), login: self.login.clone() };
        service(self.shared.config.platform.clone(), services)
    }

    /// The admin API for a unix socket that only the server's own account can open: whoever comes this way is the
    /// local operator.
    pub fn local_admin(&self) -> Router {
        api::router(&self.shared, Door::Local)
    }

    /// Judges a join of an edge that holds nothing but a join token, and lets it in; `from` is where it dials from.
    pub async fn join(&self, request: JoinRequest, from: SocketAddr) -> Result<JoinReply, JoinRefused> {
        self.shared.join(request, from).await
    }

    /// Judges an edge that was in before and whose certificate opens no link any more; gives it its next one.
    pub async fn rejoin(&self, request: RejoinRequest, from: SocketAddr) -> Result<JoinReply, JoinRefused> {
        self.shared.rejoin(request, from).await
    }

    /// Seals everything in the database anew that was sealed with a key that is to go, as the seal says; nothing while another
    /// control node is at it. May be cut short anywhere and called again.
    pub async fn reseal(&self) -> Result<Resealed, OpenError> {
        self.shared.reseal().await
    }

    /// How many sealed values are left of keys that are to go.
    pub async fn unsealed_left(&self) -> Result<u64, OpenError> {
        self.shared.unsealed_left().await
    }

    /// Opens every sealed value in the database; says how many open and how many do not.
    pub async fn check_sealed(&self) -> Result<(usize, usize), OpenError> {
        self.shared.check_sealed().await
    }

    /// Puts into the audit log what whoever has this machine did to it, past the API.
    pub async fn audit_local(&self, action: &str, target: &str) -> Result<(), OpenError> {
        let entry = AuditEntry {
            organization: self.shared.installation.organization,
            project: None,
            actor: "local".to_owned(),
            action: action.to_owned(),
            target: target.to_owned(),
            address: None,
            detail: serde_json::json!({ "node": self.shared.config.node.id }),
        };
        let noted = self.shared.primary.write(async |tx| {
            tx.audit(entry.clone());
            Ok::<_, OpenError>(())
        });
        noted.await
    }

    /// Starts renewing, signing anew, following other control nodes and pruning, on the current runtime, until [`Jobs::stop`].
    pub fn start_jobs(&self) -> Jobs {
        Jobs::start(&self.shared)
    }
}

/// What the configuration alone shows: refuses what no node starts with.
fn usable(config: &ControlConfig, now: Timestamp) -> Result<PublicCertificates, OpenError> {
    if let Some(ttl) = config.leaf_ttl.out_of_bounds() {
        return Err(OpenError::LeafTtl(ttl));
    }
    if config.assertion_rotation.is_out_of_bounds() {
        return Err(OpenError::AssertionLife(config.assertion_rotation.life));
    }
    PublicCertificates::load(config, now)
}

/// The current pepper and the older ones that some hashes were still made with.
fn peppers(rows: Vec<secret::SecretRow>, current: u32) -> Result<Peppers, OpenError> {
    let damaged = || OpenError::KeyDamaged(secret_name::PEPPER);
    let mut peppers = None;
    let mut older = Vec::new();
    for row in rows {
        let bytes: [u8; 32] = row.value.as_slice().try_into().map_err(|_| damaged())?;
        if row.version == current {
            peppers = Some(Peppers::new(row.version, bytes));
        } else {
            older.push((row.version, bytes));
        }
    }
    let peppers = peppers.ok_or(OpenError::KeyMissing(secret_name::PEPPER))?;
    Ok(older.into_iter().fold(peppers, |peppers, (version, bytes)| peppers.with_older(version, bytes)))
}

/// Writes down who starts here, and publishes what concerns the whole installation.
async fn announce(tx: &mut Tx, shared: &Shared) -> Result<(), OpenError> {
    shared.write_nodes(tx).await?;
    shared.keep_ca(tx).await?;
    ensure_platform(tx, shared).await?;
    shared.publish_trust(tx).await?;
    shared.publish_platform(tx).await?;
    Ok(())
}
