//! What a route answers at the edge: CORS, maintenance, redirects; and whose pages may switch protocols.

use ::http::header::{COOKIE, LOCATION, ORIGIN, RETRY_AFTER};
use ::http::{HeaderMap, Method, Request};
use mezusphere_edge::http::{Body, Upgrade};
use mezusphere_model::route::{AuthMode, RouteDoc};
use mezusphere_model::rules::{
    CorsRule, EdgeAnswer, Maintenance, Origin, Redirect, RedirectStatus, RouteRules,
};

use crate::warpgate::Exchange;
use crate::world::{SHOP, World, code, empty, get, get_as, read, request, route};

const APP: &str = "https://app.example";
const OWN: &str = "https://shop.localhost:8443";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";

/// An upstream that lets everybody read everything, and says so.
async fn generous(exchange: Exchange) {
    let fields = [
        (ALLOW_ORIGIN, "*"),
        ("access-control-allow-credentials", "true"),
        ("vary", "accept"),
        ("content-length", "2"),
    ];
    exchange.respond(200, &fields, b"ok").await;
}

fn with(n: u128, path: &str, auth: AuthMode, rules: RouteRules) -> RouteDoc {
    RouteDoc { min_reader: 2, rules, ..route(n, path, auth) }
}

fn cors(origin: &str, credentials: bool) -> RouteRules {
    let rule = CorsRule {
        origins: vec![Origin::parse(origin).unwrap()],
        methods: vec!["PUT".to_owned()],
        headers: vec!["x-token".to_owned()],
        expose: vec!["x-total".to_owned()],
        credentials,
        max_age_s: 600,
    };
    RouteRules { cors: Some(rule), ..RouteRules::default() }
}

fn answer(answer: EdgeAnswer) -> RouteRules {
    RouteRules { answer: Some(answer), ..RouteRules::default() }
}

fn preflight(path: &str, origin: &str, method: &str) -> Request<Body> {
    let fields = [("origin", origin), ("access-control-request-method", method)];
    request(Method::OPTIONS, path, &fields, empty())
}

fn from(origin: &str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert(ORIGIN, origin.parse().unwrap());
    request
}

/// A request for a switch to WebSocket.
fn switch(mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Upgrade::to(Upgrade::WEBSOCKET).unwrap());
    request
}

fn texts<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn a_preflight_of_a_protected_route_is_answered_at_the_edge_without_credentials() {
    let (world, warpgate) = World::with_warpgate(generous).await;
    let mut only_put = with(20, "/api/*", AuthMode::Required, cors(APP, true));
    only_put.methods = vec!["PUT".to_owned()];
    world.publish(|site| site.routes.push(only_put)).await;
    let (status, headers, body) = read(world.send(preflight("/api/x", APP, "PUT")).await).await;
    assert_eq!((status.as_u16(), body.len()), (204, 0));
    let rows = [
        (ALLOW_ORIGIN, APP),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, HEAD, POST, PUT"),
        ("access-control-allow-headers", "x-token"),
        ("access-control-max-age", "600"),
        ("vary", "origin"),
    ];
    for (name, value) in rows {
        assert_eq!(texts(&headers, name), [value], "{name}");
    }
    assert!(
        !headers.contains_key("content-length") && !headers.contains_key("access-control-expose-headers")
    );
    let refused = world.send(preflight("/api/x", "https://evil.example", "PUT")).await;
    assert!(!refused.headers().contains_key(ALLOW_ORIGIN));
    assert_eq!(code(refused).await, (403, "edge.origin_refused".to_owned()));
    assert!(warpgate.seen().is_empty(), "no upstream ever hears of it");
}

#[tokio::test]
async fn without_a_rule_a_preflight_is_a_request_like_any_other() {
    let (world, warpgate) = World::with_warpgate(generous).await;
    world.settle().await;
    let (status, headers, _) = read(world.send(preflight("/public/x", APP, "PUT")).await).await;
    assert_eq!((status.as_u16(), texts(&headers, ALLOW_ORIGIN)), (200, vec!["*"]));
    assert_eq!(warpgate.seen().len(), 1);
    assert_eq!(code(world.send(preflight("/x", APP, "PUT")).await).await.0, 401);
}

#[tokio::test]
async fn the_rule_speaks_for_the_route_on_every_answer_the_upstreams_and_our_own() {
    let (world, warpgate) = World::with_warpgate(generous).await;
    world
        .publish(|site| {
            site.routes.push(with(20, "/api/*", AuthMode::Required, cors(APP, true)));
            site.routes.push(with(21, "/open/*", AuthMode::Public, cors(APP, false)));
        })
        .await;
    let refused = world.send(from(APP, get("/api/x"))).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(texts(refused.headers(), ALLOW_ORIGIN), [APP], "a page can read the 401");
    assert_eq!(texts(refused.headers(), "vary"), ["origin"]);
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let answered = world.send(from(APP, get_as("/api/x", &cookie))).await;
    assert_eq!(answered.status(), 200);
    assert_eq!(texts(answered.headers(), ALLOW_ORIGIN), [APP], "not the upstream's star");
    assert_eq!(texts(answered.headers(), "access-control-allow-credentials"), ["true"]);
    assert_eq!(texts(answered.headers(), "access-control-expose-headers"), ["x-total"]);
    assert_eq!(texts(answered.headers(), "vary"), ["accept", "origin"]);
    for request in [from("https://evil.example", get("/open/x")), get("/open/x")] {
        let (status, headers, _) = read(world.send(request).await).await;
        assert_eq!(status, 200);
        assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{headers:?}");
        assert_eq!(texts(&headers, "vary"), ["accept", "origin"]);
    }
    let open = world.send(from(APP, get("/open/x"))).await;
    assert!(!open.headers().contains_key("access-control-allow-credentials"), "the rule gives none");
    assert_eq!(warpgate.seen().len(), 4);
}

#[tokio::test]
async fn maintenance_is_answered_to_everybody_and_says_when_to_come_back() {
    let (world, warpgate) = World::with_warpgate(generous).await;
    let closed =
        Maintenance { message: "We move house. <Back> at noon.".to_owned(), retry_after_s: Some(1800) };
    let mut rules = answer(EdgeAnswer::Maintenance(closed));
    rules.cors = cors(APP, false).cors;
    world.publish(|site| site.routes.push(with(20, "/closed/*", AuthMode::Required, rules))).await;
    let response = world.send(from(APP, get("/closed/x"))).await;
    assert_eq!(texts(response.headers(), RETRY_AFTER.as_str()), ["1800"]);
    assert_eq!(texts(response.headers(), ALLOW_ORIGIN), [APP]);
    let error = texts(response.headers(), "mezu-error").join("");
    assert!(error.starts_with("edge.maintenance; hop=upstream; id=req_"), "{error}");
    assert_eq!(code(response).await, (503, "edge.maintenance".to_owned()));
    let page = request(Method::GET, "/closed/x", &[("accept", "text/html")], empty());
    let (_, _, body) = read(world.send(page).await).await;
    let page = String::from_utf8(body).unwrap();
    assert!(page.contains("We move house. &#60;Back&#62; at noon."), "{page}");
    assert!(!page.contains("fault") && !page.contains("class=\"broken\""), "nothing is broken");
    assert_eq!(
        world.send(preflight("/closed/x", APP, "GET")).await.status(),
        204,
        "so that a page can read it"
    );
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_is_for_those_who_may_use_the_route() {
    let (world, warpgate) = World::with_warpgate(generous).await;
    let to = |to: &str, status| answer(EdgeAnswer::Redirect(Redirect { to: to.to_owned(), status }));
    world
        .publish(|site| {
            let inside = to("https://new.example{path}{query}", RedirectStatus::Temporary);
            site.routes.push(with(20, "/old/*", AuthMode::Required, inside));
            let public = to("/public{path}", RedirectStatus::Permanent);
            site.routes.push(with(21, "/moved/*", AuthMode::Public, public));
        })
        .await;
    let stranger = world.send(get("/old/a?b=c")).await;
    assert_eq!((stranger.status().as_u16(), stranger.headers().get(LOCATION)), (401, None));
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let (status, headers, body) = read(world.send(get_as("/old/a%20b?c=d", &cookie)).await).await;
    assert_eq!((status.as_u16(), body.len()), (307, 0));
    assert_eq!(texts(&headers, "location"), ["https://new.example/old/a%20b?c=d"]);
    assert_eq!(texts(&headers, "cache-control"), ["no-store"]);
    assert!(!headers.contains_key("mezu-error"), "it is no refusal");
    let (status, headers, _) = read(world.send(get("/moved/x?y=z")).await).await;
    assert_eq!((status.as_u16(), texts(&headers, "location")), (308, vec!["/public/moved/x"]));
    assert!(!headers.contains_key("cache-control"), "for good may be remembered");
    let (_, headers, _) = read(world.send(get("/moved//evil.example/x")).await).await;
    assert!(
        headers.get(LOCATION).is_none_or(|to| to.to_str().unwrap().starts_with("/public/")),
        "a path never becomes a host"
    );
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn r16_a_switch_of_protocols_on_a_protected_route_needs_an_origin_that_may() {
    let (world, warpgate) = World::with_warpgate(generous).await;
    world
        .publish(|site| {
            site.routes.push(with(20, "/chat/*", AuthMode::Required, cors(APP, true)));
            site.routes.push(with(21, "/feed/*", AuthMode::Required, cors("*", false)));
        })
        .await;
    let cookie = world.sign_in(&["customer"]);
    let key = format!("Bearer {}", world.api_key(|_| {}));
    world.settle().await;
    let session = (COOKIE.as_str(), cookie.as_str());
    let machine = ("authorization", key.as_str());
    let rows = [
        ("/chat/x", session, Some(OWN), true),
        ("/chat/x", session, Some(APP), true),
        ("/chat/x", session, Some("https://evil.example"), false),
        ("/chat/x", session, Some("https://shop.localhost"), false),
        ("/chat/x", session, Some("http://shop.localhost:8443"), false),
        ("/chat/x", session, Some("null"), false),
        ("/chat/x", session, None, false),
        ("/chat/x", machine, None, true),
        ("/chat/x", machine, Some("https://evil.example"), false),
        ("/feed/x", session, Some(OWN), true),
        ("/feed/x", session, Some("https://evil.example"), false),
        ("/feed/x", machine, Some("https://any.example"), true),
        ("/optional/x", session, Some("https://evil.example"), false),
    ];
    let mut through = 0;
    for (path, credential, origin, allowed) in rows {
        let mut fields = vec![credential];
        fields.extend(origin.map(|origin| ("origin", origin)));
        let answered = world.send(switch(request(Method::GET, path, &fields, empty()))).await;
        let refused =
            texts(answered.headers(), "mezu-error").join("").starts_with("edge.origin_refused; hop=client");
        assert_eq!(!refused, allowed, "{path} {origin:?} {}", answered.status());
        through += usize::from(allowed);
    }
    assert_eq!(warpgate.seen().len(), through, "what is refused never reaches an upstream");
    let public = switch(request(Method::GET, "/public/x", &[("origin", "https://evil.example")], empty()));
    assert!(!world.send(public).await.headers().contains_key("mezu-error"), "public is public");
    let stranger = switch(request(Method::GET, "/chat/x", &[("origin", APP)], empty()));
    assert_eq!(code(world.send(stranger).await).await.1, "edge.sign_in_required");
    let plain = request(Method::GET, "/chat/x", &[session, ("origin", "https://evil.example")], empty());
    assert_eq!(world.send(plain).await.status(), 200, "a plain request is the application's to judge");
}

#[tokio::test]
async fn every_refusal_names_its_code_its_hop_and_itself_and_no_upstream_can_pose_as_one() {
    let (world, _warpgate) = World::with_warpgate(|exchange| {
        exchange.respond(
            500,
            &[("mezu-error", "edge.internal; hop=edge; id=req_x"), ("content-length", "0")],
            b"",
        )
    })
    .await;
    world.settle().await;
    let rows = [
        (get("/x"), "edge.sign_in_required; hop=client; id=req_"),
        (get("/elsewhere/x"), "edge.no_upstream; hop=warpgate; id=req_"),
        (
            request(Method::GET, "https://nobody.localhost:8443/", &[], empty()),
            "edge.unknown_host; hop=client; id=",
        ),
        (request(Method::TRACE, "/public/x", &[], empty()), "edge.method; hop=client; id=req_"),
    ];
    for (request, wanted) in rows {
        let response = world.send(request).await;
        let error = texts(response.headers(), "mezu-error").join("|");
        assert!(error.starts_with(wanted), "{error}");
        assert!(error.ends_with(texts(response.headers(), "mezu-request-id")[0]), "{error}");
    }
    let theirs = world.send(get("/public/x")).await;
    assert_eq!((theirs.status().as_u16(), theirs.headers().get("mezu-error")), (500, None));
    assert!(theirs.headers().get("host").is_none(), "{SHOP}");
}
