//! How many requests there were and how many failed, since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    total: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// One more came.
    pub(super) fn came(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them got no whole answer, through a fault here or at its upstream; a client that leaves is none.
    pub(super) fn failed_one(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many came.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many of them failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}
