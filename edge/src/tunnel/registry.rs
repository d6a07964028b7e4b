//! The tunnels an edge holds, by environment, and choosing one for an exchange.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use mezusphere_model::id::{EnvironmentId, ProjectId, WarpgateId};
use mezusphere_model::slug::Slug;
use tokio::sync::Notify;
use tunnel_proto::control::{HealthState, UpstreamHealth};
use tunnel_proto::principals::Sent;

use super::reports::TunnelReports;
use super::stream::{RecvHalf, SendEnd, SendHalf};
use super::transport::Transport;
use crate::view::Principal;

/// Tunnels of one environment at once; enough for a fleet, too few to make choosing slow.
pub const TUNNELS_PER_ENVIRONMENT_MAX: usize = 256;

/// Tunnels of one edge at once.
pub const TUNNELS_MAX: usize = mezusphere_model::link::TUNNELS_HELD_MAX;

/// Connections of one warpgate that get no new exchange (a newer one has replaced them, or the warpgate said that it
/// drains) and whose exchanges still run. Renewals leave two at most; beyond this the oldest is closed, because a
/// warpgate that dials on and on must not pile them up.
pub const FINISHING_MAX: usize = 4;

/// A connection from a warpgate that was welcomed.
pub(crate) struct Tunnel {
    /// What carries it; an exchange is one stream of it.
    transport: Transport,
    /// Which warpgate, as its certificate says.
    pub(crate) warpgate: WarpgateId,
    project: ProjectId,
    environment: EnvironmentId,
    /// Which of the warpgate's connections to this edge.
    index: u32,
    upstreams: ArcSwap<Vec<Declared>>,
    /// Whom the warpgate knows by number.
    principals: Mutex<Sent<Principal>>,
    /// Exchanges under way.
    outstanding: AtomicU32,
    /// Takes new exchanges.
    open: AtomicBool,
    /// Told when the last exchange of a tunnel that is not open any more has ended.
    idle: Notify,
    /// Told when a newer connection has taken its place.
    replaced: Notify,
    /// Told when so many have that it must end now.
    crowded_out: Notify,
}

impl Tunnel {
    /// A tunnel of a warpgate with this name, ready for exchanges once it is entered.
    pub(crate) fn new(
        transport: Transport,
        (project, environment, warpgate): (ProjectId, EnvironmentId, WarpgateId),
        index: u32,
        upstreams: Vec<Slug>,
    ) -> Self {
        Self {
            transport,
            warpgate,
            project,
            environment,
            index,
            upstreams: ArcSwap::from_pointee(upstreams.into_iter().map(Declared::new).collect()),
            principals: Mutex::default(),
            outstanding: AtomicU32::new(0),
            open: AtomicBool::new(true),
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
    pub(crate) fn was_heard(&self) {}

    /// The upstreams it declared.
    pub(crate) fn upstreams(&self) -> Vec<Slug> {
        self.upstreams.load().iter().map(|declared| declared.upstream.clone()).collect()
    }

    /// The warpgate says how one of them does. What it says of others is no concern of ours.
    pub(crate) fn tell_health(&self, health: UpstreamHealth) {
        let mut upstreams = self.upstreams.load().to_vec();
        if let Some(declared) = upstreams.iter_mut().find(|declared| declared.upstream == health.upstream) {
            declared.state = health.state;
            self.upstreams.store(Arc::new(upstreams));
        }
    }

    /// The warpgate declares more.
    pub(crate) fn offer(&self, more: Vec<Slug>) {
        let mut upstreams = self.upstreams.load().to_vec();
        for upstream in more {
            if upstreams.iter().all(|declared| declared.upstream != upstream) {
                upstreams.push(Declared::new(upstream));
            }
        }
        // A flood of names would make choosing slow for everybody.
        upstreams.truncate(tunnel_proto::limits::UPSTREAMS_MAX);
        self.upstreams.store(Arc::new(upstreams));
    }

    /// The warpgate takes some back.
    pub(crate) fn withdraw(&self, gone: &[Slug]) {
        let mut upstreams = self.upstreams.load().to_vec();
        upstreams.retain(|declared| !gone.contains(&declared.upstream));
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

    fn takes(&self, project: ProjectId, upstream: &Slug) -> Fit {
        if self.project != project || !self.open.load(Ordering::Relaxed) {
            Fit::No
        } else if self.upstreams.load().iter().any(|declared| declared.upstream == *upstream) {
            Fit::Yes
        } else {
            Fit::OtherUpstreams
        }
    }
}

/// An upstream that a warpgate can reach, and how it does.
#[derive(Clone, Debug)]
struct Declared {
    upstream: Slug,
    state: HealthState,
}

impl Declared {
    fn new(upstream: Slug) -> Self {
        Self { upstream, state: HealthState::Unknown }
    }
}

#[derive(PartialEq, Eq)]
enum Fit {
    Yes,
    OtherUpstreams,
    No,
}

/// A tunnel chosen for one exchange; counts as outstanding until dropped.
pub(crate) struct Chosen(Arc<Tunnel>);

impl Chosen {
    fn new(tunnel: &Arc<Tunnel>) -> Self {
        tunnel.outstanding.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(tunnel))
    }
}

impl std::ops::Deref for Chosen {
    type Target = Arc<Tunnel>;

    fn deref(&self) -> &Arc<Tunnel> {
        &self.0
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if self.0.outstanding.fetch_sub(1, Ordering::SeqCst) == 1 && !self.0.open.load(Ordering::SeqCst) {
            self.0.idle.notify_waiters();
        }
    }
}

/// Why there is no tunnel for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTunnel {
    /// No warpgate of the environment is connected here, or none is left to try.
    None,
    /// Some are, and none reaches the upstream.
    OtherUpstreams,
}

/// Why a tunnel is not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The environment has [`TUNNELS_PER_ENVIRONMENT_MAX`].
    Environment,
    /// The edge has [`TUNNELS_MAX`].
    Edge,
}

/// The tunnels an edge holds, by environment.
pub struct Registry {
    by_environment: DashMap<EnvironmentId, Arc<[Arc<Tunnel>]>>,
    count: AtomicUsize,
    /// Those that are not chosen any more and have not ended yet, oldest first.
    finishing: DashMap<WarpgateId, Vec<Arc<Tunnel>>>,
    reports: TunnelReports,
}

impl Registry {
    /// No tunnels yet.
    pub fn new() -> Self {
        Self {
            by_environment: DashMap::new(),
            count: AtomicUsize::new(0),
            finishing: DashMap::new(),
            reports: TunnelReports::new(),
        }
    }

    /// What control is told of them.
    pub(crate) fn reports(&self) -> &TunnelReports {
        &self.reports
    }

    /// How many tunnels there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Enters a tunnel. One of the same warpgate with the same index gives way: the newer one wins.
    pub(crate) fn enter(&self, tunnel: &Arc<Tunnel>) -> Result<(), Full> {
        let mut tunnels = self.by_environment.entry(tunnel.environment).or_insert_with(|| Arc::from([]));
        let same = |other: &Arc<Tunnel>| other.warpgate == tunnel.warpgate && other.index == tunnel.index;
        let (gone, mut kept): (Vec<_>, Vec<_>) = tunnels.iter().cloned().partition(same);
        if gone.is_empty() && kept.len() >= TUNNELS_PER_ENVIRONMENT_MAX {
            return Err(Full::Environment);
        }
        if gone.is_empty() && self.len() >= TUNNELS_MAX {
            return Err(Full::Edge);
        }
        kept.push(Arc::clone(tunnel));
        self.count.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_sub(gone.len(), Ordering::Relaxed);
        *tunnels = kept.into();
        drop(tunnels);
        for old in gone {
            old.close_to_new();
            old.replaced.notify_one();
            self.finish(old);
        }
        Ok(())
    }

    /// Takes no new exchanges for a tunnel; those that run finish.
    pub(crate) fn set_aside(&self, tunnel: &Arc<Tunnel>) {
        self.leave(tunnel);
        self.finish(Arc::clone(tunnel));
    }

    fn finish(&self, tunnel: Arc<Tunnel>) {
        let mut finishing = self.finishing.entry(tunnel.warpgate).or_default();
        finishing.push(tunnel);
        if finishing.len() > FINISHING_MAX {
            finishing.remove(0).crowded_out.notify_one();
        }
    }

    /// Removes a tunnel; nothing happens if it is gone.
    pub(crate) fn leave(&self, tunnel: &Arc<Tunnel>) {
        tunnel.close_to_new();
        if let Some(mut tunnels) = self.by_environment.get_mut(&tunnel.environment) {
            let kept: Vec<_> = tunnels.iter().filter(|other| !Arc::ptr_eq(other, tunnel)).cloned().collect();
            self.count.fetch_sub(tunnels.len() - kept.len(), Ordering::Relaxed);
            *tunnels = kept.into();
        }
        self.by_environment.remove_if(&tunnel.environment, |_, tunnels| tunnels.is_empty());
        if let Some(mut finishing) = self.finishing.get_mut(&tunnel.warpgate) {
            finishing.retain(|other| !Arc::ptr_eq(other, tunnel));
        }
        self.finishing.remove_if(&tunnel.warpgate, |_, finishing| finishing.is_empty());
    }

    /// Chooses the tunnel for an exchange: of two drawn at random, the one with fewer outstanding; never one
    /// in `tried`, never one of another project (R22). `dice` is drawn by the caller.
    pub(crate) fn choose(
        &self,
        project: ProjectId,
        environment: EnvironmentId,
        upstream: &Slug,
        dice: u64,
        tried: &[Arc<Tunnel>],
    ) -> Result<Chosen, NoTunnel> {
        let tunnels = self.by_environment.get(&environment).map(|tunnels| Arc::clone(&tunnels));
        let tunnels = tunnels.ok_or(NoTunnel::None)?;
        let fit = |tunnel: &Arc<Tunnel>| {
            if tried.iter().any(|other| Arc::ptr_eq(other, tunnel)) {
                Fit::No
            } else {
                tunnel.takes(project, upstream)
            }
        };
        let draw = |dice: u64| {
            let place = usize::try_from(dice % u64::try_from(tunnels.len().max(1)).unwrap_or(1)).unwrap_or(0);
            tunnels.get(place).filter(|tunnel| fit(tunnel) == Fit::Yes)
        };
        let load = |tunnel: &&Arc<Tunnel>| tunnel.outstanding.load(Ordering::Relaxed);
        if let Some(better) = [draw(dice), draw(dice >> 32)].into_iter().flatten().min_by_key(load) {
            return Ok(Chosen::new(better));
        }
        // Neither of the two can take it; somebody else may.
        if let Some(best) = tunnels.iter().filter(|tunnel| fit(tunnel) == Fit::Yes).min_by_key(load) {
            return Ok(Chosen::new(best));
        }
        let other = tunnels.iter().any(|tunnel| fit(tunnel) == Fit::OtherUpstreams);
        Err(if other && tried.is_empty() { NoTunnel::OtherUpstreams } else { NoTunnel::None })
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({} tunnels)", self.len())
    }
}
