//! How much of an edge a project, and a client's address, may have at once.
//!
//! Up to three quarters of what an edge takes anybody may have what their quota allows. From there on a project may have
//! no more than its fair share, which is what each would have if one more were there: so a newcomer always finds
//! room, and whoever fills the edge is the one that is refused.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use mezusphere_model::Timestamp;
use mezusphere_model::id::ProjectId;
use mezusphere_model::rules::ProjectQuota;

use super::FairLimits;
use super::rate::{Bucket, Pace};

/// Counters of addresses; 4 octets each. Addresses that fall on the same counter are counted together, which is felt only
/// when both have thousands of requests under way.
const ADDRESS_COUNTERS: usize = 65_536;

/// The part of a nearly full edge that one address may have: a sixteenth.
const ADDRESS_PART: u32 = 16;

/// When to come back after there was no room: the time a few requests take.
const ROOM_AFTER: Duration = Duration::from_secs(1);

/// Why a request gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Its address has as many as it may.
    Address,
    /// Its project has used up what it may; with how long to wait.
    Project(BusyWhy, Duration),
    /// The edge has as many as it takes.
    Edge,
}

/// What a project has used up. For the log only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BusyWhy {
    /// Its requests per second.
    #[error("requests per second")]
    Rate,
    /// Its requests at once.
    #[error("requests at once")]
    Quota,
    /// More than its part of an edge that is nearly full.
    #[error("the edge is nearly full")]
    FairShare,
}

/// Who has how many requests under way.
pub(crate) struct Shares {
    exchanges: u32,
    per_address: u32,
    default: Quota,
    total: AtomicU32,
    /// Projects with a request under way.
    active: AtomicU32,
    /// One entry for each project that was asked for lately; projects come from the feed, never from a client.
    projects: DashMap<ProjectId, Arc<Project>>,
    addresses: Box<[AtomicU32]>,
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Quota {
    exchanges: u32,
    per_second: u32,
}

#[derive(Default)]
struct Project {
    running: AtomicU32,
    bucket: Bucket,
}

/// A place for one request; given back when it is dropped.
pub(crate) struct Share {
    shares: Arc<Shares>,
    project: Arc<Project>,
    address: usize,
}

impl Shares {
    pub(crate) fn new(limits: &FairLimits) -> Self {
        Self {
            exchanges: limits.exchanges,
            per_address: limits.exchanges_per_address,
            default: Quota {
                exchanges: limits.project_exchanges,
                per_second: limits.project_requests_per_second,
            },
            total: AtomicU32::new(0),
            active: AtomicU32::new(0),
            projects: DashMap::new(),
            addresses: (0..ADDRESS_COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// A place for a request of `project` from `address`.
    pub(crate) fn take(
        self: &Arc<Self>,
        project: ProjectId,
        quota: &ProjectQuota,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Share, Full> {
        let quota = Quota {
            exchanges: quota.exchanges.unwrap_or(self.default.exchanges),
            per_second: quota.requests_per_second.unwrap_or(self.default.per_second),
        };
        let project = self.project(project);
        let rate = project.bucket.take(Pace::per_second(quota.per_second), now);
        rate.map_err(|wait| Full::Project(BusyWhy::Rate, wait))?;
        let hash = self.hasher.hash_one(super::subscriber(address));
        let counters = u64::try_from(ADDRESS_COUNTERS).unwrap_or(1);
        let address = usize::try_from(hash % counters).unwrap_or(0);
        // Counted first and judged after, so that two who come at once see each other.
        let share = Share { shares: Arc::clone(self), project, address };
        let counted = share.count();
        self.judge(counted, quota)?;
        Ok(share)
    }

    fn judge(&self, counted: Counted, quota: Quota) -> Result<(), Full> {
        let Counted { of_address, of_project, total } = counted;
        if of_address > self.per_address {
            return Err(Full::Address);
        }
        if of_project > quota.exchanges {
            return Err(Full::Project(BusyWhy::Quota, ROOM_AFTER));
        }
        let near = self.exchanges / 4 * 3;
        if total <= near {
            return Ok(());
        }
        if of_project > self.exchanges / self.active().saturating_add(1) {
            return Err(Full::Project(BusyWhy::FairShare, ROOM_AFTER));
        }
        if of_address > (self.exchanges / ADDRESS_PART).max(1) {
            return Err(Full::Address);
        }
        if total > self.exchanges { Err(Full::Edge) } else { Ok(()) }
    }

    fn project(&self, id: ProjectId) -> Arc<Project> {
        if let Some(known) = self.projects.get(&id) {
            return Arc::clone(&known);
        }
        Arc::clone(&self.projects.entry(id).or_default())
    }

    /// Requests under way.
    pub(crate) fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Projects that have some.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Forgets projects of which nothing is to be remembered.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.projects.retain(|_, project| Arc::strong_count(project) > 1 || !project.bucket.is_full(now));
    }
}

/// How many there are with the one that was just counted.
#[derive(Clone, Copy)]
struct Counted {
    of_address: u32,
    of_project: u32,
    total: u32,
}

impl Share {
    fn count(&self) -> Counted {
        let more = |counter: &AtomicU32| counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let of_project = more(&self.project.running);
        if of_project == 1 {
            self.shares.active.fetch_add(1, Ordering::Relaxed);
        }
        Counted {
            of_address: self.shares.addresses.get(self.address).map_or(0, more),
            of_project,
            total: more(&self.shares.total),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(counter) = self.shares.addresses.get(self.address) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
        if self.project.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.shares.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const NONE: ProjectQuota = ProjectQuota { requests_per_second: None, exchanges: None };

    fn shares(exchanges: u32) -> Arc<Shares> {
        Arc::new(Shares::new(&FairLimits { exchanges, ..FairLimits::default() }))
    }

    /// As many places as `project` gets out of `wanted`, each from an address of its own.
    fn fill(shares: &Arc<Shares>, project: u128, wanted: u32) -> (Vec<Share>, Vec<Full>) {
        let (mut got, mut refused) = (Vec::new(), Vec::new());
        for n in 0..wanted {
            let address = IpAddr::from([10, u8::try_from(project).unwrap(), 0, 0].map(|part: u8| part));
            let address = match address {
                IpAddr::V4(first) => IpAddr::from((first.to_bits() + n).to_be_bytes()),
                IpAddr::V6(_) => unreachable!(),
            };
            match shares.take(ProjectId::from_bits(project), &NONE, address, NOW) {
                Ok(share) => got.push(share),
                Err(full) => refused.push(full),
            }
        }
        (got, refused)
    }

    #[test]
    fn r23_whoever_fills_the_edge_is_refused_and_others_pass() {
        let shares = shares(400);
        let (greedy, refused) = fill(&shares, 1, 1000);
        assert_eq!(greedy.len(), 300, "three quarters");
        assert!(refused.iter().all(|full| *full == Full::Project(BusyWhy::FairShare, ROOM_AFTER)));
        let (modest, refused) = fill(&shares, 2, 50);
        assert_eq!((modest.len(), refused.len()), (50, 0), "a newcomer finds room");
        let (third, refused) = fill(&shares, 3, 30);
        assert_eq!((third.len(), refused.len()), (30, 0));
        assert_eq!(shares.active(), 3);
        drop((greedy, modest, third));
        assert_eq!((shares.total(), shares.active()), (0, 0), "all was given back, by the refused too");
        assert!(shares.addresses.iter().all(|counter| counter.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn nothing_is_refused_while_there_is_room_and_nothing_taken_when_there_is_none() {
        let shares = shares(400);
        let crowd: Vec<_> = (1..=8).map(|project| fill(&shares, project, 44).0).collect();
        assert_eq!(crowd.iter().map(Vec::len).sum::<usize>(), 352);
        let (late, refused) = fill(&shares, 9, 60);
        assert_eq!(late.len(), 40, "its share of a full edge");
        assert!(refused.iter().all(|full| *full == Full::Project(BusyWhy::FairShare, ROOM_AFTER)));
        let (_last, refused) = fill(&shares, 10, 10);
        assert_eq!(shares.total(), 400);
        assert_eq!(refused.first(), Some(&Full::Edge));
    }

    #[test]
    fn r23_a_quota_holds_whether_or_not_there_is_room() {
        let shares = shares(400);
        let quota = ProjectQuota { requests_per_second: Some(5), exchanges: Some(3) };
        let take = |now| shares.take(ProjectId::from_bits(1), &quota, [10, 0, 0, 1].into(), now);
        let held: Vec<_> = (0..3).map(|_| take(NOW).unwrap_or_else(|_| panic!("within"))).collect();
        assert_eq!(take(NOW).err(), Some(Full::Project(BusyWhy::Quota, ROOM_AFTER)));
        drop(held);
        assert!(take(NOW).is_ok());
        let later = Full::Project(BusyWhy::Rate, Duration::from_millis(200));
        assert_eq!(take(NOW).err(), Some(later), "five were asked for in this second");
        assert!(take(NOW.after(Duration::from_secs(1))).is_ok());
    }

    #[test]
    fn r23_one_address_has_no_more_than_its_part() {
        let limits = FairLimits { exchanges: 1600, exchanges_per_address: 150, ..FairLimits::default() };
        let shares = Arc::new(Shares::new(&limits));
        let take = |address: &str| shares.take(ProjectId::from_bits(1), &NONE, address.parse().unwrap(), NOW);
        let mut held: Vec<_> =
            (0..150).map(|_| take("192.0.2.1").unwrap_or_else(|_| panic!("within"))).collect();
        assert_eq!(take("192.0.2.1").err(), Some(Full::Address));
        assert!(take("192.0.2.2").is_ok(), "an IPv4 neighbour is somebody else");
        held.extend((0..150).map(|_| take("2001:db8::1").unwrap_or_else(|_| panic!("within"))));
        assert_eq!(take("2001:db8::2").err(), Some(Full::Address), "the same /64");
    }

    #[test]
    fn a_project_that_is_quiet_is_forgotten() {
        let shares = shares(400);
        let share = shares.take(ProjectId::from_bits(1), &NONE, [10, 0, 0, 1].into(), NOW);
        let later = NOW.after(Duration::from_secs(5));
        shares.sweep(later);
        assert_eq!(shares.projects.len(), 1);
        drop(share);
        shares.sweep(later);
        assert_eq!(shares.projects.len(), 0);
    }
}
