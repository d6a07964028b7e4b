//! Bodies in both directions, back-pressure, cancellation, cuts, trailers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::http::header::HOST;
use ::http::{HeaderMap, HeaderValue, Method};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use mezusphere_edge::http::{Body, BoxError, Protocol};
use tokio::sync::{Notify, mpsc, oneshot};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Encoder, Event, IdentityRef};

use crate::warpgate::{Exchange, head};
use crate::world::{SHOP, SOON, World, code, get, get_as, read, request};

/// Answers with what it got: method, target and body.
async fn echo(mut exchange: Exchange) {
    let Some((body, trailers)) = exchange.body().await else { return };
    let fields: Vec<_> =
        trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    exchange.begin(200, &[("x-app", "echo")]).await;
    exchange.data(Bytes::from(body)).await;
    exchange.end(Some(&fields)).await;
}

/// A request body whose pieces a test sends one by one.
pub(crate) fn channel() -> (mpsc::Sender<Result<Frame<Bytes>, BoxError>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    (sender, Body::new(StreamBody::new(pieces)))
}

#[tokio::test]
async fn a_request_reaches_its_upstream_and_the_answer_comes_back() {
    let (world, warpgate) =
        World::with_warpgate(|exchange| exchange.respond(200, &[("x-app", "1")], b"hello")).await;
    let (status, headers, body) = read(world.send(get("/public/a?b=c%20d")).await).await;
    assert_eq!((status.as_u16(), body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(headers["x-app"], "1");
    let seen = warpgate.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].head.target, "/public/a?b=c%20d");
    assert_eq!(seen[0].head.authority, "shop.localhost:8443");
    assert_eq!((seen[0].head.revision, seen[0].head.client.to_string()), (9, "192.0.2.7".to_owned()));
    assert!(seen[0].claims.is_none());
}

#[tokio::test]
async fn who_is_signed_in_travels_as_an_assertion_once_and_as_a_number_after_that() {
    let (world, warpgate) = World::with_warpgate(|exchange| exchange.respond(200, &[], b"ok")).await;
    let cookie = world.sign_in(&["customer"]);
    for _ in 0..20 {
        assert_eq!(world.send(get_as("/customer/x", &cookie)).await.status(), 200);
    }
    let seen = warpgate.seen();
    assert_eq!(seen.len(), 20);
    for one in &seen {
        let claims = one.claims.as_ref().unwrap();
        assert_eq!((claims.email.as_str(), claims.roles.len()), ("zoe@shop.example", 1));
    }
    assert!(matches!(seen[0].head.identity, IdentityRef::Full { .. }));
    assert!(matches!(seen[19].head.identity, IdentityRef::Known(_)));
    assert_eq!(world.link.asserted.load(Ordering::SeqCst), 1, "control was asked once");
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let (world, _warpgate) = World::with_warpgate(echo).await;
    let (pieces, body) = channel();
    let sender = tokio::spawn(async move {
        for n in 0..10_u8 {
            pieces.send(Ok(Frame::data(Bytes::from(vec![n; 30_000])))).await.unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        trailers.insert("mezu-user-id", HeaderValue::from_static("forged"));
        trailers.insert("x_odd", HeaderValue::from_static("dropped"));
        pieces.send(Ok(Frame::trailers(trailers))).await.unwrap();
    });
    let response = world.send(request(Method::POST, "/public/e", &[], body)).await;
    let collected = tokio::time::timeout(SOON, response.into_body().collect()).await.unwrap().unwrap();
    sender.await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    assert_eq!(collected.to_bytes().len(), 300_000);
    assert_eq!(trailers["x-sum"], "42");
    assert_eq!(trailers.len(), 1, "r04: ours are stripped from trailers too");
}

#[tokio::test]
async fn a_response_begins_while_the_request_is_still_being_sent() {
    let (world, _warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        exchange.begin(200, &[]).await;
        loop {
            match exchange.next().await {
                Some(Event::Data(data)) => assert!(exchange.data(data).await),
                Some(Event::End) => return exchange.end(None).await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    let (pieces, body) = channel();
    pieces.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    let response = world.send(request(Method::POST, "/public/duplex", &[], body)).await;
    let mut back = response.into_body();
    assert_eq!(back.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    for word in ["two", "three"] {
        pieces.send(Ok(Frame::data(Bytes::from_static(word.as_bytes())))).await.unwrap();
        let frame = tokio::time::timeout(SOON, back.frame()).await.unwrap();
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), word);
    }
    drop(pieces);
    assert!(tokio::time::timeout(SOON, back.frame()).await.unwrap().is_none());
}

/// How many octets a warpgate may have sent ahead of a client that does not read: the stream's window, and what is
/// on its way.
const AHEAD_MAX: usize = 2 * 1024 * 1024;

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_upstream_and_nobody_else() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let counter = Arc::clone(&counter);
        async move {
            if exchange.head().target == "/public/small" {
                return exchange.respond(200, &[], b"ok").await;
            }
            exchange.begin(200, &[]).await;
            let piece = Bytes::from(vec![7; 64 * 1024]);
            while exchange.data(piece.clone()).await {
                counter.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    })
    .await;
    let response = world.send(get("/public/endless")).await;
    // Others go on, and meanwhile the endless one fills what it may and stops.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        for _ in 0..20 {
            assert_eq!(world.send(get("/public/small")).await.status(), 200);
        }
    }
    assert!(before > 0 && before < AHEAD_MAX, "{before} octets were sent ahead");
    let mut body = response.into_body();
    let mut read = 0;
    while read < 4 * AHEAD_MAX {
        read += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    assert!(sent.load(Ordering::SeqCst) >= read - 64 * 1024);
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_its_client() {
    let (go, wait) = oneshot::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(Some(wait)));
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let wait = wait.lock().unwrap().take();
        async move {
            wait.unwrap().await.unwrap();
            let (body, _) = exchange.body().await.unwrap();
            exchange.respond(200, &[], body.len().to_string().as_bytes()).await;
        }
    })
    .await;
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    let pieces = futures_util::stream::iter(0..512).map(move |_| {
        counter.fetch_add(64 * 1024, Ordering::SeqCst);
        Ok::<_, BoxError>(Frame::data(Bytes::from(vec![1; 64 * 1024])))
    });
    let upload = request(Method::PUT, "/public/up", &[], Body::new(StreamBody::new(pieces)));
    let looked = async {
        let mut before = usize::MAX;
        while before != pulled.load(Ordering::SeqCst) || before == 0 {
            before = pulled.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        go.send(()).unwrap();
        before
    };
    let (response, ahead) = tokio::join!(world.send(upload), looked);
    assert!(ahead < AHEAD_MAX, "{ahead} octets were pulled ahead");
    assert_eq!(read(response).await.2, (512 * 64 * 1024).to_string().as_bytes());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_upstream() {
    let (told, mut codes) = mpsc::unbounded_channel();
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            if exchange.head().target == "/public/after" {
                exchange.begin(200, &[]).await;
                exchange.data(Bytes::from_static(b"first")).await;
            }
            told.send(exchange.stopped().await).unwrap();
        }
    })
    .await;
    // Before the response's head.
    let early = tokio::time::timeout(Duration::from_millis(200), world.send(get("/public/before"))).await;
    assert!(early.is_err());
    assert_eq!(tokio::time::timeout(SOON, codes.recv()).await.unwrap(), Some(ResetCode::ClientGone));
    // In the middle of the body.
    let mut body = world.send(get("/public/after")).await.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    drop(body);
    assert_eq!(tokio::time::timeout(SOON, codes.recv()).await.unwrap(), Some(ResetCode::ClientGone));
}

#[tokio::test]
async fn a_clients_body_that_breaks_off_never_looks_whole_to_the_upstream() {
    let (told, mut bodies) = mpsc::unbounded_channel();
    let (world, warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            let body = exchange.body().await;
            let reset = exchange.recv.received_reset().await.unwrap();
            told.send((body, reset.map(|code| ResetCode::from_number(code.into_inner())))).unwrap();
        }
    })
    .await;
    // One that breaks, and one that ends before its announced length: neither is whole.
    for error in [Some("gone"), None] {
        let (pieces, body) = channel();
        let post = request(Method::POST, "/public/up", &[("content-length", "100")], body);
        let before = warpgate.seen().len();
        let cut = async {
            pieces.send(Ok(Frame::data(Bytes::from_static(b"half")))).await.unwrap();
            while warpgate.seen().len() == before {
                tokio::task::yield_now().await;
            }
            if let Some(error) = error {
                pieces.send(Err(error.into())).await.unwrap();
            }
            drop(pieces);
        };
        let (response, ()) = tokio::join!(world.send(post), cut);
        assert_eq!(response.status(), 400);
        let got = tokio::time::timeout(SOON, bodies.recv()).await.unwrap().unwrap();
        assert_eq!(got, (None, Some(ResetCode::ClientCut)));
    }
}

#[tokio::test]
async fn an_upstreams_body_that_breaks_off_is_a_cut_and_never_a_clean_end() {
    let head_came = Arc::new(Notify::new());
    let wait = Arc::clone(&head_came);
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let wait = Arc::clone(&wait);
        async move {
            let target = exchange.head().target.clone();
            let length = match target.as_str() {
                "/public/short" => vec![("content-length", "9")],
                "/public/long" => vec![("content-length", "5")],
                _ => Vec::new(),
            };
            exchange.begin(200, &length).await;
            exchange.data(Bytes::from_static(b"half")).await;
            // A reset overtakes what was not delivered yet.
            wait.notified().await;
            match target.as_str() {
                "/public/reset" => exchange.reset(ResetCode::UpstreamCut),
                "/public/fin" => exchange.send.finish().unwrap(),
                "/public/short" => exchange.end(None).await,
                "/public/long" => {
                    exchange.data(Bytes::from_static(b"more")).await;
                    assert_eq!(exchange.stopped().await, ResetCode::Protocol);
                }
                _ => {
                    // A second response head.
                    exchange.begin(200, &[]).await;
                    assert_eq!(exchange.stopped().await, ResetCode::Protocol);
                }
            }
        }
    })
    .await;
    for path in ["/public/reset", "/public/fin", "/public/twice", "/public/short", "/public/long"] {
        let response = world.send(get(path)).await;
        head_came.notify_one();
        assert_eq!(response.status(), 200, "{path}");
        let end = tokio::time::timeout(SOON, response.into_body().collect()).await.unwrap();
        assert!(end.is_err(), "{path}");
    }
}

#[tokio::test]
async fn a_head_that_comes_with_the_break_of_its_body_is_a_502_on_every_protocol() {
    let (world, warpgate) = World::with_warpgate(|mut exchange: Exchange| async move {
        let target = exchange.head().target.clone();
        let mut encoder = Encoder::new();
        let fields: &[_] = match target.as_str() {
            "/public/short" => return exchange.respond(200, &[("content-length", "9")], b"half").await,
            "/public/long" => return exchange.respond(200, &[("content-length", "2")], b"half").await,
            "/public/known" => &[("content-length", "9")],
            _ => &[],
        };
        encoder.response(&head(200, fields), false).unwrap();
        match target.as_str() {
            "/public/half" => encoder.data(b"half"),
            "/public/twice" => encoder.response(&head(200, &[]), true).unwrap(),
            _ => {}
        }
        exchange.write(encoder.take()).await;
        exchange.send.finish().unwrap();
    })
    .await;
    let paths =
        ["/public/short", "/public/long", "/public/known", "/public/none", "/public/half", "/public/twice"];
    for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
        for path in paths {
            let mut request = get(path);
            if protocol == Protocol::H1 {
                request.headers_mut().insert(HOST, format!("{SHOP}:8443").parse().unwrap());
            }
            let told = code(world.send_on(request, protocol).await).await;
            assert_eq!(told, (502, "edge.tunnel_protocol".to_owned()), "{path} over {protocol}");
        }
    }
    assert_eq!(warpgate.seen().len(), 3 * paths.len(), "what may have been carried out is sent once");
}

#[tokio::test]
async fn a_response_without_a_body_has_none_whatever_the_upstream_sends() {
    let (world, _warpgate) = World::with_warpgate(|exchange: Exchange| async move {
        let status = exchange.head().target.rsplit('/').next().unwrap().parse().unwrap();
        exchange.respond(status, &[("content-length", "5")], b"extra").await;
    })
    .await;
    for status in [204, 304] {
        let response = world.send(get(&format!("/public/{status}"))).await;
        assert_eq!(response.status(), status);
        assert!(read(response).await.2.is_empty(), "{status}");
    }
    let head = world.send(request(Method::HEAD, "/public/200", &[], crate::world::empty())).await;
    assert_eq!(head.headers()["content-length"], "5");
    assert!(read(head).await.2.is_empty());
}

#[tokio::test]
async fn an_upstream_that_says_nothing_runs_into_the_routes_time_outs() {
    let (told, mut codes) = mpsc::unbounded_channel();
    let (world, _warpgate) = World::with_warpgate(move |mut exchange: Exchange| {
        let told = told.clone();
        async move {
            if exchange.head().target == "/hasty/body" {
                exchange.begin(200, &[]).await;
                exchange.data(Bytes::from_static(b"first")).await;
            }
            told.send(exchange.stopped().await).unwrap();
        }
    })
    .await;
    let response = world.send(get("/hasty/head")).await;
    assert_eq!(code(response).await, (504, "edge.head_timeout".to_owned()));
    assert_eq!(codes.recv().await, Some(ResetCode::Timeout));
    let response = world.send(get("/hasty/body")).await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(codes.recv().await, Some(ResetCode::Timeout));
}

#[tokio::test]
async fn a_response_says_its_end_with_its_last_piece() {
    use http_body::Body as _;
    let (world, _warpgate) = World::with_warpgate(|exchange| exchange.respond(200, &[], b"hello")).await;
    let mut body = world.send(get("/public/a")).await.into_body();
    assert_eq!(body.size_hint().exact(), Some(5), "so that HTTP/1.1 needs no chunks");
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
    assert!(body.is_end_stream(), "so that HTTP/2 needs no empty frame");
}
