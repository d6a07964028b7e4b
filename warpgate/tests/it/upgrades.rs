//! Exchanges that switch to another protocol, with an HTTP/1.1 upstream: the handshake, raw bytes, and how they end.

use std::sync::Arc;
use std::time::Duration;

use crate::support;
use crate::support::agent::Scene;
use crate::support::edge::{Answer, head, read_answer};
use crate::support::server::websocket_accept;
use crate::support::upstream::{self, Conversation, OK, Seen, values};
use crate::support::{Platform, route};
use bytes::Bytes;
use http::HeaderValue;
use mezusphere_model::route::{AuthMode, RouteDoc, RouteTimeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Encoder, Event, FailureCode, RequestHead};

fn websocket(target: &str) -> RequestHead {
    RequestHead { upgrade: Some("websocket".into()), ..head("GET", target, 1) }
}

/// Each path is a way to answer a handshake.
async fn handshake(mut conversation: Conversation) -> Option<TcpStream> {
    let (head, stream) = (conversation.head.clone(), &mut conversation.stream);
    let key = values(&head, "sec-websocket-key").first().copied().unwrap_or_default().to_owned();
    let right = websocket_accept(&key);
    let switch = |protocol: &str, accept: &str| {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\nmezu-x: 1\r\n\r\n"
        )
    };
    let path = head.split(' ').nth(1).unwrap_or_default();
    let answer = match path {
        "/wrong-accept" => switch("websocket", "c2FtcGxl"),
        "/wrong-protocol" => switch("h2c", &right),
        "/declined" => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(),
        "/tcp" => {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n".to_owned()
        }
        _ if head.contains("pgrade: websocket") => switch("WebSocket", &right),
        _ => OK.to_owned(),
    };
    stream.write_all(answer.as_bytes()).await.ok()?;
    match path {
        "/leaves" => {
            stream.write_all(b"bye").await.ok()?;
            return None;
        }
        "/says-nothing" => tokio::time::sleep(Duration::from_mins(1)).await,
        "/tcp" => {
            // Reads to the end, then answers with what came: the two halves end one after the other.
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.ok()?;
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            stream.write_all(&all).await.ok()?;
            return None;
        }
        _ if answer.starts_with("HTTP/1.1 101") => {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.ok()?;
            return None;
        }
        _ => {}
    }
    Some(conversation.stream)
}

async fn scene() -> (Scene, Seen) {
    let (address, seen) = upstream::start(handshake).await;
    (Scene::with_upstream(address).await, seen)
}

/// A switched exchange: what is sent, and what comes.
struct Switched {
    send: quinn::SendStream,
    heard: mpsc::UnboundedReceiver<Bytes>,
    reading: JoinHandle<Answer>,
}

async fn switch(scene: &Scene, request: &RequestHead) -> Switched {
    let (mut send, receive) = scene.tunnel.open(request, false).await;
    let (told, heard) = mpsc::unbounded_channel();
    let (switched, mut is_switched) = mpsc::unbounded_channel();
    let reading = tokio::spawn(read_answer(receive, move |event| match event {
        Event::Raw => switched.send(()).unwrap(),
        // A test may only want the whole of it.
        Event::Data(piece) => drop(told.send(piece.clone())),
        _ => {}
    }));
    is_switched.recv().await.unwrap();
    let mut encoder = Encoder::new();
    encoder.raw();
    send.write_all(&encoder.take()).await.unwrap();
    Switched { send, heard, reading }
}

#[tokio::test]
async fn frames_flow_both_ways_after_the_handshake_of_an_http1_client() {
    let (scene, seen) = scene().await;
    let mut request = websocket("/chat?x=1");
    request.headers.insert("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
    request.headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    request.headers.insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
    let Switched { mut send, mut heard, reading } = switch(&scene, &request).await;
    for n in 0..20_u8 {
        send.write_all(&[n; 3]).await.unwrap();
        assert_eq!(heard.recv().await.unwrap(), vec![n; 3]);
    }
    send.finish().unwrap();
    let answer = reading.await.unwrap();
    assert_eq!(answer.status.unwrap(), 101);
    assert!(answer.complete);
    assert_eq!(answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(answer.headers["sec-websocket-protocol"], "chat");
    for name in ["connection", "upgrade", "mezu-x"] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }
    let request = seen.requests().into_iter().find(|request| request.contains("/chat")).unwrap();
    assert_eq!(
        (values(&request, "connection"), values(&request, "upgrade")),
        (vec!["Upgrade"], vec!["websocket"])
    );
    assert_eq!(values(&request, "sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    assert_eq!(values(&request, "mezu-user-id"), [""], "identity headers are ours here too");
}

#[tokio::test]
async fn the_handshake_is_made_here_for_a_client_that_spoke_http2() {
    let (scene, seen) = scene().await;
    let Switched { mut send, mut heard, reading } = switch(&scene, &websocket("/chat")).await;
    send.write_all(b"frame").await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), "frame");
    send.finish().unwrap();
    assert!(!reading.await.unwrap().headers.contains_key("sec-websocket-accept"), "it answers a key of ours");
    let request = seen.requests().into_iter().find(|request| request.contains("/chat")).unwrap();
    assert_eq!(values(&request, "sec-websocket-version"), ["13"]);
    assert_eq!(values(&request, "sec-websocket-key").len(), 1);
}

#[tokio::test]
async fn r07_a_switch_to_what_was_not_asked_for_reaches_no_client() {
    let (scene, _) = scene().await;
    for path in ["/wrong-accept", "/wrong-protocol"] {
        let (_send, receive) = scene.tunnel.open(&websocket(path), false).await;
        let failure = read_answer(receive, |_| {}).await.failure.unwrap();
        assert_eq!((failure.code, failure.started), (FailureCode::UpstreamMalformed, true), "{path}");
    }
    let (_send, receive) = scene.tunnel.open(&websocket("/declined"), false).await;
    let answer = read_answer(receive, |_| {}).await;
    assert_eq!((answer.status.unwrap().as_u16(), answer.body.as_slice()), (403, b"no".as_slice()));
    let lost = scene.agent.event("upstream_lost").await;
    assert_eq!(lost["code"], "warpgate.upstream_malformed");
    assert_eq!(scene.agent.named("upstream_lost").len(), 1, "said once");
}

#[tokio::test]
async fn r07_a_switch_to_http_itself_is_passed_over() {
    let (scene, seen) = scene().await;
    for protocol in ["h2c", "H2C", "HTTP/2.0", "TLS/1.3"] {
        let request = RequestHead { upgrade: Some(protocol.into()), ..head("GET", "/plain", 1) };
        let (_send, receive) = scene.tunnel.open(&request, false).await;
        assert_eq!(read_answer(receive, |_| {}).await.body, b"hello", "{protocol}");
        let request = seen.requests().pop().unwrap();
        assert!(
            values(&request, "upgrade").is_empty() && values(&request, "connection").is_empty(),
            "{request}"
        );
    }
}

#[tokio::test]
async fn another_protocol_keeps_its_halves_apart() {
    let (scene, _) = scene().await;
    let request = RequestHead { upgrade: Some("tcp".into()), ..head("POST", "/tcp", 1) };
    let Switched { mut send, reading, .. } = switch(&scene, &request).await;
    send.write_all(b"all of it").await.unwrap();
    send.finish().unwrap();
    let answer = reading.await.unwrap();
    assert_eq!(answer.body, b"all of it");
    assert!(answer.complete);
}

#[tokio::test]
async fn whichever_side_leaves_the_other_hears_of_it_within_a_second() {
    let (scene, seen) = scene().await;
    support::until("the probe's connection is closed", || seen.open() == 0).await;
    let Switched { mut send, reading, .. } = switch(&scene, &websocket("/chat")).await;
    assert_eq!(seen.open(), 1);
    send.reset(quinn::VarInt::from_u32(ResetCode::ClientGone.number())).unwrap();
    let closed = support::until("the upstream's connection is closed", || seen.open() == 0);
    tokio::time::timeout(Duration::from_secs(1), closed).await.unwrap();
    reading.abort();

    let switched = switch(&scene, &websocket("/leaves")).await;
    let answer = tokio::time::timeout(Duration::from_secs(2), switched.reading).await.unwrap().unwrap();
    assert_eq!(answer.body, b"bye");
    assert!(answer.complete);
}

#[tokio::test]
async fn a_websocket_in_which_nothing_moves_ends_with_the_idle_time_and_lives_past_the_total_one() {
    let platform: Arc<Platform> = Platform::new();
    let timeouts = RouteTimeouts { connect_ms: 300, head_ms: 300, idle_ms: 1_500, total_ms: 500 };
    platform.site.lock().unwrap().routes = vec![RouteDoc { timeouts, ..route(1, "/*", AuthMode::Public) }];
    let (address, _) = upstream::start(handshake).await;
    let scene = Scene::on(platform, address).await;
    let start = tokio::time::Instant::now();
    let Switched { mut send, mut heard, reading } = switch(&scene, &websocket("/chat")).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    send.write_all(b"still here").await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), "still here");
    let answer = reading.await.unwrap();
    assert_eq!(answer.reset, Some(ResetCode::Timeout));
    assert!(start.elapsed() >= Duration::from_millis(2_150), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_exchange_ends_with_the_total_time_of_its_route() {
    let platform: Arc<Platform> = Platform::new();
    let timeouts = RouteTimeouts { connect_ms: 300, head_ms: 500, idle_ms: 60_000, total_ms: 600 };
    platform.site.lock().unwrap().routes = vec![RouteDoc { timeouts, ..route(1, "/*", AuthMode::Public) }];
    let (address, _) = upstream::start(|mut conversation| async move {
        if conversation.head.starts_with("HEAD") {
            conversation.stream.write_all(OK.as_bytes()).await.ok()?;
            return None;
        }
        if conversation.head.starts_with("GET /drips") {
            conversation.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            loop {
                conversation.stream.write_all(b"drip").await.ok()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        tokio::time::sleep(Duration::from_mins(1)).await;
        None
    })
    .await;
    let scene = Scene::on(platform, address).await;
    let start = tokio::time::Instant::now();
    // The upload never ends, so the head's time never begins.
    let (_send, receive) = scene.tunnel.open(&head("POST", "/silent", 1), false).await;
    let failure = read_answer(receive, |_| {}).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamTimeout, true));
    assert_eq!(failure.detail, "not complete within 600 ms");
    let answer = scene.tunnel.get(&head("GET", "/drips", 1)).await;
    assert_eq!((answer.complete, answer.reset), (false, Some(ResetCode::Timeout)));
    assert!((1_190..3_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}
