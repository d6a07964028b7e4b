//! What went wrong between an edge and a control node, as a sentence with a next step for whoever runs the edge.

use std::io;

use mezusphere_model::clock::Timestamp;
use mezusphere_model::document::NodeAddress;
use mezusphere_pki::NodeIdentity;
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::UnixTime;

/// Why a control node could not be talked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LinkProblem {
    /// A stable dotted word, listed in `docs/errors.md`.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub next: &'static str,
    /// Which control node; `None`: none is known.
    pub control: Option<NodeAddress>,
    /// When.
    pub at: Timestamp,
}

/// This edge was evicted.
pub const EVICTED: &str = "edge.evicted";

/// This edge's certificate has ended, or a control node says so.
pub const CERTIFICATE_EXPIRED: &str = "edge.certificate_expired";

/// A control node does not trust the CA behind this edge's certificate, or takes the certificate for no edge's.
pub const CERTIFICATE_REFUSED: &str = "edge.certificate_refused";

/// A control node's certificate is not to be trusted by what this edge knows. The edge may have missed that the root was
/// replaced: where it comes back, control shows how the new one follows from the old.
pub const CONTROL_UNTRUSTED: &str = "edge.control_untrusted";

/// Control does not know this edge's certificate, though its own CA made it.
pub const NOT_LISTED: &str = "edge.not_listed";

const EXPIRED_NEXT: &str = "Check this machine's clock (timedatectl). If it is right, there is nothing to do: the edge asks for a new certificate by itself.";

impl LinkProblem {
    fn new(
        code: &'static str,
        message: impl Into<String>,
        next: &'static str,
        at: (NodeAddress, Timestamp),
    ) -> Self {
        Self { code, message: message.into(), next, control: Some(at.0), at: at.1 }
    }

    /// The same with what is known here of the certificate that was shown, where it is about that: whether a clock is wrong
    /// shows only beside the dates.
    pub(super) fn of_holder(self, shown: &NodeIdentity) -> Self {
        if self.code != CERTIFICATE_EXPIRED {
            return self;
        }
        let message = format!(
            "{} It is good from {} to {}; this machine's clock says {}.",
            self.message,
            shown.not_before(),
            shown.not_after(),
            self.at,
        );
        Self { message, ..self }
    }

    /// How much this says of the edge's standing, to be preferred to what says less: a control node that is away says nothing
    /// of the certificate that another one has refused.
    pub(super) fn weight(&self) -> u8 {
        match self.code {
            EVICTED => 3,
            CERTIFICATE_EXPIRED | CERTIFICATE_REFUSED | NOT_LISTED => 2,
            CONTROL_UNTRUSTED => 1,
            _ => 0,
        }
    }

    /// Where the control node is, for people.
    pub fn control_text(&self) -> String {
        self.control.as_ref().map_or_else(|| "none".to_owned(), |at| format!("{}:{}", at.host, at.port))
    }

    pub(crate) fn no_control(now: Timestamp) -> Self {
        Self {
            code: "edge.no_control",
            message: "This edge knows no control node.".to_owned(),
            next: "Start control nodes with --node-advertise, so that they publish where they listen for edges.",
            control: None,
            at: now,
        }
    }

    pub(crate) fn silent(control: NodeAddress, now: Timestamp) -> Self {
        Self::new(
            "edge.control_silent",
            "The control node does not answer.",
            "Check that no firewall drops packets between this edge and the control node's node port.",
            (control, now),
        )
    }

    pub(crate) fn not_control(control: NodeAddress, now: Timestamp) -> Self {
        Self::new(
            "edge.not_control",
            "Whoever answers there is not a control node's node port.",
            "Check host and port: they must be those a control node advertises, not an edge's.",
            (control, now),
        )
    }

    pub(crate) fn nonsense(what: &str, control: NodeAddress, now: Timestamp) -> Self {
        Self::new(
            "edge.control_nonsense",
            format!("The control node answered what makes no sense: {what}."),
            "Check that edges and control nodes run versions that go together; upgrade control nodes first.",
            (control, now),
        )
    }

    pub(crate) fn left(why: &str, control: NodeAddress, now: Timestamp) -> Self {
        Self::new(
            "edge.control_left",
            format!("The link to the control node ended: {why}."),
            "Nothing to do: others are tried, and this one again.",
            (control, now),
        )
    }

    pub(crate) fn not_listed(control: NodeAddress, now: Timestamp) -> Self {
        Self::new(
            NOT_LISTED,
            "Control does not know this edge's certificate: its database is older than that.",
            "If the database was restored from a backup, evict this edge, empty its data directory and start it with a new join token.",
            (control, now),
        )
    }

    /// By our own clock our certificate has ended, so nobody needs to be asked.
    pub(crate) fn ended(control: NodeAddress, now: Timestamp) -> Self {
        Self::new(CERTIFICATE_EXPIRED, "This edge's certificate has ended.", EXPIRED_NEXT, (control, now))
    }

    pub(crate) fn from_io(error: &io::Error, control: NodeAddress, now: Timestamp) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => Self::from_tls(tls, control, now),
            None => Self::new(
                "edge.control_unreachable",
                format!("The control node cannot be reached: {error}."),
                "Check that the control node runs, and that its node port can be reached from this edge.",
                (control, now),
            ),
        }
    }

    /// The same of a handshake that is not over. Until it is, anybody on the way can say an alert: what a control node thinks
    /// of our certificate comes after it (RFC 8446 §4.4), and is heard by whoever waits for the first answer.
    pub(crate) fn in_handshake(error: &io::Error, control: NodeAddress, now: Timestamp) -> Self {
        let problem = Self::from_io(error, control.clone(), now);
        if [EVICTED, CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED].contains(&problem.code) {
            return Self::from_tls(&rustls::Error::General(error.to_string()), control, now);
        }
        problem
    }

    pub(crate) fn from_tls(error: &rustls::Error, control: NodeAddress, now: Timestamp) -> Self {
        let at = (control, now);
        match error {
            rustls::Error::AlertReceived(alert) => Self::from_alert(*alert, at),
            // It is of our installation, and of another role.
            rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                Self::not_control(at.0, at.1)
            }
            rustls::Error::InvalidCertificate(why) => Self::untrusted(why, error, at),
            rustls::Error::NoApplicationProtocol => Self::not_control(at.0, at.1),
            _ => Self::new(
                "edge.control_no_tls",
                format!("The TLS handshake with the control node failed: {error}."),
                "Check host and port, and that nothing between here and the control node opens TLS.",
                at,
            ),
        }
    }

    /// The control node refused us.
    fn from_alert(alert: AlertDescription, at: (NodeAddress, Timestamp)) -> Self {
        match alert {
            AlertDescription::CertificateRevoked => Self::new(
                EVICTED,
                "This edge was evicted by an operator.",
                "If it is to serve again, let it join anew: empty its data directory and start it with a new join token.",
                at,
            ),
            AlertDescription::CertificateExpired => Self::new(
                CERTIFICATE_EXPIRED,
                "The control node finds this edge's certificate expired or not yet valid.",
                EXPIRED_NEXT,
                at,
            ),
            AlertDescription::NoApplicationProtocol => Self::not_control(at.0, at.1),
            other => Self::new(
                CERTIFICATE_REFUSED,
                format!("The control node refused this edge's certificate (TLS alert {}).", u8::from(other)),
                "If the CA behind it was retired, there is nothing to do: the edge asks for a new one by itself. Else check that this edge belongs to this installation.",
                at,
            ),
        }
    }

    /// We refused the control node.
    fn untrusted(why: &CertificateError, error: &rustls::Error, at: (NodeAddress, Timestamp)) -> Self {
        let next = match why {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "Check this machine's clock (timedatectl), then that of the control node."
            }
            _ => {
                "Check host and port, that nothing between here and the control node opens TLS, and that both are of one installation."
            }
        };
        let date = |at: UnixTime| Timestamp::from_seconds(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
        let message = match why {
            CertificateError::ExpiredContext { not_after, .. } => format!(
                "The control node's certificate ended at {}; this machine's clock says {}.",
                date(*not_after),
                at.1,
            ),
            CertificateError::NotValidYetContext { not_before, .. } => format!(
                "The control node's certificate is good only from {}; this machine's clock says {}.",
                date(*not_before),
                at.1,
            ),
            _ => format!("The control node's certificate is not to be trusted: {error}."),
        };
        Self::new(CONTROL_UNTRUSTED, message, next, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r20_an_alert_that_anybody_could_have_said_neither_evicts_nor_shuts_out() {
        for alert in [
            AlertDescription::CertificateRevoked,
            AlertDescription::CertificateExpired,
            AlertDescription::UnknownCA,
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::AlertReceived(alert));
            let control = || NodeAddress { host: "control.example".to_owned(), port: 8444 };
            let now = Timestamp::from_seconds(7);
            assert_eq!(LinkProblem::in_handshake(&error, control(), now).code, "edge.control_no_tls");
            assert_ne!(
                LinkProblem::from_io(&error, control(), now).code,
                "edge.control_no_tls",
                "it counts later"
            );
        }
    }

    #[test]
    fn each_reason_has_its_own_sentence_and_next_step() {
        let control = || NodeAddress { host: "control.example".to_owned(), port: 8444 };
        let now = Timestamp::from_seconds(7);
        let tls = |error: rustls::Error| {
            LinkProblem::from_io(&io::Error::new(io::ErrorKind::InvalidData, error), control(), now)
        };
        let alert = |alert| tls(rustls::Error::AlertReceived(alert));
        let rows = [
            (LinkProblem::no_control(now), "edge.no_control"),
            (LinkProblem::silent(control(), now), "edge.control_silent"),
            (LinkProblem::nonsense("x", control(), now), "edge.control_nonsense"),
            (LinkProblem::left("x", control(), now), "edge.control_left"),
            (LinkProblem::ended(control(), now), "edge.certificate_expired"),
            (LinkProblem::not_listed(control(), now), "edge.not_listed"),
            (
                LinkProblem::from_io(&io::ErrorKind::ConnectionRefused.into(), control(), now),
                "edge.control_unreachable",
            ),
            (alert(AlertDescription::CertificateRevoked), "edge.evicted"),
            (alert(AlertDescription::CertificateExpired), "edge.certificate_expired"),
            (alert(AlertDescription::UnknownCA), "edge.certificate_refused"),
            (alert(AlertDescription::NoApplicationProtocol), "edge.not_control"),
            (
                tls(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
                "edge.control_untrusted",
            ),
            (
                tls(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
                "edge.not_control",
            ),
            (
                tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)),
                "edge.control_no_tls",
            ),
        ];
        for (problem, code) in rows {
            assert_eq!(problem.code, code, "{problem}");
            assert!(!problem.message.is_empty() && problem.next.ends_with('.'), "{problem:?}");
        }
    }

    #[test]
    fn what_may_be_a_wrong_clocks_fault_names_both_times() {
        let control = || NodeAddress { host: "control.example".to_owned(), port: 8444 };
        let now = Timestamp::from_seconds(1_800_000_000);
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let rows = [
            (
                CertificateError::ExpiredContext { time: at(1_800_000_000), not_after: at(1_799_990_000) },
                "ended at 2027-01-15T05:13:20Z",
            ),
            (
                CertificateError::NotValidYetContext {
                    time: at(1_800_000_000),
                    not_before: at(1_800_010_000),
                },
                "good only from 2027-01-15T10:46:40Z",
            ),
        ];
        for (why, date) in rows {
            let problem = LinkProblem::from_tls(&rustls::Error::InvalidCertificate(why), control(), now);
            let text = &problem.message;
            assert!(text.contains(date) && text.contains("clock says 2027-01-15T08:00:00Z"), "{text}");
        }
    }
}
