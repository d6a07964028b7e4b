//! Why there is no tunnel, in sentences with a code and a next step.

use std::time::Duration;

use mezusphere_pki::PeerError;
use mezusphere_pki::alert::{Sentence, alert_of_quic_error, own_error_sentence, peer_error_sentence};
use quinn::{ConnectError, ConnectionError};
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{Refused, SessionEnd};

use crate::backoff::Backoff;
use crate::limits::{DIAL_SILENCE_MAX, DO_NOT_RETRY_FOR, RETRY_AFTER_MAX};
use crate::resolve::ResolveError;

/// Why a tunnel could not be made, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// A stable dotted word.
    pub(crate) code: String,
    /// A sentence without a full stop.
    pub(crate) message: String,
    /// What to do, if there is something.
    pub(crate) next: String,
    again: Again,
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// After the back-off.
    Soon,
    /// Not before this.
    After(Duration),
    /// Not until a person or control did something.
    NotUntilChange,
}

impl Failure {
    fn new(code: &str, message: impl Into<String>, next: &str) -> Self {
        Self { code: code.to_owned(), message: message.into(), next: next.to_owned(), again: Again::Soon }
    }

    /// How long to wait before the next try, and whether a change of bundle or certificate should end the wait.
    pub(super) fn wait(&self, backoff: &mut Backoff) -> (Duration, bool) {
        let soon = backoff.wait();
        match self.again {
            Again::Soon => (soon, false),
            Again::After(least) => (least.min(RETRY_AFTER_MAX).saturating_add(soon), true),
            Again::NotUntilChange => (DO_NOT_RETRY_FOR.saturating_add(soon), true),
        }
    }

    pub(super) fn not_dialled(why: &ConnectError) -> Self {
        Self::new("tunnel.cannot_dial", format!("the edge cannot be dialled: {why}"), "")
    }

    pub(super) fn setup(why: &impl std::fmt::Display) -> Self {
        Self::new("tunnel.tls_setup", why.to_string(), "")
    }

    /// The handshake failed.
    pub(super) fn of_dial(error: &ConnectionError) -> Self {
        if *error == ConnectionError::TimedOut { Self::no_answer() } else { Self::from(error) }
    }

    /// The control session ended, and perhaps its connection before it. The stream breaks with the connection,
    /// which then knows the reason; but what the edge said on the stream tells most.
    pub(super) fn of_session(end: &SessionEnd, connection: Option<&ConnectionError>) -> Self {
        match (end, connection) {
            (SessionEnd::Left, Some(why)) if *why != ConnectionError::LocallyClosed => Self::from(why),
            _ => Self::from(end),
        }
    }

    pub(super) fn no_answer() -> Self {
        let message = format!("no answer over UDP within {} s", DIAL_SILENCE_MAX.as_secs());
        Self::new("tunnel.no_answer", message, "check that UDP to this address and port is allowed here")
    }

    pub(super) fn other_edge() -> Self {
        Self::new(
            "tunnel.wrong_edge",
            "another edge answered than its certificate names",
            "check that the edge's address leads to that very edge, not to a load balancer before several",
        )
    }

    /// The newest bundle does not trust the edge any more.
    pub(super) fn untrusted(why: &PeerError) -> Self {
        if let PeerError::Denied(_) = why {
            let mut failure = Self::new("tunnel.edge_evicted", "this edge was evicted by an operator", "");
            failure.again = Again::NotUntilChange;
            return failure;
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
        failure.again = match refused.retry_after_ms {
            _ if refused.do_not_retry || refused.code.is_final() => Again::NotUntilChange,
            Some(ms) => Again::After(Duration::from_millis(ms)),
            None => Again::Soon,
        };
        failure
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
            SessionEnd::Refused(refused) => Self::refused(refused),
            SessionEnd::HandshakeTimeout => {
                Self::new("tunnel.handshake_timeout", "the edge did not greet in time", "")
            }
            SessionEnd::Silent => {
                Self::new("tunnel.silent", "nothing was heard from the edge for too long", "")
            }
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
                Some(alert) => sentence(own_error_sentence(alert)),
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
    let reason = String::from_utf8_lossy(reason);
    let (message, again) = match code {
        CloseCode::Done => ("the edge is stopping", Again::Soon),
        CloseCode::Refused => ("the edge refused this warpgate", Again::Soon),
        CloseCode::Protocol => ("the edge says that this warpgate broke the protocol", Again::Soon),
        CloseCode::HandshakeTimeout => ("the edge got no greeting in time", Again::Soon),
        CloseCode::Silent => ("the edge heard nothing from here for too long", Again::Soon),
        CloseCode::CertificateEnded => ("this warpgate's certificate has ended", Again::Soon),
        CloseCode::Evicted => (
            "this warpgate was evicted or its key revoked; ask an operator for a new key",
            Again::NotUntilChange,
        ),
        CloseCode::Replaced => ("a newer connection of this warpgate took its place", Again::Soon),
        CloseCode::WrongProtocol => ("whoever answered speaks no tunnel", Again::Soon),
        CloseCode::Internal => ("the edge had a fault", Again::Soon),
    };
    let message = if reason.is_empty() { message.to_owned() } else { format!("{message}: {reason}") };
    Failure { again, ..Failure::new(&format!("tunnel.{}", code.name()), message, "") }
}

fn sentence(sentence: Sentence) -> Failure {
    let mut failure = Failure::new(sentence.code, sentence.what.trim_end_matches('.'), sentence.next);
    if sentence.code == "trust.evicted" {
        failure.again = Again::NotUntilChange;
    }
    failure
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Entropy;
    use tunnel_proto::control::RefusalCode;

    use super::*;
    use crate::limits::DIAL_BACKOFF;

    fn refused(retry_after_ms: Option<u64>, do_not_retry: bool) -> Refused {
        Refused { code: RefusalCode::Busy, message: "full".into(), retry_after_ms, do_not_retry }
    }

    #[test]
    fn retry_after_and_do_not_retry_are_obeyed_within_bounds() {
        let mut backoff = Backoff::new(DIAL_BACKOFF, Entropy::counting());
        let mut wait = |refused: &Refused| Failure::refused(refused).wait(&mut backoff).0;
        assert!(wait(&refused(None, false)) <= DIAL_BACKOFF.1);
        assert!(wait(&refused(Some(20_000), false)) >= Duration::from_secs(20));
        assert!(wait(&refused(Some(u64::MAX), false)) <= RETRY_AFTER_MAX + DIAL_BACKOFF.1);
        assert!(wait(&refused(Some(5), true)) >= DO_NOT_RETRY_FOR);
        let mut gone = refused(None, false);
        gone.code = RefusalCode::KeyRevoked;
        assert!(wait(&gone) >= DO_NOT_RETRY_FOR);
    }

    #[test]
    fn every_way_a_connection_ends_has_a_sentence() {
        let alert = |code: u64| {
            let code = quinn::TransportErrorCode::crypto(u8::try_from(code).unwrap());
            ConnectionError::ConnectionClosed(quinn::ConnectionClose {
                error_code: code,
                frame_type: None,
                reason: bytes::Bytes::new(),
            })
        };
        let expired = Failure::from(&alert(45));
        assert_eq!(expired.code, "trust.certificate_expired");
        assert!(expired.next.contains("clock"));
        assert_eq!(Failure::from(&alert(48)).code, "trust.unknown_ca");
        assert_eq!(Failure::from(&ConnectionError::TimedOut).code, "tunnel.silent");
        for code in CloseCode::ALL {
            let close = quinn::ApplicationClose {
                error_code: quinn::VarInt::from_u32(code.number()),
                reason: bytes::Bytes::new(),
            };
            let failure = Failure::from(&ConnectionError::ApplicationClosed(close));
            assert!(failure.code.starts_with("tunnel.") && !failure.message.is_empty());
        }
    }
}
