//! What ends an exchange that runs (R12): its session, its caller, its route, whoever it belongs to and however it stands.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, Request};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use mezusphere_edge::http::websocket::close_frame;
use mezusphere_edge::http::{Body, BoxError, Upgrade};
use mezusphere_model::document::{ApiKeyDoc, Document, DocumentKey, Partition, Status};
use mezusphere_model::identity::Subject;
use mezusphere_model::path::RequestPath;
use mezusphere_model::route::{AuthMode, SiteDoc};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::Event;

use crate::forwarding::channel;
use crate::warpgate::{Exchange, Warpgate};
use crate::world::{PROJECT, USER, World, code, empty, get, get_as, name, principal, request, route};

/// On every edge, once the feed has told (R12).
const WITHIN: Duration = Duration::from_secs(2);

/// The same for a WebSocket whose frame does not end: it gets a second more.
const WITHIN_MID_FRAME: Duration = Duration::from_secs(3);

/// Something that is done to the world.
type End = fn(&World);

/// A change of an API key.
type KeyChange = fn(&mut ApiKeyDoc);

/// A change of what is published.
type Change = Box<dyn Fn(&mut SiteDoc)>;

type Pieces = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;
type Codes = mpsc::UnboundedReceiver<ResetCode>;

/// A warpgate that sends one event and then waits; what it is told when it must stop.
async fn streaming() -> (World, Warpgate, Codes) {
    let (told, codes) = mpsc::unbounded_channel();
    let (world, warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            exchange.begin(200, &[]).await;
            exchange.data(Bytes::from_static(b"event")).await;
            told.send(exchange.stopped().await).unwrap();
        }
    })
    .await;
    (world, warpgate, codes)
}

/// A response that has begun.
async fn begun(world: &World, request: Request<Body>) -> Body {
    let response = world.send(request).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "event");
    body
}

async fn is_cut(mut body: Body, codes: &mut Codes, why: &str) {
    let cut = tokio::time::timeout(WITHIN, body.frame()).await.unwrap_or_else(|_| panic!("{why}: not cut"));
    assert!(cut.unwrap().is_err(), "{why}: an end that looks clean");
    assert_eq!(codes.recv().await, Some(ResetCode::Denied), "{why}");
}

/// Nothing happens to it for as long as a cut would take.
async fn goes_on(body: &mut Body, why: &str) {
    assert!(tokio::time::timeout(WITHIN, body.frame()).await.is_err(), "{why}: it was ended");
}

fn publish(world: &World, document: Document) {
    world.documents.publish(Partition::Project(PROJECT), document);
}

#[tokio::test]
async fn r12_every_end_of_a_session_cuts_what_runs_for_it() {
    let (world, _warpgate, mut codes) = streaming().await;
    let ends: [(&str, End); 5] = [
        ("suspension", |world| {
            let mut gone = principal(Subject::User(USER), PROJECT, &["customer"]);
            (gone.status, gone.version) = (Status::Suspended, 2);
            publish(world, Document::Principal(gone));
        }),
        ("deletion", |world| {
            let key = DocumentKey::principal(Subject::User(USER));
            world.documents.retract(Partition::Project(PROJECT), key);
        }),
        ("password change", |world| {
            let mut changed = principal(Subject::User(USER), PROJECT, &["customer"]);
            (changed.version, changed.sessions_valid_from) =
                (2, crate::world::BEGIN.after(Duration::from_secs(1)));
            publish(world, Document::Principal(changed));
        }),
        ("role removed", |world| {
            let mut less = principal(Subject::User(USER), PROJECT, &["visitor"]);
            less.version = 2;
            publish(world, Document::Principal(less));
        }),
        ("end of time", |world| world.hand.advance(Duration::from_hours(12))),
    ];
    for (why, end) in ends {
        let cookie = world.sign_in(&["customer"]);
        world.settle().await;
        let body = begun(&world, get_as("/customer/events", &cookie)).await;
        end(&world);
        is_cut(body, &mut codes, why).await;
    }
}

#[tokio::test]
async fn r12_one_session_that_is_revoked_takes_no_other_with_it() {
    let (world, _warpgate, mut codes) = streaming().await;
    let (session, principal, token) = world.session(PROJECT, crate::world::SHOP, &["customer"]);
    publish(&world, Document::Principal(principal.clone()));
    publish(&world, Document::Session(session.clone()));
    world.known_to_control(&session, &principal);
    let (revoked, other) = (world.cookie(&token, 1), world.sign_in(&["customer"]));
    world.settle().await;
    let body = begun(&world, get_as("/customer/events", &revoked)).await;
    let mut stays = begun(&world, get_as("/customer/events", &other)).await;
    world.documents.retract(Partition::Project(PROJECT), DocumentKey::session(&session.token_hash));
    is_cut(body, &mut codes, "its own").await;
    goes_on(&mut stays, "another's").await;
}

#[tokio::test]
async fn r21_a_key_that_is_revoked_or_may_less_cuts_what_runs_for_it() {
    let (world, _warpgate, mut codes) = streaming().await;
    let changes: [(&str, KeyChange); 2] = [
        ("another secret", |key| key.secret_hash = mezusphere_model::token::TokenHash::from_bytes([9; 32])),
        ("no scope", |key| key.scopes = vec![name("connect")]),
    ];
    for (why, change) in changes {
        let mut doc = None;
        let key = format!("Bearer {}", world.api_key(|key| doc = Some(key.clone())));
        world.settle().await;
        let ask = request(Method::GET, "/customer/events", &[("authorization", &key)], empty());
        let body = begun(&world, ask).await;
        let mut doc = doc.unwrap();
        change(&mut doc);
        publish(&world, Document::ApiKey(doc.clone()));
        is_cut(body, &mut codes, why).await;
    }
    let mut id = None;
    let key = format!("Bearer {}", world.api_key(|key| id = Some(key.id)));
    world.settle().await;
    let body =
        begun(&world, request(Method::GET, "/customer/events", &[("authorization", &key)], empty())).await;
    world.documents.retract(Partition::Project(PROJECT), DocumentKey::api_key(id.unwrap()));
    is_cut(body, &mut codes, "revoked").await;
}

#[tokio::test]
async fn r12_a_change_of_the_site_ends_what_the_same_request_would_not_get_now() {
    let (world, _warpgate, mut codes) = streaming().await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let routed = |site: &mut SiteDoc, path: &str, change: fn(&mut mezusphere_model::route::RouteDoc)| {
        let wanted = route(0, path, AuthMode::Public).path;
        change(site.routes.iter_mut().find(|route| route.path == wanted).unwrap());
    };
    let rows: [(&str, &str, bool, Change); 9] = [
        (
            "another role",
            "/customer/events",
            false,
            Box::new(move |site| {
                routed(site, "/customer/*", |route| route.require.any_role = vec![name("staff")]);
            }),
        ),
        (
            "one role more that does",
            "/customer/events",
            true,
            Box::new(move |site| {
                routed(site, "/customer/*", |route| route.require.any_role.push(name("staff")));
            }),
        ),
        (
            "a stricter route in front",
            "/customer/events",
            false,
            Box::new(|site| {
                let mut inner = route(99, "/customer/events", AuthMode::Required);
                inner.require.any_role = vec![name("staff")];
                site.routes.push(inner);
            }),
        ),
        (
            "the route gone",
            "/customer/events",
            false,
            Box::new(|site| {
                site.routes.retain(|one| one.path != route(0, "/customer/*", AuthMode::Public).path);
            }),
        ),
        (
            "a public route that asks for a sign-in",
            "/public/events",
            false,
            Box::new(move |site| {
                routed(site, "/public/*", |route| route.auth = AuthMode::Required);
            }),
        ),
        (
            "a public route gone",
            "/public/events",
            false,
            Box::new(|site| {
                site.routes.retain(|one| one.path != route(0, "/public/*", AuthMode::Public).path);
            }),
        ),
        ("the host gone", "/public/events", false, Box::new(|site| site.hosts.clear())),
        (
            "another route gone",
            "/public/events",
            true,
            Box::new(|site| {
                site.routes.retain(|one| one.path != route(0, "/customer/*", AuthMode::Public).path);
            }),
        ),
        (
            "a route that opens",
            "/customer/events",
            true,
            Box::new(move |site| {
                routed(site, "/customer/*", |route| {
                    route.auth = AuthMode::Public;
                    route.require = mezusphere_model::route::Requirement::default();
                });
            }),
        ),
    ];
    for (why, path, stays, change) in rows {
        world.publish(|_| {}).await;
        assert!(RequestPath::parse(path).is_ok());
        let ask = if path.starts_with("/public") { get(path) } else { get_as(path, &cookie) };
        let mut body = begun(&world, ask).await;
        world.publish(change).await;
        if stays {
            goes_on(&mut body, why).await;
            drop(body);
            assert_eq!(codes.recv().await, Some(ResetCode::ClientGone), "{why}");
        } else {
            is_cut(body, &mut codes, why).await;
        }
    }
}

#[tokio::test]
async fn a_sign_in_that_was_young_enough_when_an_exchange_began_stays_so() {
    let (world, _warpgate, mut codes) = streaming().await;
    let cookie = world.sign_in(&["customer"]);
    let step_up = |age| {
        move |site: &mut SiteDoc| {
            for route in &mut site.routes {
                if route.auth == AuthMode::Required {
                    route.step_up.max_auth_age_s = Some(age);
                    route.min_reader = mezusphere_model::route::READER;
                }
            }
        }
    };
    world.publish(step_up(600)).await;
    let mut body = begun(&world, get_as("/customer/events", &cookie)).await;
    world.hand.advance(Duration::from_secs(700));
    // Something changes, so that it is decided anew.
    world.publish(step_up(601)).await;
    goes_on(&mut body, "it began in time").await;
    assert_ne!(world.send(get_as("/customer/events", &cookie)).await.status(), 200, "a new one would not");
    drop(body);
    assert_eq!(codes.recv().await, Some(ResetCode::ClientGone));
}

#[tokio::test]
async fn r12_an_upload_without_pause_is_refused_when_its_session_ends() {
    let (told, mut codes) = mpsc::unbounded_channel();
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            while exchange.next().await.is_some() {}
            told.send(()).unwrap();
        }
    })
    .await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let (pieces, body) = channel();
    let ask = request(Method::POST, "/customer/upload", &[("cookie", &cookie)], body);
    let talk = async {
        // Never still for as long as a look takes.
        while pieces.send(Ok(Frame::data(Bytes::from_static(b"piece")))).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut gone = principal(Subject::User(USER), PROJECT, &["customer"]);
        gone.status = Status::Suspended;
        publish(&world, Document::Principal(gone));
        Instant::now()
    };
    let ask = async { (code(world.send(ask).await).await, Instant::now()) };
    let ((answer, at), (), ended) = tokio::join!(ask, talk, end);
    assert_eq!(answer, (403, "edge.session_refused".to_owned()));
    assert!(at - ended <= WITHIN, "{:?}", at - ended);
    codes.recv().await.unwrap();
}

/// A WebSocket of the customer's; what the client says after the handshake is sent through the sender.
async fn websocket(world: &World, cookie: &str) -> (Pieces, Body) {
    let (pieces, body) = channel();
    let fields = [("cookie", cookie), ("origin", "https://shop.localhost:8443")];
    let mut ask = request(Method::GET, "/customer/chat", &fields, body);
    ask.extensions_mut().insert(Upgrade::to("websocket").unwrap());
    let response = world.send(ask).await;
    assert_eq!(response.status(), 101);
    (pieces, response.into_body())
}

/// A warpgate that says a first piece, and each of the others when it is told to.
async fn speaking(first: &'static [u8], then: &'static [u8]) -> (World, Warpgate, Arc<Notify>, Codes) {
    let (told, codes) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let (world, warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let (told, wait) = (told.clone(), Arc::clone(&wait));
        async move {
            exchange.switch(&[]).await;
            exchange.write(Bytes::from_static(first)).await;
            assert_eq!(exchange.next().await, Some(Event::Raw));
            tokio::select! {
                () = wait.notified() => drop(exchange.write(Bytes::from_static(then)).await),
                _ = exchange.stopped() => {}
            }
            told.send(exchange.stopped().await).unwrap();
        }
    })
    .await;
    (world, warpgate, go, codes)
}

/// The next octets; `None`: the upstream's direction has ended.
async fn octets(body: &mut Body, within: Duration) -> Option<Bytes> {
    let frame = tokio::time::timeout(within, body.frame()).await.expect("in time").unwrap().unwrap();
    frame.into_data().ok()
}

fn suspend(world: &World) {
    let mut gone = principal(Subject::User(USER), PROJECT, &["customer"]);
    gone.status = Status::Suspended;
    publish(world, Document::Principal(gone));
}

#[tokio::test]
async fn r12_a_websocket_is_told_why_it_ends_and_then_ends_in_order() {
    let (world, _warpgate, _go, mut codes) = speaking(b"\x81\x04here", b"").await;
    let role: End = |world| {
        publish(world, Document::Principal(principal(Subject::User(USER), PROJECT, &["visitor"])));
    };
    let rows: [(u16, &str, End); 2] =
        [(4401, "session ended", suspend), (4403, "not permitted any more", role)];
    for (code, reason, end) in rows {
        let cookie = world.sign_in(&["customer"]);
        world.settle().await;
        let (pieces, mut body) = websocket(&world, &cookie).await;
        assert_eq!(octets(&mut body, WITHIN).await.unwrap(), b"\x81\x04here"[..]);
        end(&world);
        assert_eq!(octets(&mut body, WITHIN).await.unwrap(), close_frame(code, reason));
        assert_eq!(codes.recv().await, Some(ResetCode::Denied), "the upstream is cut off");
        assert_eq!(octets(&mut body, WITHIN).await, None, "nothing follows");
        // What the client still says is taken, so that the last word is not lost in a reset.
        for _ in 0..20 {
            pieces.send(Ok(Frame::data(Bytes::from_static(b"\x88\x80mask")))).await.unwrap();
        }
        drop(pieces);
        assert!(tokio::time::timeout(WITHIN, body.frame()).await.unwrap().is_none(), "both have ended");
    }
}

#[tokio::test]
async fn r12_a_client_that_does_not_answer_a_close_is_left_after_a_second() {
    let (world, _warpgate, _go, _codes) = speaking(b"\x81\x04here", b"").await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let (_pieces, mut body) = websocket(&world, &cookie).await;
    octets(&mut body, WITHIN).await.unwrap();
    suspend(&world);
    assert_eq!(octets(&mut body, WITHIN).await.unwrap(), close_frame(4401, "session ended"));
    assert_eq!(octets(&mut body, WITHIN).await, None);
    assert!(tokio::time::timeout(WITHIN, body.frame()).await.unwrap().is_none());
}

#[tokio::test]
async fn r12_a_websocket_is_closed_where_its_frame_ends_and_not_in_it() {
    // Six of ten octets; then the other four, and one frame more that nobody may see.
    let (world, _warpgate, go, _codes) = speaking(b"\x82\x0asix of", b" ten\x81\x06secret").await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let (_pieces, mut body) = websocket(&world, &cookie).await;
    octets(&mut body, WITHIN).await.unwrap();
    suspend(&world);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), body.frame()).await.is_err(), "it waits");
    go.notify_one();
    let mut said = Vec::new();
    while let Some(more) = octets(&mut body, WITHIN).await {
        said.extend_from_slice(&more);
    }
    assert_eq!(said, [&b" ten"[..], &close_frame(4401, "session ended")].concat());
}

#[tokio::test]
async fn r12_a_websocket_whose_frame_does_not_end_is_cut() {
    let (world, _warpgate, _go, mut codes) = speaking(b"\x82\x0asix of", b"").await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let (_pieces, mut body) = websocket(&world, &cookie).await;
    octets(&mut body, WITHIN).await.unwrap();
    suspend(&world);
    let cut = tokio::time::timeout(WITHIN_MID_FRAME, body.frame()).await.expect("it was cut");
    assert!(cut.unwrap().is_err());
    assert_eq!(codes.recv().await, Some(ResetCode::Denied));
}

#[tokio::test]
async fn r12_nothing_a_client_says_reaches_the_upstream_once_its_session_has_ended() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            exchange.switch(&[]).await;
            // In the middle of a frame, so that the end has to wait.
            exchange.write(Bytes::from_static(b"\x82\x0asix of")).await;
            while let Some(event) = exchange.next().await {
                if let Event::Data(data) = event {
                    told.send(data).unwrap();
                }
            }
        }
    })
    .await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let (pieces, mut body) = websocket(&world, &cookie).await;
    octets(&mut body, WITHIN).await.unwrap();
    pieces.send(Ok(Frame::data(Bytes::from_static(b"before")))).await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), "before");
    suspend(&world);
    let read = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    let talk = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        drop(pieces.try_send(Ok(Frame::data(Bytes::from_static(b"after")))));
    };
    tokio::time::timeout(WITHIN_MID_FRAME, async { tokio::join!(read, talk) }).await.unwrap();
    assert!(heard.try_recv().is_err());
}
