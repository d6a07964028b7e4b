//! What the listeners count.

use mezusphere_telemetry::{Counter, Metrics};

use super::admission::Full;
use super::decide::Refusal;

/// Handles to the listeners' counters, looked up once.
#[derive(Debug)]
pub struct Counters {
    pub(super) h1: Counter,
    pub(super) h2: Counter,
    pub(super) h3: Counter,
    pub(super) tunnel: Counter,
    pub(super) connect: Counter,
    pub(super) tcp_failed: Counter,
    pub(super) quic_failed: Counter,
    /// QUIC clients asked to prove their address.
    pub(super) retried: Counter,
    /// Attempts refused because too many handshakes were under way.
    pub(super) busy: Counter,
    full_edge: Counter,
    full_address: Counter,
    no_protocol: Counter,
    no_server_name: Counter,
    unknown_server_name: Counter,
}

impl Counters {
    /// Registers them; once per edge.
    pub fn new(metrics: &Metrics) -> Self {
        let taken =
            metrics.counters("edge_connections", "Connections taken, by what was negotiated", ["protocol"]);
        let failed = metrics.counters(
            "edge_handshakes_failed",
            "Handshakes that failed or took too long",
            ["carrier"],
        );
        let refused =
            metrics.counters("edge_connections_refused", "Connections refused, by reason", ["reason"]);
        Self {
            h1: taken.with(["h1"]),
            h2: taken.with(["h2"]),
            h3: taken.with(["h3"]),
            tunnel: taken.with(["tunnel"]),
            connect: taken.with(["connect"]),
            tcp_failed: failed.with(["tcp"]),
            quic_failed: failed.with(["quic"]),
            retried: metrics.counter("edge_address_validations", "QUIC clients asked to prove their address"),
            busy: refused.with(["handshakes"]),
            full_edge: refused.with(["edge_full"]),
            full_address: refused.with(["address_full"]),
            no_protocol: refused.with(["no_protocol"]),
            no_server_name: refused.with(["no_server_name"]),
            unknown_server_name: refused.with(["unknown_server_name"]),
        }
    }

    /// Counts a connection that found no place.
    pub(super) fn full(&self, full: Full) {
        match full {
            Full::Edge => self.full_edge.inc(),
            Full::Address => self.full_address.inc(),
        };
    }

    /// Counts a connection refused for its ClientHello.
    pub(super) fn refused(&self, refusal: Refusal) {
        match refusal {
            Refusal::NoProtocol => self.no_protocol.inc(),
            Refusal::NoServerName => self.no_server_name.inc(),
            Refusal::UnknownServerName => self.unknown_server_name.inc(),
        };
    }
}
