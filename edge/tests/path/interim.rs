//! Heads before the final one: early hints, 100-continue end to end, and their bounds; and how long an exchange may
//! take in all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::Frame;
use http_body_util::BodyExt as _;
use mezusphere_edge::http::{Body, Interim, InterimHead, Interims};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::Event;

use crate::forwarding::channel;
use crate::warpgate::Exchange;
use crate::world::{World, code, empty, request};

/// The next head that was said, if there is one.
fn said(interims: &mut Interims) -> Option<InterimHead> {
    std::future::poll_fn(|cx| interims.poll_next(cx)).now_or_never()
}

/// A request whose listener takes interim heads.
fn asking(expects: bool, path: &str, body: Body) -> (::http::Request<Body>, Interims) {
    let (interim, interims) = Interim::pair(expects);
    let method = if expects { Method::POST } else { Method::GET };
    let mut request = request(method, path, &[], body);
    request.extensions_mut().insert(interim);
    (request, interims)
}

#[tokio::test]
async fn r09_early_hints_reach_the_client_stripped_of_what_only_we_may_say() {
    let (world, _warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        exchange.inform(102, &[]).await;
        let link = ("link", "</a.css>; rel=preload");
        let forged = ("set-cookie", "__Host-mezu-session=forged; Path=/; Secure");
        exchange.inform(103, &[link, ("mezu-user-id", "7"), forged, ("connection", "close")]).await;
        exchange.respond(200, &[], b"page").await;
    })
    .await;
    let (ask, mut interims) = asking(false, "/public/a", empty());
    let response = world.send(ask).await;
    assert_eq!(response.status(), 200);
    assert_eq!(said(&mut interims).unwrap().status, 102);
    let hints = said(&mut interims).unwrap();
    assert_eq!((hints.status.as_u16(), hints.headers.len()), (103, 1), "{:?}", hints.headers);
    assert_eq!(hints.headers["link"], "</a.css>; rel=preload");
    assert!(said(&mut interims).is_none());
}

#[tokio::test]
async fn r23_an_upstream_that_hints_for_ever_is_a_broken_one() {
    let (world, _warpgate) =
        World::with_warpgate(
            |mut exchange: Exchange| async move { while exchange.inform(103, &[]).await {} },
        )
        .await;
    let (ask, _interims) = asking(false, "/public/a", empty());
    assert_eq!(code(world.send(ask).await).await, (502, "edge.tunnel_protocol".to_owned()));
}

/// A body that says whether it was asked for.
fn watched() -> (Arc<AtomicBool>, Body) {
    let asked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&asked);
    let stream = futures_util::stream::once(async move {
        flag.store(true, Ordering::SeqCst);
        Ok(Frame::data(Bytes::from_static(b"body")))
    });
    (asked, Body::new(http_body_util::StreamBody::new(stream)))
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_go_on_by_the_upstream_and_its_body_is_not_asked_for_before() {
    let (go, looked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (release, came) = (Arc::clone(&go), Arc::clone(&looked));
    let (world, warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let (go, looked) = (Arc::clone(&release), Arc::clone(&came));
        async move {
            looked.notify_one();
            go.notified().await;
            exchange.inform(100, &[]).await;
            let (body, _) = exchange.body().await.unwrap();
            exchange.respond(200, &[], &body).await;
        }
    })
    .await;
    let (asked, body) = watched();
    let (ask, mut interims) = asking(true, "/public/up", body);
    let before = Instant::now();
    let watch = async {
        looked.notified().await;
        assert!(!asked.load(Ordering::SeqCst), "nobody has said 100 yet");
        go.notify_one();
    };
    let (response, ()) = tokio::join!(world.send(ask), watch);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
    assert!(before.elapsed() < Duration::from_millis(900), "it did not wait for the time-out");
    assert_eq!(said(&mut interims).unwrap().status, 100);
    assert!(said(&mut interims).is_none(), "only once");
    assert_eq!(warpgate.seen()[0].head.headers["expect"], "100-continue");
}

#[tokio::test]
async fn an_upstream_that_knows_no_100_gets_the_body_after_a_second() {
    let (world, _warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        let (body, _) = exchange.body().await.unwrap();
        exchange.respond(200, &[], &body).await;
    })
    .await;
    let (_, body) = watched();
    let (ask, mut interims) = asking(true, "/public/up", body);
    let before = Instant::now();
    assert_eq!(world.send(ask).await.into_body().collect().await.unwrap().to_bytes(), "body");
    assert!(before.elapsed() >= Duration::from_secs(1));
    assert_eq!(said(&mut interims).unwrap().status, 100);
}

#[tokio::test]
async fn a_final_answer_instead_of_100_spares_the_client_its_body() {
    let (told, mut ends) = mpsc::unbounded_channel();
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            exchange.begin(417, &[]).await;
            exchange.data(Bytes::from_static(b"no")).await;
            let mut encoder = tunnel_proto::exchange::Encoder::new();
            encoder.end();
            exchange.write(encoder.take()).await;
            drop(exchange.send.finish());
            let reset = exchange.recv.received_reset().await.unwrap().unwrap();
            told.send(ResetCode::from_number(reset.into_inner())).unwrap();
        }
    })
    .await;
    let (asked, body) = watched();
    let (ask, mut interims) = asking(true, "/public/up", body);
    let response = world.send(ask).await;
    assert_eq!(response.status(), 417);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
    assert_eq!(ends.recv().await, Some(ResetCode::NotNeeded), "half a request never looks whole");
    assert!(!asked.load(Ordering::SeqCst));
    assert!(said(&mut interims).is_none());
}

#[tokio::test]
async fn trailers_alone_end_a_response_without_a_body() {
    let (world, _warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        exchange.begin(200, &[("content-type", "application/grpc")]).await;
        exchange.end(Some(&[("grpc-status", "12"), ("grpc-message", "no%20such")])).await;
    })
    .await;
    let mut te = HeaderMap::new();
    te.insert("te", HeaderValue::from_static("trailers"));
    let mut ask = request(Method::POST, "/public/grpc", &[], empty());
    ask.headers_mut().extend(te);
    let collected = world.send(ask).await.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "12");
    assert!(collected.to_bytes().is_empty());
}

#[tokio::test]
async fn an_exchange_ends_when_its_route_says_however_busy_it_is() {
    let (told, mut codes) = mpsc::unbounded_channel();
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            if exchange.head().target.ends_with("body") {
                exchange.begin(200, &[]).await;
                while exchange.data(Bytes::from_static(b"tick")).await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            told.send(exchange.stopped().await).unwrap();
        }
    })
    .await;
    let (ask, _interims) = asking(false, "/brief/head", empty());
    assert_eq!(code(world.send(ask).await).await, (504, "edge.total_timeout".to_owned()));
    assert_eq!(codes.recv().await, Some(ResetCode::Timeout));
    let (ask, _interims) = asking(false, "/brief/body", empty());
    let before = Instant::now();
    let response = world.send(ask).await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err(), "cut, and not ended");
    assert!(before.elapsed() >= Duration::from_millis(300));
    assert_eq!(codes.recv().await, Some(ResetCode::Timeout));
}

#[tokio::test]
async fn a_conversation_goes_on_while_either_side_says_something() {
    // The response says nothing for longer than the route's idle time-out, while the request goes on.
    let (world, _warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        exchange.begin(200, &[]).await;
        let mut count = 0;
        loop {
            match exchange.next().await {
                Some(Event::Data(data)) => count += data.len(),
                Some(Event::End) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(exchange.data(Bytes::from(count.to_string())).await);
        exchange.end(None).await;
    })
    .await;
    let (pieces, body) = channel();
    let talk = async {
        for _ in 0..10 {
            pieces.send(Ok(Frame::data(Bytes::from_static(b"tick")))).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        drop(pieces);
    };
    let listen = async {
        let response = world.send(request(Method::POST, "/chatty/talk", &[], body)).await;
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let (heard, ()) = tokio::join!(listen, talk);
    assert_eq!(heard, "40");
}
