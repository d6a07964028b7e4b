//! The metrics registry. Handles are looked up once, when a part of the program starts; counting an event is
//! then an atomic addition: no lock, no formatting, no allocation.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{
    EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder,
};
use prometheus_client::metrics::family::{Family as Labelled, MetricConstructor};
use prometheus_client::metrics::{MetricType, TypedMetric};
pub use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use prometheus_client::registry::{Metric, Registry};

pub use crate::histogram::{Histogram, REQUEST_US, SIZE_OCTETS, Unit};

/// Most label combinations of one family. What comes beyond is counted under [`OTHER`], so that no input can
/// make the registry grow without end.
pub const SERIES_MAX: usize = 1000;

/// The value of every label of the series that takes what lies beyond [`SERIES_MAX`].
pub const OTHER: &str = "other";

/// Every metric of the process. Cheap to clone: clones share the registry.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Inner>>);

struct Inner {
    registry: Registry,
    names: BTreeSet<&'static str>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// An empty registry; every name is shown with `prefix` and `_` in front.
    pub fn new(prefix: &str) -> Self {
        Self(Arc::new(Mutex::new(Inner { registry: Registry::with_prefix(prefix), names: BTreeSet::new() })))
    }

    /// A number that only grows. `_total` is put behind its name.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// A number that goes up and down.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// A number read when somebody asks, for what the program keeps anyway. `read` must return at once.
    pub fn gauge_from(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> i64 + Send + Sync + 'static,
    ) {
        self.register(name, help, ReadGauge(Arc::new(read)));
    }

    /// How values are spread over `bounds` (upper bounds, ascending, in the unit's counting).
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        unit: Unit,
        bounds: &'static [u64],
    ) -> Histogram {
        self.register(name, help, Histogram::new(bounds, unit))
    }

    /// Counters told apart by labels.
    pub fn counters<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Family<Counter, N> {
        self.family(name, help, labels, Make::new(Counter::default))
    }

    /// Gauges told apart by labels.
    pub fn gauges<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Family<Gauge, N> {
        self.family(name, help, labels, Make::new(Gauge::default))
    }

    /// Histograms told apart by labels.
    pub fn histograms<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        unit: Unit,
        bounds: &'static [u64],
    ) -> Family<Histogram, N> {
        self.family(name, help, labels, Make::new(move || Histogram::new(bounds, unit)))
    }

    /// Everything, in the `OpenMetrics` text format; its media type is [`MEDIA_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        if prometheus_client::encoding::text::encode(&mut text, &inner.registry).is_err() {
            text.clear();
        }
        text
    }

    fn register<M: Metric + Clone>(&self, name: &'static str, help: &'static str, metric: M) -> M {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = inner.names.insert(name);
        debug_assert!(new, "metric {name} is registered twice");
        if new {
            inner.registry.register(name, help, metric.clone());
        }
        metric
    }

    fn family<M, const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        make: Make<M>,
    ) -> Family<M, N>
    where
        M: EncodeMetric + TypedMetric + Clone + fmt::Debug + Send + Sync + 'static,
    {
        let family = Labelled::new_with_constructor(make);
        Family { labels, series: self.register(name, help, family), shown: Arc::default() }
    }
}

/// Media type of [`Metrics::encode`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics of one name, told apart by `N` labels. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Family<M, const N: usize> {
    labels: [&'static str; N],
    series: Labelled<Labels<N>, M, Make<M>>,
    /// The label values shown, to hold [`SERIES_MAX`].
    shown: Arc<Mutex<HashSet<[Box<str>; N]>>>,
}

impl<M: Clone, const N: usize> Family<M, N> {
    /// The metric with these label values. Takes a lock and allocates: call it once and keep the handle.
    pub fn with(&self, values: [&str; N]) -> M {
        let wanted = values.map(Box::from);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = shown.contains(&wanted) || shown.len() < SERIES_MAX;
        let values = if fits { wanted } else { values.map(|_| Box::from(OTHER)) };
        shown.insert(values.clone());
        self.series.get_or_create_owned(&Labels { names: self.labels, values })
    }

    /// Stops showing the metric with these label values; handles to it count on unseen.
    pub fn remove(&self, values: [&str; N]) {
        let values = values.map(Box::from);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.remove(&values);
        self.series.remove(&Labels { names: self.labels, values });
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels<const N: usize> {
    names: [&'static str; N],
    values: [Box<str>; N],
}

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.names.iter().zip(&self.values) {
            (*name, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// Makes a family's metrics.
struct Make<M>(Arc<dyn Fn() -> M + Send + Sync>);

impl<M> Make<M> {
    fn new(make: impl Fn() -> M + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }
}

impl<M> Clone for Make<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Make<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Make")
    }
}

impl<M> MetricConstructor<M> for Make<M> {
    fn new_metric(&self) -> M {
        (self.0)()
    }
}

/// A gauge whose value is read when it is shown.
#[derive(Clone)]
struct ReadGauge(Arc<dyn Fn() -> i64 + Send + Sync>);

impl fmt::Debug for ReadGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadGauge")
    }
}

impl EncodeMetric for ReadGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&(self.0)())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new("mezu");
        let connections = metrics.counter("connections", "Connections accepted");
        metrics.gauge("tunnels", "Tunnels held").set(3);
        metrics.gauge_from("age_seconds", "Age of the copy", || 42);
        connections.inc_by(2);
        let text = metrics.encode();
        for line in ["mezu_connections_total 2", "mezu_tunnels 3", "mezu_age_seconds 42", "# EOF"] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn one_handle_counts_for_its_labels_only() {
        let metrics = Metrics::new("mezu");
        let requests = metrics.counters("requests", "Requests answered", ["protocol", "class"]);
        let (h2, h3) = (requests.with(["h2", "2xx"]), requests.with(["h3", "2xx"]));
        h2.inc_by(5);
        requests.with(["h2", "2xx"]).inc();
        h3.inc();
        let text = metrics.encode();
        assert!(text.contains(r#"mezu_requests_total{protocol="h2",class="2xx"} 6"#), "{text}");
        assert!(text.contains(r#"mezu_requests_total{protocol="h3",class="2xx"} 1"#), "{text}");
        requests.remove(["h2", "2xx"]);
        assert!(!metrics.encode().contains(r#"protocol="h2""#));
    }

    #[test]
    fn a_histogram_shows_cumulative_buckets_in_seconds() {
        let metrics = Metrics::new("mezu");
        let times =
            metrics.histogram("wait_seconds", "Time waited", Unit::Micros, &[1_000, 10_000, 1_000_000]);
        for micros in [500, 1_000, 1_001, 2_000_000] {
            times.observe_time(Duration::from_micros(micros));
        }
        assert_eq!(times.count(), 4);
        let text = metrics.encode();
        for line in [
            r#"mezu_wait_seconds_bucket{le="0.001"} 2"#,
            r#"mezu_wait_seconds_bucket{le="0.01"} 3"#,
            r#"mezu_wait_seconds_bucket{le="1.0"} 3"#,
            r#"mezu_wait_seconds_bucket{le="+Inf"} 4"#,
            "mezu_wait_seconds_count 4",
            "mezu_wait_seconds_sum 2.002501",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn r23_a_family_does_not_grow_without_end() {
        let metrics = Metrics::new("mezu");
        let family = metrics.counters("things", "Things", ["name"]);
        for n in 0..SERIES_MAX * 2 {
            family.with([&n.to_string()]).inc();
        }
        let text = metrics.encode();
        let series = text.lines().filter(|line| line.starts_with("mezu_things_total{")).count();
        assert_eq!(series, SERIES_MAX + 1);
        assert!(text.contains(&format!(r#"mezu_things_total{{name="other"}} {SERIES_MAX}"#)));
        assert!(family.with(["7"]).get() == 1, "a known series is still found");
    }

    #[test]
    fn r25_a_label_cannot_forge_a_line() {
        let metrics = Metrics::new("mezu");
        metrics.counters("things", "Things", ["name"]).with(["a\"} 1\nforged_total 7"]).inc();
        assert!(!metrics.encode().lines().any(|line| line.starts_with("forged")));
    }

    #[test]
    fn handles_count_from_many_threads_without_loss() {
        let metrics = Metrics::new("mezu");
        let times = metrics.histogram("sizes", "Sizes", Unit::Plain, SIZE_OCTETS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|n| times.observe(n)));
            }
        });
        assert_eq!(times.count(), 40_000);
    }
}
