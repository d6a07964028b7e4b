//! Decisions counted by their reason, each counter found without a lock of all: strangers cause them too.

use dashmap::DashMap;
use mezusphere_telemetry::{Counter, Family, Metrics};

/// Counters by reason. Reasons are few and ours.
pub(super) struct Reasons {
    family: Family<Counter, 1>,
    known: DashMap<&'static str, Counter>,
}

impl Reasons {
    /// Registers them under `name`.
    pub(super) fn new(metrics: &Metrics, name: &'static str, help: &'static str) -> Self {
        Self { family: metrics.counters(name, help, ["reason"]), known: DashMap::new() }
    }

    /// One more.
    pub(super) fn count(&self, reason: &'static str) {
        if let Some(counter) = self.known.get(reason) {
            counter.inc();
        } else {
            self.known.entry(reason).or_insert_with(|| self.family.with([reason])).inc();
        }
    }
}
