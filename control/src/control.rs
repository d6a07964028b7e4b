//! Opening control, and what it hands to the program around it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use mezusphere_identity::factor::password::{PasswordPool, Peppers, PoolLimits};
use mezusphere_identity::throttle::Throttle;
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::ControlLink;
use mezusphere_model::seal::Seal;
use mezusphere_model::{Clock, Entropy};
use mezusphere_pki::authority::IssueError;
use mezusphere_pki::{IssuedLeaf, Role, SpiffeName};
use mezusphere_store::primary::node::{self as nodes, NodeId, NodeRow};
use mezusphere_store::primary::{Primary, Tx, secret, warpgate};
use mezusphere_store::{StoreError, WriteError};

use crate::api::{self, Door};
use crate::certificate::{PublicCertificates, ensure_platform};
use crate::config::{LEAF_TTL_MAX, LEAF_TTL_MIN};
use crate::installation::{Keys, secret_name};
use crate::jobs::Jobs;
use crate::link::Link;
use crate::login::{self, FormKey};
use crate::platform::{PlatformService, Services, service};
use crate::shared::Shared;
use crate::{ControlConfig, OpenError, first_start, node};

/// Region of the one node of an installation that was given none.
const REGION: &str = "local";

/// An open control plane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
    login: Router,
    sign_in_link: Option<Arc<str>>,
}

/// Why an edge gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrollEdgeError {
    /// The request is malformed, or its sender does not hold the key.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The edge was evicted.
    #[error("the edge {0} was evicted")]
    Denied(EdgeId),
    /// The database does not work.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for EnrollEdgeError {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl Control {
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
        if !(LEAF_TTL_MIN..=LEAF_TTL_MAX).contains(&config.leaf_ttl) {
            return Err(OpenError::LeafTtl(config.leaf_ttl));
        }
        let certificates = PublicCertificates::load(&config, clock.now())?;
        let installation = first_start::ensure(&primary, &config, &*seal, &entropy).await?;
        let (keys, peppers) = primary
            .read(async |tx| {
                let keys = Keys::load(tx, &*seal, &entropy).await?;
                let peppers = peppers(secret::list(tx, secret_name::PEPPER).await?, keys.pepper_version)?;
                Ok::<_, OpenError>((keys, peppers))
            })
            .await?;
        let signer = node::load(&primary, &config, &installation, &keys, &entropy).await?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let passwords = PasswordPool::start(peppers, PoolLimits::for_cores(cores), &entropy)
            .map_err(OpenError::Threads)?;
        let shared = Arc::new(Shared {
            form_key: FormKey::from_secret(&keys.form),
            throttle: Throttle::new(clock.clone()),
            passwords,
            certificates,
            signer: ArcSwap::new(signer),
            keys,
            installation,
            config,
            entropy,
            clock,
            primary,
        });
        shared.primary.write(async |tx| announce(tx, &shared).await).await?;
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

    /// The id of the edge in the same process; it stays over restarts.
    pub fn edge_id(&self) -> EdgeId {
        self.shared.installation.edge
    }

    /// SPIFFE trust domain of the installation.
    pub fn trust_domain(&self) -> &str {
        &self.shared.installation.trust_domain
    }

    /// Root certificates of the installation, PEM, newest first.
    pub fn roots_pem(&self) -> &[String] {
        &self.shared.keys.roots_pem
    }

    /// What an edge in the same process asks of control.
    pub fn link(&self) -> Arc<dyn ControlLink> {
        Arc::new(Link(Arc::clone(&self.shared)))
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

    /// Certifies the key of an edge in the same process.
    pub async fn enroll_edge(&self, csr_der: &[u8], edge: EdgeId) -> Result<IssuedLeaf, EnrollEdgeError> {
        let shared = &self.shared;
        shared
            .primary
            .write(async |tx| {
                let denied =
                    nodes::get(tx, NodeId::Edge(edge)).await?.is_some_and(|row| row.denied_at.is_some());
                if denied {
                    return Err(EnrollEdgeError::Denied(edge));
                }
                let name = SpiffeName::new(shared.keys.issuing.trust_domain().clone(), Role::Edge(edge));
                let leaf = shared.keys.issuing.issue(csr_der, &name, tx.now(), shared.config.leaf_ttl)?;
                node::note_issued(tx, &leaf, &name).await?;
                Ok(leaf)
            })
            .await
    }

    /// Starts renewing, signing anew and pruning, on the current runtime, until [`Jobs::stop`].
    pub fn start_jobs(&self) -> Jobs {
        Jobs::start(Arc::clone(&self.shared))
    }
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

/// Writes down this node and the edge beside it, and publishes what concerns the whole installation.
async fn announce(tx: &mut Tx, shared: &Shared) -> Result<(), OpenError> {
    let now = tx.now();
    let advertise = &shared.config.advertise;
    let edge = NodeRow {
        id: NodeId::Edge(shared.installation.edge),
        name: "edge-1".to_owned(),
        region: REGION.to_owned(),
        host: advertise.host.clone(),
        port: advertise.port,
        created_at: now,
        seen_at: now,
        denied_at: None,
    };
    let control = NodeRow {
        id: NodeId::Control(shared.installation.control),
        name: "control-1".to_owned(),
        host: String::new(),
        port: 0,
        ..edge.clone()
    };
    nodes::put(tx, &edge).await?;
    nodes::put(tx, &control).await?;
    // The edge starts after control and holds no tunnel yet, whatever was true when the process ended.
    warpgate::edge_started(tx, shared.installation.edge).await?;
    ensure_platform(tx, shared).await?;
    shared.publish_platform(tx).await?;
    Ok(())
}
