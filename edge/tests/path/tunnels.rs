//! What a tunnel lives and dies by.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::document::{Document, Partition};
use mezusphere_model::id::WarpgateId;
use mezusphere_model::slug::Slug;
use mezusphere_pki::lifetime::LEAF_TTL;
use tokio::sync::Notify;
use tunnel_proto::codes::{CloseCode, ResetCode};
use tunnel_proto::control::WarpgateEvent;

use crate::warpgate::{Exchange, Tell};
use crate::world::{ENVIRONMENT, PROJECT, SOON, World, allowed, code, get, get_as, read};

async fn ok(exchange: Exchange) {
    exchange.respond(200, &[], b"ok").await;
}

pub(crate) fn close_code(error: &quinn::ConnectionError) -> CloseCode {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_number(close.error_code.into_inner())
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_probe_goes_all_the_way_and_back() {
    let (world, mut warpgate) = World::with_warpgate(ok).await;
    warpgate.tell.send(Tell::Probe(7)).unwrap();
    let done = warpgate.event(|event| matches!(event, WarpgateEvent::ProbeDone { .. })).await;
    assert!(matches!(done, WarpgateEvent::ProbeDone { nonce: 7, .. }));
    drop(world);
}

#[tokio::test]
async fn a_bundle_is_relayed_when_it_changes() {
    let (world, mut warpgate) = World::with_warpgate(ok).await;
    for revision in [3, 4] {
        let bundle = SignedBundle { environment: ENVIRONMENT, revision, jws: format!("jws {revision}") };
        world.documents.publish(Partition::Project(PROJECT), Document::Bundle(bundle.clone()));
        let relayed = WarpgateEvent::Bundle(bundle);
        warpgate.event(|event| *event == relayed).await;
    }
    // One that is older than what was relayed is not.
    let old = SignedBundle { environment: ENVIRONMENT, revision: 2, jws: "old".to_owned() };
    world.documents.publish(Partition::Project(PROJECT), Document::Bundle(old));
    let newest = SignedBundle { environment: ENVIRONMENT, revision: 5, jws: "new".to_owned() };
    world.documents.publish(Partition::Project(PROJECT), Document::Bundle(newest.clone()));
    warpgate.event(|event| *event == WarpgateEvent::Bundle(newest.clone())).await;
    // And one that connects later gets it at once.
    let mut second = world.warpgate(7, ok).await;
    second.event(|event| *event == WarpgateEvent::Bundle(newest.clone())).await;
}

#[tokio::test]
async fn r22_a_warpgate_gets_its_own_environments_requests_only() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let (session, principal, token) = world.session(crate::world::OTHER_PROJECT, crate::world::BLOG, &[]);
    world.documents.publish(Partition::Project(session.project), Document::Principal(principal.clone()));
    world.documents.publish(Partition::Project(session.project), Document::Session(session.clone()));
    world.known_to_control(&session, &principal);
    world.settle().await;
    let cookie = world.cookie(&token, 1);
    let target = format!("https://{}/", crate::world::BLOG);
    let request =
        crate::world::request(::http::Method::GET, &target, &[("cookie", &cookie)], crate::world::empty());
    assert_eq!(code(world.send(request).await).await, (503, "edge.no_tunnel".to_owned()));
    assert!(warpgate.seen().is_empty());
}

#[tokio::test]
async fn upstreams_that_are_withdrawn_get_no_request() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    warpgate.tell.send(Tell::Withdraw(Slug::parse("default").unwrap())).unwrap();
    while world.send(get("/public/x")).await.status() == 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(world.send(get("/public/x")).await).await, (503, "edge.no_upstream".to_owned()));
}

#[tokio::test]
async fn a_warpgate_that_drains_gets_no_new_request() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    warpgate.tell.send(Tell::Drain).unwrap();
    while !world.tunnels.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(world.send(get("/public/x")).await).await, (503, "edge.no_tunnel".to_owned()));
}

#[tokio::test]
async fn an_edge_that_drains_finishes_what_runs_and_says_so() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let (world, mut warpgate) = World::with_warpgate(move |exchange: Exchange| {
        let wait = Arc::clone(&wait);
        async move {
            wait.notified().await;
            exchange.respond(200, &[], b"done").await;
        }
    })
    .await;
    let running = world.send(get("/public/x"));
    let drained = async {
        while warpgate.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        world.drain.begin();
        warpgate.event(|event| matches!(event, WarpgateEvent::Draining { .. })).await;
        go.notify_one();
    };
    let (answer, ()) = tokio::join!(running, drained);
    assert_eq!(read(answer).await.2, b"done");
    let closed = tokio::time::timeout(SOON, warpgate.connection.closed()).await.unwrap();
    assert_eq!(close_code(&closed), CloseCode::Done);
}

#[tokio::test]
async fn a_warpgate_that_falls_silent_is_noticed_within_six_seconds() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let begun = std::time::Instant::now();
    // Its connection lives on, but its control task has stopped.
    let connection = warpgate.connection.clone();
    let (log, kept) = (Arc::clone(&warpgate.log), warpgate.connection.clone());
    drop((warpgate, log));
    let closed = tokio::time::timeout(SOON, connection.closed()).await.unwrap();
    assert!(matches!(close_code(&closed), CloseCode::Silent | CloseCode::Done), "{closed}");
    assert!(begun.elapsed() < allowed(Duration::from_secs(6)));
    drop((kept, world));
}

#[tokio::test]
async fn r12_a_response_under_way_ends_with_its_session() {
    let told = Arc::new(std::sync::Mutex::new(None));
    let teller = Arc::clone(&told);
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let teller = Arc::clone(&teller);
        async move {
            exchange.begin(200, &[]).await;
            exchange.data(bytes::Bytes::from_static(b"event 1\n")).await;
            *teller.lock().unwrap() = Some(exchange.stopped().await);
        }
    })
    .await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let mut body = world.send(get_as("/customer/events", &cookie)).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let text = cookie.split_once('=').unwrap().1.split('.').next().unwrap();
    let hash = mezusphere_model::token::Token::parse(text).unwrap().hash();
    let key = mezusphere_model::document::DocumentKey::session(&hash);
    world.documents.retract(Partition::Project(PROJECT), key);
    let begun = std::time::Instant::now();
    let end = tokio::time::timeout(SOON, body.frame()).await.unwrap();
    assert!(end.unwrap().is_err(), "a cut, not a clean end");
    assert!(begun.elapsed() < Duration::from_secs(2));
    while told.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*told.lock().unwrap(), Some(ResetCode::Denied));
}

#[tokio::test]
async fn a_busy_warpgate_gets_fewer_requests_than_an_idle_one() {
    let world = World::new();
    let busy = world.warpgate(6, |_: Exchange| std::future::pending()).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(Box::pin(world.send(get("/public/held"))));
    }
    let mut holding = futures_util::future::join_all(held);
    while busy.seen().len() < 8 {
        assert!(futures_util::poll!(&mut holding).is_pending());
        tokio::task::yield_now().await;
    }
    let idle = world.warpgate(7, ok).await;
    for _ in 0..200 {
        // Drawn at random: now and then both draws are the busy one.
        drop(tokio::time::timeout(Duration::from_millis(20), world.send(get("/public/x"))).await);
    }
    let (on_busy, on_idle) = (busy.seen().len() - 8, idle.seen().len());
    assert!(on_idle > 2 * on_busy, "{on_idle} and {on_busy}");
}

#[tokio::test]
async fn a_request_waits_two_seconds_for_a_full_tunnel_and_no_longer() {
    let (go, world) = (Arc::new(Notify::new()), World::new());
    let wait = Arc::clone(&go);
    let connection = world.dial_for(WarpgateId::from_bits(6), LEAF_TTL, 1).await;
    let warpgate = world
        .start(connection, 6, move |exchange: Exchange| {
            let wait = Arc::clone(&wait);
            async move {
                wait.notified().await;
                exchange.respond(200, &[], b"ok").await;
            }
        })
        .welcomed()
        .await;
    let running = world.send(get("/public/first"));
    let others = async {
        while warpgate.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        let begun = std::time::Instant::now();
        assert_eq!(code(world.send(get("/public/x")).await).await, (503, "edge.tunnel_busy".to_owned()));
        let waited = begun.elapsed();
        assert!((2000..4000).contains(&waited.as_millis()), "{waited:?}");
        // One that ends in time makes room for whoever waits.
        let waits = world.send(get("/public/x"));
        let ends = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            go.notify_one();
            go.notify_one();
            while warpgate.seen().len() < 2 {
                tokio::task::yield_now().await;
            }
            go.notify_one();
        };
        let (answer, ()) = tokio::join!(waits, ends);
        assert_eq!(read(answer).await.2, b"ok");
    };
    let (first, ()) = tokio::join!(async { read(running.await).await.2 }, others);
    assert_eq!(first, b"ok");
}

#[tokio::test]
async fn r23_a_warpgate_that_opens_streams_of_its_own_loses_its_tunnel() {
    let (world, warpgate) = World::with_warpgate(ok).await;
    let (mut send, _recv) = warpgate.connection.open_bi().await.unwrap();
    // A stream is not there for the other side before something was said on it.
    send.write_all(b"anything").await.unwrap();
    let closed = tokio::time::timeout(SOON, warpgate.connection.closed()).await.unwrap();
    assert_eq!(close_code(&closed), CloseCode::Protocol);
    while !world.tunnels.is_empty() {
        tokio::task::yield_now().await;
    }
}
