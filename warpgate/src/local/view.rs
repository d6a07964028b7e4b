//! What the running process shows of itself: put together when somebody asks, from what it keeps anyway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_model::slug::Slug;
use mezusphere_model::{Clock, Timestamp};
use tunnel_proto::control::HealthState;

use super::report::{
    CertificateReport, ControlReport, EdgeReport, ExchangesReport, KeyReport, Phase, RoutesReport,
    StatusReport, UpstreamReport,
};
use crate::config::Shown;
use crate::output::{Entry, Event, Journal};
use crate::routes;
use crate::tunnel::{EdgeState, Shared};

/// What is known from the start and does not change.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// This machine's name.
    pub hostname: String,
    /// The connect service, host and port.
    pub control: String,
    /// The key's last four characters.
    pub key_hint: String,
    /// Where the key was found.
    pub key_source: String,
    /// Where certificate and key are kept.
    pub state_dir: Option<PathBuf>,
}

/// What a running warpgate shows.
pub struct View {
    facts: Facts,
    clock: Clock,
    started: Timestamp,
    journal: Journal,
    settings: ArcSwap<Vec<Shown>>,
    shared: ArcSwapOption<Shared>,
    draining: AtomicBool,
}

impl View {
    /// Of a process that starts now.
    pub fn new(facts: Facts, settings: Vec<Shown>, clock: Clock, journal: Journal) -> Self {
        Self {
            facts,
            started: clock.now(),
            clock,
            journal,
            settings: ArcSwap::from_pointee(settings),
            shared: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
        }
    }

    /// There is a certificate and a bundle.
    pub fn serving(&self, shared: Arc<Shared>) {
        self.shared.store(Some(shared));
    }

    /// Exchanges that are running.
    pub fn running(&self) -> usize {
        self.shared.load().as_ref().map_or(0, |shared| shared.gate.running.count())
    }

    /// It stops.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Other settings are in force.
    pub fn reloaded(&self, settings: Vec<Shown>) {
        self.settings.store(Arc::new(settings));
    }

    /// What was told lately.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How it is doing right now.
    pub fn status(&self) -> StatusReport {
        let now = self.clock.now();
        let shared = self.shared.load_full();
        let edges = shared.as_ref().map(|shared| self.edges(shared, now)).unwrap_or_default();
        let control = self.control();
        let upstreams = shared.as_ref().map(|shared| self.upstreams(shared)).unwrap_or_default();
        let phase = self.phase(shared.as_deref());
        StatusReport {
            troubles: troubles(phase, &control, &edges, &upstreams),
            phase,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            host: self.facts.hostname.clone(),
            instance: shared.as_ref().and_then(|shared| shared.instance()).map(|id| id.to_string()),
            started: self.started.to_string(),
            up_s: now.since(self.started).as_secs(),
            control,
            key: self.key(),
            certificate: shared.as_ref().map(|shared| {
                let identity = shared.identity.get();
                CertificateReport {
                    name: identity.name().to_string(),
                    until: identity.not_after().to_string(),
                    left_s: identity.not_after().since(now).as_secs(),
                }
            }),
            revision: shared.as_ref().map(|shared| shared.gate.bundles.current().revision()),
            edges,
            upstreams,
            exchanges: shared.as_ref().map(|shared| exchanges(shared)).unwrap_or_default(),
            state_dir: self.facts.state_dir.as_ref().map(|path| path.display().to_string()),
            settings: self.settings.load().to_vec(),
        }
    }

    /// What is published, with what each upstream says right now.
    pub async fn routes(&self) -> RoutesReport {
        let Some(shared) = self.shared.load_full() else {
            return RoutesReport { revision: None, routes: Vec::new() };
        };
        let trusted = Arc::clone(&shared.gate.bundles.current());
        let revision = Some(trusted.revision());
        let declared = shared.gate.declared();
        RoutesReport { revision, routes: routes::probed(trusted, &declared).await }
    }

    fn phase(&self, shared: Option<&Shared>) -> Phase {
        if self.draining.load(Ordering::Relaxed) {
            return Phase::Draining;
        }
        let Some(shared) = shared else { return Phase::Enrolling };
        let status = shared.status.borrow();
        match (status.round_trip(), status.connected()) {
            (Some(_), _) => Phase::Ready,
            (None, 0) => Phase::Connecting,
            (None, _) => Phase::Proving,
        }
    }

    fn control(&self) -> ControlReport {
        let mut report = ControlReport { address: self.facts.control.clone(), ..ControlReport::default() };
        match self.journal.latest("control").as_ref().map(|entry| &*entry.event) {
            Some(Event::Control { transport, .. }) => report.transport = Some((*transport).to_owned()),
            Some(Event::ControlFailed { message, code, .. }) => {
                report.failure = Some(format!("{message} ({code})"));
            }
            _ => {}
        }
        report
    }

    fn key(&self) -> KeyReport {
        let mut report = KeyReport {
            hint: self.facts.key_hint.clone(),
            source: self.facts.key_source.clone(),
            ..KeyReport::default()
        };
        if let Some(Event::Key { account, project, environment, .. }) =
            self.journal.latest("key").as_ref().map(|entry| &*entry.event)
        {
            report.account = Some(account.clone());
            report.project = Some(project.clone());
            report.environment = Some(environment.clone());
        }
        report
    }

    fn edges(&self, shared: &Shared, now: Timestamp) -> Vec<EdgeReport> {
        let known = shared.gate.bundles.current().edges.clone();
        let status = shared.status.borrow().clone();
        let report = |edge: &EdgeAddress| {
            let told = self.journal.latest(&format!("edge {}", edge.id));
            edge_report(edge, status.edges.get(&edge.id), told.as_ref(), now)
        };
        known.iter().map(report).collect()
    }

    fn upstreams(&self, shared: &Shared) -> Vec<UpstreamReport> {
        let (declared, health) = (shared.gate.declared(), shared.gate.health().borrow().clone());
        let report = |name: &Slug, target: String| {
            let (state, code) = health.get(name).cloned().unwrap_or_default();
            let told = self.journal.latest(&format!("upstream {name}"));
            let (health, reason) = match (state, told.as_ref().map(|entry| &*entry.event)) {
                // The sentence that was told says more than the code.
                (HealthState::Bad, Some(Event::UpstreamLost { message, .. })) => {
                    ("bad", Some(message.clone()))
                }
                (HealthState::Bad, _) => ("bad", Some(code)),
                (HealthState::Good, _) => ("good", None),
                (HealthState::Unknown, _) => ("unknown", None),
            };
            UpstreamReport { name: name.to_string(), target, health: health.to_owned(), reason }
        };
        declared.iter().map(|(name, one)| report(name, one.target().to_string())).collect()
    }
}

fn exchanges(shared: &Shared) -> ExchangesReport {
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let counts = &shared.gate.counts;
    ExchangesReport {
        running: wide(shared.gate.running.count()),
        total: counts.total(),
        failed: counts.failed(),
    }
}

fn edge_report(
    edge: &EdgeAddress,
    state: Option<&EdgeState>,
    told: Option<&Entry>,
    now: Timestamp,
) -> EdgeReport {
    let mut report = EdgeReport {
        id: edge.id.to_string(),
        name: edge.name.clone(),
        state: "dialling".to_owned(),
        transport: None,
        remote: None,
        round_trip_us: None,
        since: None,
        for_s: None,
        failure: None,
    };
    match state {
        Some(EdgeState::Connected(tunnel)) => {
            if tunnel.doubtful { "connected" } else { "proven" }.clone_into(&mut report.state);
            report.round_trip_us = Some(u64::try_from(tunnel.round_trip.as_micros()).unwrap_or(u64::MAX));
            report.transport = Some(tunnel.transport.as_str().to_owned());
            let remote = SocketAddr::new(tunnel.remote.ip().to_canonical(), tunnel.remote.port());
            report.remote = Some(remote.to_string());
            (report.since, report.for_s) =
                (Some(tunnel.since.to_string()), Some(now.since(tunnel.since).as_secs()));
        }
        Some(EdgeState::Failed { code, message }) => {
            "failed".clone_into(&mut report.state);
            report.failure = Some(format!("{message} ({code})"));
        }
        Some(EdgeState::Dialling) | None => {}
    }
    let is_up = matches!(state, Some(EdgeState::Connected(_)));
    if let Some((Event::EdgeFailed { .. }, at)) = told.map(|entry| (&*entry.event, entry.at))
        && !is_up
    {
        (report.since, report.for_s) = (Some(at.to_string()), Some(now.since(at).as_secs()));
    }
    report
}

/// What stands in the way, the worst first.
fn troubles(
    phase: Phase,
    control: &ControlReport,
    edges: &[EdgeReport],
    upstreams: &[UpstreamReport],
) -> Vec<String> {
    let mut troubles = Vec::new();
    if !matches!(phase, Phase::Ready) {
        troubles.push(phase.as_str().to_owned());
    }
    if let Some(failure) = &control.failure {
        troubles.push(format!("control plane: {failure}"));
    }
    for edge in edges {
        if let Some(failure) = &edge.failure {
            troubles.push(format!("edge {}: {failure}", edge.name));
        }
    }
    for upstream in upstreams.iter().filter(|upstream| upstream.health == "bad") {
        let why = upstream.reason.as_deref().unwrap_or("it does not answer");
        troubles.push(format!("upstream {} at {}: {why}", upstream.name, upstream.target));
    }
    troubles
}
