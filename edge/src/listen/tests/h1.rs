//! HTTP/1.1 on raw sockets.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

const CANARY: &str = "GET /canary HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";

/// Requests that can be read in two ways, and what each is answered.
const AMBIGUOUS: [(&str, u16); 22] = [
    (
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    (
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("GET /canary HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    ("GET /canary HTTP/1.1\nHost: a\n\n", 400),
    ("GET /canary HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    ("GET /canary HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    ("GET /canary HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("GET /canary HTTP/1.1\r\nHost: a\r\nX\0Y: b\r\n\r\n", 400),
    ("GET /canary HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
    ("GET  /canary HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /canary HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
];

pub(super) async fn connect(rig: &Rig) -> TlsStream<TcpStream> {
    let tls = TlsConnector::from(Arc::new(client_tls(&rig.trust, &[ALPN_H1])));
    let stream = TcpStream::connect(rig.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    tls.connect(ServerName::try_from(rig.host).unwrap(), stream).await.unwrap()
}

/// Everything until the edge closes; a reset counts as closing.
pub(super) async fn read_all(stream: &mut TlsStream<TcpStream>) -> String {
    let mut bytes = Vec::new();
    let read = async { while stream.read_buf(&mut bytes).await.is_ok_and(|len| len > 0) {} };
    timeout(SOON, read).await.expect("the edge did not close");
    String::from_utf8(bytes).unwrap()
}

/// Sends `bytes` and gives everything that came back until the edge closed.
pub(super) async fn send(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = connect(rig).await;
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    read_all(&mut stream).await
}

pub(super) fn statuses(answers: &str) -> Vec<u16> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn requests_are_answered_in_order_on_one_connection() {
    let rig = Rig::start();
    let answers = send(
        &rig,
        b"GET /seen?q=1 HTTP/1.1\r\nHost: shop.localhost\r\nX-Ray: 7\r\n\r\n\
          POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\
          POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: x-sum\r\n\r\n\
          3\r\nchu\r\n4\r\nnked\r\n0\r\nx-sum: 9\r\n\r\n\
          HEAD /empty HTTP/1.1\r\nHost: a\r\n\r\n\
          GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(statuses(&answers), [200, 200, 200, 204, 200], "{answers}");
    assert!(
        answers.contains("GET /seen?q=1 h1 Some(\"shop.localhost\")\nhost: shop.localhost\nx-ray: 7\n"),
        "{answers}"
    );
    assert!(answers.contains("\r\n\r\nbodyHTTP/1.1"), "{answers}");
    assert!(answers.contains("chunked\r\n0\r\nx-sum: 9\r\n"), "{answers}");
    assert!(answers.contains("alt-svc: h3=\":8443\"; ma=86400\r\n"), "{answers}");
    assert_eq!(rig.upstream.requests(), 5);
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let rig = Rig::start();
    let mut stream = connect(&rig).await;
    let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut go_on = [0; 25];
    timeout(SOON, stream.read_exact(&mut go_on)).await.unwrap().unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    assert!(read_all(&mut stream).await.ends_with("\r\n\r\nbody"));
    let old = send(&rig, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("hello"), "{old}");
    rig.end().await;
}

#[tokio::test]
async fn a_head_may_come_octet_by_octet() {
    let rig = Rig::start();
    let mut stream = connect(&rig).await;
    for byte in b"\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let answers = read_all(&mut stream).await;
    assert_eq!(statuses(&answers), [200, 200], "{answers}");
    assert!(answers.contains("\r\n\r\nabcHTTP/1.1"), "{answers}");
    rig.end().await;
}

#[tokio::test]
async fn r07_an_ambiguous_request_is_refused_and_what_follows_never_runs() {
    for rig in [Rig::start(), Rig::fronted()] {
        let host = rig.host;
        let good = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let canary = format!("GET /canary HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for (request, status) in AMBIGUOUS {
            // Once after a good request, because what comes before must still be answered, and first.
            let answers = send(&rig, format!("{good}{request}{canary}{canary}").as_bytes()).await;
            assert_eq!(statuses(&answers), [200, status], "{request:?}\n{answers}");
            assert!(answers.to_lowercase().contains("connection: close"), "{request:?}\n{answers}");
            let told = answers.contains(&format!("\r\n\r\n{status} "))
                && answers.contains("\ncode: edge.")
                && answers.contains("\nnext: ");
            assert!(told, "{request:?}\n{answers}");
            // And cut in two, the way a slow sender would.
            let mut stream = connect(&rig).await;
            let (first, second) = request.split_at(request.len() / 2);
            stream.write_all(first.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(format!("{second}{canary}").as_bytes()).await.unwrap();
            let answers = read_all(&mut stream).await;
            assert_eq!(statuses(&answers), [status], "{request:?} in two\n{answers}");
        }
        assert_eq!(
            rig.upstream.requests(),
            AMBIGUOUS.len(),
            "only the good requests reached the request path"
        );
        rig.end().await;
    }
}

#[tokio::test]
async fn r07_a_body_that_is_framed_wrongly_ends_the_connection() {
    let rig = Rig::start();
    let rows = [
        "5\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc",
        "0\r\nx : 1\r\n\r\n",
        "0\r\n x: 1\r\n\r\n",
        "0\r\nx: 1\n\r\n",
    ];
    for (index, body) in rows.into_iter().enumerate() {
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answers = send(&rig, format!("{head}{body}{CANARY}{CANARY}{CANARY}{CANARY}").as_bytes()).await;
        assert!(statuses(&answers).iter().all(|status| *status == 400), "{body:?}\n{answers}");
        rig.upstream.until(|upstream| upstream.ends.lock().unwrap().len() > index).await;
    }
    assert_eq!(rig.upstream.requests(), rows.len(), "no canary ran");
    let ends = rig.upstream.ends.lock().unwrap().clone();
    assert!(ends.iter().all(|end| *end == Some(BodyError::Malformed)), "{ends:?}");
    rig.end().await;
}

#[tokio::test]
async fn r07_a_body_nobody_read_is_not_taken_for_requests() {
    let rig = Rig::start();
    let body = CANARY.repeat(3);
    let head = format!("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let answers =
        send(&rig, format!("{head}{body}GET / HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).await;
    assert!(matches!(statuses(&answers)[..], [200] | [200, 200]), "drained or closed: {answers}");
    let early = rig.upstream.requests();
    assert_eq!(early, statuses(&answers).len());
    rig.end().await;
}

#[tokio::test]
async fn r23_limits_of_a_head_have_their_own_statuses() {
    let rig = Rig::start();
    let rows = [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8 * 1024)), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(100)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(32 * 1024)), 431),
        (format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(40 * 1024)), 431),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(), 405),
    ];
    for (request, status) in rows {
        let answers = send(&rig, request.as_bytes()).await;
        assert_eq!(statuses(&answers), [status], "{}…\n{answers}", &request[..30]);
    }
    assert_eq!(rig.upstream.requests(), 0);
    let edge = format!(
        "GET /{} HTTP/1.1\r\n{}Connection: close\r\n\r\n",
        "a".repeat(8 * 1024 - 1),
        "a: b\r\n".repeat(99)
    );
    assert_eq!(statuses(&send(&rig, edge.as_bytes()).await), [200], "exactly at the limits");
    rig.end().await;
}

#[tokio::test]
async fn r23_a_head_that_does_not_end_is_timed_out() {
    let rig = Rig::with(&short());
    let slow = send(&rig, b"GET / HTTP/1.1\r\nHost: a\r\n").await;
    assert_eq!(statuses(&slow), [408], "{slow}");
    assert_eq!(send(&rig, b"").await, "", "a silent connection is closed without a word");
    let second = send(&rig, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /").await;
    assert_eq!(statuses(&second), [200, 408], "{second}");
    assert_eq!(rig.upstream.requests(), 1);
    rig.end().await;
}

#[tokio::test]
async fn r23_a_body_that_stands_still_is_given_up() {
    let rig = Rig::with(&short());
    let answers = send(&rig, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert_eq!(statuses(&answers), [400], "{answers}");
    assert_eq!(*rig.upstream.ends.lock().unwrap(), [Some(BodyError::Stalled)]);
    rig.end().await;
}

#[tokio::test]
async fn r23_a_client_that_stops_reading_loses_its_connection() {
    let rig = Rig::with(&short());
    let mut stream = connect(&rig).await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let rig = Rig::start();
    let mut stream = connect(&rig).await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    rig.upstream.until(|upstream| upstream.requests() == 1).await;
    drop(stream);
    rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn a_response_that_breaks_off_does_not_look_complete() {
    let rig = Rig::start();
    let answers = send(&rig, b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!answers.contains("content-length") && !answers.contains("0\r\n\r\n"), "{answers}");
    rig.end().await;
}

#[tokio::test]
async fn r24_a_panicking_request_ends_its_connection_only() {
    let rig = Rig::start();
    let mut other = connect(&rig).await;
    assert_eq!(statuses(&send(&rig, b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await), [0_u16; 0]);
    other.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(statuses(&read_all(&mut other).await), [200]);
    rig.end().await;
}

#[tokio::test]
async fn drain_finishes_the_request_under_way_and_answers_one_that_crosses_it() {
    let rig = Rig::start();
    let mut stream = connect(&rig).await;
    let (mut idle, mut silent) = (connect(&rig).await, connect(&rig).await);
    stream.write_all(format!("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n{CANARY}").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    rig.upstream.until(|upstream| upstream.requests() == 1).await;
    rig.drain.begin();
    // Sent before the client can know.
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let answer = read_all(&mut idle).await;
    assert_eq!(statuses(&answer), [200]);
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    rig.upstream.release.notify_one();
    let answers = read_all(&mut stream).await;
    assert!(answers.to_lowercase().contains("connection: close") && answers.ends_with("waited"), "{answers}");
    assert_eq!(rig.upstream.requests(), 2, "nothing behind a last request runs");
    assert_eq!(read_all(&mut silent).await, "", "a connection that stays silent is closed in the end");
    timeout(SOON, rig.drain.finished()).await.expect("the drain did not finish");
    assert!(TcpStream::connect(rig.address).await.is_err(), "nothing listens any more");
}
