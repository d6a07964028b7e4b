//! A warpgate's next connection takes the place of the one before; what ran on that one finishes, within its certificate.

use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use mezusphere_edge::http::Protocol;
use mezusphere_edge::tunnel::{FINISHING_MAX, TunnelLimits};
use mezusphere_edge::view::ViewLimits;
use tokio::sync::{Notify, mpsc};
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::WarpgateEvent;

use crate::tunnels::close_code;
use crate::warpgate::{Exchange, Tell, Warpgate};
use crate::world::{SOON, World, code, connection, empty, get, read, request};

async fn ok(exchange: Exchange) {
    exchange.respond(200, &[], b"ok").await;
}

/// Answers with a body whose next piece comes when told; nothing more is told: it ends.
fn pieces(
    next: mpsc::UnboundedReceiver<&'static str>,
) -> impl Fn(Exchange) -> Pieces + Send + Sync + 'static {
    let next = Arc::new(tokio::sync::Mutex::new(next));
    move |mut exchange: Exchange| {
        let next = Arc::clone(&next);
        Box::pin(async move {
            let mut next = next.lock().await;
            exchange.begin(200, &[]).await;
            while let Some(piece) = next.recv().await {
                exchange.data(Bytes::from_static(piece.as_bytes())).await;
            }
            exchange.end(None).await;
        })
    }
}

type Pieces = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn closed(warpgate: &Warpgate) -> CloseCode {
    close_code(&tokio::time::timeout(SOON, warpgate.connection.closed()).await.unwrap())
}

#[tokio::test]
async fn the_newer_connection_of_an_instance_takes_the_place_of_the_older() {
    let (go, world) = (Arc::new(Notify::new()), World::new());
    let wait = Arc::clone(&go);
    let old = world
        .warpgate(6, move |exchange: Exchange| {
            let wait = Arc::clone(&wait);
            async move {
                wait.notified().await;
                exchange.respond(200, &[], b"old").await;
            }
        })
        .await;
    let running = world.send(get("/public/running"));
    let replaced = async {
        while old.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        let new = world.warpgate(6, |exchange: Exchange| exchange.respond(200, &[], b"new")).await;
        assert_eq!(world.tunnels.len(), 1);
        assert_eq!(read(world.send(get("/public/x")).await).await.2, b"new");
        go.notify_one();
        new
    };
    let (answer, _new) = tokio::join!(running, replaced);
    assert_eq!(read(answer).await.2, b"old", "what ran on the older one finished");
    let closed = tokio::time::timeout(SOON, old.connection.closed()).await.unwrap();
    assert_eq!(close_code(&closed), CloseCode::Replaced);
}

#[tokio::test]
async fn r20_a_tunnel_ends_with_the_certificate_it_was_made_with() {
    let (world, mut warpgate) = World::with_warpgate(ok).await;
    assert_eq!(world.send(get("/public/x")).await.status(), 200);
    world.hand.advance(Duration::from_secs(24 * 3600 - 10));
    // Told before it ends, so that it can be connected anew by then.
    warpgate.event(|event| matches!(event, WarpgateEvent::Draining { .. })).await;
    let closed = tokio::time::timeout(SOON, warpgate.connection.closed()).await.unwrap();
    assert_eq!(close_code(&closed), CloseCode::Done, "nothing was running");
    assert_eq!(code(world.send(get("/public/x")).await).await.0, 503);
}

#[tokio::test]
async fn an_exchange_outlives_a_renewal_however_long_it_takes() {
    // The time given to a drain is over long before the exchange is.
    let grace = Duration::from_millis(100);
    let world = World::limited(ViewLimits::default(), TunnelLimits { drain_grace: grace });
    let (say, next) = mpsc::unbounded_channel();
    let mut old = world.warpgate(6, pieces(next)).await;
    let mut body = world.send(get("/public/long")).await.into_body();
    let mut piece = async |text: &'static str| {
        say.send(text).unwrap();
        let frame = tokio::time::timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    };
    piece("before the renewal").await;
    let new = world.warpgate(6, ok).await;
    for text in ["after it", "and long after it"] {
        tokio::time::sleep(5 * grace).await;
        piece(text).await;
    }
    // Its control stream goes on too: whoever asks there is answered.
    old.tell.send(Tell::Probe(7)).unwrap();
    old.event(|event| matches!(event, WarpgateEvent::ProbeDone { nonce: 7, .. })).await;
    assert_eq!(read(world.send(get("/public/x")).await).await.2, b"ok", "new ones go to the new tunnel");
    drop(say);
    assert!(tokio::time::timeout(SOON, body.frame()).await.unwrap().is_none(), "whole");
    assert_eq!(closed(&old).await, CloseCode::Replaced);
    assert_eq!((new.seen().len(), world.tunnels.len()), (1, 1));
}

#[tokio::test]
async fn r20_what_a_renewal_left_running_ends_with_the_certificate_it_began_under() {
    let world = World::new();
    let (say, next) = mpsc::unbounded_channel();
    let old = world.warpgate_for(6, Duration::from_hours(2), pieces(next)).await.welcomed().await;
    let mut body = world.send(get("/public/long")).await.into_body();
    say.send("one").unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    world.hand.advance(Duration::from_hours(1));
    let _new = world.warpgate(6, ok).await;
    world.hand.advance(Duration::from_secs(3601));
    assert_eq!(closed(&old).await, CloseCode::CertificateEnded);
    let end = tokio::time::timeout(SOON, body.frame()).await.unwrap();
    assert!(end.unwrap().is_err(), "a cut, not a clean end");
    assert_eq!(world.send(get("/public/x")).await.status(), 200, "the renewed one goes on");
}

#[tokio::test]
async fn r20_an_exchange_of_a_tunnel_that_was_not_renewed_is_cut_when_the_certificate_ends() {
    let world = World::new();
    let (say, next) = mpsc::unbounded_channel();
    let old = world.warpgate_for(6, Duration::from_hours(1), pieces(next)).await.welcomed().await;
    let mut body = world.send(get("/public/long")).await.into_body();
    say.send("one").unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    world.hand.advance(Duration::from_hours(1));
    assert_eq!(closed(&old).await, CloseCode::CertificateEnded);
    assert!(tokio::time::timeout(SOON, body.frame()).await.unwrap().unwrap().is_err());
    assert_eq!(code(world.send(get("/public/x")).await).await, (503, "edge.no_tunnel".to_owned()));
}

#[tokio::test]
async fn r23_a_warpgate_that_dials_on_and_on_does_not_pile_up_connections() {
    let world = World::new();
    let mut running = tokio::task::JoinSet::new();
    let mut warpgates = Vec::new();
    // Each of them holds an exchange when the next one comes.
    for n in 0..=FINISHING_MAX + 1 {
        let hold = |exchange: Exchange| async move {
            let _held = exchange;
            std::future::pending::<()>().await;
        };
        let warpgate = world.warpgate(6, hold).await;
        let server = world.server.clone();
        running.spawn(async move {
            // Not to be sent twice, so that its end shows.
            let post = request(Method::POST, "/public/held", &[], empty());
            server.handle(post, &connection(Protocol::H2)).await
        });
        while warpgate.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        warpgates.push(warpgate);
        let is_open = |n: usize| warpgates[n].connection.close_reason().is_none();
        assert!((n.saturating_sub(FINISHING_MAX)..=n).all(is_open), "{n}");
    }
    assert_eq!(closed(&warpgates[0]).await, CloseCode::Replaced, "the oldest made room");
    let (status, why) = code(running.join_next().await.unwrap().unwrap()).await;
    assert_eq!((status, why.as_str()), (502, "edge.tunnel_lost"));
    assert!(warpgates[1..].iter().all(|warpgate| warpgate.connection.close_reason().is_none()));
}
