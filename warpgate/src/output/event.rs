//! The events: what can be told. Names and fields are stable, because scripts read them as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Something the user may want to know.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line.
    Started {
        /// Of this program.
        version: &'static str,
        /// `linux/x86_64`.
        platform: String,
        /// This machine's name.
        host: String,
    },
    /// Worth knowing, nothing wrong.
    Note {
        /// A sentence.
        text: String,
    },
    /// The control plane answered.
    Control {
        /// Where it is.
        address: String,
        /// `quic` or `tcp`.
        transport: &'static str,
        /// How long enrollment took, in milliseconds.
        took_ms: u64,
        /// This machine's clock minus control's, in milliseconds.
        clock_skew_ms: i64,
    },
    /// The key was accepted.
    Key {
        /// The service account's name.
        account: String,
        /// The project's slug.
        project: String,
        /// The environment's slug.
        environment: String,
        /// The key's last four characters.
        hint: String,
    },
    /// There is a certificate.
    Certificate {
        /// SPIFFE URI.
        name: String,
        /// How long it is valid, in seconds from now.
        valid_s: u64,
        /// When it is renewed, in seconds from now.
        renews_s: u64,
        /// Where it is kept; not set: in memory only.
        kept_in: Option<PathBuf>,
    },
    /// The certificate was renewed.
    Renewed {
        /// How long the new one is valid, in seconds from now.
        valid_s: u64,
        /// When it is renewed, in seconds from now.
        renews_s: u64,
    },
    /// What the network here allows.
    Network {
        /// Receive buffer of the UDP socket, in octets.
        receive_buffer: usize,
        /// Its send buffer, in octets.
        send_buffer: usize,
        /// What to do if they are small.
        advice: Option<String>,
    },
    /// A tunnel is up.
    EdgeConnected {
        /// The edge's id.
        edge: String,
        /// Its name or place.
        name: String,
        /// `quic` or `tcp`.
        transport: &'static str,
        /// The address it was reached at.
        remote: String,
        /// Round-trip time, in microseconds.
        rtt_us: u64,
        /// How long it is good for by both ends' certificates, in seconds: then another takes its place.
        lasts_s: u64,
        /// It took the place of an older tunnel to the same edge.
        replaced: bool,
    },
    /// There is no tunnel to an edge: lost, refused, or never made.
    EdgeFailed {
        /// The edge's id.
        edge: String,
        /// Its name or place.
        name: String,
        /// A stable code.
        code: String,
        /// A sentence.
        message: String,
        /// What to do; empty if there is nothing but to wait.
        next: String,
        /// When the next try is, in milliseconds from now; not set: not until something changes.
        retry_ms: Option<u64>,
        /// The same failure this often since it was last told.
        repeats: u32,
    },
    /// An edge left the bundle or stops; its tunnel ends.
    EdgeLeft {
        /// The edge's id.
        edge: String,
        /// Its name or place.
        name: String,
        /// A sentence.
        message: String,
    },
    /// The control plane did not answer or refused.
    ControlFailed {
        /// Where it is.
        address: String,
        /// A stable code.
        code: String,
        /// A sentence.
        message: String,
        /// What to do.
        next: String,
        /// When the next try is, in milliseconds from now.
        retry_ms: u64,
        /// The same failure this often since it was last told.
        repeats: u32,
    },
    /// What is published.
    Routes {
        /// Revision of the bundle.
        revision: u64,
        /// All routes, in the order they were written.
        routes: Vec<RouteLine>,
    },
    /// What is published has changed.
    RoutesChanged {
        /// Revision of the new bundle.
        revision: u64,
        /// Routes that are new.
        added: Vec<RouteLine>,
        /// Routes that are different.
        changed: Vec<RouteLine>,
        /// Addresses of routes that are gone.
        removed: Vec<String>,
    },
    /// Requests can come: an edge has a tunnel and a probe went through it.
    Ready {
        /// Edges with a tunnel.
        edges: usize,
        /// Edges there are.
        edges_total: usize,
        /// Routes there are.
        routes: usize,
        /// Upstreams that routes lead to.
        upstreams: usize,
        /// Those of them that do not answer, or are not declared here.
        upstreams_down: usize,
        /// Where those that do not answer should be listening.
        unanswered: Vec<String>,
        /// How long the probe took from the edge and back, in microseconds.
        round_trip_us: u64,
    },
    /// A request did not reach an upstream: nothing listens there, or its name does not resolve.
    UpstreamLost {
        /// Its name.
        upstream: String,
        /// Where it is.
        target: String,
        /// A stable code; the error page shows it too.
        code: &'static str,
        /// A sentence.
        message: String,
        /// It was lost this often since that was last told.
        repeats: u32,
    },
    /// Requests reach it again.
    UpstreamBack {
        /// Its name.
        upstream: String,
        /// Where it is.
        target: String,
    },
    /// The configuration file was read again, and is in force.
    Reloaded {
        /// The settings that are different now, by name.
        changed: Vec<String>,
        /// Those of them that only a restart puts in force.
        restart: Vec<String>,
    },
    /// The configuration file was read again and cannot be used: what was in force stays.
    ReloadFailed {
        /// A sentence.
        message: String,
        /// What to do.
        next: String,
    },
    /// How many edges have a tunnel has changed since it was last told.
    Edges {
        /// Edges with a tunnel.
        connected: usize,
        /// Edges there are.
        total: usize,
    },
    /// A signal came.
    Draining {
        /// Exchanges that are running.
        exchanges: usize,
        /// For how long they may, in seconds.
        grace_s: u64,
    },
    /// The last line after a drain.
    Stopped {
        /// Exchanges that were cut because the time was over.
        cut: usize,
    },
    /// The last line after a second signal: what ran was cut.
    Interrupted {
        /// Exchanges that were running.
        cut: usize,
    },
    /// The last line of a run that failed.
    Error {
        /// A stable code.
        code: String,
        /// A sentence.
        message: String,
        /// What to do.
        next: String,
        /// The exit code.
        exit: u8,
    },
}

/// A route, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteLine {
    /// Public address with its path pattern.
    pub address: String,
    /// Name of the upstream.
    pub upstream: String,
    /// Where that is; not set: this warpgate did not declare it.
    pub target: Option<String>,
    /// `public`, `auth optional`, `auth required`, with what else is required.
    pub access: String,
    /// What its upstream says; not set: not asked.
    pub state: Option<UpstreamState>,
}

/// What an upstream said when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum UpstreamState {
    /// It answered.
    Up {
        /// The status of `HEAD /`; not set: it took the connection but did not speak HTTP in time.
        status: Option<u16>,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// It did not.
    Down {
        /// Why, in a few words.
        why: String,
    },
}
