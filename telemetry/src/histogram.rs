//! A histogram without locks: one atomic addition to a bucket and one to the sum per observation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Bounds for the time a request takes, in microseconds: 0.1 ms to 30 s.
pub const REQUEST_US: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// Bounds for sizes of messages and bodies, in octets: 256 B to 1 GiB.
pub const SIZE_OCTETS: &[u64] =
    &[1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 27, 1 << 30];

/// What the numbers are, and so how they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Counted in microseconds, shown in seconds, as the convention is.
    Micros,
    /// Counted and shown as they are.
    Plain,
}

/// How values are spread. Cheap to clone: clones share the counts.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: &'static [u64],
    /// One more than bounds: the last takes what lies above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    unit: Unit,
}

impl Histogram {
    /// A histogram with these upper bounds (ascending, in the unit's counting).
    pub(crate) fn new(bounds: &'static [u64], unit: Unit) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, counts, sum: AtomicU64::new(0), unit }))
    }

    /// Counts one value.
    pub fn observe(&self, value: u64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts one stretch of time.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn shown(&self, value: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a sum above 2^53 may lose its last digit")]
        let value = value as f64;
        match self.0.unit {
            Unit::Micros => value / 1e6,
            Unit::Plain => value,
        }
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let bounds = self.0.bounds.iter().map(|bound| self.shown(*bound)).chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // From the same reading as the buckets, so that the total agrees with them.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.shown(self.0.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
