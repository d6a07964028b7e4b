//! Upstreams that are down, slow, broken or malicious, and the connections kept to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support;
use crate::support::agent::Scene;
use crate::support::edge::{head, read_answer};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, route};
use mezusphere_model::route::{AuthMode, RouteDoc, RouteTimeouts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Encoder, Event, FailureCode};

fn quick(head_ms: u32, idle_ms: u32) -> Arc<Platform> {
    let platform = Platform::new();
    let timeouts = RouteTimeouts { connect_ms: 300, head_ms, idle_ms, total_ms: 0 };
    platform.site.lock().unwrap().routes = vec![RouteDoc { timeouts, ..route(1, "/*", AuthMode::Public) }];
    platform
}

/// Answers `HEAD`, the warpgate's own probe, and passes everything else to `serve`.
macro_rules! upstream {
    (|$conversation:ident| $serve:expr) => {
        upstream::start(move |mut $conversation| async move {
            if $conversation.head.starts_with("HEAD") {
                $conversation.stream.write_all(OK.as_bytes()).await.ok()?;
                return None;
            }
            $serve
        })
        .await
    };
}

#[tokio::test]
async fn an_upstream_that_is_down_is_named_and_nothing_was_started() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let scene = Scene::with_upstream(address).await;
    let failure = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
    assert_eq!(failure.code, FailureCode::UpstreamRefused);
    assert!(!failure.started && failure.detail.contains(&address.to_string()), "{failure:?}");
    let routes = scene.agent.event("routes").await;
    let default =
        routes["routes"].as_array().unwrap().iter().find(|route| route["upstream"] == "default").unwrap();
    assert_eq!(default["state"]["state"], "down");
    assert!(default["state"]["why"].as_str().unwrap().contains("refused"), "{default}");
    let ready = scene.agent.event("ready").await;
    assert_eq!(ready["upstreams_down"], 2, "the one that is down and the one that was not declared");
    assert_eq!(
        (&ready["upstreams"], &ready["unanswered"][0]),
        (&2.into(), &format!("http://{address}").into())
    );
}

#[tokio::test]
async fn an_upstream_that_goes_away_is_told_once_and_again_when_it_is_back() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let scene = Scene::with_upstream(address).await;
    for _ in 0..3 {
        assert!(scene.tunnel.get(&head("GET", "/", 1)).await.failure.is_some());
    }
    let lost = scene.agent.event("upstream_lost").await;
    assert_eq!(
        (lost["upstream"].as_str(), lost["code"].as_str()),
        (Some("default"), Some("warpgate.upstream_refused"))
    );
    let target = format!("http://{address}");
    assert_eq!(lost["message"], format!("{target}: Connection refused"));
    let back = tokio::net::TcpListener::bind(address).await.unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = back.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(OK.as_bytes()).await.unwrap();
    });
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    serving.await.unwrap();
    assert_eq!(scene.agent.event("upstream_back").await["target"], target);
    assert_eq!(scene.agent.named("upstream_lost").len(), 1);
}

#[tokio::test]
async fn an_upstream_that_was_down_at_the_start_is_told_when_it_comes_up_though_nobody_asked_for_it() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let scene = Scene::with_upstream(address).await;
    assert_eq!(scene.agent.event("ready").await["unanswered"][0], format!("http://{address}"));
    let _back = tokio::net::TcpListener::bind(address).await.unwrap();
    assert_eq!(scene.agent.event("upstream_back").await["target"], format!("http://{address}"));
    assert!(scene.agent.named("upstream_lost").is_empty(), "no request was lost, and Ready had said it");
}

#[tokio::test]
async fn r24_a_malicious_upstream_is_malformed_and_reaches_no_client() {
    let many = (0..200).fold(String::new(), |all, n| all + &format!("x-{n}: 1\r\n"));
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("not HTTP", b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec()),
        ("NUL in a value", b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n".to_vec()),
        ("a bare CR in a value", b"HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\n\r\n".to_vec()),
        ("a space before the colon", b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\nhello".to_vec()),
        ("a folded line", b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n".to_vec()),
        ("a name with a line break", b"HTTP/1.1 200 OK\r\nx\ny: a\r\n\r\n".to_vec()),
        (
            "a huge head",
            [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 200_000], b"\r\n\r\n".to_vec()].concat(),
        ),
        ("too many fields", format!("HTTP/1.1 200 OK\r\n{many}\r\n").into_bytes()),
        ("a negative length", b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello".to_vec()),
        ("a length that is no number", b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello".to_vec()),
        ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_vec()),
        ("a huge length", b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nhello".to_vec()),
        ("a status out of range", b"HTTP/1.1 099 No\r\n\r\n".to_vec()),
        ("an upgrade nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_vec()),
    ];
    for (what, reply) in rows {
        let (address, _) = upstream::fixed(reply).await;
        let scene = Scene::with_upstream(address).await;
        let answer = scene.tunnel.get(&head("GET", "/", 1)).await;
        let failure =
            answer.failure.unwrap_or_else(|| panic!("{what}: {:?} {:?}", answer.status, answer.headers));
        assert_eq!(failure.code, FailureCode::UpstreamMalformed, "{what}: {}", failure.detail);
        assert!(failure.started, "{what}");
        assert!(!failure.detail.contains('\r') && !failure.detail.contains('\n'));
    }
}

#[tokio::test]
async fn a_length_and_chunks_at_once_are_read_as_chunks_and_told_without_a_length() {
    let reply =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (address, _) = upstream::fixed(reply).await;
    let scene = Scene::with_upstream(address).await;
    let answer = scene.tunnel.get(&head("GET", "/", 1)).await;
    assert!(answer.complete);
    assert_eq!(answer.body, b"hello");
    assert!(!answer.headers.contains_key("content-length"), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_response_that_is_cut_never_looks_complete() {
    for reply in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n",
    ] {
        let (address, _) = upstream!(|conversation| {
            conversation.stream.write_all(reply.as_bytes()).await.ok()?;
            conversation.stream.write_all(&vec![b'a'; 20_000]).await.ok()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        });
        let scene = Scene::with_upstream(address).await;
        let answer = scene.tunnel.get(&head("GET", "/", 1)).await;
        assert_eq!(answer.status.unwrap(), 200);
        assert!(!answer.complete);
        assert_eq!(answer.reset, Some(ResetCode::UpstreamCut));
    }
}

#[tokio::test]
async fn an_upstream_that_closes_without_an_answer_is_said_to_have_closed() {
    let (address, _) = upstream!(|conversation| {
        drop(conversation.stream);
        None
    });
    let scene = Scene::with_upstream(address).await;
    let failure = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamClosed, true));
}

#[tokio::test]
async fn time_outs_of_the_route_hold() {
    let (address, seen) = upstream!(|conversation| {
        if conversation.head.starts_with("GET /half") {
            conversation.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.ok()?;
        }
        let mut sink = [0; 1024];
        while conversation.stream.read(&mut sink).await.is_ok_and(|octets| octets > 0) {}
        None
    });
    let scene = Scene::on(quick(300, 2_000), address).await;
    let start = tokio::time::Instant::now();
    let failure = scene.tunnel.get(&head("GET", "/none", 1)).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamTimeout, true));
    assert!(
        (Duration::from_millis(290)..Duration::from_millis(1_900)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );

    let start = tokio::time::Instant::now();
    let answer = scene.tunnel.get(&head("GET", "/half", 1)).await;
    assert_eq!((answer.body.as_slice(), answer.reset), (b"half".as_slice(), Some(ResetCode::Timeout)));
    assert!(start.elapsed() >= Duration::from_millis(1_990), "{:?}", start.elapsed());

    // The head's time begins with the request's last byte.
    let (mut send, receive) = scene.tunnel.open(&head("POST", "/none", 1), false).await;
    let start = tokio::time::Instant::now();
    let sending = async {
        let mut encoder = Encoder::new();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            encoder.data(b"piece");
            send.write_all(&encoder.take()).await.unwrap();
        }
        encoder.end();
        send.write_all(&encoder.take()).await.unwrap();
        send.finish().unwrap();
    };
    let (answer, ()) = tokio::join!(read_answer(receive, |_| {}), sending);
    assert_eq!(answer.failure.unwrap().code, FailureCode::UpstreamTimeout);
    assert!(start.elapsed() >= Duration::from_millis(780), "{:?}", start.elapsed());
    support::until("all connections are closed", || seen.open() == 0).await;
}

#[tokio::test]
async fn an_upstream_that_does_not_take_the_connection_times_out_unstarted() {
    // TEST-NET-1 (RFC 5737) answers nothing, if it is routed at all.
    let scene = Scene::on(quick(60_000, 60_000), "192.0.2.1:9".parse().unwrap()).await;
    let failure = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
    let unreached = [FailureCode::UpstreamConnectTimeout, FailureCode::UpstreamRefused];
    assert!(unreached.contains(&failure.code) && !failure.started, "{failure:?}");
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let (address, seen) = upstream!(|conversation| {
        conversation.stream.write_all(OK.as_bytes()).await.ok()?;
        Some(conversation.stream)
    });
    let scene = Scene::with_upstream(address).await;
    let before = seen.connections();
    for _ in 0..20 {
        assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.body, b"hello");
    }
    assert_eq!(seen.connections() - before, 1);
}

#[tokio::test]
async fn a_connection_the_upstream_wants_closed_is_not_used_again() {
    let (address, seen) = upstream!(|conversation| {
        let reply = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
        conversation.stream.write_all(reply.as_bytes()).await.ok()?;
        None
    });
    let scene = Scene::with_upstream(address).await;
    let before = seen.connections();
    for _ in 0..3 {
        assert_eq!(scene.tunnel.get(&head("POST", "/", 1)).await.body, b"ok");
    }
    assert_eq!(seen.connections() - before, 3);
}

#[tokio::test]
async fn only_an_idempotent_request_is_sent_again_when_a_kept_connection_turns_out_closed() {
    let posts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&posts);
    // Answers the first request of a connection and drops it on the second, without an answer.
    let (address, _) = upstream::start(move |mut conversation| {
        let counted = Arc::clone(&counted);
        async move {
            if conversation.head.starts_with("POST") {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            if conversation.before > 0 {
                return None;
            }
            conversation.stream.write_all(OK.as_bytes()).await.ok()?;
            if conversation.head.starts_with("HEAD") { None } else { Some(conversation.stream) }
        }
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    assert_eq!(scene.tunnel.get(&head("GET", "/1", 1)).await.body, b"hello");
    assert_eq!(
        scene.tunnel.get(&head("GET", "/2", 1)).await.body,
        b"hello",
        "sent again on a new connection"
    );
    let failure = scene.tunnel.get(&head("POST", "/3", 1)).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamClosed, true));
    assert_eq!(posts.load(Ordering::SeqCst), 1, "a POST never runs twice");
}

#[tokio::test]
async fn a_big_body_flows_both_ways_at_once() {
    let (address, _) = upstream!(|conversation| {
        conversation.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 33554432\r\n\r\n").await.ok()?;
        let (mut from, mut to) = conversation.stream.split();
        let mut first = std::mem::take(&mut conversation.rest);
        to.write_all(&first).await.ok()?;
        first.clear();
        tokio::io::copy(&mut from, &mut to).await.ok()?;
        None
    });
    let scene = Scene::with_upstream(address).await;
    let total = 32 * 1024 * 1024_usize;
    let mut request = head("POST", "/", 1);
    request.headers.insert("content-length", http::HeaderValue::from(total));
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
    let reading = read_answer(receive, |_| {});
    let both = async { tokio::join!(reading, sending) };
    let (answer, ()) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
    assert!(answer.complete);
    assert_eq!(answer.body.len(), total);
    assert!(answer.body.iter().zip((0..=255_u8).cycle()).all(|(got, sent)| *got == sent));
}

#[tokio::test]
async fn a_stalled_upstream_stops_the_upload_at_the_window() {
    let (address, _) = upstream!(|conversation| {
        // Takes the head and reads nothing more.
        tokio::time::sleep(Duration::from_mins(1)).await;
        Some(conversation.stream)
    });
    let scene = Scene::on(quick(60_000, 1_500), address).await;
    let (mut send, receive) = scene.tunnel.open(&head("POST", "/", 1), false).await;
    let (octets, taken) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let tally = Arc::clone(&octets);
    let sending = tokio::spawn(async move {
        let piece = vec![0; 64 * 1024];
        let mut encoder = Encoder::new();
        loop {
            encoder.data(&piece);
            if send.write_all(&encoder.take()).await.is_err() {
                return;
            }
            tally.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let answer = read_answer(receive, |event| {
        if matches!(event, Event::Failure(_)) {
            taken.store(octets.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    })
    .await;
    assert_eq!(answer.failure.unwrap().code, FailureCode::UpstreamTimeout);
    sending.await.unwrap();
    // Stream window, socket buffers of both ends and the pieces between them: never the whole upload.
    let taken = taken.load(Ordering::SeqCst);
    assert!(taken < 24 * 1024 * 1024, "{taken} octets were taken from the client");
}

#[tokio::test]
async fn r24_informational_heads_without_end_and_a_second_response_reach_nobody() {
    let (address, _) = upstream!(|conversation| {
        if conversation.head.starts_with("GET /interim") {
            loop {
                conversation.stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.ok()?;
            }
        }
        if conversation.head.starts_with("GET /twice") {
            let forged = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
            conversation.stream.write_all([OK, forged].concat().as_bytes()).await.ok()?;
            return Some(conversation.stream);
        }
        conversation.stream.write_all(OK.as_bytes()).await.ok()?;
        Some(conversation.stream)
    });
    let scene = Scene::with_upstream(address).await;
    let request = head("GET", "/interim", 1);
    let endless = tokio::time::timeout(Duration::from_secs(10), scene.tunnel.get(&request)).await.unwrap();
    let failure = endless.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::UpstreamMalformed, true), "{}", failure.detail);
    for _ in 0..20 {
        assert_eq!(scene.tunnel.get(&head("GET", "/twice", 1)).await.body, b"hello");
        assert_eq!(scene.tunnel.get(&head("GET", "/after", 1)).await.body, b"hello", "not what came unasked");
    }
}

#[tokio::test]
async fn r24_a_response_that_comes_before_the_request_is_not_taken_for_its_answer() {
    let (address, seen) = upstream!(|conversation| {
        conversation.stream.write_all(OK.as_bytes()).await.ok()?;
        if conversation.head.starts_with("GET /first") {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let forged = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
            conversation.stream.write_all(forged.as_bytes()).await.ok()?;
        }
        Some(conversation.stream)
    });
    let scene = Scene::with_upstream(address).await;
    for _ in 0..3 {
        let before = seen.connections();
        assert_eq!(scene.tunnel.get(&head("GET", "/first", 1)).await.body, b"hello");
        support::until("the connection is given up", || seen.open() == 0).await;
        assert_eq!(scene.tunnel.get(&head("GET", "/second", 1)).await.body, b"hello");
        assert!(seen.connections() > before);
    }
}

#[tokio::test]
async fn a_routes_rules_change_what_the_upstream_sees_and_what_it_says() {
    use mezusphere_model::rules::{HeaderRules, HeaderValueRule, PathRule, RouteRules};
    let (address, seen) = upstream!(|conversation| {
        let reply =
            "HTTP/1.1 200 OK\r\nserver: Werkzeug\r\nx-frame-options: DENY\r\ncontent-length: 2\r\n\r\nok";
        conversation.stream.write_all(reply.as_bytes()).await.ok()?;
        Some(conversation.stream)
    });
    let set = |name: &str, value: &str| HeaderValueRule { name: name.to_owned(), value: value.to_owned() };
    let rules = RouteRules {
        path: Some(PathRule::Replace { prefix: "/api".to_owned(), with: "/v2".to_owned() }),
        upstream_host: Some("app.internal:8080".to_owned()),
        request_headers: HeaderRules { set: vec![set("x-tier", "gold")], remove: vec!["x-debug".to_owned()] },
        response_headers: HeaderRules {
            set: vec![set("x-frame-options", "SAMEORIGIN")],
            remove: vec!["server".to_owned()],
        },
        ..RouteRules::default()
    };
    let platform = Platform::new();
    platform.site.lock().unwrap().routes =
        vec![RouteDoc { rules, min_reader: 2, ..route(1, "/api/*", AuthMode::Public) }];
    let scene = Scene::on(platform, address).await;
    let mut request = head("GET", "/api/a%20b?x=/api", 1);
    request.headers.insert("x-debug", "1".parse().unwrap());
    let answer = scene.tunnel.get(&request).await;
    assert_eq!(answer.body, b"ok", "{:?}", answer.failure);
    assert_eq!(answer.headers["x-frame-options"], "SAMEORIGIN");
    assert!(!answer.headers.contains_key("server"));
    let arrived = seen.requests().pop().unwrap();
    assert!(arrived.starts_with("GET /v2/a%20b?x=/api HTTP/1.1\r\n"), "{arrived}");
    for (name, value) in
        [("host", "app.internal:8080"), ("x-forwarded-host", "shop.localhost:8443"), ("x-tier", "gold")]
    {
        assert_eq!(upstream::values(&arrived, name), [value], "{name}");
    }
    assert!(upstream::values(&arrived, "x-debug").is_empty());
    // What a server might read as another path than the one that was decided on is not made into a new one.
    let before = seen.requests().len();
    let failure = scene.tunnel.get(&head("GET", "/api/x/%2e%2e/y", 1)).await.failure.unwrap();
    assert_eq!((failure.code, failure.started), (FailureCode::RequestMalformed, false));
    assert_eq!(seen.requests().len(), before);
}
