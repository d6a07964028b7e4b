//! What the listeners count.

use mezusphere_telemetry::{Counter, Metrics};
use rustls::HandshakeKind;

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
    /// Connections passed on to control.
    pub(super) spliced: Counter,
    /// Challenges of certificate authorities answered by a handshake.
    pub(super) challenge: Counter,
    pub(super) tcp_failed: Counter,
    pub(super) quic_failed: Counter,
    /// QUIC clients asked to prove their address.
    pub(super) retried: Counter,
    /// Handshakes on TCP that began anew.
    pub(super) full: Counter,
    /// Handshakes on TCP that resumed a session.
    pub(super) resumed: Counter,
    /// Connections let go before their handshake began, because others needed the room.
    pub(super) arriving: Counter,
    /// Handshakes let go before they ended, because others needed the room.
    pub(super) handshakes: Counter,
    /// Connections whose ClientHello was longer than any client's.
    pub(super) hello_too_long: Counter,
    /// Connections for control while no control node took them.
    pub(super) no_control: Counter,
    full_edge: Counter,
    full_address: Counter,
    no_protocol: Counter,
    no_server_name: Counter,
    unknown_server_name: Counter,
    tcp_only: Counter,
    no_challenge: Counter,
}

/// Under which names connections are counted: an edge and a front may share a process, and its registry.
struct Names {
    taken: &'static str,
    failed: &'static str,
    refused: &'static str,
    retried: &'static str,
    handshakes: &'static str,
}

const EDGE: Names = Names {
    taken: "edge_connections",
    failed: "edge_handshakes_failed",
    refused: "edge_connections_refused",
    retried: "edge_address_validations",
    handshakes: "edge_tls_handshakes",
};

const FRONT: Names = Names {
    taken: "front_connections",
    failed: "front_handshakes_failed",
    refused: "front_connections_refused",
    retried: "front_address_validations",
    handshakes: "front_tls_handshakes",
};

impl Counters {
    /// Registers an edge's; once per edge.
    pub fn new(metrics: &Metrics) -> Self {
        Self::named(metrics, &EDGE)
    }

    /// Registers those of a control node's front; once per process.
    pub(crate) fn of_front(metrics: &Metrics) -> Self {
        Self::named(metrics, &FRONT)
    }

    fn named(metrics: &Metrics, names: &Names) -> Self {
        let taken = metrics.counters(names.taken, "Connections taken, by what was negotiated", ["protocol"]);
        let failed = metrics.counters(names.failed, "Handshakes that failed or took too long", ["carrier"]);
        let shaken = metrics.counters(names.handshakes, "TLS handshakes on TCP, full or resumed", ["kind"]);
        let refused = metrics.counters(names.refused, "Connections refused, by reason", ["reason"]);
        Self {
            h1: taken.with(["h1"]),
            h2: taken.with(["h2"]),
            h3: taken.with(["h3"]),
            tunnel: taken.with(["tunnel"]),
            connect: taken.with(["connect"]),
            spliced: taken.with(["splice"]),
            challenge: taken.with(["acme"]),
            tcp_failed: failed.with(["tcp"]),
            quic_failed: failed.with(["quic"]),
            retried: metrics.counter(names.retried, "QUIC clients asked to prove their address"),
            full: shaken.with(["full"]),
            resumed: shaken.with(["resumed"]),
            arriving: refused.with(["arriving"]),
            handshakes: refused.with(["handshakes"]),
            hello_too_long: refused.with(["hello_too_long"]),
            no_control: refused.with(["no_control"]),
            full_edge: refused.with(["edge_full"]),
            full_address: refused.with(["address_full"]),
            no_protocol: refused.with(["no_protocol"]),
            no_server_name: refused.with(["no_server_name"]),
            unknown_server_name: refused.with(["unknown_server_name"]),
            tcp_only: refused.with(["tcp_only"]),
            no_challenge: refused.with(["no_challenge"]),
        }
    }

    /// Counts a connection that found no place.
    pub(crate) fn full(&self, full: Full) {
        match full {
            Full::Edge => self.full_edge.inc(),
            Full::Address => self.full_address.inc(),
        };
    }

    /// Counts a handshake on TCP that is done.
    pub(super) fn shaken(&self, kind: Option<HandshakeKind>) {
        match kind {
            Some(HandshakeKind::Resumed) => self.resumed.inc(),
            _ => self.full.inc(),
        };
    }

    /// Counts a connection refused for its ClientHello.
    pub(super) fn refused(&self, refusal: Refusal) {
        match refusal {
            Refusal::NoProtocol => self.no_protocol.inc(),
            Refusal::NoServerName => self.no_server_name.inc(),
            Refusal::UnknownServerName => self.unknown_server_name.inc(),
            Refusal::TcpOnly => self.tcp_only.inc(),
            Refusal::NoChallenge => self.no_challenge.inc(),
        };
    }
}
