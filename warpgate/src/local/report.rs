//! The answers of the local control socket. Their fields are stable, because scripts read them as JSON
//! (`warpgate status --output json`).

use serde::{Deserialize, Serialize};

use crate::config::Shown;
use crate::output::RouteLine;

/// How far a warpgate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It has no certificate yet: control did not answer.
    Enrolling,
    /// No edge has a tunnel.
    Connecting,
    /// There is a tunnel, and the probe is not back yet.
    Proving,
    /// Requests can come.
    Ready,
    /// It was told to stop, and lets finish what runs.
    Draining,
}

impl Phase {
    /// In a word or two.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrolling => "waiting for the control plane",
            Self::Connecting => "no edge is connected",
            Self::Proving => "connected, not proven yet",
            Self::Ready => "ready",
            Self::Draining => "stopping",
        }
    }
}

/// The answer to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// How far it is.
    pub phase: Phase,
    /// What stands in the way of more, in sentences.
    pub troubles: Vec<String>,
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// This machine's name.
    pub host: String,
    /// Its id; not set before it is enrolled.
    pub instance: Option<String>,
    /// When it started, RFC 3339.
    pub started: String,
    /// For how long it has run, in seconds.
    pub up_s: u64,
    /// The connect service.
    pub control: ControlReport,
    /// The key.
    pub key: KeyReport,
    /// The certificate; not set before there is one.
    pub certificate: Option<CertificateReport>,
    /// Revision of the bundle in force; not set before there is one.
    pub revision: Option<u64>,
    /// Each edge of the bundle.
    pub edges: Vec<EdgeReport>,
    /// Each upstream.
    pub upstreams: Vec<UpstreamReport>,
    /// Requests.
    pub exchanges: ExchangesReport,
    /// Where certificate and key are kept; not set: in memory only.
    pub state_dir: Option<String>,
    /// Each setting with who says so.
    pub settings: Vec<Shown>,
}

/// The control plane, as it was met last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReport {
    /// Host and port.
    pub address: String,
    /// `quic` or `tcp`, from the last enrollment of this run.
    pub transport: Option<String>,
    /// What is wrong with it, if the last word was a failure.
    pub failure: Option<String>,
}

/// The key in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReport {
    /// Its last four characters.
    pub hint: String,
    /// Where it was found.
    pub source: String,
    /// The service account, if control has said so in this run.
    pub account: Option<String>,
    /// The project's slug.
    pub project: Option<String>,
    /// The environment's slug.
    pub environment: Option<String>,
}

/// The certificate in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// SPIFFE URI.
    pub name: String,
    /// Its end, RFC 3339.
    pub until: String,
    /// How long that is from now, in seconds.
    pub left_s: u64,
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// Its id.
    pub id: String,
    /// Its name or place.
    pub name: String,
    /// `connected`, `proven`, `dialling` or `failed`.
    pub state: String,
    /// `quic` or `tcp`.
    pub transport: Option<String>,
    /// The address of the tunnel.
    pub remote: Option<String>,
    /// Round trip of the last probe, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Since when it is so, RFC 3339.
    pub since: Option<String>,
    /// How long that is, in seconds.
    pub for_s: Option<u64>,
    /// Why there is no tunnel, and its code.
    pub failure: Option<String>,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamReport {
    /// What routes call it.
    pub name: String,
    /// Where it is.
    pub target: String,
    /// `good`, `bad` or `unknown`.
    pub health: String,
    /// Why it is bad.
    pub reason: Option<String>,
}

/// Requests of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangesReport {
    /// Running now.
    pub running: u64,
    /// Since the start.
    pub total: u64,
    /// Of these, those that got no whole answer from the upstream because something failed here or there.
    pub failed: u64,
}

/// The answer to `routes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutesReport {
    /// Revision of the bundle; not set: there is none yet.
    pub revision: Option<u64>,
    /// All routes, in the order they were written, with what each upstream says right now.
    pub routes: Vec<RouteLine>,
}
