//! TLS alerts as sentences for the person who runs a warpgate: what happened, and what to do next.

/// QUIC carries a TLS alert as this error code plus the alert (RFC 9001 §4.8).
pub const QUIC_CRYPTO_ERROR: u64 = 0x100;

/// What an alert means for a warpgate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Stable code, listed in `docs/errors.md`.
    pub code: &'static str,
    /// What happened.
    pub what: &'static str,
    /// What to do next.
    pub next: &'static str,
    /// Whether a wrong clock is the likely cause.
    pub suspects_clock: bool,
}

/// The TLS alert in a QUIC connection error code, if it is one.
pub fn alert_of_quic_error(code: u64) -> Option<u8> {
    code.checked_sub(QUIC_CRYPTO_ERROR).and_then(|alert| u8::try_from(alert).ok())
}

/// The peer refused us with this alert: what is wrong with *our* certificate or hello.
pub fn peer_error_sentence(alert: u8) -> Sentence {
    let (code, what, next, suspects_clock) = match alert {
        42 => (
            "trust.certificate_unreadable",
            "The edge could not use this warpgate's certificate.",
            "Delete the warpgate's state directory and connect again; if it persists, upgrade this warpgate.",
            false,
        ),
        43 => (
            "trust.certificate_purpose",
            "The edge refused this certificate: it was issued for another purpose.",
            "Connect with a connection key (mzw_…), so that this warpgate gets a certificate of its own.",
            false,
        ),
        44 => (
            "trust.evicted",
            "This warpgate was evicted by an operator.",
            "Ask an operator for a new connection key.",
            false,
        ),
        45 => (
            "trust.certificate_expired",
            "The edge finds this warpgate's certificate expired or not yet valid.",
            "Check this machine's clock (timedatectl), then connect again: a new certificate is fetched.",
            true,
        ),
        46 => (
            "trust.certificate_refused",
            "The edge refused this warpgate's certificate without saying why.",
            "Connect again to get a new certificate; the edge's log has the reason.",
            false,
        ),
        48 => (
            "trust.unknown_ca",
            "The edge does not trust the CA that issued this warpgate's certificate.",
            "Its installation was set up anew, or is another one: connect with a new connection key.",
            false,
        ),
        49 => (
            "trust.wrong_role",
            "The edge refused this node: its certificate is not a warpgate's.",
            "Connect with a connection key of the environment this warpgate is for.",
            false,
        ),
        51 => (
            "trust.bad_signature",
            "The edge could not verify a signature of this warpgate.",
            "Delete the warpgate's state directory and connect again.",
            false,
        ),
        112 => (
            "trust.unknown_name",
            "Whoever answered does not know the host that was asked for.",
            "Check the host in the connection key, and that its DNS record leads to an edge.",
            false,
        ),
        116 => (
            "trust.certificate_missing",
            "The edge asked for a certificate and this warpgate showed none.",
            "Connect again with a connection key, so that this warpgate gets one.",
            false,
        ),
        _ => return either_side(alert),
    };
    Sentence { code, what, next, suspects_clock }
}

/// We refused the peer with this alert: what is wrong with *its* certificate.
pub fn own_error_sentence(alert: u8) -> Sentence {
    let (code, what, next, suspects_clock) = match alert {
        42 => (
            "trust.edge_certificate_unreadable",
            "Whoever answered shows a certificate that is no edge's.",
            "Check that nothing between here and the edge opens TLS; if not, tell the operator.",
            false,
        ),
        43 => (
            "trust.edge_certificate_purpose",
            "Whoever answered shows a certificate that is not meant for a server.",
            "Tell the operator: this is not an edge of this installation.",
            false,
        ),
        44 => (
            "trust.edge_evicted",
            "Whoever answered was evicted by an operator.",
            "Nothing to do here: others are tried.",
            false,
        ),
        45 => (
            "trust.edge_certificate_expired",
            "By this machine's clock the edge's certificate is expired or not yet valid.",
            "Check this machine's clock (timedatectl); if it is right, tell the operator.",
            true,
        ),
        48 => (
            "trust.edge_unknown_ca",
            "Whoever answered is not part of the installation this warpgate trusts.",
            "Check host and port, that nothing between here and the edge opens TLS, and that the connection key is of this installation.",
            false,
        ),
        49 => (
            "trust.edge_wrong_name",
            "Another node answered than the edge that was dialled.",
            "Check that the edge's address leads to that very edge, not to a load balancer before several.",
            false,
        ),
        46 | 51 => (
            "trust.edge_certificate_refused",
            "The edge's certificate could not be verified.",
            "Check that nothing between here and the edge opens TLS; if not, tell the operator.",
            false,
        ),
        _ => return either_side(alert),
    };
    Sentence { code, what, next, suspects_clock }
}

fn either_side(alert: u8) -> Sentence {
    let (code, what, next) = match alert {
        70 | 71 => (
            "trust.tls_version",
            "Whoever answered does not speak TLS 1.3.",
            "Check that nothing between here and the edge opens TLS, and that the port is the edge's.",
        ),
        120 => (
            "trust.no_tunnel_here",
            "Whoever answered does not speak Mezusphere's tunnel.",
            "Check host and port; if they are an edge's, upgrade the older of edge and warpgate.",
        ),
        _ => (
            "trust.tls_failed",
            "The TLS handshake failed.",
            "Check that nothing between here and the edge opens TLS; the log at level debug has the alert.",
        ),
    };
    Sentence { code, what, next, suspects_clock: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alert_has_its_own_sentence_and_next_step() {
        let alerts = [42, 43, 44, 45, 46, 48, 49, 51, 70, 112, 116, 120];
        let mut codes: Vec<_> = alerts.map(|alert| peer_error_sentence(alert).code).to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), alerts.len());
        for alert in 0..=u8::MAX {
            for sentence in [peer_error_sentence(alert), own_error_sentence(alert)] {
                assert!(!sentence.what.is_empty() && !sentence.next.is_empty());
                assert!(sentence.code.starts_with("trust."), "{}", sentence.code);
            }
        }
    }

    #[test]
    fn only_a_validity_alert_suspects_the_clock() {
        for alert in 0..=u8::MAX {
            assert_eq!(peer_error_sentence(alert).suspects_clock, alert == 45);
            assert_eq!(own_error_sentence(alert).suspects_clock, alert == 45);
        }
    }

    #[test]
    fn a_quic_error_code_carries_its_alert() {
        assert_eq!(alert_of_quic_error(0x100 + 116), Some(116));
        assert_eq!(alert_of_quic_error(0x1ff), Some(255));
        assert_eq!(alert_of_quic_error(0x200), None);
        assert_eq!(alert_of_quic_error(0xff), None);
        assert_eq!(alert_of_quic_error(0), None);
    }
}
