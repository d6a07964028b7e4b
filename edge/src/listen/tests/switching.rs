//! Switches of protocols on real connections: `Upgrade` on HTTP/1.1, extended CONNECT on HTTP/2, neither on HTTP/3.

use ::h2::ext::Protocol as ConnectProtocol;
use ::h2::{Reason, RecvStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::*;

const ASK: &str = "GET /socket HTTP/1.1\r\nHost: shop.localhost\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";

async fn write(stream: &mut TlsStream<TcpStream>, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// Everything up to and with `end`.
async fn read_to(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !bytes.ends_with(end.as_bytes()) {
            bytes.push(stream.read_u8().await.expect("the connection goes on"));
        }
    };
    let timely = timeout(SOON, read).await.is_ok();
    let text = String::from_utf8(bytes).unwrap();
    assert!(timely, "{end:?} did not come: {text:?}");
    text
}

/// Switches and gives the connection.
async fn switched(rig: &Rig) -> TlsStream<TcpStream> {
    let mut stream = h1::connect(rig).await;
    write(&mut stream, ASK).await;
    rig.upstream.release.notify_one();
    let head = read_to(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    let head = head.to_lowercase();
    for field in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "x-protocol: websocket\r\n"] {
        assert!(head.contains(field), "{head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    stream
}

#[tokio::test]
async fn on_h1_octets_go_both_ways_as_they_are_and_an_end_of_one_is_told_to_the_other() {
    let rig = Rig::start();
    let mut stream = switched(&rig).await;
    write(&mut stream, "GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(read_to(&mut stream, "\r\n\r\n").await, "GET / HTTP/1.1\r\n\r\n", "no request any more");
    let large = "x".repeat(3 * 1024 * 1024);
    let (mut read, mut write) = tokio::io::split(stream);
    let send = async {
        write.write_all(large.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = String::new();
    let (all, ()) = tokio::join!(timeout(SOON, read.read_to_string(&mut back)), send);
    all.unwrap().unwrap();
    assert_eq!((back.len(), rig.upstream.requests()), (large.len(), 1));
    rig.end().await;
}

#[tokio::test]
async fn r07_nothing_behind_an_upgrade_is_read_before_the_101_and_then_it_is_no_request() {
    let rig = Rig::start();
    let mut stream = h1::connect(&rig).await;
    let canary = "GET /canary HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    // One request before it, which is answered first and as ever.
    write(&mut stream, &format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{ASK}{canary}")).await;
    let first = read_to(&mut stream, "hello").await;
    assert!(!first.contains("connection: close"), "{first}");
    rig.upstream.until(|upstream| upstream.requests() == 2).await;
    write(&mut stream, canary).await;
    rig.upstream.release.notify_one();
    let head = read_to(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(read_to(&mut stream, canary).await, canary, "what came ahead is the new protocol's…");
    assert_eq!(read_to(&mut stream, canary).await, canary, "…in order");
    assert_eq!(rig.upstream.requests(), 2);
    rig.end().await;
}

#[tokio::test]
async fn r07_where_no_switch_comes_of_it_nothing_behind_is_ever_read() {
    let rig = Rig::start();
    for (path, status) in [("/", 200), ("/empty", 204), ("/decline", 417)] {
        let canary = "GET /canary HTTP/1.1\r\nHost: a\r\n\r\n";
        let ask = ASK.replace("/socket", path);
        let before = rig.upstream.requests();
        let answers = h1::send(&rig, format!("{ask}{canary}{canary}").as_bytes()).await;
        assert_eq!(h1::statuses(&answers), [status], "{answers}");
        assert!(answers.to_lowercase().contains("connection: close"), "{answers}");
        assert_eq!(rig.upstream.requests(), before + 1, "{path}");
    }
    rig.end().await;
}

#[tokio::test]
async fn an_upgrade_that_may_not_be_had_is_an_ordinary_request() {
    let rig = Rig::start();
    let rows = [
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", ""),
        ("Upgrade: websocket\r\n", ""),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n", "{}"),
    ];
    for (fields, body) in rows {
        let request = format!("GET /seen HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
        let last = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
        let answers = h1::send(&rig, format!("{request}{last}").as_bytes()).await;
        assert_eq!(h1::statuses(&answers), [200, 200], "{fields}\n{answers}");
    }
    rig.end().await;
}

#[tokio::test]
async fn on_h1_a_client_may_speak_after_the_upstream_has_ended() {
    let rig = Rig::start();
    let mut stream = h1::connect(&rig).await;
    write(&mut stream, &ASK.replace("/socket", "/parting")).await;
    read_to(&mut stream, "\r\n\r\nbye").await;
    let mut rest = Vec::new();
    assert_eq!(timeout(SOON, stream.read_buf(&mut rest)).await.unwrap().unwrap(), 0, "a clean end");
    write(&mut stream, "still here").await;
    rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == 10).await;
    rig.end().await;
}

#[tokio::test]
async fn a_cut_upstream_is_no_clean_end_on_h1_nor_h2() {
    let rig = Rig::start();
    let mut stream = h1::connect(&rig).await;
    write(&mut stream, &ASK.replace("/socket", "/breaking")).await;
    read_to(&mut stream, "half").await;
    let end = timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(end.to_string().contains("close_notify"), "TLS did not say goodbye: {end}");

    let (response, _send, _driver) = ask_h2(&rig, "/breaking", "websocket").await;
    // A reset may overtake what came before it, even the head.
    let end = match response {
        Ok(response) => timeout(SOON, h2::read(response.into_body())).await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(end.reason(), Some(Reason::INTERNAL_ERROR));
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_before_and_after_the_switch() {
    let rig = Rig::start();
    let mut waiting = h1::connect(&rig).await;
    write(&mut waiting, ASK).await;
    rig.upstream.until(|upstream| upstream.requests() == 1).await;
    drop(waiting);
    rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == 1).await;
    let stream = switched(&rig).await;
    // Closed like a program that was killed: TCP says so, TLS does not. The drain is what waits for the task's end.
    drop(stream);
    rig.drain.begin();
    timeout(SOON, rig.drain.finished()).await.expect("the switched connection did not end");
}

#[tokio::test]
async fn a_drain_lets_what_was_switched_live_until_the_port_closes() {
    let rig = Rig::start();
    let mut stream = switched(&rig).await;
    rig.drain.begin();
    write(&mut stream, "still").await;
    assert_eq!(read_to(&mut stream, "still").await, "still");
    rig.drain.close();
    let mut rest = Vec::new();
    timeout(SOON, async { while stream.read_buf(&mut rest).await.is_ok_and(|len| len > 0) {} })
        .await
        .unwrap();
    assert!(rest.is_empty());
}

type H2Answer = Result<Response<RecvStream>, ::h2::Error>;

/// Asks for `protocol` on `path` over HTTP/2.
async fn ask_h2(
    rig: &Rig,
    path: &str,
    protocol: &'static str,
) -> (H2Answer, ::h2::SendStream<Bytes>, h2::Driver) {
    let (mut client, driver) = h2::connect(rig).await;
    // The edge's settings come with its first octets.
    h2::fetch(&mut client, rig.get("/")).await;
    assert!(client.is_extended_connect_protocol_enabled(), "it is advertised");
    let mut request = Request::connect(format!("https://{HOST}{path}")).body(()).unwrap();
    request.extensions_mut().insert(ConnectProtocol::from_static(protocol));
    let (response, send) = client.send_request(request, false).unwrap();
    (timeout(SOON, response).await.unwrap(), send, driver)
}

#[tokio::test]
async fn on_h2_octets_go_both_ways_on_a_stream_and_an_end_of_one_is_told_to_the_other() {
    let rig = Rig::start();
    rig.upstream.release.notify_one();
    let (response, mut send, _driver) = ask_h2(&rig, "/socket", "websocket").await;
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-protocol"], "websocket");
    for field in ["upgrade", "connection", "content-length", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(field), "{field}");
    }
    let mut body = response.into_body();
    for text in ["one", "two"] {
        send.send_data(text.into(), false).unwrap();
        let data = timeout(SOON, body.data()).await.unwrap().unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        assert_eq!(data, text);
    }
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(timeout(SOON, h2::read(body)).await.unwrap().expect("ended, not reset").0, "");

    let (response, mut send, _driver) = ask_h2(&rig, "/parting", "websocket").await;
    let (data, _) = h2::read(response.unwrap().into_body()).await.unwrap();
    assert_eq!(data, "bye");
    send.send_data("still here".into(), true).unwrap();
    rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == 10).await;
    rig.end().await;
}

#[tokio::test]
async fn on_h2_only_a_switch_is_a_success_and_only_websocket_is_switched_to() {
    let rig = Rig::start();
    let rows = [("/seen", "websocket", 502), ("/decline", "websocket", 417), ("/socket", "connect-udp", 405)];
    for (path, protocol, status) in rows {
        let (response, _send, _driver) = ask_h2(&rig, path, protocol).await;
        assert_eq!(response.unwrap().status(), status, "{path} {protocol}");
    }
    rig.end().await;
}

#[tokio::test]
async fn r12_a_silent_client_is_not_stalled_once_it_was_switched() {
    // A stalled client is given up after 300 ms here; a WebSocket may be silent for as long as its route allows.
    let rig = Rig::with(&short());
    let mut stream = switched(&rig).await;
    rig.upstream.release.notify_one();
    let (response, mut send, _driver) = ask_h2(&rig, "/socket", "websocket").await;
    let mut body = response.unwrap().into_body();
    tokio::time::sleep(2 * short().stall).await;
    write(&mut stream, "late").await;
    assert_eq!(read_to(&mut stream, "late").await, "late");
    send.send_data("late".into(), false).unwrap();
    assert_eq!(timeout(SOON, body.data()).await.unwrap().unwrap().unwrap(), "late");
    rig.end().await;
}
