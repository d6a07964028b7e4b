//! Coming back from sign-in, signing out, who am I, and sessions the feed has not brought yet.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::http::header::{COOKIE, LOCATION, SET_COOKIE};
use ::http::{Method, Request};
use base64::Engine as _;
use mezusphere_edge::http::Body;
use mezusphere_model::document::{Document, Partition};
use mezusphere_model::identity::Subject;
use mezusphere_model::link::{FoundSession, Redeemed};
use mezusphere_model::token::{SessionCookie, Token};

use crate::warpgate::Exchange;
use crate::world::{PROJECT, SHOP, USER, World, code, empty, full, get, get_as, principal, read, request};

async fn ok(exchange: Exchange) {
    exchange.respond(200, &[], b"secret").await;
}

const STATE: &str = "__Host-mezu-state";

fn callback(state: &Token, more: &str) -> Request<Body> {
    get_as("/.mezu/callback?code=abc", &format!("{STATE}={}{more}", state.reveal()))
}

/// Lets control turn the next code into a session.
fn prepare(world: &World, return_to: &str) -> Token {
    let (session, principal, token) = world.session(PROJECT, SHOP, &["customer"]);
    world.known_to_control(&session, &principal);
    let redeemed = Redeemed {
        token: token.reveal(),
        found: FoundSession { session, principal },
        born_at: 77,
        return_to: return_to.to_owned(),
    };
    *world.link.redeems.lock().unwrap() = Some(redeemed);
    token
}

#[tokio::test]
async fn a_code_becomes_a_session_that_works_before_the_feed_brought_it() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let token = prepare(&world, "/cart?item=1");
    let state = Token::random(&world.entropy);
    let answer = world.send(callback(&state, "")).await;
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()[LOCATION], "https://shop.localhost:8443/cart?item=1");
    let set = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    let (pair, attributes) = set.split_once(';').unwrap();
    assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=Lax", "r11");
    let cookie =
        SessionCookie::read(pair.split_once('=').unwrap().1, std::slice::from_ref(&world.cookie_key))
            .unwrap();
    assert_eq!((cookie.token, cookie.born_at), (token, 77));
    assert_eq!(world.send(get_as("/customer/x", pair)).await.status(), 200);
    assert_eq!(warpgate.seen().len(), 1);
    assert_eq!(world.link.looked_up.load(Ordering::SeqCst), 0);
    let redeemed = world.link.redeemed.lock().unwrap().clone();
    assert_eq!(redeemed[0].code, "abc");
    assert_eq!(redeemed[0].host.as_str(), SHOP);
    let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(state.hash().as_bytes());
    assert_eq!(redeemed[0].state_hash, hash);
}

#[tokio::test]
async fn an_edge_whose_clock_is_hours_ahead_says_so_and_sends_nobody_round_in_circles() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    world.hand.advance(Duration::from_hours(2));
    prepare(&world, "/cart");
    let answer = world.send(callback(&Token::random(&world.entropy), "")).await;
    assert!(!answer.headers().contains_key(LOCATION) && !answer.headers().contains_key(SET_COOKIE));
    assert_eq!(code(answer).await, (503, "edge.clocks_differ".to_owned()));
}

#[tokio::test]
async fn r11_a_new_session_replaces_the_one_the_browser_held() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let old = world.sign_in(&["customer"]);
    world.settle().await;
    assert_eq!(world.send(get_as("/customer/x", &old)).await.status(), 200);
    prepare(&world, "/");
    let answer = world.send(callback(&Token::random(&world.entropy), &format!("; {old}"))).await;
    assert_eq!(answer.status(), 302);
    let text = old.split_once('=').unwrap().1.split('.').next().unwrap();
    let replaced = world.link.redeemed.lock().unwrap()[0].replaces;
    assert_eq!(replaced, Some(Token::parse(text).unwrap().hash()));
    assert_eq!(world.send(get_as("/customer/x", &old)).await.status(), 401, "dead here at once");
}

#[tokio::test]
async fn r17_nobody_is_sent_to_another_host_after_signing_in() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    for (return_to, location) in [
        ("//evil.example/x", "https://shop.localhost:8443//evil.example/x"),
        ("https://evil.example/", "https://shop.localhost:8443/"),
        ("\\\\evil.example", "https://shop.localhost:8443/"),
        ("", "https://shop.localhost:8443/"),
    ] {
        prepare(&world, return_to);
        let answer = world.send(callback(&Token::random(&world.entropy), "")).await;
        assert_eq!(answer.headers()[LOCATION], location, "{return_to}");
        world.hand.advance(Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_code_without_the_browser_that_began_is_refused_before_control_is_asked() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    prepare(&world, "/");
    assert_eq!(
        code(world.send(get("/.mezu/callback?code=abc")).await).await,
        (400, "edge.sign_in_failed".to_owned())
    );
    let state = format!("{STATE}={}", Token::random(&world.entropy).reveal());
    assert_eq!(world.send(get_as("/.mezu/callback", &state)).await.status(), 400);
    assert!(world.link.redeemed.lock().unwrap().is_empty());
    // A spent code leads back to the start, with nothing set.
    world.link.redeems.lock().unwrap().take();
    let spent = world.send(get_as("/.mezu/callback?code=abc", &state)).await;
    assert!(!spent.headers().contains_key(SET_COOKIE));
    assert_eq!(code(spent).await, (400, "edge.sign_in_failed".to_owned()));
    // Who clicked twice is signed in by then, and goes on.
    let both = format!("{state}; {}", world.sign_in(&["customer"]));
    world.settle().await;
    let again = world.send(get_as("/.mezu/callback?code=abc", &both)).await;
    assert_eq!(
        (again.status().as_u16(), &again.headers()[LOCATION]),
        (302, &::http::HeaderValue::from_static("https://shop.localhost:8443/"))
    );
    assert!(!again.headers().contains_key(SET_COOKIE));
    let post = request(Method::POST, "/.mezu/callback?code=abc", &[(COOKIE.as_str(), &state)], empty());
    let refused = world.send(post).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["allow"].to_str().unwrap()), (405, "GET"));
}

#[tokio::test]
async fn r23_guessing_codes_runs_into_the_addresss_budget() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let state = Token::random(&world.entropy);
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(world.send(callback(&state, "")).await.status().as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 20);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 20);
    assert_eq!(world.link.redeemed.lock().unwrap().len(), 20);
}

#[tokio::test]
async fn a_session_ahead_of_the_feed_is_looked_up_once_however_many_ask() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let (session, principal, token) = world.session(PROJECT, SHOP, &["customer"]);
    world.known_to_control(&session, &principal);
    let cookie = world.cookie(&token, 1000);
    let asks: Vec<_> = (0..30).map(|_| world.send(get_as("/customer/x", &cookie))).collect();
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(world.link.looked_up.load(Ordering::SeqCst), 1);
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn r23_a_token_that_is_nobodys_costs_control_at_most_one_question() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    // Authentic, and ahead of the feed: control is asked, and its no is remembered.
    let (_, _, token) = world.session(PROJECT, SHOP, &[]);
    let ahead = world.cookie(&token, 1000);
    for _ in 0..50 {
        assert_eq!(world.send(get_as("/customer/x", &ahead)).await.status(), 401);
    }
    assert_eq!(world.link.looked_up.load(Ordering::SeqCst), 1);
    // Authentic, and the feed has passed its birth: it has ended; control is not asked.
    world.documents.set_revision(2000);
    let (_, _, token) = world.session(PROJECT, SHOP, &[]);
    assert_eq!(world.send(get_as("/customer/x", &world.cookie(&token, 1000))).await.status(), 401);
    // Forged: whoever cannot sign gets no question asked.
    let forged = world.cookie(&token, 3000).replace(".3000.", ".9000.");
    assert_eq!(world.send(get_as("/customer/x", &forged)).await.status(), 401);
    assert_eq!(world.link.looked_up.load(Ordering::SeqCst), 1);
    // Many different ones run into the address's budget.
    let mut statuses = Vec::new();
    for _ in 0..60 {
        let (_, _, token) = world.session(PROJECT, SHOP, &[]);
        statuses.push(world.send(get_as("/customer/x", &world.cookie(&token, 9000))).await.status().as_u16());
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(world.link.looked_up.load(Ordering::SeqCst) <= 21);
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn while_control_is_away_a_session_it_alone_knows_is_not_let_in() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let (session, principal, token) = world.session(PROJECT, SHOP, &["customer"]);
    world.known_to_control(&session, &principal);
    world.link.away.store(true, Ordering::SeqCst);
    let cookie = world.cookie(&token, 1000);
    for _ in 0..10 {
        assert_eq!(
            code(world.send(get_as("/customer/x", &cookie)).await).await,
            (503, "edge.control_away".to_owned())
        );
    }
    assert_eq!(world.link.looked_up.load(Ordering::SeqCst), 1, "remembered for a moment");
    world.link.away.store(false, Ordering::SeqCst);
    world.hand.advance(Duration::from_secs(2));
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    assert_eq!(warpgate.seen().len(), 1);
}

/// The token in the sign-out form.
async fn form_token(world: &World, cookie: &str) -> String {
    let (status, headers, body) = read(world.send(get_as("/.mezu/sign-out", cookie)).await).await;
    assert_eq!(status, 200);
    assert!(headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    let text = String::from_utf8(body).unwrap();
    let rest = text.split("name=\"token\" value=\"").nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn r16_signing_out_needs_a_form_of_this_site_with_its_token() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let token = form_token(&world, &cookie).await;
    let good = format!("token={token}");
    let own = "https://shop.localhost:8443";
    let form = "application/x-www-form-urlencoded";
    let rows = [
        (Some("https://evil.example"), None, form, good.as_str()),
        (Some("https://blog.localhost:8443"), Some("same-site"), form, &good),
        (Some("null"), None, form, &good),
        (None, None, form, &good),
        (Some(own), Some("cross-site"), form, &good),
        (Some(own), Some("same-origin"), form, "token=wrong"),
        (Some(own), Some("same-origin"), form, ""),
        (Some(own), Some("same-origin"), "text/plain", &good),
    ];
    for (origin, site, kind, body) in rows {
        let mut fields = vec![(COOKIE.as_str(), cookie.as_str()), ("content-type", kind)];
        fields.extend(origin.map(|origin| ("origin", origin)));
        fields.extend(site.map(|site| ("sec-fetch-site", site)));
        let answer =
            world.send(request(Method::POST, "/.mezu/sign-out", &fields, full(body.to_owned()))).await;
        assert_eq!(answer.status(), 403, "{origin:?} {site:?} {kind} {body}");
        assert!(!answer.headers().contains_key(SET_COOKIE));
    }
    assert!(world.link.signed_out.lock().unwrap().is_empty());
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200, "still signed in");
    let fields = [(COOKIE.as_str(), cookie.as_str()), ("content-type", form), ("origin", own)];
    let answer = world.send(request(Method::POST, "/.mezu/sign-out", &fields, full(good))).await;
    assert_eq!(answer.status(), 200);
    assert!(
        answer.headers()[SET_COOKIE]
            .to_str()
            .unwrap()
            .starts_with("__Host-mezu-session=; Path=/; Max-Age=0;")
    );
    assert_eq!(world.link.signed_out.lock().unwrap().len(), 1);
    assert_eq!(
        world.send(get_as("/customer/x", &cookie)).await.status(),
        401,
        "dead here before the feed says so"
    );
}

#[tokio::test]
async fn signing_out_while_control_is_away_says_so_and_keeps_the_session() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let body = format!("token={}", form_token(&world, &cookie).await);
    world.link.away.store(true, Ordering::SeqCst);
    let fields = [
        (COOKIE.as_str(), cookie.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "same-origin"),
    ];
    let answer = world.send(request(Method::POST, "/.mezu/sign-out", &fields, full(body))).await;
    assert!(!answer.headers().contains_key(SET_COOKIE));
    assert_eq!(code(answer).await, (503, "edge.control_away".to_owned()));
}

#[tokio::test]
async fn whoami_tells_the_signed_in_who_they_are_and_strangers_nothing() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let told = async |answer| {
        let (status, headers, body) = read(answer).await;
        assert_eq!((status.as_u16(), &headers["cache-control"]), (200, &"no-store".parse().unwrap()));
        assert!(!headers.contains_key("access-control-allow-origin"));
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()
    };
    let document = told(world.send(get_as("/.mezu/whoami", &cookie)).await).await;
    for (name, value) in [
        ("authenticated", serde_json::json!(true)),
        ("kind", "user".into()),
        ("account", USER.to_string().into()),
        ("email", "zoe@shop.example".into()),
        ("roles", serde_json::json!(["customer"])),
        ("methods", serde_json::json!(["pwd"])),
        ("acr", "aal1".into()),
        ("sign_out", "/.mezu/sign-out".into()),
    ] {
        assert_eq!(document[name], value, "{name}");
    }
    let ends = document["session"]["expires_at"].as_str().unwrap();
    assert!(ends > document["authenticated_at"].as_str().unwrap(), "{document}");
    let stranger = told(world.send(get("/.mezu/whoami")).await).await;
    assert_eq!(
        stranger,
        serde_json::json!({
            "authenticated": false,
            "login": "https://login.mezu.localhost:8443",
            "sign_in": "/.mezu/sign-in",
            "sign_out": "/.mezu/sign-out",
        })
    );
    let key = world.api_key(|_| {});
    world.settle().await;
    let asked =
        request(Method::GET, "/.mezu/whoami", &[("authorization", &format!("Bearer {key}"))], empty());
    let machine = told(world.send(asked).await).await;
    assert_eq!(
        (&machine["kind"], &machine["session"]),
        (&"service_account".into(), &serde_json::Value::Null)
    );
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn a_link_of_the_application_leads_to_sign_in_and_back() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let leads = async |path: &str, fields: &[(&str, &str)]| {
        let answer = world.send(request(Method::GET, path, fields, empty())).await;
        assert_eq!(answer.status(), 302, "{path}");
        answer.headers()[LOCATION].to_str().unwrap().split("&state=").next().unwrap().to_owned()
    };
    let login = "https://login.mezu.localhost:8443/sign-in?host=shop.localhost&return_to=";
    assert_eq!(leads("/.mezu/sign-in?return_to=/cart%3Fa%3D1", &[]).await, format!("{login}/cart%3Fa%3D1"));
    let referer = [("referer", "https://shop.localhost:8443/cart")];
    assert_eq!(leads("/.mezu/sign-in", &referer).await, format!("{login}/cart"));
    for elsewhere in ["//evil.example", "https://evil.example", "/%5Cevil.example", "/a%0d%0ab", ""] {
        let path = format!("/.mezu/sign-in?return_to={elsewhere}");
        assert_eq!(leads(&path, &[]).await, format!("{login}/"), "r17 {elsewhere}");
    }
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let signed_in = [(COOKIE.as_str(), cookie.as_str())];
    assert_eq!(leads("/.mezu/sign-in?return_to=/cart", &signed_in).await, "https://shop.localhost:8443/cart");
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn whoever_switches_the_account_signs_out_and_goes_on_to_sign_in() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let login = "https://login.mezu.localhost:8443";
    let place = "return_to=%2Fvip%3Fa%3D1";
    let switch = "/.mezu/sign-out?then=sign-in";
    let fields = [
        (COOKIE.as_str(), cookie.as_str()),
        ("referer", "https://shop.localhost:8443/vip?a=1"),
        ("accept", "text/html"),
    ];
    let (status, headers, body) =
        read(world.send(request(Method::GET, switch, &fields, empty())).await).await;
    let page = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "a GET asks");
    assert!(page.contains("zoe@shop.example") && page.contains(place), "{page}");
    assert!(
        headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains(&format!("form-action 'self' {login};")),
        "chromium follows the redirect after the form"
    );
    assert!(world.link.signed_out.lock().unwrap().is_empty());
    let body = format!("token={}", form_token(&world, &cookie).await);
    let fields = [
        (COOKIE.as_str(), cookie.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", "https://shop.localhost:8443"),
    ];
    let act = request(Method::POST, &format!("{switch}&{place}"), &fields, full(body));
    let answer = world.send(act).await;
    assert_eq!(answer.status(), 303);
    let to = answer.headers()[LOCATION].to_str().unwrap().to_owned();
    assert!(
        to.starts_with(&format!("{login}/sign-in?host=shop.localhost&return_to=/vip%3Fa%3D1&state=")),
        "{to}"
    );
    let set: Vec<_> = answer.headers().get_all(SET_COOKIE).iter().map(|set| set.to_str().unwrap()).collect();
    assert!(set.iter().any(|set| set.starts_with("__Host-mezu-session=; ")), "{set:?}");
    assert!(set.iter().any(|set| set.starts_with(STATE)), "{set:?}");
    assert_eq!(world.link.signed_out.lock().unwrap().len(), 1);
    // Whoever is signed out by then is led on without being asked.
    let again = world.send(get(switch)).await;
    assert_eq!(again.status(), 302);
}

fn program(method: Method, fields: &[(&str, &str)], body: &str) -> Request<Body> {
    let json = [("content-type", "application/json"), ("accept", "application/json")];
    let fields: Vec<(&str, &str)> = json.into_iter().chain(fields.iter().copied()).collect();
    request(method, "/.mezu/session", &fields, full(body.to_owned()))
}

#[tokio::test]
async fn a_program_turns_its_code_into_a_session_and_ends_it() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let state = Token::random(&world.entropy);
    let body = serde_json::json!({ "code": "abc", "state": state.reveal() }).to_string();
    for fields in [&[][..], &[("origin", "https://shop.localhost:8443"), ("sec-fetch-site", "same-origin")]] {
        let token = prepare(&world, "/");
        let answer = world.send(program(Method::POST, fields, &body)).await;
        assert_eq!(answer.status(), 204);
        let set = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        let (pair, attributes) = set.split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=Lax", "r11");
        assert!(pair.contains(&token.reveal()));
        assert_eq!(world.send(get_as("/customer/x", pair)).await.status(), 200);
        let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(state.hash().as_bytes());
        assert_eq!(world.link.redeemed.lock().unwrap().last().unwrap().state_hash, hash);
        let cookie = [(COOKIE.as_str(), pair)];
        let ended = world.send(program(Method::DELETE, &cookie, "")).await;
        assert_eq!(ended.status(), 204);
        assert!(ended.headers()[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
        assert_eq!(world.send(get_as("/customer/x", pair)).await.status(), 401);
        world.hand.advance(Duration::from_secs(5));
    }
    assert_eq!(world.link.signed_out.lock().unwrap().len(), 2);
    assert_eq!(warpgate.seen().len(), 2);
}

#[tokio::test]
async fn r16_no_page_of_another_site_begins_or_ends_a_programs_session() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let state = Token::random(&world.entropy);
    let body = serde_json::json!({ "code": "abc", "state": state.reveal() }).to_string();
    prepare(&world, "/");
    let rows: [&[(&str, &str)]; 3] = [
        &[("origin", "https://evil.example")],
        &[("sec-fetch-site", "cross-site")],
        &[("origin", "https://shop.localhost:8443"), ("sec-fetch-site", "same-site")],
    ];
    for fields in rows {
        for method in [Method::POST, Method::DELETE] {
            let refused = world.send(program(method.clone(), fields, &body)).await;
            assert_eq!(code(refused).await, (403, "edge.forged_form".to_owned()), "{method} {fields:?}");
        }
    }
    // What a form can send is not read.
    let form = request(Method::POST, "/.mezu/session", &[("content-type", "text/plain")], full(body));
    assert_eq!(code(world.send(form).await).await, (403, "edge.forged_form".to_owned()));
    for (body, wanted) in [
        ("{}", "edge.bad_body"),
        ("", "edge.forged_form"),
        ("[", "edge.bad_body"),
        (r#"{"code":"abc","state":"short"}"#, "edge.sign_in_failed"),
        (&format!(r#"{{"code":"","state":"{}"}}"#, state.reveal()), "edge.sign_in_failed"),
        (&"x".repeat(5000), "edge.too_large"),
    ] {
        assert_eq!(code(world.send(program(Method::POST, &[], body)).await).await.1, wanted, "{body}");
    }
    assert!(world.link.redeemed.lock().unwrap().is_empty(), "control was asked nothing");
    let asked = world.send(request(Method::GET, "/.mezu/session", &[], empty())).await;
    assert_eq!((asked.status().as_u16(), asked.headers()["allow"].to_str().unwrap()), (405, "POST, DELETE"));
}

#[tokio::test]
async fn applications_find_the_keys_of_assertions() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let (status, headers, body) = read(world.send(get("/.mezu/jwks.json")).await).await;
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status.as_u16(), document["keys"].as_array().unwrap().len()), (200, 1));
    assert_eq!(headers["content-length"], body.len().to_string());
    let head = world.send(request(Method::HEAD, "/.mezu/jwks.json", &[], empty())).await;
    assert_eq!(head.headers()["content-length"], body.len().to_string());
    assert!(read(head).await.2.is_empty());
}

#[tokio::test]
async fn an_assertion_is_renewed_at_half_life_and_nobody_waits_for_it() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let ask = || async { world.send(get_as("/customer/x", &cookie)).await.status().as_u16() };
    assert_eq!(ask().await, 200);
    world.hand.advance(Duration::from_secs(890));
    assert_eq!(ask().await, 200);
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 1, "not yet");
    world.hand.advance(Duration::from_secs(20));
    assert_eq!(ask().await, 200);
    world.settle().await;
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 2, "renewed beside the request");
    // While control is away the one at hand is used to its end, and then no more.
    world.link.away.store(true, Ordering::SeqCst);
    world.hand.advance(Duration::from_secs(1700));
    assert_eq!(ask().await, 200);
    world.hand.advance(Duration::from_mins(2));
    assert_eq!(ask().await, 503);
}

#[tokio::test]
async fn an_assertion_is_asked_for_anew_when_the_principal_changes_at_all() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let asked = || world.link.asserted.load(Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    }
    assert_eq!(asked(), 1);
    let mut same = principal(Subject::User(USER), PROJECT, &["customer"]);
    same.version = 2;
    world.documents.publish(Partition::Project(PROJECT), Document::Principal(same));
    world.settle().await;
    for _ in 0..3 {
        assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    }
    assert_eq!(asked(), 2);
}
