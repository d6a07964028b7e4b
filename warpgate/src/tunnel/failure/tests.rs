//! Each way a tunnel fails has its sentence, its time to come back, and what control is asked because of it.

use super::*;

fn refused(code: RefusalCode, retry_after_ms: Option<u64>, do_not_retry: bool) -> Failure {
    Failure::refused(&Refused { code, message: "full".into(), retry_after_ms, do_not_retry })
}

#[test]
fn a_refusal_says_when_to_come_back_and_what_control_is_asked() {
    use RefusalCode::{Busy, Draining, EnvironmentUnknown, KeyRevoked, Quota, Version};
    let (second, after) = (Some(1000), Duration::from_secs(1));
    let rows = [
        (Busy, None, false, Again::Soon, None),
        (Busy, second, false, Again::After(after), None),
        (Draining, second, false, Again::AfterStop(after), None),
        (Quota, second, true, Again::NotUntilChange, None),
        (Version, None, false, Again::NotUntilChange, None),
        (KeyRevoked, None, false, Again::NotUntilChange, Some(Doubt::Identity)),
        (EnvironmentUnknown, None, false, Again::NotUntilChange, Some(Doubt::Key)),
        (RefusalCode::Internal, None, false, Again::Soon, None),
        (RefusalCode::Internal, None, true, Again::NotUntilChange, Some(Doubt::Key)),
    ];
    for (code, retry_after, do_not_retry, again, doubt) in rows {
        let failure = refused(code, retry_after, do_not_retry);
        assert_eq!((failure.again, failure.doubt), (again, doubt), "{code}");
    }
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
    assert_eq!((expired.doubt, expired.again), (Some(Doubt::Identity), Again::Soon));
    let unknown = Failure::from(&alert(48));
    assert_eq!((unknown.code.as_str(), unknown.doubt), ("trust.unknown_ca", Some(Doubt::Identity)));
    assert_eq!(Failure::from(&ConnectionError::TimedOut).code, "tunnel.silent");
    for code in CloseCode::ALL {
        let close = quinn::ApplicationClose {
            error_code: quinn::VarInt::from_u32(code.number()),
            reason: bytes::Bytes::new(),
        };
        let failure = Failure::from(&ConnectionError::ApplicationClosed(close));
        assert!(failure.code.starts_with("tunnel.") && !failure.message.is_empty());
        assert_eq!(failure.is_replaced(), *code == CloseCode::Replaced);
        let doubted = [CloseCode::Evicted, CloseCode::CertificateEnded].contains(code);
        assert_eq!(failure.doubt.is_some(), doubted);
    }
    assert_eq!(closed(CloseCode::Done, b"done").message, "the edge is stopping", "the code says it");
}
