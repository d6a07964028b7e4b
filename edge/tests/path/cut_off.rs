//! An edge that is cut off: without its feed for too long, or with a control that is away, silent or makes no sense.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::http::Method;
use http_body_util::BodyExt as _;
use mezusphere_edge::tunnel::TunnelLimits;
use mezusphere_edge::view::ViewLimits;
use mezusphere_model::document::{DocumentKey, Partition};
use mezusphere_model::link::{Answer, FoundSession, Redeemed};
use mezusphere_model::seal::{Seal, UnsealError};
use mezusphere_model::token::Token;
use mezusphere_store::Replica;
use mezusphere_store::feed::{
    AppliedReport, Bell, Changes, Cursor, FeedError, FeedSource, Head, SnapshotPage, Wake,
};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::IdentityRef;

use crate::warpgate::Exchange;
use crate::world::{PROJECT, SHOP, SOON, World, code, empty, get, get_as, read, request};

async fn ok(exchange: Exchange) {
    exchange.respond(200, &[], b"secret").await;
}

fn stale() -> (u16, String) {
    (503, "edge.stale".to_owned())
}

fn control_away() -> (u16, String) {
    (503, "edge.control_away".to_owned())
}

/// A world in which knowledge is stale after 100 s, and control may take 200 ms.
fn hasty() -> World {
    let limits =
        ViewLimits { stale_after: Duration::from_secs(100), ask_control: Duration::from_millis(200) };
    World::limited(limits, TunnelLimits::default())
}

#[tokio::test]
async fn r01_a_stale_edge_asserts_nobodys_identity() {
    let world = hasty();
    let warpgate = world.warpgate(6, ok).await;
    let cookie = world.sign_in(&["customer"]);
    let key = format!("Bearer {}", world.api_key(|_| {}));
    world.settle().await;
    let optional = async |fields: &[(&str, &str)]| {
        world.send(request(Method::GET, "/optional/x", fields, empty())).await
    };
    let by_cookie = [("cookie", cookie.as_str())];
    assert_eq!(optional(&by_cookie).await.status(), 200);
    assert!(warpgate.seen().last().unwrap().claims.is_some(), "known while the edge can tell");
    for age in [None, Some(Duration::from_secs(100)), Some(Duration::from_hours(24))] {
        world.documents.set_age(age);
        // Who needs not be known goes on as a stranger.
        assert_eq!(optional(&by_cookie).await.status(), 200);
        let seen = warpgate.seen().last().unwrap().clone();
        assert!(matches!(seen.head.identity, IdentityRef::None) && seen.claims.is_none());
        assert_eq!(optional(&[]).await.status(), 200);
        // Whoever presents a key wants to be known by it.
        assert_eq!(code(optional(&[("authorization", &key)]).await).await, stale());
        assert_eq!(code(world.send(get_as("/customer/x", &cookie)).await).await, stale());
        assert_eq!(code(world.send(get("/customer/x")).await).await, stale());
        assert_eq!(world.send(get("/public/x")).await.status(), 200);
        assert_eq!(code(world.send(get_as("/.mezu/whoami", &cookie)).await).await, stale());
    }
    // Contact opens what its absence closed.
    world.documents.set_age(Some(Duration::from_secs(99)));
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    assert_eq!(optional(&[("authorization", &key)]).await.status(), 200);
}

#[tokio::test]
async fn a_project_that_cannot_be_followed_closes_no_other() {
    let world = hasty();
    let _warpgate = world.warpgate(6, ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    world.documents.set_age(Some(Duration::from_hours(1)));
    let own = Partition::Project(PROJECT);
    let rows: [(&[Partition], bool); 4] =
        [(&[], false), (&[own], false), (&[Partition::Platform], false), (&[own, Partition::Platform], true)];
    for (followed, open) in rows {
        world.documents.follow(followed);
        let response = world.send(get_as("/customer/x", &cookie)).await;
        assert_eq!(response.status() == 200, open, "{followed:?}");
    }
}

#[tokio::test]
async fn a_stale_edge_tells_people_so_and_shows_its_age() {
    let world = hasty();
    world.documents.set_age(Some(Duration::from_secs(1234)));
    let fields = [("accept", "text/html")];
    let page = world.send(request(Method::GET, "/customer/x", &fields, empty())).await;
    let (status, headers, body) = read(page).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 503);
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(text.contains("edge.stale") && text.contains("Public pages go on"), "{text}");
    assert!(world.metrics.encode().contains("test_edge_feed_age_seconds 1234"));
    world.documents.set_age(None);
    assert!(world.metrics.encode().contains("test_edge_feed_age_seconds -1"), "never");
}

#[tokio::test]
async fn r12_what_runs_for_somebody_ends_when_the_edge_would_not_hear_of_their_end_any_more() {
    let world = hasty();
    let stopped = Arc::new(std::sync::Mutex::new(None));
    let tell = Arc::clone(&stopped);
    let _warpgate = world
        .warpgate(6, move |mut exchange: Exchange| {
            let tell = Arc::clone(&tell);
            async move {
                exchange.begin(200, &[]).await;
                exchange.data(bytes::Bytes::from_static(b"event 1\n")).await;
                *tell.lock().unwrap() = Some(exchange.stopped().await);
            }
        })
        .await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let mut body = world.send(get_as("/customer/events", &cookie)).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    world.documents.set_age(Some(Duration::from_secs(100)));
    assert!(tokio::time::timeout(SOON, body.frame()).await.unwrap().unwrap().is_err(), "a cut");
    while stopped.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*stopped.lock().unwrap(), Some(ResetCode::Denied));
}

/// A feed without anything in it, which can be away.
struct NoFeed(AtomicBool, Bell);

impl FeedSource for NoFeed {
    fn heads(&self) -> Answer<'_, Result<Vec<Head>, FeedError>> {
        let away = self.0.load(Ordering::SeqCst);
        Box::pin(
            async move { if away { Err(FeedError::Away("for the test".into())) } else { Ok(Vec::new()) } },
        )
    }

    fn snapshot(
        &self,
        _: Partition,
        _: Option<DocumentKey>,
        _: usize,
    ) -> Answer<'_, Result<SnapshotPage, FeedError>> {
        Box::pin(async { Err(FeedError::Damaged("there is nothing".into())) })
    }

    fn changes(&self, _: Partition, _: Cursor, _: usize) -> Answer<'_, Result<Changes, FeedError>> {
        Box::pin(async { Ok(Changes::StartOver) })
    }

    fn applied(&self, _: Vec<AppliedReport>) -> Answer<'_, Result<(), FeedError>> {
        Box::pin(async { Ok(()) })
    }

    fn wake(&self) -> Wake {
        self.1.listen()
    }
}

struct Open;

impl Seal for Open {
    fn seal(&self, _: &str, secret: &[u8]) -> Vec<u8> {
        secret.to_vec()
    }

    fn open(&self, _: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        Ok(sealed.to_vec())
    }
}

#[tokio::test]
async fn r01_a_restart_without_control_counts_from_the_last_contact() {
    let limits = ViewLimits::default();
    let stale_after = limits.stale_after;
    let world = World::limited(limits, TunnelLimits::default());
    let _warpgate = world.warpgate(6, ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(Replica::open(dir.path(), world.hand.clock(), Arc::new(Open)).unwrap());
    let ask = async || code_or_ok(world.send(get_as("/customer/x", &cookie)).await).await;

    let replica = open();
    world.documents.age_with(Some(Arc::clone(&replica)));
    assert_eq!(ask().await, stale(), "never in contact");
    let source = Arc::new(NoFeed(AtomicBool::new(false), Bell::new()));
    let follower = replica.follow(Arc::clone(&source) as _, "edge".to_owned(), world.entropy.clone());
    follower.caught_up().await;
    assert_eq!(ask().await.0, 200, "contact opens");

    // Control goes, and the edge restarts: its age goes on from where it was.
    source.0.store(true, Ordering::SeqCst);
    follower.stop().await;
    world.hand.advance(stale_after.saturating_sub(Duration::from_secs(1)));
    world.documents.age_with(None);
    drop(Arc::into_inner(replica).unwrap());
    let replica = open();
    world.documents.age_with(Some(Arc::clone(&replica)));
    let follower = replica.follow(Arc::clone(&source) as _, "edge".to_owned(), world.entropy.clone());
    assert_eq!(ask().await.0, 200, "not yet");
    world.hand.advance(Duration::from_secs(1));
    assert_eq!(ask().await, stale());
    assert_eq!(world.send(get("/public/x")).await.status(), 200);

    // And contact opens again.
    source.0.store(false, Ordering::SeqCst);
    follower.caught_up().await;
    assert_eq!(ask().await.0, 200);
    follower.stop().await;
}

async fn code_or_ok(answer: ::http::Response<mezusphere_edge::http::Body>) -> (u16, String) {
    if answer.status() == 200 { (200, String::new()) } else { code(answer).await }
}

#[tokio::test]
async fn nothing_waits_for_a_silent_control_longer_than_its_bound() {
    let world = hasty();
    let warpgate = world.warpgate(6, ok).await;
    let known = world.sign_in(&["customer"]);
    world.settle().await;
    let (session, principal, token) = world.session(PROJECT, SHOP, &["customer"]);
    world.known_to_control(&session, &principal);
    let unknown = world.cookie(&token, 1000);
    world.link.silent.store(true, Ordering::SeqCst);
    let state = format!("__Host-mezu-state={}", Token::random(&world.entropy).reveal());
    for (what, path, cookie) in [
        ("a session this edge has not seen", "/customer/x", &unknown),
        ("the first assertion of a session", "/customer/x", &known),
        ("a sign-in", "/.mezu/callback?code=abc", &state),
    ] {
        let begun = Instant::now();
        // However many ask at once, none of them waits for the others.
        let asks: Vec<_> = (0..10).map(|_| world.send(get_as(path, cookie))).collect();
        for answer in futures_util::future::join_all(asks).await {
            assert_eq!(code(answer).await, control_away(), "{what}");
        }
        let waited = begun.elapsed();
        assert!((150..1500).contains(&waited.as_millis()), "{what}: {waited:?}");
    }
    assert!(warpgate.seen().is_empty());
    // What needs nothing of control is not touched by it.
    let begun = Instant::now();
    assert_eq!(world.send(get("/public/x")).await.status(), 200);
    assert!(begun.elapsed() < Duration::from_millis(150));
}

#[tokio::test]
async fn a_control_that_is_away_is_not_asked_at_every_request() {
    let world = hasty();
    let warpgate = world.warpgate(6, ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    world.link.away.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        assert_eq!(code(world.send(get_as("/customer/x", &cookie)).await).await, control_away());
    }
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 1);
    world.link.away.store(false, Ordering::SeqCst);
    world.hand.advance(Duration::from_secs(3));
    assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    assert_eq!(warpgate.seen().len(), 1);
}

#[tokio::test]
async fn r24_no_answer_that_makes_no_sense_lets_anybody_in() {
    let world = hasty();
    let warpgate = world.warpgate(6, ok).await;
    let known = world.sign_in(&["customer"]);
    world.settle().await;
    let (session, principal, token) = world.session(PROJECT, SHOP, &["customer"]);
    world.known_to_control(&session, &principal);
    world.link.mad.store(true, Ordering::SeqCst);
    // Another session than was asked for.
    let unknown = world.cookie(&token, 1000);
    assert_eq!(code(world.send(get_as("/customer/x", &unknown)).await).await, control_away());
    // Assertions that are none.
    let long = format!("a.b.{}", "c".repeat(9000));
    for nonsense in ["", "a.b", "a.b.c.d", "a.b.c\r\nx: y", "ä.b.c", long.as_str()] {
        nonsense.clone_into(&mut world.link.nonsense.lock().unwrap());
        world.hand.advance(Duration::from_secs(3));
        for _ in 0..5 {
            let answer = world.send(get_as("/customer/x", &known)).await;
            assert_eq!(code(answer).await, control_away(), "{nonsense:.20}");
        }
    }
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 6, "once each");
    // A token that is none.
    let redeemed = Redeemed {
        token: token.reveal(),
        found: FoundSession { session, principal },
        born_at: 77,
        return_to: "/".to_owned(),
    };
    *world.link.redeems.lock().unwrap() = Some(redeemed);
    let state = format!("__Host-mezu-state={}", Token::random(&world.entropy).reveal());
    let answer = world.send(get_as("/.mezu/callback?code=abc", &state)).await;
    assert!(!answer.headers().contains_key("set-cookie"));
    assert_eq!(code(answer).await, (500, "edge.internal".to_owned()));
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn an_assertion_that_has_ended_before_it_came_is_not_used() {
    let world = hasty();
    let warpgate = world.warpgate(6, ok).await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    *world.link.life.lock().unwrap() = Duration::ZERO;
    for _ in 0..5 {
        assert_eq!(code(world.send(get_as("/customer/x", &cookie)).await).await, control_away());
    }
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 1);
    assert!(warpgate.seen().is_empty());
}
