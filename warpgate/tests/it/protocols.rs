//! Upstreams that speak HTTP/2, TLS, or sit behind a socket in the file system: every scheme, honest and malicious.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support;
use crate::support::Platform;
use crate::support::agent::Scene;
use crate::support::edge::{head, read_answer};
use crate::support::server::{self, Authority, Noted};
use http::{HeaderMap, HeaderValue};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Encoder, Event, FailureCode, IdentityRef, RequestHead};
use warpgate::upstream::{Declared, Protocol, Settings};

fn declared(url: impl std::fmt::Display, settings: Settings) -> Vec<Declared> {
    vec![Declared { settings, ..url.to_string().parse().unwrap() }]
}

async fn scene(url: impl std::fmt::Display, settings: Settings) -> Scene {
    Scene::declared(Platform::new(), declared(url, settings)).await
}

async fn h2c() -> (Scene, Noted) {
    let (address, noted) = server::h2c(true).await;
    (scene(format!("h2c://{address}"), Settings::default()).await, noted)
}

fn pinned(authority: &Authority) -> Settings {
    Settings { pin: Some(authority.pin.parse().unwrap()), ..Settings::default() }
}

#[tokio::test]
async fn every_scheme_carries_a_request_its_body_and_its_caller() {
    let authority = Authority::new(&["127.0.0.1", "app.internal"]);
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let with_ca = || Settings { ca: Some(ca.clone()), ..Settings::default() };
    let (h2c, _) = server::h2c(false).await;
    let (both, _) = server::https(&authority, &["h2", "http/1.1"]).await;
    let (only_h1, _) = server::https(&authority, &["http/1.1"]).await;
    let (no_alpn, _) = server::https(&authority, &[]).await;
    let (_kept, socket, _) = server::unix();
    let rows = [
        (format!("unix:{}", socket.display()), Settings::default(), "HTTP/1.1", ""),
        (format!("h2c://{h2c}"), Settings::default(), "", "trailers"),
        (format!("https://{both}"), with_ca(), "", "trailers"),
        (format!("https://{only_h1}"), with_ca(), "HTTP/1.1", ""),
        (format!("https://{no_alpn}"), with_ca(), "HTTP/1.1", ""),
        (format!("https://{both}"), pinned(&authority), "", "trailers"),
        (
            format!("https://{both}"),
            Settings { protocol: Some(Protocol::H1), ..pinned(&authority) },
            "HTTP/1.1",
            "",
        ),
        (
            format!("https://localhost:{}", both.port()),
            Settings { server_name: Some("app.internal".to_owned()), ..with_ca() },
            "",
            "trailers",
        ),
    ];
    for (url, settings, version, te) in rows {
        let scene = scene(&url, settings).await;
        for round in 0..2 {
            let mut request = head("POST", "/private/a%20b?x=%2f", 2);
            let identity = IdentityRef::Full { slot: 1, assertion: scene.platform.assertion(&["customer"]) };
            request.identity = identity;
            request.headers.insert("content-length", HeaderValue::from_static("10"));
            request.headers.insert("te", HeaderValue::from_static("forged"));
            let answer = scene.tunnel.send(&request, &[b"12345", b"67890"]).await;
            assert_eq!(
                answer.status.map(|status| status.as_u16()),
                Some(200),
                "{url} {round}: {:?}",
                answer.failure
            );
            let wanted = format!("POST /private/a%20b?x=%2f {version}").trim_end().to_owned();
            assert_eq!(
                answer.headers["x-saw"],
                format!("{wanted} | shop.localhost:8443 | {te}").trim_end(),
                "{url}"
            );
            assert_eq!(answer.headers["x-mail"], "[zoe@example.com]", "{url}");
            assert_eq!(answer.body, b"1234567890", "{url}");
            assert!(answer.complete);
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_prove_who_it_is_gets_no_request() {
    let (right, wrong) = (Authority::new(&["127.0.0.1"]), Authority::new(&["127.0.0.1"]));
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        Some(path)
    };
    let (address, noted) = server::https(&right, &["h2", "http/1.1"]).await;
    let plain = server::speaks_first("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let rows = [
        ("another CA", address, Settings { ca: file("wrong.pem", &wrong.pem), ..Settings::default() }),
        ("another key", address, pinned(&wrong)),
        (
            "another name",
            address,
            Settings {
                ca: file("right.pem", &right.pem),
                server_name: Some("other.internal".to_owned()),
                ..Settings::default()
            },
        ),
        ("no TLS", plain, pinned(&right)),
    ];
    for (what, address, settings) in rows {
        let scene = scene(format!("https://{address}"), settings).await;
        let failure = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
        assert_eq!((failure.code, failure.started), (FailureCode::UpstreamTls, false), "{what}: {failure:?}");
        let lost = scene.agent.event("upstream_lost").await;
        assert_eq!(lost["code"], "warpgate.upstream_tls", "{what}");
    }
    assert!(!noted.has("GET / HTTP/1.1") && !noted.has("GET /"));
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let scene = scene("unix:/nonexistent/app.sock", Settings::default()).await;
    let failure = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamRefused, false));
    assert!(failure.detail.starts_with("unix:/nonexistent/app.sock: No such file"), "{}", failure.detail);
}

#[tokio::test]
async fn grpc_calls_keep_their_messages_and_trailers() {
    let (scene, _) = h2c().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    trailers.insert("mezu-user-id", HeaderValue::from_static("forged"));
    let mut encoder = Encoder::new();
    encoder.request(&head("POST", "/grpc", 1), false).unwrap();
    encoder.data(b"message");
    encoder.trailers(&trailers).unwrap();
    let answer = support::edge::raw_exchange(&scene.tunnel.connection, encoder.take()).await;
    assert_eq!(answer.body, b"message");
    let trailers = answer.trailers.unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-sum"]),
        (&"0".parse().unwrap(), &"42".parse().unwrap())
    );
    assert_eq!(trailers.len(), 2, "ours are removed: {trailers:?}");
    assert!(answer.complete);

    let only = scene.tunnel.send(&head("POST", "/trailers-only", 1), &[b"message"]).await;
    assert_eq!(only.headers["grpc-status"], "12");
    assert!(only.complete && only.body.is_empty());
}

#[tokio::test]
async fn a_stream_of_messages_flows_both_ways_at_once_over_http2() {
    let (scene, _) = h2c().await;
    let (mut send, receive) = scene.tunnel.open(&head("POST", "/grpc", 1), false).await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::spawn(read_answer(receive, move |event| {
        if let Event::Data(piece) = event {
            told.send(piece.clone()).unwrap();
        }
    }));
    let mut encoder = Encoder::new();
    for n in 0..5_u8 {
        // Each message is sent only after the echo of the one before has arrived.
        encoder.data(&[n; 10]);
        send.write_all(&encoder.take()).await.unwrap();
        let echo = tokio::time::timeout(Duration::from_secs(5), heard.recv()).await.unwrap().unwrap();
        assert_eq!(echo, vec![n; 10]);
    }
    encoder.end();
    send.write_all(&encoder.take()).await.unwrap();
    send.finish().unwrap();
    let answer = reading.await.unwrap();
    assert!(answer.complete && answer.trailers.unwrap()["grpc-status"] == "0");
}

#[tokio::test]
async fn informational_heads_of_an_http2_upstream_arrive_before_the_final_one() {
    let (scene, _) = h2c().await;
    let mut request = head("POST", "/interim", 1);
    request.headers.insert("expect", HeaderValue::from_static("100-continue"));
    let answer = scene.tunnel.send(&request, &[b"body"]).await;
    let statuses: Vec<_> = answer.informational.iter().map(|head| head.status.as_u16()).collect();
    assert_eq!(statuses, [103, 100]);
    assert_eq!(answer.informational[0].headers["link"], "</a.css>");
    assert_eq!(answer.body, b"body");
}

#[tokio::test]
async fn r24_informational_heads_without_end_are_an_end() {
    let (scene, _) = h2c().await;
    let request = head("GET", "/endless-interim", 1);
    let endless = tokio::time::timeout(Duration::from_secs(10), scene.tunnel.get(&request));
    let failure = endless.await.unwrap().failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamMalformed, true));
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
}

#[tokio::test]
async fn a_response_cut_by_a_reset_never_looks_complete() {
    let (scene, _) = h2c().await;
    for how in ["cancel", "no-error", "internal"] {
        let answer = scene.tunnel.get(&head("GET", &format!("/cut/{how}"), 1)).await;
        assert_eq!(answer.status.unwrap(), 200, "{how}");
        assert_eq!((answer.complete, answer.reset), (false, Some(ResetCode::UpstreamCut)), "{how}");
    }
    for lie in ["longer", "shorter"] {
        let answer = scene.tunnel.get(&head("GET", &format!("/lies/{lie}"), 1)).await;
        assert!(!answer.complete || answer.failure.is_some(), "{lie}: {answer:?}");
        if let Some(failure) = answer.failure {
            assert_eq!(failure.code, FailureCode::UpstreamMalformed, "{lie}");
        }
    }
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200, "the connection lives on");
}

#[tokio::test]
async fn an_early_response_over_http2_is_whole_and_stops_the_upload() {
    let (scene, _) = h2c().await;
    let (mut send, receive) = scene.tunnel.open(&head("POST", "/early", 1), false).await;
    let sending = async {
        let piece = vec![7; 64 * 1024];
        let mut encoder = Encoder::new();
        loop {
            encoder.data(&piece);
            if send.write_all(&encoder.take()).await.is_err() {
                return;
            }
        }
    };
    let both = async { tokio::join!(read_answer(receive, |_| {}), sending) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
    assert_eq!((answer.status.unwrap().as_u16(), answer.body.as_slice()), (413, b"big".as_slice()));
    assert!(answer.complete);
}

#[tokio::test]
async fn when_the_client_goes_an_http2_upstream_hears_cancel_and_keeps_its_connection() {
    let (scene, noted) = h2c().await;
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    let connections = noted.connections();
    for (method, end) in [("GET", true), ("POST", false)] {
        let before = noted.count("reset CANCEL");
        let (mut send, mut receive) = scene.tunnel.open(&head(method, "/never", 1), end).await;
        let asked = format!("{method} /never");
        support::until("the upstream has the request", || noted.has(&asked)).await;
        let gone = quinn::VarInt::from_u32(ResetCode::ClientGone.number());
        receive.stop(gone).unwrap();
        drop(send.reset(gone));
        let heard = support::until("the upstream hears of it", || noted.count("reset CANCEL") > before);
        tokio::time::timeout(Duration::from_secs(1), heard).await.unwrap();
    }
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert_eq!(noted.connections(), connections);
}

#[tokio::test]
async fn a_stalled_reader_does_not_stall_others_on_a_shared_connection() {
    let (scene, noted) = h2c().await;
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    let connections = noted.connections();
    let mut stalled = Vec::new();
    for _ in 0..40 {
        stalled.push(scene.tunnel.open(&head("GET", "/endless", 1), true).await);
    }
    // With bodies, because only they need the connection's window; until well after the stalled ones are full.
    for _ in 0..200 {
        let request = head("POST", "/", 1);
        let echo = scene.tunnel.send(&request, &[b"body"]);
        let answer = tokio::time::timeout(Duration::from_secs(10), echo).await;
        assert_eq!(answer.expect("others go on").body, b"body");
    }
    assert_eq!(noted.connections(), connections, "all share one");
    drop(stalled);
}

#[tokio::test]
async fn more_exchanges_than_a_connection_carries_make_another() {
    let (scene, noted) = h2c().await;
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    let connections = noted.connections();
    let mut open = Vec::new();
    for _ in 0..150 {
        open.push(scene.tunnel.open(&head("GET", "/never", 1), true).await);
    }
    support::until("all are asked", || noted.count("GET /never") == 150).await;
    assert_eq!(noted.connections(), connections + 1);
}

#[tokio::test]
async fn a_goodbye_or_a_refusal_of_a_shared_connection_loses_no_request() {
    let (scene, noted) = h2c().await;
    for _ in 0..5 {
        noted.goodbye.store(1, Ordering::SeqCst);
        for _ in 0..10 {
            let answer = scene.tunnel.send(&head("POST", "/", 1), &[b"body"]).await;
            assert_eq!(answer.body, b"body", "{:?}", answer.failure);
        }
    }
    // What an upstream says it did nothing with is sent again, but not for ever.
    noted.refuse.store(2, Ordering::SeqCst);
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    noted.refuse.store(100, Ordering::SeqCst);
    let failure = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamClosed, false));
    // A body is not kept to be sent again.
    let failure = scene.tunnel.send(&head("POST", "/", 1), &[b"body"]).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamClosed, false));
}

#[tokio::test]
async fn r24_an_upstream_that_does_not_speak_the_http2_it_should_is_malformed() {
    for reply in [
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n",
        "\0\0\0\0\0\0\0\0\0\0",
    ] {
        let address = server::speaks_first(reply).await;
        let scene = scene(format!("h2c://{address}"), Settings::default()).await;
        let failure = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
        let codes = [FailureCode::UpstreamMalformed, FailureCode::UpstreamClosed];
        assert!(codes.contains(&failure.code), "{reply:?}: {failure:?}");
    }
}

#[tokio::test]
async fn a_big_body_flows_both_ways_over_http2() {
    let (scene, _) = h2c().await;
    let total = 16 * 1024 * 1024_usize;
    let mut request = head("POST", "/", 1);
    request.headers.insert("content-length", HeaderValue::from(total));
    let (mut send, receive) = scene.tunnel.open(&request, false).await;
    let sending = async move {
        let piece: Vec<u8> = (0..65_536_u32).map(|n| n.to_be_bytes()[3]).collect();
        let mut encoder = Encoder::new();
        for _ in 0..total / piece.len() {
            encoder.data(&piece);
            send.write_all(&encoder.take()).await.unwrap();
        }
        encoder.end();
        send.write_all(&encoder.take()).await.unwrap();
        send.finish().unwrap();
    };
    let both = async { tokio::join!(read_answer(receive, |_| {}), sending) };
    let (answer, ()) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
    assert!(answer.complete);
    assert_eq!(answer.body.len(), total);
    assert!(answer.body.iter().zip((0..=255_u8).cycle()).all(|(got, sent)| *got == sent));
}

#[tokio::test]
async fn a_switch_over_http2_is_an_extended_connect_where_it_is_offered() {
    let (scene, noted) = h2c().await;
    let request = RequestHead { upgrade: Some("websocket".into()), ..head("GET", "/chat?x", 1) };
    let (mut send, receive) = scene.tunnel.open(&request, false).await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::spawn(read_answer(receive, move |event| {
        if let Event::Data(piece) = event {
            told.send(piece.clone()).unwrap();
        }
    }));
    assert_eq!(heard.recv().await.unwrap(), "hello");
    let mut encoder = Encoder::new();
    encoder.raw();
    send.write_all(&encoder.take()).await.unwrap();
    send.write_all(b"frame").await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), "frame");
    send.finish().unwrap();
    let answer = reading.await.unwrap();
    assert_eq!(answer.status.unwrap(), 101);
    assert!(answer.complete);
    assert!(noted.has("CONNECT /chat") && noted.has("websocket 13"));

    let declined = RequestHead { target: "/forbidden".into(), ..request.clone() };
    let (_send, receive) = scene.tunnel.open(&declined, false).await;
    assert_eq!(read_answer(receive, |_| {}).await.status.unwrap(), 403);

    let (address, _) = server::h2c(false).await;
    let without = plain_h2(address).await;
    let (_send, receive) = without.tunnel.open(&request, false).await;
    let failure = read_answer(receive, |_| {}).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamUpgradeRefused, false));
}

async fn plain_h2(address: std::net::SocketAddr) -> Scene {
    scene(format!("h2c://{address}"), Settings::default()).await
}

#[tokio::test]
async fn a_websocket_to_an_https_upstream_speaks_http1_even_where_requests_speak_http2() {
    let authority = Authority::new(&["127.0.0.1"]);
    let (address, noted) = server::https(&authority, &["h2", "http/1.1"]).await;
    let scene = scene(format!("https://{address}"), pinned(&authority)).await;
    let get = scene.tunnel.get(&head("GET", "/", 1)).await;
    assert_eq!(get.headers["x-saw"], "GET / | shop.localhost:8443 | trailers");
    let request = RequestHead { upgrade: Some("websocket".into()), ..head("GET", "/chat", 1) };
    let (mut send, receive) = scene.tunnel.open(&request, false).await;
    let mut encoder = Encoder::new();
    encoder.raw();
    let (switched, told) = tokio::sync::oneshot::channel();
    let mut switched = Some(switched);
    let reading = tokio::spawn(read_answer(receive, move |event| {
        if matches!(event, Event::Raw)
            && let Some(switched) = switched.take()
        {
            switched.send(()).unwrap();
        }
    }));
    // Nothing but the head is sent before the switch (R7).
    told.await.unwrap();
    assert!(noted.has("GET /chat HTTP/1.1"));
    send.write_all(&encoder.take()).await.unwrap();
    send.write_all(b" and frames").await.unwrap();
    send.finish().unwrap();
    let answer = reading.await.unwrap();
    assert_eq!(answer.body, b"hello and frames", "{answer:?}");
    assert!(answer.complete);
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.headers["x-saw"], get.headers["x-saw"]);
}
