//! An edge that lies. Whatever it says, the upstream sees only what control allows (R6).

use std::time::Duration;

use crate::support;
use crate::support::agent::Scene;
use crate::support::edge::{Order, head, raw_exchange};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, route};
use bytes::Bytes;
use http::HeaderValue;
use mezusphere_model::id::{EnvironmentId, ProjectId, RouteId};
use mezusphere_model::route::{AuthMode, RouteDoc};
use mezusphere_model::slug::Slug;
use mezusphere_pki::NodeKey;
use tunnel_proto::assertion::{self, Audience, Claims};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::FailureCode::{
    AssertionInvalid, Denied, RequestMalformed, UnknownPrincipal, UnknownRevision, UnknownRoute,
    UnknownUpstream,
};
use tunnel_proto::exchange::{Encoder, FailureCode, IdentityRef, RequestHead};
use tunnel_proto::jws::SigningKey;

fn full(assertion: Bytes) -> IdentityRef {
    IdentityRef::Full { slot: 1, assertion }
}

fn private(identity: IdentityRef) -> RequestHead {
    RequestHead { identity, ..head("GET", "/private/x", 2) }
}

#[tokio::test]
async fn r06_nothing_an_edge_makes_up_reaches_the_upstream() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let platform = &scene.platform;
    let before = seen.requests().len();

    let forging = SigningKey::from_pkcs8(NodeKey::generate().unwrap().pkcs8_der()).unwrap();
    let claims = platform.claims(&["customer"]);
    let forged = Bytes::from(assertion::sign(&forging, &claims).unwrap());
    // The key id of the real key over the forger's signature.
    let real = platform.sign_claims(&claims);
    let parts =
        |jws: &Bytes| std::str::from_utf8(jws).unwrap().split('.').map(str::to_owned).collect::<Vec<_>>();
    let swapped = Bytes::from(format!("{}.{}", parts(&real)[..2].join("."), parts(&forged)[2]));
    let unsigned = Bytes::from(format!("{}.", parts(&real)[..2].join(".")));
    let foreign = |audience: Audience| {
        let claims = Claims { aud: audience.to_string(), ..claims.clone() };
        platform.sign_claims(&claims)
    };
    let other_project = Audience { project: ProjectId::from_bits(1), ..platform.audience };
    let other_environment = Audience { environment: EnvironmentId::from_bits(1), ..platform.audience };
    let now = platform.now();
    let lived = |from: i64, to: i64| {
        let (iat, exp) = (now.as_seconds() + from, now.as_seconds() + to);
        platform.sign_claims(&Claims { iat, exp, ..claims.clone() })
    };
    let elsewhere = RequestHead { authority: "other.localhost:8443".into(), ..head("GET", "/", 1) };
    let no_route = RequestHead { route: RouteId::from_bits(99), ..head("GET", "/", 1) };
    let upgrade = RequestHead { upgrade: Some("websocket".into()), ..head("POST", "/", 1) };
    let no_token = RequestHead { upgrade: Some("a b".into()), ..head("GET", "/", 1) };
    let newer = RequestHead { revision: 7, ..head("GET", "/", 1) };
    let role =
        RequestHead { identity: full(platform.assertion(&["visitor"])), ..head("GET", "/customers/1", 3) };
    let optional = RequestHead { identity: full(forged.clone()), ..head("GET", "/maybe/x", 5) };

    let rows: Vec<(&str, RequestHead, FailureCode)> = vec![
        ("no assertion", private(IdentityRef::None), Denied),
        ("forged by another key", private(full(forged.clone())), AssertionInvalid),
        ("a signature of another key", private(full(swapped)), AssertionInvalid),
        ("no signature", private(full(unsigned)), AssertionInvalid),
        ("not an assertion", private(full(Bytes::from_static(b"x"))), AssertionInvalid),
        ("not even text", private(full(Bytes::from_static(b"\xff\xfe"))), AssertionInvalid),
        ("another project's", private(full(foreign(other_project))), AssertionInvalid),
        ("another environment's", private(full(foreign(other_environment))), AssertionInvalid),
        ("expired", private(full(lived(-3600, -1))), AssertionInvalid),
        ("expires now", private(full(lived(-60, 0))), AssertionInvalid),
        ("from the future", private(full(lived(3600, 7200))), AssertionInvalid),
        ("a slot never sent", private(IdentityRef::Known(42)), UnknownPrincipal),
        ("without the role", role, Denied),
        ("forged on an optional route", optional, AssertionInvalid),
        ("\"public\" claimed for a protected path", head("GET", "/private/x", 1), UnknownRoute),
        ("a protected path spelt otherwise", head("GET", "/x/../private/x", 1), UnknownRoute),
        ("a protected path percent-encoded", head("GET", "/%70rivate/x", 1), UnknownRoute),
        ("a protected path with two slashes", head("GET", "//private/x", 1), UnknownRoute),
        ("a route that is not in the bundle", no_route, UnknownRoute),
        ("a host of another environment", elsewhere, UnknownRoute),
        ("an upstream that was not declared", head("GET", "/elsewhere", 4), UnknownUpstream),
        ("a bundle that never comes", newer, UnknownRevision),
        ("a WebSocket that begins with POST", upgrade, RequestMalformed),
        ("a switch to what is no protocol", no_token, RequestMalformed),
        ("CONNECT", head("CONNECT", "/", 1), RequestMalformed),
        ("no path", head("OPTIONS", "*", 1), RequestMalformed),
        ("NUL in the path", head("GET", "/a%00b", 1), RequestMalformed),
        ("a control character in the path", head("GET", "/a\u{1}b", 1), RequestMalformed),
        ("a bare percent", head("GET", "/a%zz", 1), RequestMalformed),
        ("a backslash", head("GET", "/a\\b", 1), RequestMalformed),
        ("a fragment", head("GET", "/a?b#c", 1), RequestMalformed),
        ("a line break in the query", head("GET", "/a?b\r\nx: y", 1), RequestMalformed),
        ("a space in the query", head("GET", "/a?b HTTP/1.1", 1), RequestMalformed),
    ];
    for (what, head, code) in rows {
        let answer = scene.tunnel.get(&head).await;
        match answer.failure {
            Some(failure) => {
                assert_eq!(failure.code, code, "{what}: {}", failure.detail);
                assert!(!failure.started, "{what}");
            }
            // What the frame itself may not hold ends the stream instead.
            None => assert_eq!((code, answer.reset), (RequestMalformed, Some(ResetCode::Protocol)), "{what}"),
        }
        assert_eq!(seen.requests().len(), before, "{what} reached the upstream");
    }
    let honest = private(full(platform.assertion(&[])));
    assert_eq!(scene.tunnel.get(&honest).await.status.unwrap(), 200, "the honest one still passes");
}

#[tokio::test]
async fn r06_a_remembered_identity_ends_with_its_assertion() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    assert_eq!(scene.tunnel.get(&private(full(scene.platform.assertion(&[])))).await.status.unwrap(), 200);
    assert_eq!(scene.tunnel.get(&private(IdentityRef::Known(1))).await.status.unwrap(), 200);
    let before = seen.requests().len();
    scene.platform.hand.advance(Duration::from_mins(31));
    let expired = scene.tunnel.get(&private(IdentityRef::Known(1))).await.failure.unwrap();
    assert_eq!(expired.code, AssertionInvalid);
    let again = scene.tunnel.get(&private(IdentityRef::Known(1))).await.failure.unwrap();
    assert_eq!(again.code, UnknownPrincipal, "and is forgotten");
    assert_eq!(seen.requests().len(), before);
}

#[tokio::test]
async fn r06_a_taken_slot_is_not_given_to_somebody_else() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    scene.tunnel.get(&private(full(scene.platform.assertion(&["first"])))).await;
    scene.tunnel.get(&private(full(scene.platform.assertion(&["second"])))).await;
    scene.tunnel.get(&private(IdentityRef::Known(1))).await;
    let roles: Vec<_> =
        seen.requests().iter().map(|request| upstream::values(request, "mezu-roles").join("")).collect();
    assert_eq!(roles[roles.len() - 3..], ["first", "second", "first"]);
}

#[tokio::test]
async fn r06_identities_do_not_outlive_the_keys_they_were_verified_with() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let old = scene.platform.assertion(&[]);
    assert_eq!(scene.tunnel.get(&private(full(old.clone()))).await.status.unwrap(), 200);
    let other = SigningKey::from_pkcs8(NodeKey::generate().unwrap().pkcs8_der()).unwrap();
    scene.platform.publish(|_| {});
    let mut bundle = scene.platform.bundle();
    bundle.assertion_jwks = tunnel_proto::jws::Jwk::write_set(&[other.public().clone()]);
    scene.tunnel.order(Order::Bundle(scene.platform.sign_as_control(&bundle))).await;
    let known = RequestHead { revision: 2, ..private(IdentityRef::Known(1)) };
    assert_eq!(scene.tunnel.get(&known).await.failure.unwrap().code, UnknownPrincipal);
    let again = RequestHead { revision: 2, ..private(full(old)) };
    assert_eq!(scene.tunnel.get(&again).await.failure.unwrap().code, AssertionInvalid);
}

#[tokio::test]
async fn r06_only_control_can_publish_a_bundle_and_never_an_older_one() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let platform = &scene.platform;
    let opened = |site: &mut mezusphere_model::route::SiteDoc| {
        site.routes = vec![route(2, "/*", AuthMode::Public)];
    };
    let mut bundle = platform.bundle();
    opened(&mut bundle.site);
    bundle.site.revision = 9;
    // Signed with an edge's own certificate: the right CA, the wrong role.
    let by_edge = Platform::sign(&bundle, &scene.edge.identity.get());
    scene.tunnel.order(Order::Bundle(by_edge)).await;
    // Signed by the control of another installation.
    let stranger = Platform::new();
    scene.tunnel.order(Order::Bundle(stranger.sign_as_control(&bundle))).await;
    // Control's own, with another label.
    let mut mislabelled = platform.signed_bundle();
    mislabelled.revision = 9;
    scene.tunnel.order(Order::Bundle(mislabelled)).await;
    // Another environment's, properly signed.
    let mut other = platform.bundle();
    other.site.environment = EnvironmentId::from_bits(3);
    other.site.revision = 9;
    scene.tunnel.order(Order::Bundle(platform.sign_as_control(&other))).await;
    let head = RequestHead { revision: 9, ..private(IdentityRef::None) };
    assert_eq!(scene.tunnel.get(&head).await.failure.unwrap().code, UnknownRevision);

    // A newer one of control, and then the older one again.
    let old = platform.signed_bundle();
    let newer = platform.publish(|site| site.routes.retain(|route| route.id != RouteId::from_bits(1)));
    scene.tunnel.order(Order::Bundle(newer)).await;
    scene.agent.event("routes_changed").await;
    scene.tunnel.order(Order::Bundle(old)).await;
    let removed = RequestHead { revision: 1, ..support::edge::head("GET", "/", 1) };
    assert_eq!(scene.tunnel.get(&removed).await.failure.unwrap().code, UnknownRoute);
}

#[tokio::test]
async fn an_exchange_waits_a_moment_for_the_bundle_it_was_decided_on() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let newer = scene.platform.publish(|site| site.routes.push(route(6, "/new", AuthMode::Public)));
    let head = RequestHead { revision: 2, ..head("GET", "/new", 6) };
    let (answer, ()) = tokio::join!(scene.tunnel.get(&head), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.tunnel.order(Order::Bundle(newer)).await;
    });
    assert_eq!(answer.status.unwrap(), 200);
    let changed = scene.agent.event("routes_changed").await;
    assert_eq!(changed["added"][0]["address"], "https://shop.localhost:8443/new");
    assert_eq!(changed["revision"], 2);
}

#[tokio::test]
async fn r06_a_route_this_version_cannot_read_is_closed() {
    let (address, seen) = upstream::fixed(OK).await;
    let platform = Platform::new();
    platform
        .site
        .lock()
        .unwrap()
        .routes
        .push(RouteDoc { min_reader: 99, ..route(6, "/strict/*", AuthMode::Public) });
    let scene = Scene::on(platform, address).await;
    let before = seen.requests().len();
    let failure = scene.tunnel.get(&head("GET", "/strict/x", 6)).await.failure.unwrap();
    assert_eq!(failure.code, UnknownRoute);
    assert_eq!(seen.requests().len(), before);
}

#[tokio::test]
async fn r07_a_length_that_lies_cannot_smuggle_a_second_request() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let before = seen.requests().len();
    let with_lengths = |lengths: &[&'static str]| {
        let mut head = head("POST", "/", 1);
        for length in lengths {
            head.headers.append("content-length", HeaderValue::from_static(length));
        }
        head
    };
    // Announced, and nothing follows: the upstream would take the next request for the body.
    for lengths in [&["5"][..], &["5", "5"], &["-1"], &["+5"], &["5, 5"], &["0x5"], &[""]] {
        let failure = scene.tunnel.get(&with_lengths(lengths)).await.failure.unwrap();
        assert_eq!(failure.code, RequestMalformed, "{lengths:?}");
    }
    assert_eq!(seen.requests().len(), before);
    // A body longer or shorter than announced: what is over never arrives, and the connection is not used again.
    let smuggled: &[u8] = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    for (length, pieces) in [("3", [b"abc".as_slice(), smuggled]), ("999", [b"abc".as_slice(), b"d"])] {
        let answer = scene.tunnel.send(&with_lengths(&[length]), &pieces).await;
        assert!(answer.status.is_none() || answer.complete);
        assert_eq!(scene.tunnel.get(&head("GET", "/after", 1)).await.body, b"hello");
    }
    assert!(!seen.requests().iter().any(|request| request.contains("smuggled")));
    // Framing of its own.
    let mut chunked = with_lengths(&["3"]);
    chunked.headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
    scene.tunnel.send(&chunked, &[b"abc"]).await;
    let request = seen.requests().pop().unwrap();
    assert!(!request.contains("transfer-encoding"), "{request}");
}

#[tokio::test]
async fn r24_frames_that_make_no_sense_end_one_exchange_only() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let before = seen.requests().len();
    let mut response = Encoder::new();
    let status = http::StatusCode::OK;
    response
        .response(&tunnel_proto::exchange::ResponseHead { status, headers: http::HeaderMap::new() }, true)
        .unwrap();
    let mut data_first = Encoder::new();
    data_first.data(b"abc");
    let mut half = Encoder::new();
    half.request(&head("GET", "/", 1), true).unwrap();
    let mut half = half.take();
    half.truncate(half.len() / 2);
    for bytes in [response.take(), data_first.take(), half, Bytes::new(), Bytes::from(vec![0xff; 5000])] {
        let answer = raw_exchange(&scene.tunnel.connection, bytes).await;
        assert!(answer.status.is_none() && answer.reset.is_some(), "{answer:?}");
    }
    assert_eq!(seen.requests().len(), before);
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200, "the tunnel lives on");
}

#[tokio::test]
async fn an_undeclared_upstream_is_shown_and_declared_ones_are_told_to_the_edge() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let hello = scene.edge.hellos().remove(0);
    assert_eq!(hello.upstreams, [Slug::parse("default").unwrap()]);
    assert_eq!(hello.bundle_revision, 1);
    let routes = scene.agent.event("routes").await;
    let elsewhere =
        routes["routes"].as_array().unwrap().iter().find(|route| route["upstream"] == "elsewhere").unwrap();
    assert!(elsewhere["target"].is_null());
}
