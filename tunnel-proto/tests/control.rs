//! Properties of control messages: what is written is read, however it is cut; nothing else is believed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EdgeId, EnvironmentId, WarpgateId};
use mezusphere_model::slug::Slug;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tunnel_proto::codes::{CloseCode, RefusalCode};
use tunnel_proto::control::{
    DecodeError, Decoder, Encoder, HealthState, Hello, Message, Refused, SessionLimits, UpstreamHealth,
    VersionRange, Welcome,
};
use tunnel_proto::limits::{CONTROL_MESSAGE_LEN_MAX, HEALTH_REASON_LEN_MAX, UPSTREAMS_MAX};

fn upstreams() -> impl Strategy<Value = Vec<Slug>> {
    vec(slug(), 0..10)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_u64, 0..1_u64 << 62]
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<(u16, u16, u128, u32, u32)>(), "[ -~]{0,64}", upstreams(), number(), number()).prop_map(
        |((min, max, instance, index, count), agent, upstreams, bundle_revision, features)| Hello {
            versions: VersionRange { min, max },
            agent,
            instance: WarpgateId::from_bits(instance),
            index,
            count,
            upstreams,
            bundle_revision,
            features,
        },
    )
}

fn slug() -> impl Strategy<Value = Slug> {
    "u[a-z0-9]{0,30}".prop_map(|text| Slug::parse(&text).unwrap())
}

fn health() -> impl Strategy<Value = UpstreamHealth> {
    const STATES: &[HealthState] = &[HealthState::Unknown, HealthState::Good, HealthState::Bad];
    (slug(), proptest::sample::select(STATES), "[ -~]{0,128}")
        .prop_map(|(upstream, state, reason)| UpstreamHealth { upstream, state, reason })
}

fn close() -> impl Strategy<Value = Message> {
    proptest::sample::select(CloseCode::ALL).prop_map(|code| Message::Close { code })
}

fn from_warpgate() -> impl Strategy<Value = Message> {
    prop_oneof![
        hello().prop_map(Message::Hello),
        number().prop_map(|n| Message::Ping { n }),
        number().prop_map(|n| Message::Pong { n }),
        upstreams().prop_map(|upstreams| Message::Offer { upstreams }),
        upstreams().prop_map(|upstreams| Message::Withdraw { upstreams }),
        number().prop_map(|grace_ms| Message::Drain { grace_ms }),
        number().prop_map(|slot| Message::PrincipalKnown { slot }),
        any::<u64>().prop_map(|nonce| Message::ProbeRequest { nonce }),
        health().prop_map(Message::UpstreamHealth),
        close(),
    ]
}

fn from_edge() -> impl Strategy<Value = Message> {
    let welcome = (any::<(u16, u128, u32, u32)>(), "[ -~]{0,64}", number()).prop_map(
        |((version, edge, exchanges_first, exchanges_max), region, features)| {
            let limits = SessionLimits { exchanges_first, exchanges_max };
            Message::Welcome(Welcome { version, edge: EdgeId::from_bits(edge), region, limits, features })
        },
    );
    let refused =
        (proptest::sample::select(RefusalCode::ALL), "\\PC{0,100}", option::of(number()), any::<bool>())
            .prop_map(|(code, message, retry_after_ms, do_not_retry)| {
                Message::Refused(Refused { code, message, retry_after_ms, do_not_retry })
            });
    let bundle =
        (any::<u128>(), number(), "[a-zA-Z0-9._-]{0,5000}").prop_map(|(environment, revision, jws)| {
            Message::Bundle(SignedBundle {
                environment: EnvironmentId::from_bits(environment),
                revision,
                jws,
            })
        });
    prop_oneof![
        welcome,
        refused,
        bundle,
        number().prop_map(|n| Message::Ping { n }),
        number().prop_map(|n| Message::Pong { n }),
        number().prop_map(|grace_ms| Message::Drain { grace_ms }),
        (any::<u64>(), number()).prop_map(|(nonce, rtt_us)| Message::ProbeDone { nonce, rtt_us }),
        close(),
    ]
}

fn encode(messages: &[Message]) -> Bytes {
    let mut encoder = Encoder::new();
    for message in messages {
        encoder.message(message).unwrap();
    }
    encoder.take()
}

fn decode(mut decoder: Decoder, bytes: &[u8], cuts: &[usize]) -> Result<Vec<Message>, DecodeError> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut messages = Vec::new();
    let mut sizes = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        decoder.push(rest.split_to(size));
        while let Some(message) = decoder.poll()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..4_usize, 1..2000_usize], 0..6)
}

/// Frames of types nobody has given a meaning yet.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    (0x0f..0x3f_u8, vec(any::<u8>(), 0..63)).prop_map(|(kind, payload)| {
        [&[kind, u8::try_from(payload.len()).unwrap()], payload.as_slice()].concat()
    })
}

proptest! {
    #[test]
    fn what_a_warpgate_says_survives_the_wire(messages in vec(from_warpgate(), 0..6), cuts in cuts()) {
        prop_assert_eq!(decode(Decoder::from_warpgate(), &encode(&messages), &cuts), Ok(messages));
    }

    #[test]
    fn what_an_edge_says_survives_the_wire(messages in vec(from_edge(), 0..6), cuts in cuts()) {
        prop_assert_eq!(decode(Decoder::from_edge(), &encode(&messages), &cuts), Ok(messages));
    }

    #[test]
    fn a_cut_message_is_not_there_yet(message in from_edge(), at in any::<prop::sample::Index>(), cuts in cuts()) {
        let bytes = encode(&[message]);
        prop_assert_eq!(decode(Decoder::from_edge(), &bytes[..at.index(bytes.len())], &cuts), Ok(vec![]));
    }

    #[test]
    fn messages_of_a_newer_peer_are_skipped(rows in vec((unknown(), from_warpgate()), 0..5), cuts in cuts()) {
        let mut bytes = Vec::new();
        for (unknown, message) in &rows {
            bytes.extend_from_slice(unknown);
            bytes.extend_from_slice(&encode(std::slice::from_ref(message)));
        }
        let messages = rows.into_iter().map(|(_, message)| message).collect();
        prop_assert_eq!(decode(Decoder::from_warpgate(), &bytes, &cuts), Ok(messages));
    }

    #[test]
    fn r24_no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..3000), cuts in cuts(), edge in any::<bool>()) {
        let decoder = if edge { Decoder::from_edge() } else { Decoder::from_warpgate() };
        let _outcome = decode(decoder, &bytes, &cuts);
    }

    #[test]
    fn r24_no_damage_to_real_messages_makes_a_decoder_panic(
        messages in vec(from_edge(), 1..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cuts in cuts(),
    ) {
        let mut bytes = encode(&messages).to_vec();
        for (at, octet) in damage {
            *at.get_mut(bytes.as_mut_slice()) = octet;
        }
        let whole = decode(Decoder::from_edge(), &bytes, &[]);
        prop_assert_eq!(decode(Decoder::from_edge(), &bytes, &cuts), whole);
    }
}

#[test]
fn a_field_of_a_newer_peer_is_skipped() {
    // Pong with field 1 = 5 and a field 60 nobody knows.
    assert_eq!(
        decode(Decoder::from_edge(), &[0x05, 7, 1, 1, 5, 60, 2, 0, 0], &[]),
        Ok(vec![Message::Pong { n: 5 }])
    );
}

#[test]
fn a_field_that_is_missing_doubled_or_overlong_makes_its_message_malformed() {
    let rows: [&[u8]; 5] = [
        &[0x05, 0],                   // no field at all
        &[0x05, 6, 1, 1, 5, 1, 1, 6], // two values for one
        &[0x05, 4, 1, 2, 5, 0],       // octets after the number
        &[0x05, 2, 1, 9],             // a value that goes past its message
        &[0x05, 2, 1, 0],             // an empty number
    ];
    for row in rows {
        assert_eq!(decode(Decoder::from_edge(), row, &[1]), Err(DecodeError::Malformed(0x05)), "{row:?}");
    }
}

#[test]
fn r06_neither_side_can_speak_for_the_other() {
    let bundle = SignedBundle { environment: EnvironmentId::from_bits(1), revision: 1, jws: String::new() };
    let rows = [
        (Decoder::from_warpgate(), Message::Bundle(bundle), 0x08),
        (Decoder::from_warpgate(), Message::ProbeDone { nonce: 1, rtt_us: 1 }, 0x0c),
        (Decoder::from_edge(), Message::PrincipalKnown { slot: 1 }, 0x0a),
        (Decoder::from_edge(), Message::Offer { upstreams: vec![] }, 0x06),
        (Decoder::from_edge(), Message::UpstreamHealth(bad("web", "")), 0x0d),
    ];
    for (decoder, message, kind) in rows {
        assert_eq!(decode(decoder, &encode(&[message]), &[]), Err(DecodeError::WrongSide(kind)));
    }
}

#[test]
fn r23_what_is_too_long_is_refused_by_its_length_alone() {
    let too_long = u32::try_from(CONTROL_MESSAGE_LEN_MAX + 1).unwrap() | 0x8000_0000;
    let ping = [&[0x04][..], &too_long.to_be_bytes()].concat();
    assert_eq!(decode(Decoder::from_edge(), &ping, &[1]), Err(DecodeError::TooLong(0x04)));
    let bundle = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(decode(Decoder::from_edge(), &bundle, &[1]), Err(DecodeError::TooLong(0x08)));
}

#[test]
fn a_warpgate_cannot_declare_more_upstreams_than_the_limit() {
    let names: Vec<Slug> = (0..=UPSTREAMS_MAX).map(|n| Slug::parse(&format!("u{n}")).unwrap()).collect();
    let mut encoder = Encoder::new();
    assert!(encoder.message(&Message::Offer { upstreams: names.clone() }).is_err());
    assert!(encoder.is_empty());
    let most = Message::Offer { upstreams: names[1..].to_vec() };
    assert_eq!(
        decode(Decoder::from_warpgate(), &encode(std::slice::from_ref(&most)), &[100]),
        Ok(vec![most])
    );
}

fn bad(upstream: &str, reason: &str) -> UpstreamHealth {
    UpstreamHealth {
        upstream: Slug::parse(upstream).unwrap(),
        state: HealthState::Bad,
        reason: reason.to_owned(),
    }
}

#[test]
fn health_is_of_one_upstream_and_what_a_newer_warpgate_says_of_it_reads_as_unknown() {
    // State 9 of "web", without a reason.
    let newer = [0x0d, 8, 7, 3, b'w', b'e', b'b', 1, 1, 9];
    let unknown = UpstreamHealth { state: HealthState::Unknown, ..bad("web", "") };
    assert_eq!(decode(Decoder::from_warpgate(), &newer, &[]), Ok(vec![Message::UpstreamHealth(unknown)]));
    let none = [0x0d, 3, 1, 1, 2];
    let two = [0x0d, 9, 1, 1, 2, 7, 1, b'a', 7, 1, b'b'];
    for row in [&none[..], &two] {
        assert_eq!(decode(Decoder::from_warpgate(), row, &[]), Err(DecodeError::Malformed(0x0d)));
    }
}

#[test]
fn a_reason_that_is_too_long_is_cut_when_written_and_refused_when_read() {
    let long = "x".repeat(HEALTH_REASON_LEN_MAX + 1);
    let told = encode(&[Message::UpstreamHealth(bad("web", &long))]);
    let cut = Message::UpstreamHealth(bad("web", &long[1..]));
    assert_eq!(decode(Decoder::from_warpgate(), &told, &[]), Ok(vec![cut]));
    let mut raw = vec![0x0d, 0x40, 0, 7, 3, b'w', b'e', b'b', 1, 1, 2, 2, 0x40, 129];
    raw.extend_from_slice(long.as_bytes());
    raw[2] = u8::try_from(raw.len() - 3).unwrap();
    assert_eq!(decode(Decoder::from_warpgate(), &raw, &[]), Err(DecodeError::Malformed(0x0d)));
}

#[test]
fn versions_meet_at_the_newest_both_speak() {
    let range = |min, max| VersionRange { min, max };
    assert_eq!(range(1, 3).choose(range(2, 5)), Some(3));
    assert_eq!(range(1, 1).choose(range(1, 9)), Some(1));
    assert_eq!(range(1, 2).choose(range(3, 4)), None);
    assert_eq!(range(3, 4).choose(range(1, 2)), None);
    assert_eq!(range(2, 1).choose(range(1, 2)), None, "an empty range meets nobody");
}
