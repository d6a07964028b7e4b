//! Why there is no tunnel, in sentences with a code and a next step.

use std::io;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_pki::alert::{Sentence, alert_of_quic_error, own_error_sentence, peer_error_sentence};
use mezusphere_pki::{NodeIdentity, PeerError};
use quinn::{ConnectError, ConnectionError};
use rustls::AlertDescription;
use tunnel_proto::codes::{CloseCode, RefusalCode};
use tunnel_proto::control::{Refused, SessionEnd};

use super::again::{Again, Doubt};
use super::proxied::ProxyFailure;
use crate::key::reason;
use crate::limits::{DIAL_SILENCE_MAX, TCP_SILENCE_MAX};
use crate::resolve::ResolveError;
use crate::validity::NotNow;

/// Why a tunnel could not be made, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A stable dotted word.
    pub(crate) code: String,
    /// A sentence without a full stop.
    pub(crate) message: String,
    /// What to do, if there is something.
    pub(crate) next: String,
    /// When to try again.
    pub(super) again: Again,
    /// What control should be asked because of it.
    pub(super) doubt: Option<Doubt>,
    /// Whether the edge said so: then another way to it leads to the same answer.
    is_said_by_edge: bool,
    /// When the edge's certificate is good, if it is not good now.
    not_now: Option<NotNow>,
}

impl Failure {
    fn new(code: &str, message: impl Into<String>, next: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            next: next.to_owned(),
            again: Again::Soon,
            doubt: None,
            is_said_by_edge: false,
            not_now: None,
        }
    }

    /// The edge does not take this warpgate for what it says it is; `doubt` is what control should settle.
    fn doubting(self, doubt: Doubt) -> Self {
        Self { again: Again::NotUntilChange, doubt: Some(doubt), ..self }
    }

    /// The edge takes this warpgate for nobody while its certificate is the one it is; another one may do, and the edge may
    /// be wrong, so it is dialled again as if nothing had been said.
    fn doubting_for_now(self) -> Self {
        Self { doubt: Some(Doubt::Identity), ..self }
    }

    /// The same with both times where it may be a wrong clock's fault: what this warpgate showed, `own`, or the edge, beside
    /// what the clock here says.
    pub(super) fn dated(self, own: &NodeIdentity, now: Timestamp) -> Self {
        let date = match (self.code.as_str(), self.not_now) {
            (OWN_EXPIRED, _) => format!(": it is good from {} to {}", own.not_before(), own.not_after()),
            (EDGE_EXPIRED, Some(not_now)) => format!(": {not_now}"),
            (EDGE_EXPIRED, None) => String::new(),
            _ => return self,
        };
        let message = format!("{}{date}; this machine's clock says {now}", self.message);
        Self { message, ..self }
    }

    fn by_edge(self) -> Self {
        Self { is_said_by_edge: true, ..self }
    }

    /// Whether it is the edge's own word, as opposed to what went wrong on the way to it.
    pub(super) const fn is_said_by_edge(&self) -> bool {
        self.is_said_by_edge
    }

    /// Whether packets stopped to come: a fault of the way, perhaps of UDP alone.
    pub(super) fn is_of_the_way(&self) -> bool {
        matches!(
            self.code.as_str(),
            "tunnel.silent" | "tunnel.no_answer" | "tunnel.unproven" | "tunnel.handshake_timeout"
        )
    }

    /// Whether another warpgate with our identity took its place.
    pub(super) fn is_replaced(&self) -> bool {
        self.again == Again::Replaced
    }

    pub(super) fn not_dialled(why: &ConnectError) -> Self {
        Self::new("tunnel.cannot_dial", format!("the edge cannot be dialled: {why}"), "")
    }

    pub(super) fn setup(why: &impl std::fmt::Display) -> Self {
        Self::new("tunnel.tls_setup", why.to_string(), "")
    }

    /// The handshake failed; `None` if nobody answered.
    pub(super) fn of_dial(error: &ConnectionError) -> Option<Self> {
        (*error != ConnectionError::TimedOut).then(|| Self::from(error))
    }

    /// The control session ended, and perhaps its connection before it. The stream breaks with the connection,
    /// which then knows the reason; but what the edge said on the stream tells most.
    pub(super) fn of_session(end: &SessionEnd, connection: Option<&ConnectionError>) -> Self {
        match (end, connection) {
            (SessionEnd::Left, Some(why)) if *why != ConnectionError::LocallyClosed => Self::from(why),
            _ => Self::from(end),
        }
    }

    pub(super) fn no_answer(edge: &EdgeAddress) -> Self {
        let (host, port) = (&edge.host, edge.port);
        let message =
            format!("no answer from {host}:{port} over UDP within {} s", DIAL_SILENCE_MAX.as_secs());
        Self::new("tunnel.no_answer", message, "check that the edge runs, and that UDP to it is allowed here")
    }

    /// No TCP connection; QUIC may tell more.
    pub(super) fn no_tcp(edge: &EdgeAddress, why: &io::Error) -> Self {
        let why = match why.kind() {
            io::ErrorKind::TimedOut => format!("no answer within {} s", TCP_SILENCE_MAX.as_secs()),
            _ => reason(why).to_lowercase(),
        };
        let message = format!("{}:{} over TCP: {why}", edge.host, edge.port);
        Self::new("tunnel.no_answer", message, "check that the edge runs, and that TCP to it is allowed here")
    }

    pub(super) fn tls_timeout() -> Self {
        Self::new("tunnel.handshake_timeout", "TLS over TCP was not up in time", "")
    }

    /// TLS over TCP ended with an error.
    pub(super) fn of_tls(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        tls.and_then(Self::of_rustls).unwrap_or_else(|| {
            Self::new("tunnel.closed", format!("the connection over TCP broke: {}", reason(error)), "")
        })
    }

    /// What one side refused the other for, if it is that.
    fn of_rustls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::AlertReceived(alert) => Some(sentence(peer_error_sentence(u8::from(*alert)))),
            rustls::Error::InvalidCertificate(why) => {
                let failure = sentence(own_error_sentence(u8::from(AlertDescription::from(why.clone()))));
                Some(Self { not_now: NotNow::of(why), ..failure })
            }
            _ => None,
        }
    }

    /// Whoever answers over TCP speaks TLS, and no tunnel.
    pub(super) fn no_tunnel_there() -> Self {
        let next = "check the edge's host and port; if they are right, upgrade the edge";
        Self::new("tunnel.wrong_protocol", "whoever answered over TCP speaks no tunnel", next)
    }

    /// HTTP/2 did not begin. What TLS said says more: with TLS 1.3 an edge judges our certificate when the handshake is over
    /// for us.
    pub(super) fn of_http2(error: &h2::Error, said: Option<&rustls::Error>) -> Self {
        said.and_then(Self::of_rustls)
            .unwrap_or_else(|| Self::new("tunnel.protocol", format!("the edge broke HTTP/2: {error}"), ""))
    }

    /// Welcomed, but no probe came back.
    pub(super) fn unproven() -> Self {
        Self::new(
            "tunnel.unproven",
            "the edge answers, but no exchange gets through",
            "if it persists, look for something on the way that drops large or long-lived UDP flows",
        )
    }

    pub(super) fn edge_stops() -> Self {
        Self::new("tunnel.draining", "the edge is about to stop", "").by_edge()
    }

    /// Neither transport led to the edge: what tells most.
    pub(super) fn of_both(edge: &EdgeAddress, over_quic: &Self, over_tcp: &Self) -> Self {
        if over_tcp.is_said_by_edge || over_tcp.code.starts_with("proxy.") {
            return over_tcp.clone();
        }
        if over_quic.code != "tunnel.no_answer" || over_tcp.code != "tunnel.no_answer" {
            let more = if over_quic.code == "tunnel.no_answer" { over_tcp } else { over_quic };
            return more.clone();
        }
        let (host, port) = (&edge.host, edge.port);
        let over_tcp = over_tcp.message.rsplit_once("over TCP: ").map_or("no answer", |(_, why)| why);
        let message =
            format!("no answer from {host}:{port}; over UDP: nothing came back; over TCP: {over_tcp}");
        Self::new(
            "tunnel.no_answer",
            message,
            "check that the edge runs, and that UDP or TCP to it is allowed here",
        )
    }

    pub(super) fn other_edge() -> Self {
        Self::new(
            "tunnel.wrong_edge",
            "another edge answered than its certificate names",
            "check that the edge's address leads to that very edge, not to a load balancer before several",
        )
        .by_edge()
    }

    /// The newest bundle does not trust the edge any more.
    pub(super) fn untrusted(why: &PeerError) -> Self {
        if let PeerError::Denied(_) = why {
            let failure = Self::new("tunnel.edge_evicted", "this edge was evicted by an operator", "");
            return Self { again: Again::NotUntilChange, ..failure };
        }
        Self::new("tunnel.edge_untrusted", why.to_string(), "")
    }

    pub(super) fn certificate_ended() -> Self {
        Self::new("tunnel.certificate_ended", "a certificate of this tunnel has ended", "")
    }

    fn refused(refused: &Refused) -> Self {
        let mut failure = Self::new(refused.code.name(), refused.message.trim_end_matches('.'), "");
        if failure.message.is_empty() {
            "the edge refused this warpgate".clone_into(&mut failure.message);
        }
        failure.again = match (refused.code, refused.retry_after_ms) {
            _ if refused.do_not_retry || refused.code.is_final() => Again::NotUntilChange,
            (RefusalCode::Draining, Some(ms)) => Again::AfterStop(Duration::from_millis(ms)),
            (_, Some(ms)) => Again::After(Duration::from_millis(ms)),
            (_, None) => Again::Soon,
        };
        match refused.code {
            RefusalCode::KeyRevoked => failure.doubting(Doubt::Identity),
            RefusalCode::EnvironmentUnknown => failure.doubting(Doubt::Key),
            // A newer edge may have a reason this version has no word for.
            RefusalCode::Internal if refused.do_not_retry => failure.doubting(Doubt::Key),
            _ => failure,
        }
    }
}

impl From<ProxyFailure> for Failure {
    fn from(why: ProxyFailure) -> Self {
        Self::new(why.code, why.message, why.next)
    }
}

impl From<ResolveError> for Failure {
    fn from(why: ResolveError) -> Self {
        Self::new("tunnel.unresolved", why.to_string(), "check the name, and this machine's DNS")
    }
}

impl From<&SessionEnd> for Failure {
    fn from(end: &SessionEnd) -> Self {
        match end {
            SessionEnd::Refused(refused) => Self::refused(refused).by_edge(),
            SessionEnd::HandshakeTimeout => {
                Self::new("tunnel.handshake_timeout", "the edge did not greet in time", "")
            }
            SessionEnd::Silent => {
                Self::new("tunnel.silent", "nothing was heard from the edge for too long", "")
            }
            SessionEnd::Closed(code) => closed(*code, &[]),
            SessionEnd::Left | SessionEnd::GraceOver => {
                Self::new("tunnel.closed", "the edge closed the tunnel", "")
            }
            SessionEnd::Malformed(_) | SessionEnd::Protocol(_) | SessionEnd::Flood | SessionEnd::Backlog => {
                Self::new("tunnel.protocol", end.to_string(), "upgrade the older of edge and warpgate")
            }
        }
    }
}

impl From<&ConnectionError> for Failure {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => {
                Self::new("tunnel.silent", "nothing was heard from the edge for too long", "")
            }
            ConnectionError::Reset => {
                Self::new("tunnel.reset", "the edge does not know this tunnel any more: it was restarted", "")
            }
            ConnectionError::ApplicationClosed(close) => {
                closed(CloseCode::from_number(close.error_code.into_inner()), &close.reason)
            }
            ConnectionError::ConnectionClosed(close) => match alert_of_quic_error(close.error_code.into()) {
                Some(alert) => sentence(peer_error_sentence(alert)),
                None => Self::new("tunnel.closed", format!("the edge closed the connection: {close}"), ""),
            },
            ConnectionError::TransportError(error) => match alert_of_quic_error(error.code.into()) {
                Some(alert) => {
                    let failure = sentence(own_error_sentence(alert));
                    Self { not_now: NotNow::of_text(&error.reason), ..failure }
                }
                None => Self::new("tunnel.protocol", format!("the edge broke QUIC: {error}"), ""),
            },
            ConnectionError::VersionMismatch => {
                Self::new("tunnel.version", "the edge speaks no QUIC version we know", "check host and port")
            }
            ConnectionError::LocallyClosed => Self::new("tunnel.closed", "the tunnel was closed here", ""),
            ConnectionError::CidsExhausted => Self::new("tunnel.protocol", error.to_string(), ""),
        }
    }
}

fn closed(code: CloseCode, reason: &[u8]) -> Failure {
    let (message, next) = match code {
        CloseCode::Done => ("the edge is stopping", ""),
        CloseCode::Refused => ("the edge refused this warpgate", "the edge's log has the reason"),
        CloseCode::Protocol => {
            ("the edge says that this warpgate broke the protocol", "upgrade the older of edge and warpgate")
        }
        CloseCode::HandshakeTimeout => ("the edge got no greeting in time", ""),
        CloseCode::Silent => ("the edge heard nothing from here for too long", ""),
        CloseCode::CertificateEnded => ("a certificate of this tunnel has ended, or its CA was retired", ""),
        CloseCode::Evicted => ("this warpgate was evicted, or its key revoked", ""),
        CloseCode::Replaced => ("another warpgate with this one's identity took its place", REPLACED_NEXT),
        CloseCode::WrongProtocol => ("whoever answered speaks no tunnel", "check the edge's host and port"),
        CloseCode::Internal => ("the edge had a fault", ""),
    };
    let reason = String::from_utf8_lossy(reason);
    let code_alone = reason.is_empty() || reason == code.name();
    let message = if code_alone { message.to_owned() } else { format!("{message}: {reason}") };
    let failure = Failure::new(&format!("tunnel.{}", code.name()), message, next);
    let failure = failure.by_edge();
    match code {
        CloseCode::Evicted => failure.doubting(Doubt::Identity),
        CloseCode::CertificateEnded => failure.doubting_for_now(),
        CloseCode::Replaced => Failure { again: Again::Replaced, ..failure },
        _ => failure,
    }
}

const REPLACED_NEXT: &str = "if two run with a copy of one state directory, stop one of them, or remove the state \
                             directory of one and start it again";

fn sentence(sentence: Sentence) -> Failure {
    let failure = Failure::new(sentence.code, sentence.what.trim_end_matches('.'), sentence.next).by_edge();
    match sentence.code {
        "trust.evicted" => failure.doubting(Doubt::Identity),
        // Its CA may have been retired, or the clock here may hide that it has ended.
        OWN_UNKNOWN | OWN_EXPIRED => failure.doubting_for_now(),
        _ => failure,
    }
}

/// The codes of what an edge says of our certificate, and of what we find of its.
const OWN_UNKNOWN: &str = "trust.unknown_ca";
const OWN_EXPIRED: &str = "trust.certificate_expired";
const EDGE_EXPIRED: &str = "trust.edge_certificate_expired";

#[cfg(test)]
mod tests;
