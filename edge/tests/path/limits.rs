//! How much a request may ask for, the same on every protocol.

use std::time::Duration;

use ::http::header::{COOKIE, HOST, RETRY_AFTER};
use ::http::{Method, Request, Response};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use mezusphere_edge::http::{Body, BoxError, Protocol};
use mezusphere_model::route::{AuthMode, RouteDoc};
use mezusphere_model::rules::{ProjectQuota, Rate, RateKey, RouteLimits};

use crate::warpgate::Exchange;
use crate::world::{SHOP, World, code, connection, empty, get, get_as, read, request, route};

const PROTOCOLS: [Protocol; 3] = [Protocol::H1, Protocol::H2, Protocol::H3];

async fn echo(mut exchange: Exchange) {
    if let Some((body, _)) = exchange.body().await {
        exchange.respond(200, &[], &body).await;
    }
}

fn limited(n: u128, path: &str, auth: AuthMode, limits: RouteLimits) -> RouteDoc {
    RouteDoc { min_reader: 2, limits, ..route(n, path, auth) }
}

fn rate(text: &str) -> RouteLimits {
    RouteLimits { rate: Some(text.parse::<Rate>().unwrap()), ..RouteLimits::default() }
}

fn body_max(octets: u64) -> RouteLimits {
    RouteLimits { body_max: Some(octets), ..RouteLimits::default() }
}

/// A body of so many pieces of 1000 octets, of which nobody says how long it will be.
fn stream(pieces: usize) -> Body {
    let piece = || Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'x'; 1000])));
    Body::new(StreamBody::new(futures_util::stream::iter((0..pieces).map(move |_| piece()))))
}

fn post(path: &str, length: Option<&str>, body: Body) -> Request<Body> {
    let fields: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
    request(Method::POST, path, &fields, body)
}

/// Sends a request as its protocol writes it: on HTTP/1.1 the host is in a field.
async fn on(world: &World, mut request: Request<Body>, protocol: Protocol) -> Response<Body> {
    if protocol == Protocol::H1 {
        request.headers_mut().insert(HOST, format!("{SHOP}:8443").parse().unwrap());
    }
    world.send_on(request, protocol).await
}

#[tokio::test]
async fn r23_a_body_too_long_is_refused_by_its_length_and_cut_where_nobody_said_it_on_every_protocol() {
    let (world, warpgate) = World::with_warpgate(echo).await;
    world
        .publish(|site| {
            site.routes.push(limited(20, "/small/*", AuthMode::Public, body_max(2500)));
            site.routes.push(limited(21, "/none/*", AuthMode::Public, body_max(0)));
        })
        .await;
    let too_large = (413, "edge.body_too_large".to_owned());
    for protocol in PROTOCOLS {
        let said = on(&world, post("/small/x", Some("3000"), stream(3)), protocol).await;
        assert_eq!(code(said).await, too_large, "{protocol}");
    }
    assert!(warpgate.seen().is_empty(), "not a byte of it reached the upstream");
    for protocol in PROTOCOLS {
        let unsaid = on(&world, post("/small/x", None, stream(3)), protocol).await;
        assert_eq!(code(unsaid).await, too_large, "{protocol}");
        for fits in [post("/small/x", None, stream(2)), post("/small/x", Some("2000"), stream(2))] {
            let (status, _, body) = read(on(&world, fits, protocol).await).await;
            assert_eq!((status.as_u16(), body.len()), (200, 2000), "{protocol}");
        }
        assert_eq!(code(on(&world, post("/none/x", None, stream(1)), protocol).await).await, too_large);
        assert_eq!(on(&world, get("/none/x"), protocol).await.status(), 200, "none is no body too long");
    }
}

#[tokio::test]
async fn r23_a_rate_by_address_holds_before_anybody_is_asked_who_they_are_on_every_protocol() {
    let (world, warpgate) = World::with_warpgate(echo).await;
    world
        .publish(|site| site.routes.push(limited(20, "/slow/*", AuthMode::Required, rate("60/min:3"))))
        .await;
    for protocol in PROTOCOLS {
        assert_eq!(
            on(&world, get("/slow/x"), protocol).await.status(),
            401,
            "counted, and refused for itself"
        );
    }
    for protocol in PROTOCOLS {
        let refused = on(&world, get("/slow/x"), protocol).await;
        assert_eq!(refused.headers()[RETRY_AFTER], "1");
        assert_eq!(code(refused).await, (429, "edge.rate_limited".to_owned()), "{protocol}");
    }
    let from = async |client: &str| {
        let mut info = connection(Protocol::H2);
        info.client = client.parse().unwrap();
        world.server.handle(get("/slow/x"), &info).await.status().as_u16()
    };
    assert_eq!(from("192.0.2.200:1").await, 429, "the same /24");
    assert_eq!(from("192.0.3.1:1").await, 401);
    assert_eq!(world.send(get("/public/x")).await.status(), 200, "other routes go on");
    world.hand.advance(Duration::from_secs(1));
    assert_eq!(world.send(get("/slow/x")).await.status(), 401, "one for every second");
    assert_eq!(world.send(get("/slow/x")).await.status(), 429);
    assert_eq!(warpgate.seen().len(), 1);
    let metrics = world.metrics.encode();
    assert!(metrics.contains("test_edge_rate_limited_total{by=\"address\"} 5"), "{metrics}");
    assert!(
        metrics.contains("test_edge_refusals_total{code=\"edge.rate_limited\",hop=\"client\"} 5"),
        "{metrics}"
    );
}

#[tokio::test]
async fn r23_a_rate_by_caller_counts_each_caller_and_a_rate_of_the_route_counts_all() {
    let (world, _warpgate) = World::with_warpgate(echo).await;
    world
        .publish(|site| {
            site.routes.push(limited(20, "/mine/*", AuthMode::Optional, rate("60/min:2@caller")));
            site.routes.push(limited(21, "/ours/*", AuthMode::Public, rate("60/min:2@route")));
        })
        .await;
    let cookie = world.sign_in(&["customer"]);
    let key = format!("Bearer {}", world.api_key(|_| {}));
    world.settle().await;
    let person = || request(Method::GET, "/mine/x", &[(COOKIE.as_str(), &cookie)], empty());
    let machine = || request(Method::GET, "/mine/x", &[("authorization", &key)], empty());
    let stranger = || get("/mine/x");
    let all: [&dyn Fn() -> Request<Body>; 3] = [&person, &machine, &stranger];
    for who in all {
        assert_eq!(world.send(who()).await.status(), 200);
        assert_eq!(world.send(who()).await.status(), 200);
        assert_eq!(world.send(who()).await.status(), 429);
    }
    assert_eq!(world.send(get("/ours/x")).await.status(), 200);
    assert_eq!(world.send(get_as("/ours/x", &cookie)).await.status(), 200);
    assert_eq!(world.send(get("/ours/x")).await.status(), 429);
    assert_eq!(RateKey::Route.as_str(), "route");
}

#[tokio::test]
async fn r23_a_projects_quota_is_refused_with_when_to_come_back_and_touches_no_other_project() {
    let (world, _warpgate) = World::with_warpgate(echo).await;
    let quota = ProjectQuota { requests_per_second: Some(4), exchanges: None };
    world.publish(|site| site.quota = quota).await;
    for protocol in PROTOCOLS {
        assert_eq!(on(&world, get("/public/x"), protocol).await.status(), 200);
    }
    assert_eq!(world.send(get("/customer/x")).await.status(), 401, "what goes no further uses nothing up");
    assert_eq!(world.send(get("/public/x")).await.status(), 200);
    for protocol in PROTOCOLS {
        let refused = on(&world, get("/public/x"), protocol).await;
        assert_eq!(refused.headers()[RETRY_AFTER], "1");
        assert!(refused.headers()["mezu-error"].to_str().unwrap().contains("; hop=edge; "));
        assert_eq!(code(refused).await, (503, "edge.project_busy".to_owned()), "{protocol}");
    }
    world.publish_blog(|site| site.routes[0].auth = AuthMode::Public).await;
    let other = request(Method::GET, "https://blog.localhost:8443/x", &[], empty());
    assert_eq!(code(world.send(other).await).await.1, "edge.no_tunnel", "the other project's own trouble");
    world.hand.advance(Duration::from_millis(250));
    assert_eq!(world.send(get("/public/x")).await.status(), 200);
}
