//! Exchanges from an edge through the whole warpgate to real upstreams: what arrives, and what comes back.

use std::time::Duration;

use crate::support;
use crate::support::agent::Scene;
use crate::support::edge::{head, read_answer};
use crate::support::upstream::{self, OK, values};
use http::{HeaderName, HeaderValue};
use tokio::io::AsyncWriteExt as _;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Encoder, Event, IdentityRef};
use tunnel_proto::limits::EXCHANGES_FIRST;

#[tokio::test]
async fn a_small_get_comes_back_whole_in_one_piece() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let answer = scene.tunnel.get(&head("GET", "/hello?a=1%20b", 1)).await;
    assert_eq!(answer.status.unwrap(), 200);
    assert_eq!(answer.body, b"hello");
    assert_eq!(answer.headers["content-length"], "5");
    assert!(answer.complete);
    assert_eq!(answer.reads, 1, "head, data and end leave in one write");
    assert!(seen.requests().last().unwrap().starts_with("GET /hello?a=1%20b HTTP/1.1\r\n"));
}

#[tokio::test]
async fn the_upstream_sees_the_public_host_the_client_and_nobody_on_a_public_route() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    scene.tunnel.get(&head("GET", "/", 1)).await;
    let request = seen.requests().pop().unwrap();
    let rows = [
        ("host", "shop.localhost:8443"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.localhost:8443"),
        ("x-forwarded-port", "8443"),
        ("forwarded", "for=203.0.113.9;host=\"shop.localhost:8443\";proto=https"),
        ("mezu-user-id", ""),
        ("mezu-assertion", ""),
    ];
    for (name, value) in rows {
        assert_eq!(values(&request, name), [value], "{name}");
    }
    for name in mezusphere_model::header::IDENTITY {
        assert_eq!(values(&request, name), [""], "{name}");
    }
}

#[tokio::test]
async fn a_signed_in_request_carries_its_identity_and_the_slot_is_remembered() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let assertion = scene.platform.assertion(&["customer", "vip"]);
    let mut first = head("GET", "/customers/7", 3);
    first.identity = IdentityRef::Full { slot: 4, assertion: assertion.clone() };
    assert_eq!(scene.tunnel.get(&first).await.status.unwrap(), 200);
    support::until("the slot is acknowledged", || scene.tunnel.known.lock().unwrap().contains(&4)).await;
    let mut second = head("GET", "/customers/7", 3);
    second.identity = IdentityRef::Known(4);
    assert_eq!(scene.tunnel.get(&second).await.status.unwrap(), 200);
    for request in seen.requests().iter().filter(|request| request.contains("/customers/7")) {
        assert_eq!(values(request, "mezu-user-email"), ["zoe@example.com"]);
        assert_eq!(values(request, "mezu-user-name"), ["Zo%C3%AB"]);
        assert_eq!(values(request, "mezu-roles"), ["customer,vip"]);
        assert_eq!(values(request, "mezu-permissions"), ["orders:read"]);
        assert_eq!(values(request, "mezu-auth-method"), ["pwd"]);
        assert_eq!(values(request, "mezu-auth-time"), ["2027-01-15T08:00:00Z"]);
        assert_eq!(values(request, "mezu-assertion"), [std::str::from_utf8(&assertion).unwrap()]);
    }
    assert_eq!(seen.requests().iter().filter(|request| request.contains("/customers/7")).count(), 2);
}

#[tokio::test]
async fn r04_r05_r10_whatever_an_edge_lets_through_is_stripped_again() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let spellings = [
        "mezu-user-id",
        "mezu_user_id",
        "mezu.user.id",
        "mezu-user_id",
        "mezu-roles",
        "mezu_roles",
        "mezu-anything",
        "mezu-assertion",
        "mezu-permissions",
        "mezu-user-email",
        "x-forwarded-for",
        "x_forwarded_for",
        "forwarded",
        "x-real-ip",
        "x_real_ip",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-client-ip",
        "x-forwarded-server",
        "remote_user",
        "content_length",
        "proxy-authorization",
        "proxy-connection",
        "keep-alive",
        "te",
        "upgrade",
    ];
    for public in [true, false] {
        let mut request = if public { head("GET", "/", 1) } else { head("GET", "/private/x", 2) };
        if !public {
            request.identity =
                IdentityRef::Full { slot: 1, assertion: scene.platform.assertion(&["customer"]) };
        }
        for name in spellings {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers.append(&name, HeaderValue::from_static("forged"));
            request.headers.append(&name, HeaderValue::from_static("forged-twice"));
        }
        // A client cannot have ours removed, nor the framing.
        let listed = "mezu-user-id, mezu-assertion, host, x-forwarded-for, x-mine";
        request.headers.insert("connection", HeaderValue::from_static(listed));
        request.headers.insert("x-mine", HeaderValue::from_static("named by connection"));
        request.headers.insert("x-kept", HeaderValue::from_static("kept"));
        assert_eq!(scene.tunnel.get(&request).await.status.unwrap(), 200);
        let request = seen.requests().pop().unwrap();
        assert!(!request.contains("forged"), "{request}");
        assert!(!request.contains("x-mine"), "{request}");
        assert_eq!(values(&request, "x-kept"), ["kept"]);
        for name in mezusphere_model::header::IDENTITY {
            assert_eq!(values(&request, name).len(), 1, "{name}: {request}");
        }
        assert_eq!(values(&request, "mezu-user-email"), [if public { "" } else { "zoe@example.com" }]);
        assert_eq!(values(&request, "host"), ["shop.localhost:8443"]);
        assert_eq!(values(&request, "x-forwarded-for"), ["203.0.113.9"]);
        let hop = request.to_ascii_lowercase();
        assert!(!hop.contains("\r\nconnection:") && !hop.contains("\r\nte:"), "{request}");
    }
}

#[tokio::test]
async fn r11_the_platforms_cookies_do_not_reach_the_upstream() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let rows: [(&[&'static str], &[&str]); 5] = [
        (&["a=1; b=2"], &["a=1; b=2"]),
        (&["a=1; __Host-mezu-session=x.1.y; b=2"], &["a=1; b=2"]),
        (&["__Host-mezu-session=x.1.y"], &[]),
        (&["__HOST-MEZU-state=x; a=1", "b=2"], &["a=1", "b=2"]),
        (&["a=__Host-mezu-session=x"], &["a=__Host-mezu-session=x"]),
    ];
    for (sent, arrives) in rows {
        let mut request = head("GET", "/", 1);
        for cookie in sent {
            request.headers.append("cookie", HeaderValue::from_static(cookie));
        }
        scene.tunnel.get(&request).await;
        assert_eq!(values(&seen.requests().pop().unwrap(), "cookie"), arrives, "{sent:?}");
    }
}

#[tokio::test]
async fn r04_forged_trailers_do_not_arrive_and_declared_ones_do() {
    let (address, seen) = upstream::start(|mut conversation| async move {
        if conversation.head.starts_with("HEAD") {
            conversation.stream.write_all(OK.as_bytes()).await.ok()?;
            return None;
        }
        let body = upstream::read_until(&mut conversation, "\r\n\r\n").await;
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        conversation.stream.write_all(reply.as_bytes()).await.unwrap();
        conversation.stream.write_all(&body).await.unwrap();
        Some(conversation.stream)
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    let mut request = head("POST", "/", 1);
    request.headers.insert("trailer", HeaderValue::from_static("x-sum, mezu-user-id"));
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    trailers.insert("mezu-user-id", HeaderValue::from_static("forged"));
    let mut encoder = Encoder::new();
    encoder.request(&request, false).unwrap();
    encoder.data(b"abc");
    encoder.trailers(&trailers).unwrap();
    let answer = support::edge::raw_exchange(&scene.tunnel.connection, encoder.take()).await;
    let echoed = String::from_utf8(answer.body).unwrap();
    assert!(echoed.contains("x-sum: 42"), "{echoed}");
    assert!(!echoed.contains("forged"), "{echoed}");
    assert_eq!(values(&seen.requests().pop().unwrap(), "transfer-encoding"), ["chunked"]);
}

#[tokio::test]
async fn bodies_go_up_with_their_length_or_in_chunks() {
    let (address, seen) = upstream::start(|mut conversation| async move {
        if conversation.head.starts_with("HEAD") {
            conversation.stream.write_all(OK.as_bytes()).await.ok()?;
            return None;
        }
        let body = if conversation.head.contains("chunked") {
            upstream::read_until(&mut conversation, "0\r\n\r\n").await
        } else {
            upstream::read_exactly(&mut conversation, 10).await
        };
        let reply = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n", body.len());
        conversation.stream.write_all(reply.as_bytes()).await.unwrap();
        conversation.stream.write_all(&body).await.unwrap();
        Some(conversation.stream)
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    let mut sized = head("PUT", "/", 1);
    sized.headers.insert("content-length", HeaderValue::from_static("10"));
    assert_eq!(scene.tunnel.send(&sized, &[b"12345", b"67890"]).await.body, b"1234567890");
    let chunked = scene.tunnel.send(&head("GET", "/", 1), &[b"12345"]).await;
    assert_eq!(chunked.body, b"5\r\n12345\r\n0\r\n\r\n", "even with GET");
    assert_eq!(chunked.status.unwrap(), 201);
    assert_eq!(seen.connections(), 2, "one for the probe of the upstream, one for both requests");
}

#[tokio::test]
async fn informational_heads_come_before_the_final_one() {
    let (address, _) = upstream::start(|mut conversation| async move {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nmezu-x: 1\r\n\r\n";
        conversation.stream.write_all(hints.as_bytes()).await.unwrap();
        if conversation.head.contains("expect") {
            conversation.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            upstream::read_exactly(&mut conversation, 4).await;
        }
        conversation.stream.write_all(OK.as_bytes()).await.unwrap();
        Some(conversation.stream)
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    let answer = scene.tunnel.get(&head("GET", "/", 1)).await;
    assert_eq!(answer.informational.len(), 1);
    assert_eq!(answer.informational[0].status, 103);
    assert_eq!(answer.informational[0].headers["link"], "</a.css>");
    assert!(!answer.informational[0].headers.contains_key("mezu-x"));
    assert_eq!(answer.body, b"hello");

    // A client that waits for 100 before it sends its body.
    let mut request = head("POST", "/", 1);
    request.headers.insert("expect", HeaderValue::from_static("100-continue"));
    request.headers.insert("content-length", HeaderValue::from_static("4"));
    let (mut send, receive) = scene.tunnel.open(&request, false).await;
    let (told, mut continued) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::spawn(read_answer(receive, move |event| {
        if matches!(event, Event::Informational(head) if head.status == 100) {
            told.send(()).unwrap();
        }
    }));
    continued.recv().await.unwrap();
    let mut encoder = Encoder::new();
    encoder.data(b"body");
    encoder.end();
    send.write_all(&encoder.take()).await.unwrap();
    send.finish().unwrap();
    assert_eq!(reading.await.unwrap().body, b"hello");
}

#[tokio::test]
async fn trailers_of_a_response_arrive_stripped() {
    let (address, _) = upstream::fixed(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ngrpc-status: 0\r\nmezu-x: 1\r\n\r\n",
    )
    .await;
    let scene = Scene::with_upstream(address).await;
    let answer = scene.tunnel.get(&head("GET", "/", 1)).await;
    assert_eq!(answer.body, b"abc");
    let trailers = answer.trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers.len(), 1);
    assert!(answer.complete);
    assert!(!answer.headers.contains_key("transfer-encoding"));
}

#[tokio::test]
async fn a_response_flows_before_it_is_complete() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let released = std::sync::Mutex::new(Some(released));
    let (address, _) = upstream::start(move |mut conversation| {
        let released =
            if conversation.head.starts_with("GET /events") { released.lock().unwrap().take() } else { None };
        async move {
            let Some(released) = released else {
                conversation.stream.write_all(OK.as_bytes()).await.unwrap();
                return Some(conversation.stream);
            };
            let start = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            conversation.stream.write_all(start.as_bytes()).await.unwrap();
            conversation.stream.write_all(b"data: 1\n\n").await.unwrap();
            released.await.unwrap();
            conversation.stream.write_all(b"data: 2\n\n").await.unwrap();
            None
        }
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/events", 1), true).await;
    let mut release = Some(release);
    let answer = read_answer(receive, move |event| {
        // The second event is sent only after the first has arrived here.
        if matches!(event, Event::Data(_))
            && let Some(release) = release.take()
        {
            release.send(()).unwrap();
        }
    });
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap();
    assert_eq!(answer.body, b"data: 1\n\ndata: 2\n\n");
    assert!(answer.complete, "without a length, the connection's end is the body's");
}

#[tokio::test]
async fn head_and_bodyless_statuses_have_no_body() {
    let rows = [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", 200, Some("500")),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\n\r\n", 304, Some("500")),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, Some("0")),
    ];
    for (method, reply, status, length) in rows {
        let (address, _) = upstream::fixed(reply).await;
        let scene = Scene::with_upstream(address).await;
        let answer = scene.tunnel.get(&head(method, "/", 1)).await;
        assert_eq!(answer.status.unwrap(), status);
        assert_eq!(
            answer.headers.get("content-length").map(|value| value.to_str().unwrap()),
            length,
            "{reply}"
        );
        assert!(answer.complete && answer.body.is_empty());
    }
}

#[tokio::test]
async fn when_the_client_goes_the_upstream_hears_of_it_within_a_second() {
    let (address, seen) = upstream::start(|mut conversation| async move {
        if conversation.head.starts_with("GET /slow") {
            // Waits for the other side to close, and gives no answer.
            let mut stream = conversation.stream;
            let mut buffer = [0; 16];
            drop(tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await);
            return None;
        }
        conversation.stream.write_all(OK.as_bytes()).await.ok()?;
        Some(conversation.stream)
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    for stop_response in [true, false] {
        let wanted = seen.requests().len() + 1;
        let (mut send, mut receive) = scene.tunnel.open(&head("GET", "/slow", 1), false).await;
        support::until("the upstream has the request", || seen.requests().len() >= wanted).await;
        let open = seen.open();
        let gone = quinn::VarInt::from_u32(ResetCode::ClientGone.number());
        if stop_response {
            receive.stop(gone).unwrap();
        } else {
            send.reset(gone).unwrap();
        }
        let closed = support::until("the upstream's connection is closed", || seen.open() < open);
        tokio::time::timeout(Duration::from_secs(1), closed).await.unwrap();
    }
}

#[tokio::test]
async fn an_early_final_response_stops_the_upload() {
    let (address, _) = upstream::start(|mut conversation| async move {
        let reply = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig";
        conversation.stream.write_all(reply.as_bytes()).await.unwrap();
        // Lets the reply arrive before the close turns what is unread into a reset.
        conversation.stream.shutdown().await.unwrap();
        let mut sink = vec![0; 65536];
        while tokio::io::AsyncReadExt::read(&mut conversation.stream, &mut sink).await.is_ok_and(|n| n > 0) {}
        None
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    let (mut send, receive) = scene.tunnel.open(&head("POST", "/", 1), false).await;
    let sending = async {
        let piece = vec![7; 64 * 1024];
        let mut encoder = Encoder::new();
        loop {
            encoder.data(&piece);
            if let Err(quinn::WriteError::Stopped(code)) = send.write_all(&encoder.take()).await {
                return ResetCode::from_number(code.into_inner());
            }
        }
    };
    let (answer, stopped) = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::join!(read_answer(receive, |_| {}), sending)
    })
    .await
    .unwrap();
    assert_eq!(answer.status.unwrap(), 413);
    assert_eq!(answer.body, b"big");
    assert!(answer.complete);
    assert_eq!(stopped, ResetCode::NotNeeded);
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_complete_to_the_upstream() {
    let (address, seen) = upstream::start(|mut conversation| async move {
        if conversation.head.starts_with("HEAD") {
            conversation.stream.write_all(OK.as_bytes()).await.ok()?;
            return None;
        }
        let mut body = std::mem::take(&mut conversation.rest);
        let mut buffer = [0; 1024];
        loop {
            match tokio::io::AsyncReadExt::read(&mut conversation.stream, &mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(octets) => body.extend_from_slice(&buffer[..octets]),
            }
        }
        assert!(!body.ends_with(b"0\r\n\r\n"), "the last chunk must not come");
        None
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    let (mut send, receive) = scene.tunnel.open(&head("POST", "/", 1), false).await;
    let mut encoder = Encoder::new();
    encoder.data(b"half of it");
    send.write_all(&encoder.take()).await.unwrap();
    support::until("the upstream has the request", || {
        seen.requests().iter().any(|request| request.starts_with("POST"))
    })
    .await;
    let open = seen.open();
    // The stream ends without END: the message is not whole.
    send.finish().unwrap();
    let answer = read_answer(receive, |_| {}).await;
    assert!(answer.status.is_none() && !answer.complete);
    assert_eq!(answer.reset, Some(ResetCode::Protocol));
    support::until("the upstream's connection is closed", || seen.open() < open).await;
}

#[tokio::test]
async fn a_stalled_reader_does_not_stall_the_others() {
    let (address, _) = upstream::start(|mut conversation| async move {
        if conversation.head.starts_with("GET /endless") {
            let head = "HTTP/1.1 200 OK\r\n\r\n";
            conversation.stream.write_all(head.as_bytes()).await.ok()?;
            let piece = vec![1; 64 * 1024];
            loop {
                conversation.stream.write_all(&piece).await.ok()?;
            }
        }
        conversation.stream.write_all(OK.as_bytes()).await.ok()?;
        Some(conversation.stream)
    })
    .await;
    let scene = Scene::with_upstream(address).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(scene.tunnel.open(&head("GET", "/endless", 1), true).await);
    }
    for _ in 0..50 {
        let request = head("GET", "/", 1);
        let get = scene.tunnel.get(&request);
        let answer = tokio::time::timeout(Duration::from_secs(10), get).await.expect("others go on");
        assert_eq!(answer.body, b"hello");
    }
    drop(stalled);
}

#[tokio::test]
async fn r09_hop_by_hop_fields_ours_and_foreign_cookies_do_not_come_back() {
    let (address, _) = upstream::fixed(
        "HTTP/1.1 200 OK\r\nconnection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nmezu-user-id: me\r\n\
         MEZU_X: 1\r\nset-cookie: a=1; Path=/\r\nset-cookie: b=2; Domain=mezu.localhost\r\n\
         set-cookie: __Host-mezu-session=stolen; Secure; Path=/\r\nset-cookie: c=3; Domain=localhost\r\n\
         x-fine: yes\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let scene = Scene::with_upstream(address).await;
    let answer = scene.tunnel.get(&head("GET", "/", 1)).await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/"]);
    for name in ["connection", "x-hop", "keep-alive", "mezu-user-id", "mezu_x"] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }
    assert_eq!(answer.headers["x-fine"], "yes");
}

#[tokio::test]
async fn a_crowd_of_exchanges_that_comes_at_once_is_let_in() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let connection = &scene.tunnel.connection;
    let mut encoder = Encoder::new();
    encoder.request(&head("GET", "/", 1), true).unwrap();
    let begun = encoder.take().slice(..1);
    // More than a tunnel takes at first, and none of them ends. A hundred beginnings fit into one packet.
    let crowd = async {
        let mut held = Vec::new();
        for _ in 0..4 * EXCHANGES_FIRST {
            let (mut send, receive) = connection.open_bi().await.unwrap();
            send.write_all(&begun).await.unwrap();
            held.push((send, receive));
        }
        held
    };
    let held = tokio::time::timeout(Duration::from_secs(5), crowd).await;
    assert!(held.is_ok(), "the warpgate allows more while more come");
}
