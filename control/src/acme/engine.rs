//! What works at certificates on this node: what an order needs, and how a piece of work ends.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::HttpClient;
use mezusphere_model::Timestamp;
use mezusphere_store::primary::ReadTx;
use mezusphere_store::primary::acme::{self, CertificateRow};
use mezusphere_store::primary::lease::{self, Lease};
use mezusphere_store::{StoreError, WriteError};
use tokio::sync::Mutex;

use super::dns::DnsHook;
use super::failure::Failure;
use super::hook::HookProgram;
use super::order::Attempt;
use super::wire::{Https, Watched};
use super::{AcmeConfig, AcmeConfigError};
use crate::Shared;

/// How long things take at most, and how often they are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// An answer of the authority, body and all. Shorter than a lease, which is prolonged meanwhile.
    pub(crate) answer: Duration,
    /// Before the first look at an order's progress; doubled for each further one, up to `look_max`.
    pub(crate) look_min: Duration,
    /// Between two looks at most.
    pub(crate) look_max: Duration,
    /// For an order to come to an end within one try; after it, the order is taken up again later.
    pub(crate) order: Duration,
    /// For a whole try: longer than an order, what edges take and what a hook may take for several records.
    pub(crate) attempt: Duration,
    /// For every live edge to take a challenge.
    pub(crate) edges: Duration,
    /// Between two looks at what edges took.
    pub(crate) edges_look: Duration,
}

impl Pace {
    /// As in a real installation.
    const REAL: Self = Self {
        answer: Duration::from_secs(20),
        look_min: Duration::from_secs(1),
        look_max: Duration::from_secs(10),
        order: Duration::from_mins(2),
        attempt: Duration::from_mins(10),
        edges: Duration::from_secs(30),
        edges_look: Duration::from_millis(100),
    };
}

/// Works at certificates. One per process; orders of several certificates run beside each other.
pub(crate) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) config: AcmeConfig,
    pub(super) http: Arc<dyn HttpClient>,
    pub(super) hook: Option<Arc<dyn DnsHook>>,
    pub(super) pace: Pace,
    /// Whoever holds it looks for the account or makes one: orders that begin together share one.
    pub(super) account: Mutex<()>,
}

/// Why a piece of work was given up without a result: nothing is written any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    /// Another control node has taken over.
    #[error("another control node has taken over")]
    Fenced,
    /// The host was removed meanwhile.
    #[error("the host was removed")]
    Gone,
    /// The database did not take it; what is written down is what it was before.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for Stopped {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

impl From<WriteError> for Stopped {
    fn from(why: WriteError) -> Self {
        match why {
            WriteError::NotFound { .. } => Self::Gone,
            WriteError::Conflict { what } => Self::Store(StoreError::Damaged(format!("{what} is in use"))),
            WriteError::Store(why) => Self::Store(why),
        }
    }
}

/// How a step ended that did not come to its result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The try failed; that is written down.
    Failed(Failure),
    /// It was given up.
    Stopped(Stopped),
}

impl From<Failure> for Trouble {
    fn from(why: Failure) -> Self {
        Self::Failed(why)
    }
}

impl From<Stopped> for Trouble {
    fn from(why: Stopped) -> Self {
        Self::Stopped(why)
    }
}

impl From<StoreError> for Trouble {
    fn from(why: StoreError) -> Self {
        Self::Stopped(why.into())
    }
}

/// What a certificate that is due needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To be ordered, or its order to go on.
    Order,
    /// The authority to be asked when it wants it renewed.
    Window,
}

/// What is to be done about a certificate that is due at `now`.
pub(super) fn need(row: &CertificateRow, directory: &str, now: Timestamp) -> Need {
    match &row.certificate {
        Some(facts) if row.order_url.is_none() && facts.directory == directory && facts.renew_at > now => {
            Need::Window
        }
        _ => Need::Order,
    }
}

impl Engine {
    /// Ready to order as `config` says.
    pub(super) fn new(shared: &Arc<Shared>, config: &AcmeConfig) -> Result<Self, AcmeConfigError> {
        let http = Arc::new(Https::new(&config.roots_pem, &shared.clock)?);
        let hook =
            config.dns_hook.clone().map(|program| Arc::new(HookProgram::new(program)) as Arc<dyn DnsHook>);
        Ok(Self::over(shared, config, http, hook, Pace::REAL))
    }

    /// The same over another way to the authority.
    pub(crate) fn over(
        shared: &Arc<Shared>,
        config: &AcmeConfig,
        http: Arc<dyn HttpClient>,
        hook: Option<Arc<dyn DnsHook>>,
        pace: Pace,
    ) -> Self {
        let (shared, config) = (Arc::clone(shared), config.clone());
        Self { shared, config, http, hook, pace, account: Mutex::new(()) }
    }

    /// The directory of the authority.
    pub(super) fn directory(&self) -> &str {
        self.config.directory.url()
    }

    /// A way to the authority for one piece of work.
    pub(super) fn wire(&self) -> Watched {
        Watched::new(Arc::clone(&self.http), self.shared.clock.clone(), self.pace.answer)
    }

    /// Does what a certificate that is due needs, and writes down how it went. May be cut off anywhere: what is written
    /// down is enough to go on.
    pub(crate) async fn work(&self, lease: &Lease, name: &str) -> Result<(), Stopped> {
        let row = self.shared.primary.read(async |tx| acme::get(tx, name).await).await?;
        let Some(row) = row else { return Ok(()) };
        match need(&row, self.directory(), self.shared.clock.now()) {
            Need::Window => self.ask_for_window(lease, &row).await,
            Need::Order => Attempt::new(self, lease, row).carry_out().await,
        }
    }
}

/// Refuses to go on in a transaction once another control node holds the lease.
pub(super) async fn fence(tx: &mut ReadTx, lease: &Lease) -> Result<(), Stopped> {
    if lease::check(tx, lease).await? { Ok(()) } else { Err(Stopped::Fenced) }
}
