//! Properties of exchange frames: what is written is read, however it is cut; nothing else is believed.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use mezusphere_model::id::{RequestId, RouteId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tunnel_proto::codes::FailureCode;
use tunnel_proto::exchange::{
    DecodeError, Decoder, EncodeError, Encoder, Event, Failure, IdentityRef, RequestHead, ResponseHead,
    Scheme, Truncated,
};
use tunnel_proto::limits::{
    ASSERTION_LEN_MAX, FIELDS_MAX, HEAD_LEN_MAX, INFORMATIONAL_MAX, UNKNOWN_FRAME_LEN_MAX, UNKNOWN_FRAMES_MAX,
};

fn fields() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        Just("accept".to_owned()),
        Just("cookie".to_owned()),
        Just("set-cookie".to_owned()),
        Just("content-type".to_owned()),
        Just("sec-fetch-site".to_owned()),
        "[a-z][a-z0-9_.-]{0,30}",
    ];
    let value = vec(prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..80);
    vec((name, value), 0..20).prop_map(|rows| {
        let row = |(name, value): (String, Vec<u8>)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(&value).ok()?))
        };
        let mut map = HeaderMap::new();
        for (name, value) in rows.into_iter().filter_map(row) {
            map.append(name, value);
        }
        map
    })
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        Just(Method::GET),
        Just(Method::HEAD),
        Just(Method::POST),
        Just(Method::TRACE),
        "[A-Z]{3,20}".prop_map(|text| Method::from_bytes(text.as_bytes()).unwrap()),
    ]
}

fn identity() -> impl Strategy<Value = IdentityRef> {
    prop_oneof![
        Just(IdentityRef::None),
        (0..1_u64 << 62).prop_map(IdentityRef::Known),
        (0..1_u64 << 62, vec(any::<u8>(), 0..600))
            .prop_map(|(slot, assertion)| IdentityRef::Full { slot, assertion: assertion.into() }),
    ]
}

prop_compose! {
    fn request_head(upgrade: bool)(
        ids in (any::<u128>(), any::<u128>(), 0..1_u64 << 62),
        client in any::<IpAddr>(),
        tls in any::<bool>(),
        authority in "[a-z0-9.-]{1,60}(:[0-9]{1,5})?",
        method in method(),
        target in "/[!-~]{0,200}",
        headers in fields(),
        identity in identity(),
    ) -> RequestHead {
        RequestHead {
            request: RequestId::from_bits(ids.0),
            route: RouteId::from_bits(ids.1),
            revision: ids.2,
            client,
            scheme: if tls { Scheme::Https } else { Scheme::Http },
            authority,
            method,
            target,
            headers,
            identity,
            upgrade: upgrade.then(|| "websocket".to_owned()),
        }
    }
}

fn body() -> impl Strategy<Value = Vec<Event>> {
    (vec(vec(any::<u8>(), 1..400), 0..5), option::of(fields())).prop_map(|(pieces, trailers)| {
        let mut events: Vec<Event> = pieces.into_iter().map(|piece| Event::Data(piece.into())).collect();
        events.push(trailers.map_or(Event::End, Event::Trailers));
        events
    })
}

fn raw() -> impl Strategy<Value = Vec<Event>> {
    vec(vec(any::<u8>(), 1..400), 0..5).prop_map(|pieces| {
        let pieces = pieces.into_iter().map(|piece| Event::Data(piece.into()));
        std::iter::once(Event::Raw).chain(pieces).collect()
    })
}

fn request() -> impl Strategy<Value = Vec<Event>> {
    let begin = |head: RequestHead, end| Event::Request { head: Box::new(head), end };
    prop_oneof![
        request_head(false).prop_map(move |head| vec![begin(head, true)]),
        (request_head(false), body()).prop_map(move |(head, rest)| [vec![begin(head, false)], rest].concat()),
        (request_head(true), raw()).prop_map(move |(head, rest)| [vec![begin(head, false)], rest].concat()),
        (request_head(true), body()).prop_map(move |(head, rest)| [vec![begin(head, false)], rest].concat()),
        any::<u64>().prop_map(|nonce| vec![Event::Probe { nonce }]),
    ]
}

fn head(statuses: std::ops::Range<u16>) -> impl Strategy<Value = ResponseHead> {
    (statuses, fields())
        .prop_map(|(status, headers)| ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers })
}

fn failure() -> impl Strategy<Value = Failure> {
    (proptest::sample::select(FailureCode::ALL), "\\PC{0,100}", any::<bool>())
        .prop_map(|(code, detail, started)| Failure { code, detail, started })
}

fn response() -> impl Strategy<Value = Vec<Event>> {
    let before = || vec(head(102..200).prop_map(Event::Informational), 0..3);
    let begin = |head, end| Event::Response { head, end };
    prop_oneof![
        (before(), head(200..1000)).prop_map(move |(one, head)| [one, vec![begin(head, true)]].concat()),
        (before(), head(200..1000), body()).prop_map(move |(one, head, rest)| [
            one,
            vec![begin(head, false)],
            rest
        ]
        .concat()),
        (before(), head(101..102), raw()).prop_map(move |(one, head, rest)| [
            one,
            vec![begin(head, false)],
            rest
        ]
        .concat()),
        (before(), failure()).prop_map(|(one, failure)| [one, vec![Event::Failure(failure)]].concat()),
        any::<u64>().prop_map(|nonce| vec![Event::ProbeReply { nonce }]),
    ]
}

/// The bytes of `events`; `unknown` frames are put in front of each frame.
fn encode(events: &[Event], unknown: &[u8]) -> Bytes {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let mut raw = false;
    for event in events {
        if !raw {
            out.extend_from_slice(unknown);
        }
        match event {
            Event::Request { head, end } => encoder.request(head, *end).unwrap(),
            Event::Informational(head) => encoder.informational(head).unwrap(),
            Event::Response { head, end } => encoder.response(head, *end).unwrap(),
            Event::Failure(failure) => encoder.failure(failure),
            Event::Data(piece) if raw => out.extend_from_slice(piece),
            Event::Data(piece) => {
                encoder.data_header(piece.len());
                out.extend_from_slice(&encoder.take());
                out.extend_from_slice(piece);
            }
            Event::Trailers(trailers) => encoder.trailers(trailers).unwrap(),
            Event::End => encoder.end(),
            Event::Raw => {
                encoder.raw();
                raw = true;
            }
            Event::Probe { nonce } => encoder.probe(*nonce),
            Event::ProbeReply { nonce } => encoder.probe_reply(*nonce),
        }
        out.extend_from_slice(&encoder.take());
    }
    out.into()
}

/// What `decoder` makes of `bytes` cut into chunks of the sizes in `cuts`, over and over.
fn decode(
    mut decoder: Decoder,
    bytes: &Bytes,
    cuts: &[usize],
) -> Result<(Vec<Event>, Result<(), Truncated>), DecodeError> {
    let mut rest = bytes.clone();
    let mut events = Vec::new();
    let mut sizes = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        decoder.push(rest.split_to(size));
        while let Some(event) = decoder.poll()? {
            events.push(event);
        }
    }
    Ok((events, decoder.finish()))
}

/// The same events with neighbouring pieces joined.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (Some(Event::Data(before)), Event::Data(piece)) => {
                *before = [before.as_ref(), piece.as_ref()].concat().into()
            }
            (_, event) => out.push(event),
        }
    }
    out
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..4_usize, 1..2000_usize], 0..6)
}

proptest! {
    #[test]
    fn every_request_survives_the_wire_however_it_is_cut(events in request(), cuts in cuts()) {
        let (read, end) = decode(Decoder::requests(), &encode(&events, &[]), &cuts).unwrap();
        prop_assert_eq!(joined(read), joined(events));
        prop_assert_eq!(end, Ok(()));
    }

    #[test]
    fn every_response_survives_the_wire_however_it_is_cut(events in response(), cuts in cuts()) {
        let (read, end) = decode(Decoder::responses(), &encode(&events, &[]), &cuts).unwrap();
        prop_assert_eq!(joined(read), joined(events));
        prop_assert_eq!(end, Ok(()));
    }

    #[test]
    fn frames_of_a_newer_peer_are_skipped(events in response(), payload in vec(any::<u8>(), 0..63), cuts in cuts()) {
        let unknown = [&[0x7f, 0xff, u8::try_from(payload.len()).unwrap()], payload.as_slice()].concat();
        let (read, end) = decode(Decoder::responses(), &encode(&events, &unknown), &cuts).unwrap();
        prop_assert_eq!(joined(read), joined(events));
        prop_assert_eq!(end, Ok(()));
    }

    #[test]
    fn r07_a_message_that_was_cut_is_never_whole(
        (events, requests) in prop_oneof![
            request().prop_map(|events| (events, true)),
            response().prop_map(|events| (events, false)),
        ],
        at in any::<prop::sample::Index>(),
        cuts in cuts(),
    ) {
        // Raw bytes have no end of their own: only what comes before them can be cut.
        let framed: Vec<Event> = events.into_iter().take_while(|event| *event != Event::Raw).collect();
        prop_assume!(!framed.is_empty());
        let bytes = encode(&framed, &[]);
        let cut = bytes.slice(..at.index(bytes.len()));
        let decoder = if requests { Decoder::requests() } else { Decoder::responses() };
        let (_, end) = decode(decoder, &cut, &cuts).unwrap();
        prop_assert_eq!(end, Err(Truncated));
    }

    #[test]
    fn r24_no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..3000), cuts in cuts(), requests in any::<bool>()) {
        let decoder = if requests { Decoder::requests() } else { Decoder::responses() };
        let _outcome = decode(decoder, &bytes.into(), &cuts);
    }

    #[test]
    fn r24_no_damage_to_real_frames_makes_a_decoder_panic(
        (events, requests) in prop_oneof![
            request().prop_map(|events| (events, true)),
            response().prop_map(|events| (events, false)),
        ],
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cuts in cuts(),
    ) {
        let mut bytes = encode(&events, &[]).to_vec();
        for (at, octet) in damage {
            *at.get_mut(bytes.as_mut_slice()) = octet;
        }
        let decoder = if requests { Decoder::requests() } else { Decoder::responses() };
        // However it is cut, the verdict is the same.
        let whole = decode(if requests { Decoder::requests() } else { Decoder::responses() }, &bytes.clone().into(), &[]);
        let pieces = decode(decoder, &bytes.into(), &cuts);
        prop_assert_eq!(pieces.map(|(events, end)| (joined(events), end)), whole.map(|(events, end)| (joined(events), end)));
    }
}

fn small_head() -> RequestHead {
    RequestHead {
        request: RequestId::from_bits(1),
        route: RouteId::from_bits(2),
        revision: 3,
        client: [192, 0, 2, 1].into(),
        scheme: Scheme::Https,
        authority: "shop.example".to_owned(),
        method: Method::GET,
        target: "/".to_owned(),
        headers: HeaderMap::new(),
        identity: IdentityRef::None,
        upgrade: None,
    }
}

fn ok_head() -> ResponseHead {
    ResponseHead { status: StatusCode::OK, headers: HeaderMap::new() }
}

#[test]
fn the_octets_of_a_small_request_are_those_of_the_docs() {
    let mut encoder = Encoder::new();
    let mut head = small_head();
    head.headers.insert("accept", HeaderValue::from_static("*/*"));
    head.headers.insert("x-a", HeaderValue::from_static("b"));
    head.identity = IdentityRef::Known(300);
    encoder.request(&head, true).unwrap();
    let expected = [
        &[0x01, 0x80, 0, 0, 72][..], // REQUEST, 72 octets, the length in its late form
        &[0x01],                     // flags: nothing follows
        &1_u128.to_be_bytes(),       // request
        &2_u128.to_be_bytes(),       // route
        &[3],                        // revision
        &[4, 192, 0, 2, 1],          // client
        &[1, 1],                     // https, GET
        b"\x0cshop.example",         // authority
        b"\x01/",                    // target
        &[1, 0x41, 0x2c],            // identity: known, slot 300
        &[2],                        // two fields
        b"\x01\x03*/*",              // accept
        b"\x00\x03x-a\x01b",         // x-a
    ]
    .concat();
    let written = encoder.take();
    assert_eq!(written.len(), expected.len());
    assert_eq!(written, expected);
}

#[test]
fn a_bodyless_exchange_is_one_frame_each_way() {
    let mut encoder = Encoder::new();
    encoder.request(&small_head(), true).unwrap();
    let mut decoder = Decoder::requests();
    decoder.push(encoder.take());
    assert!(matches!(decoder.poll(), Ok(Some(Event::Request { end: true, .. }))));
    assert_eq!((decoder.poll(), decoder.finish()), (Ok(None), Ok(())));
}

#[test]
fn bulk_data_is_handed_on_without_a_copy() {
    let mut encoder = Encoder::new();
    encoder.response(&ok_head(), false).unwrap();
    encoder.data_header(1 << 20);
    let mut decoder = Decoder::responses();
    decoder.push(encoder.take());
    assert!(matches!(decoder.poll(), Ok(Some(Event::Response { .. }))));
    assert_eq!(decoder.poll(), Ok(None));
    for _ in 0..16 {
        let chunk = Bytes::from(vec![7; 1 << 16]);
        decoder.push(chunk.clone());
        let Ok(Some(Event::Data(piece))) = decoder.poll() else { panic!("a piece") };
        assert_eq!((piece.as_ptr(), piece.len()), (chunk.as_ptr(), chunk.len()));
        assert_eq!(decoder.poll(), Ok(None));
        assert_eq!(decoder.finish(), Err(Truncated), "END is missing");
    }
    encoder.end();
    decoder.push(encoder.take());
    assert_eq!((decoder.poll(), decoder.finish()), (Ok(Some(Event::End)), Ok(())));
}

#[test]
fn every_frame_has_its_place() {
    let write = |events: &[Event]| encode(events, &[]);
    let begin = || Event::Request { head: Box::new(small_head()), end: false };
    let whole = || Event::Request { head: Box::new(small_head()), end: true };
    let answer = |end| Event::Response { head: ok_head(), end };
    let data = || Event::Data(Bytes::from_static(b"x"));
    let switched = ResponseHead { status: StatusCode::SWITCHING_PROTOCOLS, headers: HeaderMap::new() };
    let rows = [
        (Decoder::requests(), write(&[data()]), DecodeError::OutOfOrder("DATA")),
        (Decoder::requests(), write(&[answer(true)]), DecodeError::OutOfOrder("RESPONSE")),
        (Decoder::requests(), write(&[begin(), begin()]), DecodeError::OutOfOrder("REQUEST")),
        (Decoder::requests(), write(&[whole(), data()]), DecodeError::OutOfOrder("DATA")),
        (Decoder::requests(), write(&[whole(), Event::End]), DecodeError::OutOfOrder("END")),
        (Decoder::requests(), write(&[begin(), Event::End, data()]), DecodeError::OutOfOrder("DATA")),
        (Decoder::requests(), write(&[begin(), Event::Raw]), DecodeError::OutOfOrder("RAW")),
        (
            Decoder::requests(),
            write(&[Event::Probe { nonce: 1 }, whole()]),
            DecodeError::OutOfOrder("REQUEST"),
        ),
        (
            Decoder::requests(),
            write(&[Event::ProbeReply { nonce: 1 }]),
            DecodeError::OutOfOrder("PROBE_REPLY"),
        ),
        (Decoder::responses(), write(&[whole()]), DecodeError::OutOfOrder("REQUEST")),
        (Decoder::responses(), write(&[answer(false), Event::Raw]), DecodeError::OutOfOrder("RAW")),
        (Decoder::responses(), write(&[answer(true), answer(true)]), DecodeError::OutOfOrder("RESPONSE")),
        (
            Decoder::responses(),
            write(&[answer(false), Event::Informational(ok_head())]),
            DecodeError::OutOfOrder("INFORMATIONAL"),
        ),
        (
            Decoder::responses(),
            write(&[Event::Informational(ok_head())]),
            DecodeError::Malformed("INFORMATIONAL"),
        ),
        (
            Decoder::responses(),
            write(&[Event::Informational(switched)]),
            DecodeError::Malformed("INFORMATIONAL"),
        ),
        (
            Decoder::responses(),
            write(&[Event::Response {
                head: ResponseHead { status: StatusCode::CONTINUE, headers: HeaderMap::new() },
                end: true,
            }]),
            DecodeError::Malformed("RESPONSE"),
        ),
        (Decoder::responses(), Bytes::from_static(&[0, 0]), DecodeError::OutOfOrder("DATA")),
    ];
    for (row, (decoder, bytes, why)) in rows.into_iter().enumerate() {
        assert_eq!(decode(decoder, &bytes, &[1]).unwrap_err(), why, "row {row}");
    }
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::requests();
    decoder.push(Bytes::from_static(&[0, 1, 1]));
    assert_eq!(decoder.poll(), Err(DecodeError::OutOfOrder("DATA")));
    decoder.push(encode(&[Event::Request { head: Box::new(small_head()), end: true }], &[]));
    assert_eq!(decoder.poll(), Err(DecodeError::OutOfOrder("DATA")));
    assert_eq!(decoder.finish(), Err(Truncated));
}

#[test]
fn r23_floods_of_frames_that_say_nothing_are_cut_off() {
    let empty_data = [&encode(&[Event::Response { head: ok_head(), end: false }], &[])[..], &[0, 0]].concat();
    assert_eq!(decode(Decoder::responses(), &empty_data.into(), &[]), Err(DecodeError::Malformed("DATA")));

    let head = ResponseHead { status: StatusCode::PROCESSING, headers: HeaderMap::new() };
    let hints = |n: u32| encode(&vec![Event::Informational(head.clone()); usize::try_from(n).unwrap()], &[]);
    assert!(decode(Decoder::responses(), &hints(INFORMATIONAL_MAX), &[]).is_ok());
    assert_eq!(
        decode(Decoder::responses(), &hints(INFORMATIONAL_MAX + 1), &[]),
        Err(DecodeError::TooMany("INFORMATIONAL"))
    );

    let unknown = |n: u32| Bytes::from([0x3f, 0].repeat(usize::try_from(n).unwrap()));
    assert!(decode(Decoder::responses(), &unknown(UNKNOWN_FRAMES_MAX), &[]).is_ok());
    assert_eq!(
        decode(Decoder::responses(), &unknown(UNKNOWN_FRAMES_MAX + 1), &[]),
        Err(DecodeError::TooMany("unknown"))
    );
}

#[test]
fn r23_what_is_too_long_is_refused_by_its_length_alone() {
    let late = |kind: u8, len: usize| {
        let len = u32::try_from(len).unwrap() | 0x8000_0000;
        Bytes::from([&[kind][..], &len.to_be_bytes()].concat())
    };
    let rows = [
        (Decoder::requests(), late(1, HEAD_LEN_MAX + 1), "REQUEST"),
        (Decoder::responses(), late(2, HEAD_LEN_MAX + 1), "RESPONSE"),
        (Decoder::responses(), late(4, 4096), "FAILURE"),
        (Decoder::requests(), late(8, 129), "PROBE"),
        (Decoder::requests(), late(0x3f, UNKNOWN_FRAME_LEN_MAX + 1), "unknown"),
    ];
    for (decoder, bytes, name) in rows {
        assert_eq!(decode(decoder, &bytes, &[1]), Err(DecodeError::TooLong(name)));
    }
}

#[test]
fn what_passes_a_limit_is_not_written_at_all() {
    let mut encoder = Encoder::new();
    let mut many = small_head();
    for n in 0..=FIELDS_MAX {
        many.headers.append("x-n", HeaderValue::from(n));
    }
    assert_eq!(encoder.request(&many, true), Err(EncodeError::TooManyFields));
    let mut long = small_head();
    for _ in 0..9 {
        long.headers.append("x-n", HeaderValue::from_bytes(&[b'x'; 8000]).unwrap());
    }
    assert_eq!(encoder.request(&long, true), Err(EncodeError::TooLong));
    let full = IdentityRef::Full { slot: 1, assertion: vec![b'x'; ASSERTION_LEN_MAX + 1].into() };
    assert_eq!(
        encoder.request(&RequestHead { identity: full, ..small_head() }, true),
        Err(EncodeError::TooLong)
    );
    assert!(encoder.is_empty(), "nothing was left behind");
    encoder.request(&small_head(), true).unwrap();
    assert_eq!(encoder.take(), encode(&[Event::Request { head: Box::new(small_head()), end: true }], &[]));
}

#[test]
fn the_largest_head_an_edge_lets_in_fits() {
    let mut head = RequestHead {
        target: format!("/{}", "x".repeat(8191)),
        identity: IdentityRef::Full {
            slot: u64::from(u32::MAX),
            assertion: vec![b'x'; ASSERTION_LEN_MAX].into(),
        },
        ..small_head()
    };
    for _ in 0..100 {
        head.headers.append("x-three-hundred-octets", HeaderValue::from_bytes(&[b'x'; 306]).unwrap());
    }
    let events = vec![Event::Request { head: Box::new(head), end: true }];
    assert_eq!(decode(Decoder::requests(), &encode(&events, &[]), &[1200]), Ok((events, Ok(()))));
}

#[test]
fn r08_a_line_break_cannot_hide_in_any_part_of_a_head() {
    // Each row replaces one octet of a valid head by one that would end a line upstream.
    let mut encoder = Encoder::new();
    let mut head = small_head();
    head.headers.insert("x-a", HeaderValue::from_static("b"));
    encoder.request(&head, true).unwrap();
    let bytes = encoder.take();
    let find = |part: &[u8]| bytes.windows(part.len()).position(|window| window == part).unwrap();
    for place in [find(b"shop"), find(b"\x01/") + 1, find(b"x-a"), find(b"x-a") + 4] {
        for octet in [b'\r', b'\n', 0] {
            let mut bad = bytes.to_vec();
            bad[place] = octet;
            let outcome = decode(Decoder::requests(), &bad.into(), &[]);
            assert_eq!(outcome, Err(DecodeError::Malformed("REQUEST")), "{octet} at {place}");
        }
    }
}
