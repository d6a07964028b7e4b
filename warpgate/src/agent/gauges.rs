//! What `/metrics` and `/readyz` show of a running warpgate, read when somebody asks or noted when it changes.

use std::convert::Infallible;
use std::sync::Arc;

use mezusphere_telemetry::{Family, Gauge, Health, Metrics};

use crate::local::View;
use crate::tunnel::Shared;

/// Registers what is read when somebody asks.
pub(super) fn register(metrics: &Metrics, shared: &Arc<Shared>) {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let wide = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let of = |read: fn(&Shared) -> usize| {
        let shared = Arc::clone(shared);
        move || count(read(&shared))
    };
    let counted = |read: fn(&Shared) -> u64| {
        let shared = Arc::clone(shared);
        move || wide(read(&shared))
    };
    metrics.gauge_from("tunnels", "Edges with a tunnel", of(|shared| shared.status.borrow().connected()));
    metrics.gauge_from("edges", "Edges there are", of(|shared| shared.status.borrow().edges.len()));
    metrics.gauge_from("exchanges", "Exchanges that are running", of(|shared| shared.gate.running.count()));
    metrics.gauge_from(
        "exchanges_seen",
        "Exchanges since the start",
        counted(|shared| shared.gate.counts.total()),
    );
    metrics.gauge_from(
        "exchanges_failed",
        "Of these, those that got no whole answer through a fault here or at the upstream",
        counted(|shared| shared.gate.counts.failed()),
    );
    metrics.gauge_from("bundle_revision", "Revision of the bundle in force", {
        let shared = Arc::clone(shared);
        move || wide(shared.gate.bundles.current().revision())
    });
    metrics.gauge_from("certificate_left_seconds", "How long the certificate is still valid", {
        let shared = Arc::clone(shared);
        move || wide(shared.identity.get().not_after().since(shared.clock.now()).as_secs())
    });
}

/// Gauges of single edges and upstreams.
pub(super) struct Each {
    edge_up: Family<Gauge, 2>,
    edge_round_trip: Family<Gauge, 2>,
    upstream_up: Family<Gauge, 1>,
}

impl Each {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            edge_up: metrics.gauges(
                "edge_up",
                "Whether a probe came through this edge's tunnel",
                ["edge", "name"],
            ),
            edge_round_trip: metrics.gauges(
                "edge_round_trip_microseconds",
                "Round trip of the last probe through this edge",
                ["edge", "name"],
            ),
            upstream_up: metrics.gauges(
                "upstream_up",
                "1: it answers; 0: it does not; -1: not known",
                ["upstream"],
            ),
        }
    }

    /// Notes every change, for as long as it is polled.
    pub(super) async fn follow(self, shared: &Shared, view: &View) -> Infallible {
        let (mut status, mut health) = (shared.status.subscribe(), shared.gate.health());
        let (_, mut news) = view.journal().follow(0);
        let mut shown: Vec<(String, String)> = Vec::new();
        loop {
            let report = view.status();
            let edges: Vec<_> =
                report.edges.iter().map(|edge| (edge.id.clone(), edge.name.clone())).collect();
            for (id, name) in shown.iter().filter(|edge| !edges.contains(edge)) {
                self.edge_up.remove([id, name]);
                self.edge_round_trip.remove([id, name]);
            }
            for edge in &report.edges {
                let labels = [edge.id.as_str(), edge.name.as_str()];
                self.edge_up.with(labels).set(i64::from(edge.state == "proven"));
                if let Some(trip) = edge.round_trip_us {
                    self.edge_round_trip.with(labels).set(i64::try_from(trip).unwrap_or(i64::MAX));
                }
            }
            for upstream in &report.upstreams {
                let value = match upstream.health.as_str() {
                    "good" => 1,
                    "bad" => 0,
                    _ => -1,
                };
                self.upstream_up.with([&upstream.name]).set(value);
            }
            shown = edges;
            let gone = tokio::select! {
                changed = status.changed() => changed.is_err(),
                changed = health.changed() => changed.is_err(),
                next = news.next() => next.is_none(),
            };
            if gone {
                return std::future::pending().await;
            }
        }
    }
}

/// Says below `/readyz` how many edges are proven, and what stands in the way.
pub(super) fn explain(health: &Health, view: &Arc<View>) {
    let view = Arc::clone(view);
    health.explain(move || {
        let status = view.status();
        let proven = status.edges.iter().filter(|edge| edge.state == "proven").count();
        let mut text = format!("{proven} of {} edges proven\n", status.edges.len());
        for trouble in &status.troubles {
            text.push_str(&crate::output::clean(trouble));
            text.push('\n');
        }
        text
    });
}
