//! Switches of protocols through the request path: raw octets both ways, half-closes, cuts, and what never leaves early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::http::{Method, Request};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use mezusphere_edge::http::{Body, BoxError, Upgrade};
use mezusphere_model::document::{Document, Partition, Status};
use mezusphere_model::identity::Subject;
use tokio::sync::mpsc;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::Event;

use crate::forwarding::channel;
use crate::warpgate::Exchange;
use crate::world::{PROJECT, SOON, USER, World, principal, request};

type Pieces = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// A request to switch to WebSocket; what the client says after it is sent through the sender.
fn websocket(path: &str, fields: &[(&str, &str)]) -> (Pieces, Request<Body>) {
    let (pieces, body) = channel();
    let mut request = request(Method::GET, path, fields, body);
    request.extensions_mut().insert(Upgrade::to("websocket").unwrap());
    (pieces, request)
}

async fn say(pieces: &Pieces, text: &'static str) {
    pieces.send(Ok(Frame::data(Bytes::from_static(text.as_bytes())))).await.unwrap();
}

/// The next frame: octets as text, or `None` where the upstream's direction has ended. An error is the body's end:
/// `None` where both directions have ended, `Some` where they were cut.
async fn frame(body: &mut Body) -> Result<Option<String>, Option<BoxError>> {
    match tokio::time::timeout(SOON, body.frame()).await.unwrap() {
        None => Err(None),
        Some(Err(error)) => Err(Some(error)),
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => Ok(Some(String::from_utf8(data.to_vec()).unwrap())),
            Err(frame) => {
                assert!(frame.into_trailers().unwrap().is_empty());
                Ok(None)
            }
        },
    }
}

/// Switches and sends back every piece; ends when the client has.
async fn echo(mut exchange: Exchange) {
    exchange.switch(&[("sec-websocket-protocol", "chat")]).await;
    assert_eq!(exchange.next().await, Some(Event::Raw));
    while let Some(event) = exchange.next().await {
        let Event::Data(data) = event else { panic!("{event:?}") };
        assert!(exchange.write(data).await);
    }
    drop(exchange.send.finish());
}

#[tokio::test]
async fn after_the_101_octets_go_both_ways_as_they_are_until_both_have_ended() {
    let (world, warpgate) = World::with_warpgate(echo).await;
    let (pieces, ask) = websocket("/public/chat", &[("sec-websocket-version", "13")]);
    let response = world.send(ask).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let head = &warpgate.seen()[0].head;
    assert_eq!((head.upgrade.as_deref(), &head.method), (Some("websocket"), &Method::GET));
    let mut body = response.into_body();
    for text in ["one", "two"] {
        say(&pieces, text).await;
        assert_eq!(frame(&mut body).await.unwrap(), Some(text.to_owned()));
    }
    drop(pieces);
    assert_eq!(frame(&mut body).await.unwrap(), None, "the upstream ends after the client");
    assert!(frame(&mut body).await.unwrap_err().is_none(), "and then both have");
}

#[tokio::test]
async fn a_client_may_go_on_after_the_upstream_has_ended() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            exchange.switch(&[]).await;
            exchange.write(Bytes::from_static(b"bye")).await;
            drop(exchange.send.finish());
            while let Some(event) = exchange.next().await {
                told.send(event).unwrap();
            }
        }
    })
    .await;
    let (pieces, ask) = websocket("/public/chat", &[]);
    let mut body = world.send(ask).await.into_body();
    assert_eq!(frame(&mut body).await.unwrap(), Some("bye".to_owned()));
    assert_eq!(frame(&mut body).await.unwrap(), None);
    say(&pieces, "more").await;
    assert_eq!(heard.recv().await, Some(Event::Raw));
    assert_eq!(heard.recv().await, Some(Event::Data(Bytes::from_static(b"more"))));
    drop(pieces);
    assert!(frame(&mut body).await.unwrap_err().is_none());
}

#[tokio::test]
async fn r07_nothing_a_client_sends_leaves_before_the_101() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (go, wait) = tokio::sync::watch::channel(false);
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let (told, mut wait) = (told.clone(), wait.clone());
        async move {
            let early = tokio::time::timeout(Duration::from_millis(300), exchange.next()).await.is_ok();
            told.send(early).unwrap();
            if exchange.head().target == "/public/no" {
                return exchange.respond(403, &[], b"no").await;
            }
            wait.wait_for(|go| *go).await.unwrap();
            echo(exchange).await;
        }
    })
    .await;
    for path in ["/public/no", "/public/yes"] {
        let (pieces, ask) = websocket(path, &[]);
        let ahead = tokio::spawn(async move {
            // The channel holds one piece: it waits until that is asked for.
            drop(pieces.send(Ok(Frame::data(Bytes::from_static(b"GET /canary")))).await);
            pieces
        });
        let (response, ()) = tokio::join!(world.send(ask), async {
            assert_eq!(heard.recv().await, Some(false), "{path}");
            go.send_replace(true);
        });
        if path == "/public/no" {
            assert_eq!(response.status(), 403);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
        } else {
            let mut body = response.into_body();
            assert_eq!(frame(&mut body).await.unwrap(), Some("GET /canary".to_owned()));
        }
        drop(ahead.await.unwrap());
    }
}

#[tokio::test]
async fn a_switch_nobody_asked_for_is_a_broken_warpgate() {
    let (world, _warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        exchange.begin(101, &[]).await;
        exchange.stopped().await;
    })
    .await;
    let response = world.send(crate::world::get("/public/a")).await;
    assert_eq!(crate::world::code(response).await, (502, "edge.tunnel_protocol".to_owned()));
}

#[tokio::test]
async fn a_cut_in_one_direction_is_a_cut_in_both() {
    let (told, mut codes) = mpsc::unbounded_channel();
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            exchange.switch(&[]).await;
            if exchange.head().target == "/public/upstream" {
                exchange.write(Bytes::from_static(b"x")).await;
                assert_eq!(exchange.next().await, Some(Event::Raw));
                assert!(matches!(exchange.next().await, Some(Event::Data(_))));
                exchange.reset(ResetCode::UpstreamCut);
            } else {
                told.send(exchange.stopped().await).unwrap();
            }
        }
    })
    .await;
    let (pieces, ask) = websocket("/public/upstream", &[]);
    let mut body = world.send(ask).await.into_body();
    assert_eq!(frame(&mut body).await.unwrap(), Some("x".to_owned()));
    say(&pieces, "y").await;
    assert!(frame(&mut body).await.unwrap_err().is_some());
    // The client's connection breaks…
    let (pieces, ask) = websocket("/public/client", &[]);
    let mut body = world.send(ask).await.into_body();
    pieces.send(Err("gone".into())).await.unwrap();
    assert!(frame(&mut body).await.unwrap_err().is_some());
    assert_eq!(codes.recv().await, Some(ResetCode::ClientGone));
    // …or the listener lets go of it.
    let (_pieces, ask) = websocket("/public/client", &[]);
    drop(world.send(ask).await);
    assert_eq!(tokio::time::timeout(SOON, codes.recv()).await.unwrap(), Some(ResetCode::ClientGone));
}

#[tokio::test]
async fn a_silent_pair_runs_into_the_routes_idle_time_out_and_a_speaking_one_does_not() {
    let (world, _warpgate) = World::with_warpgate(echo).await;
    let (pieces, ask) = websocket("/chatty/chat", &[]);
    let mut body = world.send(ask).await.into_body();
    // Longer than the 1.5 s of the route, with no pause that long.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        say(&pieces, "tick").await;
        assert_eq!(frame(&mut body).await.unwrap(), Some("tick".to_owned()));
    }
    assert!(frame(&mut body).await.unwrap_err().is_some(), "nothing moves any more");
}

#[tokio::test]
async fn what_only_the_client_says_counts_as_movement() {
    let octets = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&octets);
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let heard = Arc::clone(&heard);
        async move {
            exchange.switch(&[]).await;
            while let Some(event) = exchange.next().await {
                if let Event::Data(data) = event {
                    heard.fetch_add(data.len(), Ordering::SeqCst);
                }
            }
            drop(exchange.send.finish());
        }
    })
    .await;
    let (pieces, ask) = websocket("/chatty/listen", &[]);
    let mut body = world.send(ask).await.into_body();
    let talk = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            say(&pieces, "tick").await;
        }
        drop(pieces);
    };
    let (end, ()) = tokio::join!(frame(&mut body), talk);
    assert_eq!(end.unwrap(), None, "it ended because the client had ended, not for silence");
    assert_eq!(octets.load(Ordering::SeqCst), 40);
}

#[tokio::test]
async fn r12_a_session_that_ends_cuts_what_was_switched_to_no_websocket_within_two_seconds() {
    let (world, _warpgate) = World::with_warpgate(echo).await;
    let cookie = world.sign_in(&["customer"]);
    let fields = [("cookie", cookie.as_str()), ("origin", "https://shop.localhost:8443")];
    let (pieces, mut ask) = websocket("/customer/chat", &fields);
    ask.extensions_mut().insert(Upgrade::to("tcp").unwrap());
    let response = world.send(ask).await;
    assert_eq!(response.status(), 101);
    let mut body = response.into_body();
    say(&pieces, "here").await;
    assert_eq!(frame(&mut body).await.unwrap(), Some("here".to_owned()));
    let mut suspended = principal(Subject::User(USER), PROJECT, &["customer"]);
    suspended.status = Status::Suspended;
    world.documents.publish(Partition::Project(PROJECT), Document::Principal(suspended));
    let cut = tokio::time::timeout(Duration::from_secs(2), body.frame()).await.expect("it was not cut");
    assert!(cut.unwrap().is_err());
}
