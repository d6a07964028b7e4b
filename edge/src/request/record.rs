//! Writing down what happened: one access log line per request, counters, and [`denials`] for control.
//!
//! The line is written when the response's body has ended or was given up, so that it tells how long and how much. Nothing
//! here is on the way of a byte: counters are atomics found once, and without a reader of the log no line is made.

mod denials;
mod reasons;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::{Method, StatusCode, Uri};
use dashmap::DashMap;
use mezusphere_model::id::{RequestId, WarpgateId};
use mezusphere_model::identity::Subject;
use mezusphere_model::policy::Denial;
use mezusphere_model::route::{RouteDoc, Site};
use mezusphere_model::{Clock, Host};
use mezusphere_telemetry::metrics::{REQUEST_US, Unit};
use mezusphere_telemetry::{Counter, Family, Gauge, Histogram, Metrics};
use tracing::Level;
use tunnel_proto::codes::FailureCode;

use self::denials::{Denials, Denied};
use self::reasons::Reasons;
use super::inbound::Ask;
use super::refusal::Refusal;
use super::told;
use crate::fair::share::{BusyWhy, Share};
use crate::http::Protocol;

/// Target of the access log, to be filtered by.
pub const ACCESS_LOG: &str = "mezusphere::access";

/// Under which names requests are counted: an edge and a front may share a process, and its registry.
pub(crate) struct Names {
    requests: &'static str,
    durations: &'static str,
    refusals: &'static str,
    denials: &'static str,
    would_deny: &'static str,
    limited: &'static str,
    running: &'static str,
    sent: &'static str,
}

impl Names {
    /// An edge's.
    pub(crate) const EDGE: Self = Self {
        requests: "edge_requests",
        durations: "edge_request_duration",
        refusals: "edge_refusals",
        denials: "edge_denials",
        would_deny: "edge_would_deny",
        limited: "edge_rate_limited",
        running: "edge_requests_running",
        sent: "edge_sent_octets",
    };

    /// A front's: what split edges pass on to a control node.
    pub(crate) const FRONT: Self = Self {
        requests: "front_requests",
        durations: "front_request_duration",
        refusals: "front_refusals",
        denials: "front_denials",
        would_deny: "front_would_deny",
        limited: "front_rate_limited",
        running: "front_requests_running",
        sent: "front_sent_octets",
    };
}

/// Where requests are counted.
pub(crate) struct Recorder {
    requests: [[Counter; CLASSES]; PROTOCOLS],
    durations: [Histogram; PROTOCOLS],
    refusals: Family<Counter, 2>,
    /// Its counters by code, so that a flood of refusals takes no lock of all. Codes are few and ours.
    refused: DashMap<&'static str, Counter>,
    /// What the policy refused, and what a dry run would have.
    denied: Reasons,
    would_deny: Reasons,
    limited: LimitedBy,
    running: Gauge,
    sent: Counter,
    /// For control.
    pub(crate) denials: Denials,
}

const PROTOCOLS: usize = 3;
const CLASSES: usize = 6;

impl Recorder {
    /// Registers what is counted, under `names`.
    pub(crate) fn new(metrics: &Metrics, names: &Names, clock: Clock) -> Self {
        let requests = metrics.counters(names.requests, "Requests answered", ["protocol", "class"]);
        let durations = metrics.histograms(
            names.durations,
            "From a request's head to the end of its response",
            ["protocol"],
            Unit::Micros,
            REQUEST_US,
        );
        let protocols = [Protocol::H1, Protocol::H2, Protocol::H3];
        let classes = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
        Self {
            requests: protocols
                .map(|protocol| classes.map(|class| requests.with([protocol.as_str(), class]))),
            durations: protocols.map(|protocol| durations.with([protocol.as_str()])),
            refusals: metrics.counters(
                names.refusals,
                "Requests that were answered here with an error",
                ["code", "hop"],
            ),
            refused: DashMap::new(),
            denied: Reasons::new(metrics, names.denials, "Requests that the policy of their route refused"),
            would_deny: Reasons::new(
                metrics,
                names.would_deny,
                "Requests let in by a dry run that the policy of their route would refuse",
            ),
            limited: LimitedBy::new(metrics, names),
            running: metrics.gauge(names.running, "Requests whose response has not ended"),
            sent: metrics.counter(names.sent, "Octets of response bodies given to clients"),
            denials: Denials::new(clock),
        }
    }

    fn count(&self, refusal: &Refusal, code: &'static str, hop: &'static str) {
        if let Some(counter) = self.refused.get(code) {
            counter.inc();
        } else {
            self.refused.entry(code).or_insert_with(|| self.refusals.with([code, hop])).inc();
        }
        match refusal {
            Refusal::RateLimited { by, .. } => self.limited.count(by),
            Refusal::ProjectBusy(BusyWhy::Rate, _) => self.limited.count("project"),
            _ => {}
        }
    }
}

/// Requests refused because a rate was used up, by what it counts.
struct LimitedBy([(&'static str, Counter); 4]);

impl LimitedBy {
    fn new(metrics: &Metrics, names: &Names) -> Self {
        let limited = metrics.counters(names.limited, "Requests refused because a rate was used up", ["by"]);
        Self(["address", "caller", "route", "project"].map(|by| (by, limited.with([by]))))
    }

    fn count(&self, by: &str) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == by) {
            counter.inc();
        }
    }
}

/// One request, until its line is written. Dropped early, the line says that the client went away.
pub(crate) struct Line {
    recorder: Arc<Recorder>,
    begun: Instant,
    protocol: Protocol,
    status: Option<StatusCode>,
    octets: u64,
    end: End,
    request: RequestId,
    place: Option<(Arc<Site>, Arc<RouteDoc>)>,
    subject: Option<Subject>,
    share: Option<Share>,
    /// What only the log needs; `None` if nobody reads it.
    told: Option<Box<Told>>,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All of it was given to the client.
    Whole,
    /// The client went away first.
    Gone,
    /// It broke off on our side or beyond.
    Cut,
}

struct Told {
    client: IpAddr,
    method: Method,
    /// `None`: it must not be written.
    uri: Option<Uri>,
    host: Option<Host>,
    decision: &'static str,
    hop: &'static str,
    why: Option<String>,
    reason: &'static str,
    would_deny: &'static str,
    warpgate: Option<WarpgateId>,
}

impl Line {
    /// Begins the line of a request.
    pub(crate) fn new(recorder: &Arc<Recorder>, ask: &Ask) -> Self {
        recorder.running.inc();
        let told = tracing::enabled!(target: ACCESS_LOG, Level::INFO).then(|| {
            Box::new(Told {
                client: ask.client,
                method: ask.method.clone(),
                uri: Some(ask.uri.clone()),
                host: None,
                decision: "none",
                hop: "",
                why: None,
                reason: "",
                would_deny: "",
                warpgate: None,
            })
        });
        Self {
            recorder: Arc::clone(recorder),
            begun: Instant::now(),
            protocol: ask.protocol,
            status: None,
            octets: 0,
            end: End::Gone,
            request: ask.id,
            place: None,
            subject: None,
            share: None,
            told,
        }
    }

    /// It is for this host.
    pub(crate) fn host(&mut self, host: &Host) {
        if let Some(told) = &mut self.told {
            told.host = Some(host.clone());
        }
    }

    /// It is for the platform's own hosts: its path is not written, because one-time links carry their secret there.
    pub(crate) fn platform(&mut self) {
        if let Some(told) = &mut self.told {
            told.uri = None;
            told.decision = "platform";
        }
    }

    /// It is for this route.
    pub(crate) fn route(&mut self, site: &Arc<Site>, route: &Arc<RouteDoc>) {
        self.place = Some((Arc::clone(site), Arc::clone(route)));
    }

    /// Somebody sends it.
    pub(crate) fn subject(&mut self, subject: Subject) {
        self.subject = Some(subject);
    }

    /// What was decided about it: the policy let it through, or it was answered before.
    pub(crate) fn answered(&mut self, decision: &'static str) {
        if let Some(told) = &mut self.told {
            told.decision = decision;
        }
    }

    /// The policy let it through; `would_deny`: for what a dry run did not refuse it.
    pub(crate) fn permitted(&mut self, would_deny: Option<&Denial>) {
        self.answered("permit");
        let Some(denial) = would_deny else { return };
        self.recorder.would_deny.count(denial.code());
        if let Some(told) = &mut self.told {
            told.would_deny = denial.code();
            told.why = Some(denial.to_string());
        }
    }

    /// It has a place among its project's requests, until its response has ended.
    pub(crate) fn hold(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// The answer came through this warpgate.
    pub(crate) fn warpgate(&mut self, warpgate: WarpgateId) {
        if let Some(told) = &mut self.told {
            told.warpgate = Some(warpgate);
        }
    }

    /// The request was refused.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        let (code, hop) = (refusal.code(), told::tell(refusal).hop.as_str());
        self.recorder.count(refusal, code, hop);
        let denial = match refusal {
            Refusal::Denied(denial, _) | Refusal::StepUp(denial, _) => Some(denial.code()),
            _ => None,
        };
        if let Some(reason) = denial {
            self.recorder.denied.count(reason);
        }
        // To be asked to sign in once more is no denial that anybody has to look into.
        let reason = match refusal {
            Refusal::Denied(..) => denial,
            Refusal::Warpgate(code @ FailureCode::Denied) => Some(code.name()),
            _ => None,
        };
        // Only of somebody known: what strangers do must not make control write.
        if let (Some(reason), Some((site, route)), Some(subject)) = (reason, &self.place, self.subject) {
            let denied = Denied { project: site.doc.project, route: route.id, reason, subject };
            self.recorder.denials.add(denied, self.request);
        }
        if let Some(told) = &mut self.told {
            told.decision = code;
            told.hop = hop;
            told.why = Some(refusal.to_string());
            told.reason = denial.unwrap_or_default();
        }
    }

    /// The answer begins.
    pub(crate) fn status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Octets went to the client.
    pub(crate) fn sent(&mut self, octets: usize) {
        self.octets = self.octets.saturating_add(u64::try_from(octets).unwrap_or(0));
    }

    /// The answer has ended so.
    pub(crate) fn ended(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let (recorder, taken) = (&self.recorder, self.begun.elapsed());
        recorder.running.dec();
        recorder.sent.inc_by(self.octets);
        let place = match self.protocol {
            Protocol::H1 => 0,
            Protocol::H2 => 1,
            Protocol::H3 => 2,
        };
        let class = self.status.map_or(0, |status| usize::from(status.as_u16() / 100));
        if let Some(classes) = recorder.requests.get(place)
            && let Some(counter) = classes.get(class).or(classes.first())
        {
            counter.inc();
        }
        if let Some(durations) = recorder.durations.get(place) {
            durations.observe_time(taken);
        }
        if let Some(told) = self.told.take() {
            self.write(&told, taken);
        }
    }
}

impl Line {
    fn write(&self, told: &Told, taken: Duration) {
        let shown = |id: Option<String>| id.unwrap_or_default();
        tracing::info!(
            target: ACCESS_LOG,
            request = %self.request,
            client = %told.client,
            protocol = self.protocol.as_str(),
            host = told.host.as_ref().map_or("", Host::as_str),
            method = told.method.as_str(),
            // Without the query: secrets travel there.
            path = told.uri.as_ref().map_or("", Uri::path),
            status = self.status.map_or(0, |status| status.as_u16()),
            project = shown(self.place.as_ref().map(|(site, _)| site.doc.project.to_string())),
            route = shown(self.place.as_ref().map(|(_, route)| route.id.to_string())),
            decision = told.decision,
            hop = told.hop,
            why = told.why.as_deref().unwrap_or_default(),
            reason = told.reason,
            would_deny = told.would_deny,
            subject = shown(self.subject.map(|subject| subject.to_string())),
            warpgate = shown(told.warpgate.map(|warpgate| warpgate.to_string())),
            end = match self.end {
                End::Whole => "whole",
                End::Gone => "gone",
                End::Cut => "cut",
            },
            octets = self.octets,
            duration_us = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX),
            "Request"
        );
    }
}
