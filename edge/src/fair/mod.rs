//! Who may use how much of an edge, so that nobody starves another (R23): [`rate`] how often, [`share`] how much at once,
//! [`memory`] how much memory for bodies that stand still.
//!
//! What is asked of every request is answered by atomics and sharded maps; no request waits for another here. Knows
//! nothing of responses: what is refused is a value, and [`crate::request`] tells it.

pub(crate) mod memory;
pub(crate) mod rate;
pub(crate) mod share;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Clock;
use mezusphere_telemetry::Metrics;
use tokio::sync::Semaphore;

use self::memory::Ledger;
use self::rate::Rates;
use self::share::Shares;

/// How often the ledger is looked through for bodies to give up. Memory grows no faster than the network brings it, so
/// that a flood passes the budget by what arrives in this time at most.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Every how many looks what nobody needs any more is forgotten: every 10 s.
const FORGET_EVERY: u32 = 40;

/// How long the answer to somebody who asks for too much is held. Whoever asks again as soon as they are refused asks ten
/// times a second then, instead of as often as the edge can refuse; nobody who waits for `retry-after` minds.
const COOL_FOR: Duration = Duration::from_millis(100);

/// Answers held so at once; beyond it they are given at once. A request that waits takes a few KiB.
const COOLING_MAX: usize = 4096;

/// Bounds on what a whole edge, one project and one address may use. [`FairLimits::default`] is what runs.
#[derive(Clone, Debug)]
pub struct FairLimits {
    /// Requests under way at once, over all workers. When three quarters are, a project above its fair share is refused.
    pub exchanges: u32,
    /// The same for one client address (an IPv6 /64 counts as one).
    pub exchanges_per_address: u32,
    /// The same for one project whose quota names no number.
    pub project_exchanges: u32,
    /// Requests per second of one project whose quota names no number.
    pub project_requests_per_second: u32,
    /// Octets that bodies may hold while whoever is to take them stands still. Beyond it, those that have stood still
    /// longest are given up.
    pub bodies_held: u64,
    /// How long a body must have stood still before it may be given up for its memory.
    pub stalled: Duration,
}

impl Default for FairLimits {
    fn default() -> Self {
        Self {
            // One tunnel may have 10 000 exchanges (design §10), and one project with such a tunnel stays below the three
            // quarters from which on shares count.
            exchanges: 16_384,
            // All clients behind one carrier's address, and a load tester on its own.
            exchanges_per_address: 10_240,
            project_exchanges: 12_288,
            // More than two cores forward: stops a runaway, not a success.
            project_requests_per_second: 50_000,
            bodies_held: 512 * 1024 * 1024,
            stalled: Duration::from_secs(2),
        }
    }
}

/// What an edge counts to be fair. One for all workers.
pub struct Fair {
    pub(crate) rates: Rates,
    pub(crate) shares: Arc<Shares>,
    pub(crate) ledger: Arc<Ledger>,
    cooling: Semaphore,
    clock: Clock,
}

impl Fair {
    /// Nobody uses anything yet. Registers its metrics, so make one only.
    pub fn new(limits: &FairLimits, clock: Clock, metrics: &Metrics) -> Self {
        let shares = Arc::new(Shares::new(limits));
        let ledger = Arc::new(Ledger::new(limits, metrics.counter("edge_bodies_shed", memory::SHED_HELP)));
        let (weak, number) = (Arc::downgrade(&ledger), |value: u64| i64::try_from(value).unwrap_or(i64::MAX));
        let held = "Octets that bodies whose taker stands still may hold, when last looked at";
        metrics.gauge_from("edge_bodies_held_octets", held, move || {
            weak.upgrade().map_or(0, |ledger| number(ledger.held()))
        });
        metrics
            .gauge("edge_bodies_budget_octets", "Octets that such bodies may hold before some are given up")
            .set(number(limits.bodies_held));
        let weak = Arc::downgrade(&shares);
        metrics.gauge_from("edge_exchanges", "Requests under way that count for a project", move || {
            weak.upgrade().map_or(0, |shares| i64::from(shares.total()))
        });
        let weak = Arc::downgrade(&shares);
        metrics.gauge_from("edge_projects_active", "Projects with requests under way", move || {
            weak.upgrade().map_or(0, |shares| i64::from(shares.active()))
        });
        Self { rates: Rates::default(), shares, ledger, cooling: Semaphore::new(COOLING_MAX), clock }
    }

    /// Holds up whoever asked for too much, before they are told.
    pub(crate) async fn cool(&self) {
        if let Ok(_place) = self.cooling.try_acquire() {
            tokio::time::sleep(COOL_FOR).await;
        }
    }

    /// Keeps the books, for ever.
    pub(crate) async fn run(&self) {
        let mut looks: u32 = 0;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.ledger.relieve();
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(FORGET_EVERY) {
                let now = self.clock.now();
                self.rates.sweep(now);
                self.shares.sweep(now);
            }
        }
    }
}

/// Whose an address is, as far as one can tell: an IPv4 address, or the /64 that a host or home has in IPv6 (RFC 6177).
pub(crate) fn subscriber(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // No /64 of the internet begins with 0.
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX),
    }
}

/// The network an address is in: an IPv4 /24, or an IPv6 /64. What is counted by it cannot be had more often by going
/// through the addresses of one network (R15).
pub(crate) fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
        address @ IpAddr::V6(_) => subscriber(address),
    }
}
