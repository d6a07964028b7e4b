//! The tunnels an edge holds, by environment, and choosing one for an exchange.

use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use mezusphere_model::id::{EnvironmentId, ProjectId, WarpgateId};
use mezusphere_model::slug::Slug;
use tokio::time::Instant;

use super::expected::Expected;
use super::held::{Candidate, Chosen, Rank, Tunnel, Unfit};
use super::reports::TunnelReports;

/// Tunnels of one environment at once; enough for a fleet, too few to make choosing slow.
pub const TUNNELS_PER_ENVIRONMENT_MAX: usize = 256;

/// Tunnels of one edge at once.
pub const TUNNELS_MAX: usize = mezusphere_model::link::TUNNELS_HELD_MAX;

/// Connections of one warpgate that get no new exchange (a newer one has replaced them, or the warpgate said that it
/// drains) and whose exchanges still run. Renewals leave two at most; beyond this the oldest is closed, because a
/// warpgate that dials on and on must not pile them up.
pub const FINISHING_MAX: usize = 4;

/// Why there is no tunnel for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTunnel {
    /// No warpgate of the environment is connected here, or none is left to try.
    None,
    /// Some are, and none reaches the upstream.
    OtherUpstreams,
}

/// What an exchange needs of a tunnel.
pub(crate) struct Wanted<'a> {
    pub(crate) project: ProjectId,
    pub(crate) environment: EnvironmentId,
    pub(crate) upstream: &'a Slug,
    /// Random, drawn by the caller.
    pub(crate) dice: u64,
    /// Whose exchanges are to go to the same warpgate, if the route asks for it.
    pub(crate) affinity: Option<Affinity>,
}

/// Exchanges with the same one go to the same warpgate as long as it is well, at every edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Affinity(u64);

impl Affinity {
    /// The affinity of whoever `somebody` names.
    pub(crate) fn of(somebody: &impl Hash) -> Self {
        // Without a seed, so that all edges agree.
        let mut hasher = DefaultHasher::new();
        somebody.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// How much it wants to be at a warpgate. Each goes where it wants to be most, so one that comes or goes
    /// moves only its own share (highest random weight).
    fn weight(self, warpgate: WarpgateId) -> u64 {
        Self::of(&(self.0, warpgate)).0
    }
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
    expected: Expected,
    reports: TunnelReports,
}

impl Registry {
    /// No tunnels yet.
    pub fn new() -> Self {
        Self {
            by_environment: DashMap::new(),
            count: AtomicUsize::new(0),
            finishing: DashMap::new(),
            expected: Expected::new(),
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
        self.expected.came(tunnel.environment);
        for old in gone {
            old.close_to_new();
            old.replaced.notify_one();
            self.finish(old);
        }
        Ok(())
    }

    /// Takes no new exchanges for a tunnel whose warpgate said goodbye; those that run finish.
    pub(crate) fn set_aside(&self, tunnel: &Arc<Tunnel>) {
        self.leave(tunnel);
        self.expected.goodbye(tunnel.environment);
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

    /// Waits a little for a tunnel of this environment, if one is about to come; whether there is one now.
    pub(crate) async fn comes(&self, environment: EnvironmentId) -> bool {
        self.expected.wait(environment, || self.by_environment.contains_key(&environment)).await
    }

    /// Chooses the tunnel for an exchange: of two drawn at random, the one where it costs less; with an affinity, the one
    /// it wants most. One that is doubtful or whose upstream is bad only if no better one is left, never one in `tried`,
    /// never one of another project (R22).
    pub(crate) fn choose(&self, wanted: &Wanted<'_>, tried: &[Arc<Tunnel>]) -> Result<Chosen, NoTunnel> {
        let tunnels = self.by_environment.get(&wanted.environment).map(|tunnels| Arc::clone(&tunnels));
        let tunnels = tunnels.ok_or(NoTunnel::None)?;
        let now = Instant::now();
        let suits = |tunnel: &Arc<Tunnel>| {
            if tried.iter().any(|other| Arc::ptr_eq(other, tunnel)) {
                return Err(Unfit::Closed);
            }
            tunnel.suits(wanted.project, wanted.upstream, now)
        };
        let place =
            |dice: u64| usize::try_from(dice % u64::try_from(tunnels.len().max(1)).unwrap_or(1)).unwrap_or(0);
        let draw = |dice: u64| {
            let tunnel = tunnels.get(place(dice))?;
            suits(tunnel).ok().filter(|candidate| candidate.rank == Rank::Well).map(|fit| (tunnel, fit))
        };
        let chosen = |(tunnel, candidate): (&Arc<Tunnel>, Candidate)| Chosen::new(tunnel, candidate, now);
        if wanted.affinity.is_none() {
            let drawn = [draw(wanted.dice), draw(wanted.dice >> 32)].into_iter().flatten();
            if let Some(better) = drawn.min_by_key(|(_, candidate)| candidate.cost) {
                return Ok(chosen(better));
            }
        }
        // The best of all, also where neither of the two drawn will do; of several alike, not always the same.
        let mut other = false;
        let (before, after) = tunnels.split_at(place(wanted.dice));
        let fit = after.iter().chain(before).filter_map(|tunnel| match suits(tunnel) {
            Ok(candidate) => Some((tunnel, candidate)),
            Err(why) => {
                other |= why == Unfit::OtherUpstreams;
                None
            }
        });
        let best = fit.min_by_key(|(tunnel, candidate)| {
            let weight = wanted.affinity.map(|affinity| Reverse(affinity.weight(tunnel.warpgate)));
            (candidate.rank, weight, candidate.cost)
        });
        let none = if other && tried.is_empty() { NoTunnel::OtherUpstreams } else { NoTunnel::None };
        best.map(chosen).ok_or(none)
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

#[cfg(test)]
mod tests;
