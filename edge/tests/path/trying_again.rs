//! When a request is sent once more, and when it must not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ::http::Method;
use bytes::Bytes;
use tunnel_proto::codes::{FailureCode, ResetCode};
use tunnel_proto::exchange::IdentityRef;

use crate::warpgate::Exchange;
use crate::world::{World, code, full, get, get_as, read, request};

#[tokio::test]
async fn an_identity_the_warpgate_has_forgotten_is_sent_in_full_once_more() {
    let (world, warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        let (body, _) = exchange.body().await.unwrap();
        exchange.respond(200, &[], &body).await;
    })
    .await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let known = |seen: Vec<crate::warpgate::Seen>| {
        matches!(seen.last().unwrap().head.identity, IdentityRef::Known(_))
    };
    while !{
        world.send(get_as("/customer/x", &cookie)).await;
        known(warpgate.seen())
    } {}
    warpgate.forget_everybody();
    let fields = [("cookie", cookie.as_str()), ("content-length", "5")];
    let post = request(Method::POST, "/customer/x", &fields, full("hello"));
    let (status, _, body) = read(world.send(post).await).await;
    assert_eq!((status.as_u16(), body.as_slice()), (200, b"hello".as_slice()), "the body was sent again too");
    assert!(matches!(warpgate.seen().last().unwrap().head.identity, IdentityRef::Full { .. }));
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_does_not_rely_on_what_the_warpgate_remembers() {
    let (world, warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        let (body, _) = exchange.body().await.unwrap();
        exchange.respond(200, &[], body.len().to_string().as_bytes()).await;
    })
    .await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    for _ in 0..5 {
        world.send(get_as("/customer/x", &cookie)).await;
    }
    warpgate.forget_everybody();
    let upload =
        request(Method::POST, "/customer/x", &[("cookie", &cookie)], full(Bytes::from(vec![1; 500_000])));
    assert_eq!(read(world.send(upload).await).await.2, b"500000");
    assert_eq!(warpgate.seen().len(), 6, "sent once");
}

#[tokio::test]
async fn a_warpgate_that_never_knows_anybody_is_asked_twice_and_no_more() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let (world, _warpgate) = World::with_warpgate(move |exchange: Exchange| {
        counter.fetch_add(1, Ordering::SeqCst);
        exchange.fail(FailureCode::UnknownPrincipal, false)
    })
    .await;
    let cookie = world.sign_in(&["customer"]);
    world.settle().await;
    let answer = code(world.send(get_as("/customer/x", &cookie)).await).await;
    assert_eq!(answer, (502, "warpgate.unknown_principal".to_owned()));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// Two warpgates; the one that is asked first fails as told, the other answers. How many requests reached each, and the status.
async fn two(method: Method, fail: impl Fn(Exchange) + Send + Sync + 'static) -> (usize, u16) {
    let (failed, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let fail = Arc::new(fail);
    let world = World::new();
    let mut warpgates = Vec::new();
    for id in [6, 7] {
        let (failed, answered, fail) = (Arc::clone(&failed), Arc::clone(&answered), Arc::clone(&fail));
        let handler = move |mut exchange: Exchange| {
            let (failed, answered, fail) = (Arc::clone(&failed), Arc::clone(&answered), Arc::clone(&fail));
            async move {
                drop(exchange.body().await);
                answered.fetch_add(1, Ordering::SeqCst);
                if failed.swap(true, Ordering::SeqCst) {
                    exchange.respond(200, &[], b"ok").await;
                } else {
                    fail(exchange);
                }
            }
        };
        warpgates.push(world.warpgate(id, handler).await);
    }
    let answer = world.send(request(method, "/public/x", &[("content-length", "2")], full("hi"))).await;
    (answered.load(Ordering::SeqCst), answer.status().as_u16())
}

fn failing(code: FailureCode, started: bool) -> impl Fn(Exchange) + Send + Sync + 'static {
    move |exchange| drop(tokio::spawn(exchange.fail(code, started)))
}

#[tokio::test]
async fn a_request_is_sent_elsewhere_only_if_that_is_safe() {
    use FailureCode::{Draining, UnknownRoute, UpstreamClosed, UpstreamRefused, UpstreamTimeout};
    // Provably not started: any method.
    for code in [UpstreamRefused, Draining] {
        for method in [Method::GET, Method::POST] {
            assert_eq!(two(method.clone(), failing(code, false)).await, (2, 200), "{code} {method}");
        }
    }
    // It reached the upstream, and no byte came back: only what may be repeated.
    assert_eq!(two(Method::GET, failing(UpstreamClosed, true)).await, (2, 200));
    assert_eq!(two(Method::PUT, failing(UpstreamClosed, true)).await, (2, 200));
    assert_eq!(two(Method::POST, failing(UpstreamClosed, true)).await, (1, 502));
    assert_eq!(two(Method::PATCH, failing(UpstreamClosed, true)).await, (1, 502));
    // It would be no use, or the upstream may still be at it.
    assert_eq!(two(Method::GET, failing(UpstreamTimeout, true)).await, (1, 504));
    assert_eq!(two(Method::GET, failing(UnknownRoute, false)).await, (1, 502));
    // A stream that breaks off tells nothing.
    let cut = |exchange: Exchange| exchange.reset(ResetCode::Internal);
    assert_eq!(two(Method::GET, cut).await, (2, 200));
    assert_eq!(two(Method::POST, cut).await, (1, 502));
    let rejected = |exchange: Exchange| exchange.reset(ResetCode::Rejected);
    assert_eq!(two(Method::POST, rejected).await, (2, 200));
}

#[tokio::test]
async fn a_tunnel_that_dies_is_not_chosen_again() {
    let world = World::new();
    let first = world.warpgate(6, |exchange: Exchange| exchange.respond(200, &[], b"first")).await;
    let _second = world.warpgate(7, |exchange: Exchange| exchange.respond(200, &[], b"second")).await;
    assert_eq!(world.tunnels.len(), 2);
    first.vanish();
    for _ in 0..20 {
        assert_eq!(read(world.send(get("/public/x")).await).await.2, b"second");
    }
    while world.tunnels.len() != 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_a_warpgate_the_page_says_so() {
    let world = World::new();
    assert_eq!(code(world.send(get("/public/x")).await).await, (503, "edge.no_tunnel".to_owned()));
}
