//! Whole exchanges between an edge half and a warpgate half, without sockets: identity by slot, out of order, and
//! what a lying or forgetful side achieves.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mezusphere_model::Timestamp;
use mezusphere_model::id::{EnvironmentId, ProjectId, RequestId, RouteId, SessionId, UserId};
use mezusphere_model::identity;
use mezusphere_model::identity::{Assurance, Identity, Subject};
use tunnel_proto::assertion::{self, Audience, Claims};
use tunnel_proto::exchange::{
    Decoder, Encoder, Event, Failure, FailureCode, IdentityRef, RequestHead, ResponseHead, Scheme, Truncated,
};
use tunnel_proto::headers;
use tunnel_proto::jws::{Jwk, SigningKey};
use tunnel_proto::principals::{Known, Sent};

const AUDIENCE: Audience =
    Audience { project: ProjectId::from_bits(1), environment: EnvironmentId::from_bits(2) };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_000_000 + seconds)
}

fn key() -> SigningKey {
    SigningKey::from_pair(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()).unwrap()
}

fn user(bits: u128) -> Identity {
    Identity {
        subject: Subject::User(UserId::from_bits(bits)),
        session: Some(SessionId::from_bits(bits)),
        email: format!("u{bits}@shop.example"),
        name: "Ada".to_owned(),
        roles: vec![],
        permissions: vec![],
        methods: vec![identity::Method::Password],
        assurance: Assurance::Aal1,
        authenticated_at: at(0),
        claims: std::collections::BTreeMap::new(),
    }
}

/// The edge's half of one tunnel: it carries assertions and cannot make any.
struct Edge {
    sent: Sent<u128>,
}

impl Edge {
    fn ask(&mut self, session: u128, assertion: &Bytes) -> Bytes {
        let head = RequestHead {
            request: RequestId::from_bits(1),
            route: RouteId::from_bits(2),
            revision: 3,
            client: [192, 0, 2, 1].into(),
            scheme: Scheme::Https,
            authority: "shop.example".to_owned(),
            method: Method::GET,
            target: "/".to_owned(),
            headers: HeaderMap::new(),
            identity: self.sent.refer(&session, assertion),
            upgrade: None,
        };
        let mut encoder = Encoder::new();
        encoder.request(&head, true).unwrap();
        encoder.take()
    }
}

/// The warpgate's half of one tunnel: it answers with whom it took the request for.
struct Gate {
    keys: Vec<Jwk>,
    known: Known<Claims>,
    now: Timestamp,
    acknowledge: Vec<u64>,
}

impl Gate {
    fn answer(&mut self, request: Bytes) -> Bytes {
        let mut decoder = Decoder::requests();
        decoder.push(request);
        let Ok(Some(Event::Request { head, end: true })) = decoder.poll() else { panic!("a request") };
        assert_eq!((decoder.poll(), decoder.finish()), (Ok(None), Ok(())));
        let mut encoder = Encoder::new();
        match self.identify(&head.identity) {
            Ok(claims) => {
                let mut headers = HeaderMap::new();
                headers::set_identity(&mut headers, claims.as_ref().map(|claims| (claims, "jws")));
                encoder.response(&ResponseHead { status: StatusCode::OK, headers }, true).unwrap();
            }
            Err(code) => encoder.failure(&Failure { code, detail: String::new(), started: false }),
        }
        encoder.take()
    }

    fn identify(&mut self, identity: &IdentityRef) -> Result<Option<Claims>, FailureCode> {
        match identity {
            IdentityRef::None => Ok(None),
            IdentityRef::Known(slot) => match self.known.get(*slot) {
                Some(claims) if self.now < claims.expires_at() => Ok(Some(claims.clone())),
                _ => Err(FailureCode::UnknownPrincipal),
            },
            IdentityRef::Full { slot, assertion } => {
                let jws = std::str::from_utf8(assertion).map_err(|_| FailureCode::AssertionInvalid)?;
                let claims = assertion::verify(jws, &self.keys, AUDIENCE, self.now)
                    .map_err(|_| FailureCode::AssertionInvalid)?;
                if self.known.remember(*slot, claims.clone()) {
                    self.acknowledge.push(*slot);
                }
                Ok(Some(claims))
            }
        }
    }
}

/// Whom the workload saw, or why it saw nobody.
fn read(response: Bytes) -> Result<String, FailureCode> {
    let mut decoder = Decoder::responses();
    decoder.push(response);
    let outcome = match decoder.poll() {
        Ok(Some(Event::Response { head, end: true })) => {
            Ok(head.headers["mezu-user-email"].to_str().unwrap().to_owned())
        }
        Ok(Some(Event::Failure(failure))) => Err(failure.code),
        other => panic!("{other:?}"),
    };
    assert_eq!((decoder.poll(), decoder.finish()), (Ok(None), Ok(())));
    outcome
}

fn tunnel(key: &SigningKey) -> (Edge, Gate) {
    let gate =
        Gate { keys: vec![key.public().clone()], known: Known::new(), now: at(1), acknowledge: vec![] };
    (Edge { sent: Sent::new() }, gate)
}

fn assert_for(key: &SigningKey, bits: u128) -> Bytes {
    let claims = Claims::from_identity(&user(bits), "spiffe://mezu.internal", AUDIENCE, at(0));
    assertion::sign(key, &claims).unwrap().into()
}

#[test]
fn an_assertion_travels_once_and_a_slot_after_that() {
    let key = key();
    let (mut edge, mut gate) = tunnel(&key);
    let ada = assert_for(&key, 1);
    let (first, second) = (edge.ask(1, &ada), edge.ask(1, &ada));
    assert!(first.len() > ada.len() && second.len() > ada.len(), "not acknowledged yet");
    assert_eq!(read(gate.answer(first)), Ok("u1@shop.example".to_owned()));
    assert_eq!(read(gate.answer(second)), Ok("u1@shop.example".to_owned()));
    assert_eq!(gate.acknowledge, [1], "once");
    edge.sent.acknowledge(1);
    let third = edge.ask(1, &ada);
    assert!(third.len() < 100, "{} octets", third.len());
    assert_eq!(read(gate.answer(third)), Ok("u1@shop.example".to_owned()));
}

#[test]
fn r06_streams_out_of_order_never_turn_one_user_into_another() {
    let key = key();
    let (mut edge, mut gate) = tunnel(&key);
    let (ada, bob) = (assert_for(&key, 1), assert_for(&key, 2));
    let _lost = edge.ask(1, &ada);
    edge.sent.acknowledge(1);
    let by_slot = edge.ask(1, &ada);
    edge.sent.forget(&1);
    let full_bob = edge.ask(2, &bob);
    // The request by slot overtakes the one that introduces it.
    assert_eq!(read(gate.answer(full_bob)), Ok("u2@shop.example".to_owned()));
    assert_eq!(read(gate.answer(by_slot)), Err(FailureCode::UnknownPrincipal));
    assert_eq!(read(gate.answer(edge.ask(1, &ada))), Ok("u1@shop.example".to_owned()));
}

#[test]
fn a_warpgate_that_forgot_is_told_again() {
    let key = key();
    let (mut edge, mut gate) = tunnel(&key);
    let ada = assert_for(&key, 1);
    assert!(read(gate.answer(edge.ask(1, &ada))).is_ok());
    edge.sent.acknowledge(1);
    gate.known = Known::new();
    assert_eq!(read(gate.answer(edge.ask(1, &ada))), Err(FailureCode::UnknownPrincipal));
    edge.sent.forget(&1);
    assert_eq!(read(gate.answer(edge.ask(1, &ada))), Ok("u1@shop.example".to_owned()));
    assert_eq!(gate.acknowledge, [1, 2]);
}

#[test]
fn r06_a_lying_edge_gains_nobody() {
    let (key, own) = (key(), key());
    let (mut edge, mut gate) = tunnel(&key);
    let forged = assert_for(&own, 1);
    assert_eq!(
        read(gate.answer(edge.ask(1, &forged))),
        Err(FailureCode::AssertionInvalid),
        "its own signature"
    );
    let claims = Claims::from_identity(
        &user(1),
        "spiffe://mezu.internal",
        Audience { project: ProjectId::from_bits(9), ..AUDIENCE },
        at(0),
    );
    let foreign: Bytes = assertion::sign(&key, &claims).unwrap().into();
    assert_eq!(
        read(gate.answer(edge.ask(2, &foreign))),
        Err(FailureCode::AssertionInvalid),
        "another project's"
    );
    edge.sent.acknowledge(2);
    assert_eq!(
        read(gate.answer(edge.ask(2, &foreign))),
        Err(FailureCode::UnknownPrincipal),
        "a slot never granted"
    );
}

#[test]
fn r06_a_remembered_identity_ends_with_its_assertion() {
    let key = key();
    let (mut edge, mut gate) = tunnel(&key);
    let ada = assert_for(&key, 1);
    assert!(read(gate.answer(edge.ask(1, &ada))).is_ok());
    edge.sent.acknowledge(1);
    gate.now = at(30 * 60 - 1);
    assert!(read(gate.answer(edge.ask(1, &ada))).is_ok());
    gate.now = at(30 * 60);
    assert_eq!(read(gate.answer(edge.ask(1, &ada))), Err(FailureCode::UnknownPrincipal));
    edge.sent.forget(&1);
    assert_eq!(read(gate.answer(edge.ask(1, &ada))), Err(FailureCode::AssertionInvalid));
}

#[test]
fn an_upload_and_its_answer_stream_both_ways_at_once() {
    let (mut up, mut down) = (Encoder::new(), Encoder::new());
    let (mut at_gate, mut at_edge) = (Decoder::requests(), Decoder::responses());
    let mut edge = Edge { sent: Sent::new() };
    let mut begin = edge.ask(1, &Bytes::from_static(b"x"));
    // The same head without its end flag.
    let flags = 5;
    begin = [&begin[..flags], &[0], &begin[flags + 1..]].concat().into();
    at_gate.push(begin);
    assert!(matches!(at_gate.poll(), Ok(Some(Event::Request { end: false, .. }))));
    down.response(&ResponseHead { status: StatusCode::OK, headers: HeaderMap::new() }, false).unwrap();
    for n in 0..10_u8 {
        up.data(&[n; 1000]);
        at_gate.push(up.take());
        let Ok(Some(Event::Data(piece))) = at_gate.poll() else { panic!("a piece") };
        assert_eq!(at_gate.poll(), Ok(None));
        down.data(&piece);
        at_edge.push(down.take());
        while let Ok(Some(event)) = at_edge.poll() {
            assert!(
                matches!(event, Event::Response { .. }) || event == Event::Data(Bytes::from(vec![n; 1000]))
            );
        }
    }
    assert_eq!((at_gate.finish(), at_edge.finish()), (Err(Truncated), Err(Truncated)), "neither has ended");
    up.trailers(&HeaderMap::new()).unwrap();
    down.end();
    at_gate.push(up.take());
    at_edge.push(down.take());
    assert_eq!((at_gate.poll(), at_gate.finish()), (Ok(Some(Event::Trailers(HeaderMap::new()))), Ok(())));
    assert_eq!((at_edge.poll(), at_edge.finish()), (Ok(Some(Event::End)), Ok(())));
}
