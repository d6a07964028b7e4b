//! What never reaches an upstream, and what every client is told instead.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::http::header::{COOKIE, LOCATION, SET_COOKIE};
use ::http::{HeaderName, HeaderValue, Method, StatusCode};
use mezusphere_edge::http::Protocol;
use mezusphere_model::document::{Document, Partition, Status};
use mezusphere_model::identity::Subject;
use mezusphere_model::route::AuthMode;
use mezusphere_model::token::Token;

use crate::warpgate::Exchange;
use crate::world::{
    BLOG, OTHER_PROJECT, PROJECT, SHOP, USER, World, code, empty, get, get_as, principal, read, request,
    route, shop,
};

async fn ok(exchange: Exchange) {
    exchange.respond(200, &[], b"secret").await;
}

#[tokio::test]
async fn r01_no_fault_of_the_replica_lets_a_request_through() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    let key = format!("Bearer {}", world.api_key(|_| {}));
    world.settle().await;
    for fault in ["session", "principal", "api_key", "revocation", "sites", "platform"] {
        world.documents.fail(&[fault]);
        world.settle().await;
        let by_session = world.send(get_as("/customer/x", &cookie)).await.status().as_u16();
        let fields = [("authorization", key.as_str())];
        let by_key =
            world.send(request(Method::GET, "/customer/x", &fields, empty())).await.status().as_u16();
        match fault {
            "session" | "revocation" => assert_eq!((by_session, by_key), (503, 200), "{fault}"),
            "api_key" => assert_eq!((by_session, by_key), (200, 503), "{fault}"),
            "principal" => assert_eq!((by_session, by_key), (503, 503), "{fault}"),
            "sites" => assert_eq!((by_session, by_key), (404, 404), "{fault}"),
            // What was known of the platform before stays good; without it nobody new is let in.
            _ => assert_eq!((by_session, by_key), (200, 200), "{fault}"),
        }
        let refused = [by_session, by_key].iter().filter(|status| **status != 200).count();
        assert_eq!(warpgate.log.lock().unwrap().drain(..).count(), 2 - refused, "{fault}");
        world.documents.fail(&[]);
        world.settle().await;
    }
}

#[tokio::test]
async fn r01_no_fault_of_control_lets_a_request_through() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.link.away.store(true, Ordering::SeqCst);
    assert_eq!(
        code(world.send(get_as("/customer/x", &cookie)).await).await,
        (503, "edge.control_away".to_owned())
    );
    world.link.away.store(false, Ordering::SeqCst);
    world.link.refuses.store(true, Ordering::SeqCst);
    world.hand.advance(Duration::from_secs(3));
    let refused = code(world.send(get_as("/customer/x", &cookie)).await).await;
    assert_eq!(refused, (403, "edge.session_refused".to_owned()));
    // The refusal stands for a moment, so that a dead session is no way to make control work.
    let asked = world.link.asserted.load(Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 403);
    }
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), asked);
    assert!(warpgate.seen().is_empty());
    // A known session with its assertion needs control for nothing.
    world.link.refuses.store(false, Ordering::SeqCst);
    world.hand.advance(Duration::from_secs(3));
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    world.link.away.store(true, Ordering::SeqCst);
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
}

#[tokio::test]
async fn a_browser_is_sent_to_sign_in_only_where_somebody_answers() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let visit = async |path: &str, accept: &str| {
        let request = request(Method::GET, path, &[("accept", accept)], empty());
        let (status, headers, _) = read(world.send(request).await).await;
        let field = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (status.as_u16(), field("retry-after"), field("location").is_some())
    };
    for path in ["/customer/x", "/.mezu/sign-in"] {
        assert_eq!(visit(path, "text/html").await, (302, None, true), "{path}");
        world.link.away.store(true, Ordering::SeqCst);
        assert_eq!(visit(path, "text/html").await, (503, Some("5".to_owned()), false), "{path}");
        world.link.away.store(false, Ordering::SeqCst);
    }
    world.link.away.store(true, Ordering::SeqCst);
    assert_eq!(visit("/customer/x", "application/json").await.0, 401, "a program is told what it lacks");
}

#[tokio::test]
async fn r01_only_the_policys_permit_reaches_the_upstream() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let customer = world.sign_in(&["customer"]);
    let rows = [
        ("/", None, 401, "edge.sign_in_required"),
        ("/customer/x", None, 401, "edge.sign_in_required"),
        ("/elsewhere/x", None, 503, "edge.no_upstream"),
        ("/.mezu/nothing", None, 404, "edge.no_route"),
        ("/a%00b", None, 400, "edge.bad_path"),
        ("/a%5cb", None, 401, "edge.sign_in_required"),
        ("/public/%2e%2e/customer", None, 400, "edge.ambiguous_path"),
        ("/public/..%2fcustomer/x", None, 400, "edge.ambiguous_path"),
        ("//customer/x", None, 400, "edge.ambiguous_path"),
    ];
    for (path, cookie, status, expected) in rows {
        let request: ::http::Request<_> = match cookie {
            Some(cookie) => get_as(path, cookie),
            None => request(Method::GET, &format!("https://{SHOP}{path}"), &[], empty()),
        };
        assert_eq!(code(world.send(request).await).await, (status, expected.to_owned()), "{path}");
    }
    assert!(warpgate.seen().is_empty());
    assert_eq!(world.send(get_as("/customer/x", &customer)).await.status(), 200);
    assert_eq!(warpgate.seen().len(), 1);
}

#[tokio::test]
async fn a_person_without_the_role_is_told_so_and_the_denial_is_counted() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["visitor"]);
    let fields = [("accept", "text/html"), ("cookie", cookie.as_str())];
    let page = world.send(request(Method::GET, "/customer/x", &fields, empty())).await;
    let (status, headers, body) = read(page).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("customer") && text.contains("zoe@shop.example"), "{text}");
    assert!(headers["content-security-policy"].to_str().unwrap().contains("style-src 'sha256-"));
    for _ in 0..4 {
        assert_eq!(code(world.send(get_as("/customer/x", &cookie)).await).await.1, "edge.denied");
    }
    assert!(warpgate.seen().is_empty());
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(11)).await;
    let denied = world.link.denied.lock().unwrap().clone();
    assert_eq!(denied.len(), 1, "one entry, however many requests");
    assert_eq!((denied[0].count, denied[0].reason.as_str()), (5, "none_of_roles"));
    assert_eq!(denied[0].subject, Some(USER.to_string()));
}

#[tokio::test]
async fn strangers_make_control_write_nothing() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    for n in 0..50 {
        let forged = format!(
            "__Host-mezu-session={}.{n}.AAAAAAAAAAAAAAAAAAAAAA",
            Token::random(&world.entropy).reveal()
        );
        assert_eq!(world.send(get_as("/customer/x", &forged)).await.status(), 401);
        let fields = [("authorization", "Bearer mzk_forged")];
        assert_eq!(world.send(request(Method::GET, "/", &fields, empty())).await.status(), 401);
    }
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(world.link.denied.lock().unwrap().is_empty());
    assert_eq!(world.link.looked_up.load(Ordering::SeqCst), 0);
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn r03_a_host_that_is_not_the_connections_own_reaches_nothing() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let rows = [
        (Protocol::H2, "https://nobody.localhost/", &[][..], 404, "edge.unknown_host"),
        (Protocol::H2, "https://shop.example/", &[], 421, "edge.misdirected"),
        (Protocol::H3, "https://a.b.localhost/", &[], 421, "edge.misdirected"),
        (Protocol::H2, "https://shop.localhost/", &[("host", "blog.localhost")], 400, "edge.bad_host"),
        (Protocol::H1, "https://shop.localhost/", &[], 400, "edge.bad_host"),
        (Protocol::H1, "http://shop.localhost/", &[("host", "shop.localhost")], 400, "edge.bad_host"),
        (Protocol::H2, "https://127.0.0.1/", &[], 400, "edge.bad_host"),
    ];
    for (protocol, target, fields, status, expected) in rows {
        let answer = world.send_on(request(Method::GET, target, fields, empty()), protocol).await;
        let (got, headers, body) = read(answer).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!(got.as_u16(), status, "{target} {fields:?}: {text}");
        assert!(text.contains(expected), "{target} {fields:?}: {text}");
        for tenant in ["Secret Shop", "shop", "blog", "prj_", "rte_", "env_"] {
            assert!(!text.contains(tenant), "{target} tells {tenant}: {text}");
        }
        assert!(!headers.contains_key(SET_COOKIE));
    }
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn r04_no_spelling_of_an_identity_header_reaches_the_upstream() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    let spellings = [
        "mezu-user-id",
        "mezu-user-email",
        "mezu-user-name",
        "mezu-auth-method",
        "mezu-auth-time",
        "mezu-roles",
        "mezu-permissions",
        "mezu-session-id",
        "mezu-assertion",
        "mezu-anything",
        "mezu_user_id",
        "mezu_user-id",
        "mezu-user_id",
        "mezu.user.id",
        "mezu_roles",
        "mezu!roles",
        "mezu#roles",
        "mezu$roles",
        "mezu%roles",
        "mezu&roles",
        "mezu'roles",
        "mezu*roles",
        "mezu+roles",
        "mezu^roles",
        "mezu`roles",
        "mezu|roles",
        "mezu~roles",
        "mezu-",
        "mezu_",
        "mezu-user-id-",
        "mezu--user-id",
        "mezu_assertion",
        "mezu.assertion",
        "mezu-request-id",
        "mezu-error",
        "mezu-x-forwarded-for",
        "mezu-1",
        "mezu~",
        "mezu-session_id",
        "mezu_session_id",
    ];
    assert_eq!(spellings.len(), 40);
    for path in ["/public/x", "/customer/x", "/optional/x"] {
        for spelling in spellings {
            let mut request = get_as(path, &cookie);
            let headers = request.headers_mut();
            for _ in 0..2 {
                headers.append(
                    HeaderName::from_bytes(spelling.as_bytes()).unwrap(),
                    HeaderValue::from_static("forged"),
                );
            }
            headers.insert("connection", HeaderValue::from_static("mezu-user-id, mezu-assertion"));
            assert_eq!(world.send(request).await.status(), 200);
        }
    }
    for seen in warpgate.seen() {
        for (name, value) in &seen.head.headers {
            assert!(
                !name.as_str().starts_with("mezu") && value != "forged",
                "{name} of {}",
                seen.head.target
            );
        }
        assert_eq!(seen.claims.is_some(), !seen.head.target.starts_with("/public"));
    }
}

#[tokio::test]
async fn r05_and_r10_ambiguous_and_forwarding_headers_of_clients_are_dropped() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let fields = [
        ("x_token", "1"),
        ("x.token", "1"),
        ("x-token", "kept"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x_forwarded_for", "1"),
        ("forwarded", "for=203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("te", "trailers"),
        ("upgrade", "websocket"),
        ("connection", "upgrade, x-gone"),
        ("x-gone", "1"),
        ("proxy-authorization", "Basic x"),
        ("keep-alive", "5"),
        ("expect", "100-continue"),
        ("accept", "*/*"),
        ("authorization", "Basic dXNlcg=="),
    ];
    let answer = world.send(request(Method::GET, "/public/x", &fields, empty())).await;
    assert_eq!(answer.status(), 200);
    let seen = warpgate.seen();
    let mut left: Vec<_> = seen[0].head.headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["accept", "authorization", "x-token"]);
    assert_eq!(seen[0].head.client.to_string(), "192.0.2.7", "from the socket");
}

#[tokio::test]
async fn r09_a_workload_cannot_speak_for_the_platform() {
    let (world, _warpgate) = World::with_warpgate(|exchange: Exchange| async move {
        let fields = [
            ("set-cookie", "app=1; Path=/"),
            ("set-cookie", "__Host-mezu-session=stolen; Path=/; Secure"),
            ("set-cookie", "toss=1; Domain=localhost"),
            ("set-cookie", "toss=2; Domain=.mezu.localhost"),
            ("set-cookie", "own=2; Domain=shop.localhost"),
            ("mezu-user-id", "forged"),
            ("Mezu_Roles", "forged"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "1"),
            ("alt-svc", "h3=\"evil.example:443\""),
            ("x-app", "kept"),
        ];
        exchange.respond(200, &fields, b"ok").await;
    })
    .await;
    let answer = world.send(get("/public/x")).await;
    let cookies: Vec<_> = answer.headers().get_all(SET_COOKIE).iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(cookies, ["app=1; Path=/", "own=2; Domain=shop.localhost"]);
    let mut left: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["set-cookie", "x-app"]);
}

#[tokio::test]
async fn r11_a_session_is_good_on_its_own_host_only_and_its_cookie_never_reaches_the_upstream() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    let at_blog = request(Method::GET, &format!("https://{BLOG}/"), &[(COOKIE.as_str(), &cookie)], empty());
    assert_eq!(code(world.send(at_blog).await).await, (401, "edge.sign_in_required".to_owned()));
    let both = format!("theirs=1; {cookie}; more=2");
    assert_eq!(world.send(get_as("/customer/x", &both)).await.status(), 200);
    let seen = warpgate.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].head.headers[COOKIE], "theirs=1; more=2");
    // The same token with another signature, or none, is nothing new; a token without its session is nothing.
    let (_, _, unknown) = world.session(PROJECT, SHOP, &[]);
    assert_eq!(world.send(get_as("/customer/x", &world.cookie(&unknown, 0))).await.status(), 401);
}

#[tokio::test]
async fn a_machine_comes_with_a_key_of_its_project_and_the_key_stays_here() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let good = world.api_key(|_| {});
    let rows = [
        (good.clone(), 200),
        (good[..good.len() - 1].to_owned(), 401),
        (format!("mzk_{}", "A".repeat(72)), 401),
        (world.api_key(|key| key.project = OTHER_PROJECT), 401),
        (world.api_key(|key| key.environment = Some(crate::world::OTHER_ENVIRONMENT)), 401),
        (world.api_key(|key| key.scopes = vec![crate::world::name("connect")]), 401),
        (world.api_key(|key| key.expires_at = Some(crate::world::BEGIN)), 401),
    ];
    world.settle().await;
    for (key, status) in rows {
        let value = format!("Bearer {key}");
        let fields = [("authorization", value.as_str())];
        let answer = world.send(request(Method::GET, "/customer/x", &fields, empty())).await;
        assert_eq!(answer.status().as_u16(), status, "{key}");
    }
    let seen = warpgate.seen();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].head.headers.contains_key("authorization"));
    assert_eq!(seen[0].claims.as_ref().unwrap().sub, Subject::ServiceAccount(crate::world::ACCOUNT));
    // On a public route a key is of no use, and is not handed to the upstream either.
    let value = format!("Bearer {good}");
    world.send(request(Method::GET, "/public/x", &[("authorization", value.as_str())], empty())).await;
    assert!(!warpgate.seen()[1].head.headers.contains_key("authorization"));
    // Revoked, it is dead with the next request.
    let id = good.parse::<mezusphere_model::token::ApiKeyToken>().unwrap().id;
    world
        .documents
        .retract(Partition::Project(PROJECT), mezusphere_model::document::DocumentKey::api_key(id));
    world.settle().await;
    let answer =
        world.send(request(Method::GET, "/customer/x", &[("authorization", value.as_str())], empty())).await;
    assert_eq!(answer.status(), 401);
}

type End = Box<dyn Fn(&World, &mezusphere_model::token::TokenHash)>;

#[tokio::test]
async fn r12_what_ends_a_session_ends_it_with_the_next_request() {
    use mezusphere_model::document::{DocumentKey, RevocationDoc};
    let (world, warpgate) = World::with_warpgate(ok).await;
    let subject = Subject::User(USER);
    let here = Partition::Project(PROJECT);
    let ends: Vec<(&str, End)> = vec![
        (
            "suspended",
            Box::new(move |world, _| {
                let mut doc = principal(subject, PROJECT, &["customer"]);
                doc.status = Status::Suspended;
                world.documents.publish(here, Document::Principal(doc));
            }),
        ),
        (
            "role taken",
            Box::new(move |world, _| {
                world.documents.publish(here, Document::Principal(principal(subject, PROJECT, &[])));
            }),
        ),
        (
            "password changed",
            Box::new(move |world, _| {
                let mut doc = principal(subject, PROJECT, &["customer"]);
                doc.sessions_valid_from = crate::world::BEGIN.after(Duration::from_secs(1));
                world.documents.publish(here, Document::Principal(doc));
            }),
        ),
        (
            "session retracted",
            Box::new(move |world, hash| world.documents.retract(here, DocumentKey::session(hash))),
        ),
        (
            "principal gone",
            Box::new(move |world, _| world.documents.retract(here, DocumentKey::principal(subject))),
        ),
        (
            "signed out",
            Box::new(move |world, _| {
                let doc = RevocationDoc {
                    sign_in: crate::world::SIGN_IN,
                    user: USER,
                    at: crate::world::BEGIN,
                    forget_at: crate::world::BEGIN.after(Duration::from_hours(24)),
                };
                world.documents.publish(here, Document::Revocation(doc));
            }),
        ),
    ];
    for (what, end) in ends {
        let cookie = world.sign_in(&["customer"]);
        world.settle().await;
        assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200, "{what}");
        let text = cookie.split_once('=').unwrap().1.split('.').next().unwrap();
        end(&world, &Token::parse(text).unwrap().hash());
        world.settle().await;
        let before = warpgate.seen().len();
        let status = world.send(get_as("/customer/x", &cookie)).await.status().as_u16();
        assert_eq!(status, if what == "role taken" { 403 } else { 401 }, "{what}");
        assert_eq!(warpgate.seen().len(), before, "{what}");
    }
}

#[tokio::test]
async fn r12_idle_and_absolute_limits_hold_and_use_keeps_a_session_alive() {
    let (world, _warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let status = || async { world.send(get_as("/customer/x", &cookie)).await.status().as_u16() };
    for _ in 0..12 {
        world.hand.advance(Duration::from_secs(3500));
        assert_eq!(status().await, 200);
    }
    world.hand.advance(Duration::from_secs(1300));
    assert_eq!(status().await, 401, "twelve hours are over");
    let second = world.sign_in(&["customer"]);
    world.settle().await;
    world.hand.advance(Duration::from_hours(1));
    assert_eq!(world.send(get_as("/customer/x", &second)).await.status(), 401, "idle since it was published");
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!world.link.seen.lock().unwrap().is_empty(), "activity was reported");
}

#[tokio::test]
async fn a_navigation_is_sent_to_sign_in_and_a_program_gets_the_address() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let html = [("accept", "text/html")];
    let answer = world.send(request(Method::GET, "/cart?item=1", &html, empty())).await;
    assert_eq!(answer.status(), 302);
    let location = answer.headers()[LOCATION].to_str().unwrap();
    let start =
        "https://login.mezu.localhost:8443/sign-in?host=shop.localhost&return_to=/cart%3Fitem%3D1&state=";
    assert!(location.starts_with(start), "{location}");
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-mezu-state=") && cookie.ends_with("; Secure; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let program = world.send(request(Method::GET, "/cart", &[], empty())).await;
    let (status, headers, body) = read(program).await;
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status.as_u16(), headers["content-type"].to_str().unwrap()),
        (401, "application/problem+json")
    );
    assert!(
        document["login_url"].as_str().unwrap().starts_with("https://login.mezu.localhost:8443/sign-in?")
    );
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn a_site_that_changes_is_served_as_it_is_now() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    assert_eq!(world.send(get("/public/x")).await.status(), 200);
    let mut closed = shop();
    closed.routes = vec![route(1, "/*", AuthMode::Required)];
    closed.revision = 10;
    world.documents.publish(Partition::Project(PROJECT), Document::Site(Box::new(closed.clone())));
    world.settle().await;
    assert_eq!(world.send(get("/public/x")).await.status(), 401);
    closed.min_reader = 99;
    world.documents.publish(Partition::Project(PROJECT), Document::Site(Box::new(closed)));
    world.settle().await;
    assert_eq!(world.send(get("/public/x")).await.status(), 404, "a site for newer edges is closed");
    let site = mezusphere_model::document::DocumentKey::site(crate::world::ENVIRONMENT);
    world.documents.publish(Partition::Project(PROJECT), Document::Site(Box::new(shop())));
    world.settle().await;
    assert_eq!(world.send(get("/public/x")).await.status(), 200);
    world.documents.retract(Partition::Project(PROJECT), site);
    world.settle().await;
    assert_eq!(world.send(get("/public/x")).await.status(), 404);
    assert_eq!(warpgate.seen().len(), 2);
}

#[tokio::test]
async fn methods_that_open_other_protocols_or_echo_are_refused() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let trace = world.send(request(Method::TRACE, "/public/x", &[], empty())).await;
    assert_eq!(code(trace).await, (405, "edge.method".to_owned()));
    let connect = world.send(request(Method::CONNECT, "https://shop.localhost/public/x", &[], empty())).await;
    assert_eq!(code(connect).await, (405, "edge.method".to_owned()));
    let mut extended = request(Method::CONNECT, "/public/x", &[], empty());
    extended.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    assert_eq!(code(world.send(extended).await).await, (501, "edge.not_implemented".to_owned()));
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-key", "x")];
    assert_eq!(world.send(request(Method::GET, "/public/x", &upgrade, empty())).await.status(), 200);
    assert!(!warpgate.seen()[0].head.headers.contains_key("upgrade"));
    assert_eq!(warpgate.seen().len(), 1);
}

#[tokio::test]
async fn platform_hosts_go_to_control_with_the_address_of_the_socket() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let fields = [("x-forwarded-for", "203.0.113.9"), ("cookie", "__Host-mezu-sign-in=1")];
    let target = "https://LOGIN.mezu.localhost:8443/sign-in?a=1";
    let (status, _, body) = read(world.send(request(Method::GET, target, &fields, empty())).await).await;
    assert_eq!(status, 200);
    let told = String::from_utf8(body).unwrap();
    let expected =
        "https://login.mezu.localhost:8443/sign-in?a=1 login.mezu.localhost:8443 192.0.2.7:5555 false";
    assert_eq!(told, expected);
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn r01_a_change_that_cannot_be_read_closes_the_site_until_it_can() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    world.settle().await;
    world.documents.break_down(&["site"]);
    world.documents.publish(Partition::Project(PROJECT), Document::Site(Box::new(shop())));
    world.settle().await;
    assert_eq!(world.send(get("/public/x")).await.status(), 404, "nobody knows what the site is now");
    world.documents.heal();
    let begun = std::time::Instant::now();
    while world.send(get("/public/x")).await.status() != 200 {
        tokio::task::yield_now().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(warpgate.seen().len(), 1);
}

#[tokio::test]
async fn a_form_post_of_a_person_who_is_not_signed_in_gets_a_page_with_the_way() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let fields = [("sec-fetch-mode", "navigate"), ("referer", "https://shop.localhost:8443/cart")];
    let (status, _, body) =
        read(world.send(request(Method::POST, "https://shop.localhost:8443/order", &fields, empty())).await)
            .await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 401);
    assert!(text.contains("return_to=/cart&"), "back to the page, not to what a form posted: {text}");
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn no_application_answers_an_authority_that_asks_whose_a_name_of_the_installation_is() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let cookie = world.sign_in(&["customer"]);
    let asked = world.send(get_as("/.well-known/acme-challenge/token", &cookie)).await;
    assert_eq!(code(asked).await, (404, "edge.no_route".to_owned()));
    assert!(warpgate.log.lock().unwrap().is_empty());
    assert_eq!(world.send(get_as("/.well-known/security.txt", &cookie)).await.status(), 200);
}
