//! One tunnel as the request path sees it: opens streams, knows which upstreams its warpgate declared and how they do, and
//! counts what runs on it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mezusphere_model::id::{EnvironmentId, ProjectId, WarpgateId};
use mezusphere_model::slug::Slug;
use tokio::sync::Notify;
use tokio::time::Instant;
use tunnel_proto::control::{HealthState, UpstreamHealth};
use tunnel_proto::limits::PING_EVERY;
use tunnel_proto::principals::Sent;

use super::fitness::Fitness;
use super::stream::{RecvHalf, SendEnd, SendHalf};
use super::transport::Transport;
use crate::view::Principal;

/// A warpgate that was not heard for this long gets no exchange that another can take: it pings oftener, and it may be
/// gone. Sure of that is only who has waited for `SILENCE_MAX`.
const DOUBTED_AFTER: Duration = PING_EVERY.saturating_mul(2);

/// A connection from a warpgate that was welcomed.
pub(crate) struct Tunnel {
    /// What carries it; an exchange is one stream of it.
    transport: Transport,
    /// Which warpgate, as its certificate says.
    pub(crate) warpgate: WarpgateId,
    pub(super) project: ProjectId,
    pub(super) environment: EnvironmentId,
    /// Which of the warpgate's connections to this edge.
    pub(super) index: u32,
    upstreams: ArcSwap<Vec<Arc<Declared>>>,
    /// Whom the warpgate knows by number.
    principals: Mutex<Sent<Principal>>,
    /// Exchanges under way.
    outstanding: AtomicU32,
    /// Takes new exchanges.
    open: AtomicBool,
    born: Instant,
    /// When the warpgate was last heard, in ms since then.
    heard: AtomicU64,
    /// Told when the last exchange of a tunnel that is not open any more has ended.
    idle: Notify,
    /// Told when a newer connection has taken its place.
    pub(super) replaced: Notify,
    /// Told when so many have that it must end now.
    pub(super) crowded_out: Notify,
}

/// An upstream that a warpgate can reach, and how it does.
#[derive(Debug)]
struct Declared {
    upstream: Slug,
    /// By the warpgate's own checks.
    state: HealthState,
    reason: String,
    /// By what came of exchanges.
    fitness: Arc<Fitness>,
}

/// How a tunnel suits an exchange, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Nothing speaks against it.
    Well,
    /// It was not heard for a while, or its last exchanges failed.
    Doubtful,
    /// The warpgate itself says that the upstream does not answer as it should.
    Bad,
    /// Both.
    BadAndDoubtful,
}

/// Why a tunnel does not suit an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is another project's, or takes no exchanges any more.
    Closed,
    /// Its warpgate does not reach the upstream.
    OtherUpstreams,
}

/// A tunnel that could take an exchange.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) rank: Rank,
    /// What one more would cost there.
    pub(super) cost: u64,
    fitness: Arc<Fitness>,
}

impl Tunnel {
    /// A tunnel of a warpgate with this name, ready for exchanges once it is entered.
    pub(crate) fn new(
        transport: Transport,
        (project, environment, warpgate): (ProjectId, EnvironmentId, WarpgateId),
        index: u32,
        upstreams: Vec<Slug>,
    ) -> Self {
        let born = Instant::now();
        let upstreams = upstreams.into_iter().map(|upstream| Declared::new(upstream, born)).collect();
        Self {
            transport,
            warpgate,
            project,
            environment,
            index,
            upstreams: ArcSwap::from_pointee(upstreams),
            principals: Mutex::default(),
            outstanding: AtomicU32::new(0),
            open: AtomicBool::new(true),
            born,
            heard: AtomicU64::new(0),
            idle: Notify::new(),
            replaced: Notify::new(),
            crowded_out: Notify::new(),
        }
    }

    /// Opens a stream for an exchange; waits while the tunnel is at its limit of exchanges.
    pub(crate) async fn open(&self) -> Result<(SendHalf, RecvHalf), SendEnd> {
        self.transport.open().await
    }

    /// Whom the warpgate knows. Held for a look-up only, never over an await.
    pub(crate) fn principals(&self) -> MutexGuard<'_, Sent<Principal>> {
        self.principals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came from the warpgate.
    pub(crate) fn was_heard(&self) {
        self.heard.store(ms(self.born.elapsed()), Ordering::Relaxed);
    }

    /// The upstreams it declared.
    pub(crate) fn upstreams(&self) -> Vec<Slug> {
        self.upstreams.load().iter().map(|declared| declared.upstream.clone()).collect()
    }

    /// Those that do not answer as they should, and why, by the warpgate's own checks.
    pub(crate) fn bad_upstreams(&self) -> Vec<(Slug, String)> {
        let upstreams = self.upstreams.load();
        let bad = upstreams.iter().filter(|declared| declared.state == HealthState::Bad);
        bad.map(|declared| (declared.upstream.clone(), declared.reason.clone())).collect()
    }

    /// The warpgate says how one of them does. What it says of others is no concern of ours.
    pub(crate) fn tell_health(&self, health: UpstreamHealth) {
        self.change(|upstreams| {
            if let Some(declared) = upstreams.iter_mut().find(|one| one.upstream == health.upstream) {
                *declared = Arc::new(Declared {
                    upstream: health.upstream,
                    state: health.state,
                    // For people, who may read it on a terminal.
                    reason: health.reason.chars().filter(|c| !c.is_control()).collect(),
                    fitness: Arc::clone(&declared.fitness),
                });
            }
        });
    }

    /// The warpgate declares more.
    pub(crate) fn offer(&self, more: Vec<Slug>) {
        self.change(|upstreams| {
            for upstream in more {
                if upstreams.iter().all(|declared| declared.upstream != upstream) {
                    upstreams.push(Declared::new(upstream, Instant::now()));
                }
            }
            // A flood of names would make choosing slow for everybody.
            upstreams.truncate(tunnel_proto::limits::UPSTREAMS_MAX);
        });
    }

    /// The warpgate takes some back.
    pub(crate) fn withdraw(&self, gone: &[Slug]) {
        self.change(|upstreams| upstreams.retain(|declared| !gone.contains(&declared.upstream)));
    }

    /// Only the tunnel's control stream changes what is declared, so there is no race to lose.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Declared>>)) {
        let mut upstreams = self.upstreams.load().to_vec();
        change(&mut upstreams);
        self.upstreams.store(Arc::new(upstreams));
    }

    /// Takes no new exchanges from now on.
    pub(crate) fn close_to_new(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.idle.notify_waiters();
    }

    /// Resolves when no exchange is under way and none can begin.
    pub(crate) async fn finished(&self) {
        loop {
            let idle = self.idle.notified();
            if !self.open.load(Ordering::SeqCst) && self.outstanding.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Resolves when a newer connection has taken its place.
    pub(crate) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// Resolves when there is no room for it any more beside the newer ones.
    pub(crate) async fn crowded_out(&self) {
        self.crowded_out.notified().await;
    }

    /// How it suits an exchange for an upstream of a project (R22).
    pub(super) fn suits(
        &self,
        project: ProjectId,
        upstream: &Slug,
        now: Instant,
    ) -> Result<Candidate, Unfit> {
        if self.project != project || !self.open.load(Ordering::Relaxed) {
            return Err(Unfit::Closed);
        }
        let upstreams = self.upstreams.load();
        let declared = upstreams.iter().find(|declared| declared.upstream == *upstream);
        let declared = declared.ok_or(Unfit::OtherUpstreams)?;
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        let silent = now.saturating_duration_since(self.born).saturating_sub(heard);
        let is_doubtful = silent > DOUBTED_AFTER || declared.fitness.is_aside(now);
        let rank = match (declared.state == HealthState::Bad, is_doubtful) {
            (false, false) => Rank::Well,
            (false, true) => Rank::Doubtful,
            (true, false) => Rank::Bad,
            (true, true) => Rank::BadAndDoubtful,
        };
        let cost = declared.fitness.cost(self.outstanding.load(Ordering::Relaxed), now);
        Ok(Candidate { rank, cost, fitness: Arc::clone(&declared.fitness) })
    }
}

impl Declared {
    fn new(upstream: Slug, now: Instant) -> Arc<Self> {
        let fitness = Arc::new(Fitness::new(now));
        Arc::new(Self { upstream, state: HealthState::Unknown, reason: String::new(), fitness })
    }
}

/// A tunnel chosen for one exchange; counts as outstanding until dropped.
pub(crate) struct Chosen {
    tunnel: Arc<Tunnel>,
    fitness: Arc<Fitness>,
    since: Instant,
}

impl Chosen {
    pub(super) fn new(tunnel: &Arc<Tunnel>, candidate: Candidate, now: Instant) -> Self {
        tunnel.outstanding.fetch_add(1, Ordering::SeqCst);
        Self { tunnel: Arc::clone(tunnel), fitness: candidate.fitness, since: now }
    }

    /// The response's head has come. `timed`: nothing but tunnel, warpgate and upstream had a part in how long it took.
    pub(crate) fn answered(&self, timed: bool) {
        let now = Instant::now();
        self.fitness.answered(timed.then(|| now.saturating_duration_since(self.since)), now);
    }

    /// There was no response, by the fault of tunnel, warpgate or upstream.
    pub(crate) fn failed(&self) {
        if let Some(aside) = self.fitness.failed(Instant::now()) {
            let warpgate = self.tunnel.warpgate;
            tracing::warn!(%warpgate, aside_s = aside.as_secs(), "A warpgate fails and is set aside for a while");
        }
    }
}

impl std::ops::Deref for Chosen {
    type Target = Arc<Tunnel>;

    fn deref(&self) -> &Arc<Tunnel> {
        &self.tunnel
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        let tunnel = &self.tunnel;
        if tunnel.outstanding.fetch_sub(1, Ordering::SeqCst) == 1 && !tunnel.open.load(Ordering::SeqCst) {
            tunnel.idle.notify_waiters();
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
