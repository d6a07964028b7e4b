//! What holds for every request, every response, every cut and every damage.

use std::net::IpAddr;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use mezusphere_model::id::{RequestId, RouteId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tunnel_proto::codes::FailureCode;
use tunnel_proto::exchange::{
    Decoder, Event, Failure, IdentityRef, RequestHead, ResponseHead, Scheme, Truncated,
};

use crate::{decode, encode, joined};

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
