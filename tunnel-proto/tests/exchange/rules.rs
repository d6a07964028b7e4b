//! The format octet by octet, the order of frames, and the limits.

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, StatusCode};
use mezusphere_model::id::{RequestId, RouteId};
use tunnel_proto::exchange::{
    DecodeError, Decoder, EncodeError, Encoder, Event, IdentityRef, RequestHead, ResponseHead, Scheme,
    Truncated,
};
use tunnel_proto::limits::{
    ASSERTION_LEN_MAX, FIELDS_MAX, HEAD_LEN_MAX, INFORMATIONAL_MAX, UNKNOWN_FRAME_LEN_MAX, UNKNOWN_FRAMES_MAX,
};

use crate::{decode, encode};

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
fn r07_a_stream_that_ends_inside_a_frame_is_cut_even_after_the_message() {
    let whole = encode(&[Event::Request { head: Box::new(small_head()), end: true }], &[]);
    for tail in [&[0x3f][..], &[0x3f, 5], &[0x3f, 5, 1, 2], &[0x7f]] {
        let bytes = Bytes::from([&whole[..], tail].concat());
        assert_eq!(decode(Decoder::requests(), &bytes, &[]).unwrap().1, Err(Truncated), "{tail:?}");
    }
    let bytes = Bytes::from([&whole[..], &[0x3f, 2, 1, 2]].concat());
    assert_eq!(decode(Decoder::requests(), &bytes, &[]).unwrap().1, Ok(()), "an unknown frame, whole");
}

#[test]
fn r23_more_fields_than_the_limit_are_refused_however_small() {
    let trailers = |count: u16| {
        let payload = [&(0x4000 | count).to_be_bytes()[..], &[1, 0].repeat(count.into())].concat();
        let begin = encode(&[Event::Response { head: ok_head(), end: false }], &[]);
        let len = u32::try_from(payload.len()).unwrap() | 0x8000_0000;
        Bytes::from([&begin[..], &[0x05], &len.to_be_bytes(), &payload].concat())
    };
    let most = u16::try_from(FIELDS_MAX).unwrap();
    assert!(decode(Decoder::responses(), &trailers(most), &[]).is_ok());
    for count in [most + 1, 0x3fff] {
        assert_eq!(
            decode(Decoder::responses(), &trailers(count), &[]),
            Err(DecodeError::Malformed("TRAILERS"))
        );
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
