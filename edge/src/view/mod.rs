//! What the edge knows, decoded from its replica and kept as fresh as it.
//!
//! [`View`] holds the site table (swapped whole), decoded callers (each with a flag per document it was decoded
//! from), and the platform's own document; it hears of changes from the replica and drops what they touch.
//! [`documents`] is where it reads from, [`lookup`] how a token becomes a caller, [`ahead`] what is known before the feed told, [`assertion`] the signed
//! identity of one, [`activity`] who was seen when, [`backlog`] what waits to be told to control. Decides nothing: who may pass is `model::policy`'s.

mod activity;
mod ahead;
pub(crate) mod assertion;
pub(crate) mod backlog;
mod budget;
pub(crate) mod caller;
pub mod documents;
mod follow;
pub(crate) mod lookup;
mod watch;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;
use futures_util::stream::BoxStream;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::document::{Partition, PlatformDoc};
use mezusphere_model::id::{EnvironmentId, ProjectId};
use mezusphere_model::link::ControlLink;
use mezusphere_model::route::{Site, SiteTable};
use mezusphere_model::{Clock, Timestamp};
use mezusphere_pki::Trust;
use mezusphere_store::replica::Changed;
use tokio::sync::{mpsc, watch as channel};

use self::activity::SeenSessions;
use self::assertion::{Assertions, Renewal};
use self::caller::{Caller, Holder};
use self::documents::Documents;
use self::lookup::Lookups;
use self::watch::Watches;

pub use self::caller::PrincipalKey as Principal;

/// How old an edge's knowledge may be, and how long control may take for an answer.
///
/// [`ViewLimits::default`] is what runs; tests shorten the waits.
#[derive(Clone, Debug)]
pub struct ViewLimits {
    /// Without contact to the feed for this long, an edge no longer decides who may pass protected routes (design §6).
    pub stale_after: Duration,
    /// How long a request waits for one answer of control, once it needs it: for a session this edge has not seen, for
    /// the first assertion of one, for a sign-in or its end. A request needs two such answers at most.
    pub ask_control: Duration,
}

impl Default for ViewLimits {
    fn default() -> Self {
        Self { stale_after: Duration::from_mins(15), ask_control: Duration::from_secs(5) }
    }
}

/// Everything the edge knows, ready to be decided on. One per edge, shared by all workers.
pub struct View {
    documents: Arc<dyn Documents>,
    link: Arc<dyn ControlLink>,
    clock: Clock,
    limits: ViewLimits,
    sites: ArcSwap<SiteTable>,
    /// Grows with every change of them.
    sites_generation: AtomicU64,
    /// What the table was built from; only [`View::follow`] changes it.
    built: Mutex<BTreeMap<EnvironmentId, Arc<Site>>>,
    platform: channel::Sender<Option<Arc<PlatformView>>>,
    trust: channel::Sender<Option<Arc<Trust>>>,
    /// Told when an environment's bundle changes. Entries live as long as a tunnel listens.
    bundles: DashMap<EnvironmentId, channel::Sender<()>>,
    lookups: Lookups,
    watches: Watches,
    seen: SeenSessions,
    assertions: Assertions,
    /// What [`View::follow`] takes when it begins.
    parked: Mutex<Option<Parked>>,
}

/// The platform document, and what is made of it once rather than per use.
pub struct PlatformView {
    /// The document.
    pub doc: PlatformDoc,
    /// The JWK set for applications, as JSON.
    pub(crate) jwks: Bytes,
}

/// The receiving ends that wait for [`View::follow`].
struct Parked {
    changes: BoxStream<'static, Changed>,
    renewals: mpsc::Receiver<Renewal>,
}

impl View {
    /// A view of what `documents` hold now. Reads the disk: call it before the I/O threads run.
    ///
    /// It stays as it is until [`View::follow`] runs.
    pub fn open(
        documents: Arc<dyn Documents>,
        link: Arc<dyn ControlLink>,
        clock: Clock,
        limits: ViewLimits,
    ) -> Arc<Self> {
        // Subscribed before anything is read, so that no change falls between.
        let changes = documents.subscribe();
        let seen = SeenSessions::new();
        let (assertions, renewals) = Assertions::new(Arc::clone(&link), clock.clone(), limits.ask_control);
        let view = Self {
            documents,
            link,
            clock,
            limits,
            sites: ArcSwap::default(),
            sites_generation: AtomicU64::new(0),
            built: Mutex::default(),
            platform: channel::Sender::new(None),
            trust: channel::Sender::new(None),
            bundles: DashMap::new(),
            lookups: Lookups::new(),
            watches: Watches::default(),
            seen,
            assertions,
            parked: Mutex::new(Some(Parked { changes, renewals })),
        };
        view.read_everything();
        Arc::new(view)
    }

    /// Keeps the view as fresh as its replica, reports activity and renews assertions. The owner runs it once,
    /// on any worker; it never ends by itself and may be dropped at any time.
    pub fn follow(self: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let view = Arc::clone(self);
        async move {
            let parked = view.parked.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(Parked { changes, renewals }) = parked else { return };
            tokio::join!(
                view.follow_changes(changes),
                view.sweep(),
                activity::report(&*view.link, &view.seen),
                view.assertions.renew(renewals),
            );
        }
    }

    /// The sites now. Cheap; hold it for one request only.
    pub(crate) fn sites(&self) -> arc_swap::Guard<Arc<SiteTable>> {
        self.sites.load()
    }

    /// Which sites [`View::sites`] gives: whoever reads this first and finds the same later has seen them all. One load.
    pub(crate) fn sites_generation(&self) -> u64 {
        self.sites_generation.load(Ordering::Acquire)
    }

    /// The platform's document; `None` until the first contact.
    pub fn platform(&self) -> Option<Arc<PlatformView>> {
        self.platform.borrow().clone()
    }

    /// Whom the installation trusts and who was evicted, as the feed told last; `None` until the first contact.
    pub(crate) fn trust(&self) -> Option<Arc<Trust>> {
        self.trust.borrow().clone()
    }

    /// Hears when that changes.
    pub(crate) fn trust_changes(&self) -> channel::Receiver<Option<Arc<Trust>>> {
        self.trust.subscribe()
    }

    /// The bounds it was opened with.
    pub(crate) fn limits(&self) -> &ViewLimits {
        &self.limits
    }

    /// An environment's signed bundle. Reads the disk.
    pub(crate) fn bundle(&self, project: ProjectId, environment: EnvironmentId) -> Option<SignedBundle> {
        match self.documents.bundle(project, environment) {
            Ok(bundle) => bundle,
            Err(error) => {
                tracing::error!(%environment, %error, "A bundle cannot be read");
                None
            }
        }
    }

    /// Hears when an environment's bundle changes.
    pub(crate) fn bundle_changes(&self, environment: EnvironmentId) -> channel::Receiver<()> {
        self.bundles.entry(environment).or_insert_with(|| channel::Sender::new(())).subscribe()
    }

    /// Whether contact to the feed was lost so long ago that nobody can be let through on its word into this project. One
    /// project's documents that cannot be followed close no other's routes.
    pub(crate) fn is_stale(&self, project: ProjectId) -> bool {
        let is_old = |age: Option<Duration>| age.is_none_or(|age| age >= self.limits.stale_after);
        let of = |partition| is_old(self.documents.age_of(partition));
        is_old(self.age()) && (of(Partition::Project(project)) || of(Partition::Platform))
    }

    /// How long ago the edge was last known to be up to date; `None`: never.
    pub fn age(&self) -> Option<Duration> {
        self.documents.age()
    }

    /// Notes that a caller was seen.
    pub(crate) fn touch(&self, caller: &Caller, now: Timestamp) {
        if let Holder::Session(session, seen) = &caller.holder {
            self.seen.touch(session, seen, now);
        }
    }

    /// Reports of activity that were dropped because control was away for too long.
    pub(crate) fn activity_dropped(&self) -> u64 {
        self.seen.dropped()
    }

    /// Assertions of callers.
    pub(crate) fn assertions(&self) -> &Assertions {
        &self.assertions
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}
