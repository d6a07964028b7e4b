//! HTTP/2: with a client of the `h2` crate, and frame by frame where a client would not say it.

use std::future::poll_fn;
use std::sync::Arc;

use ::h2::client::SendRequest;
use ::h2::{Reason, RecvStream};
use ::http::{Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::heads::is_told_too_large;
use super::raw::{FINE, MALFORMED, good};
use super::*;

pub(super) async fn connect_tls(rig: &Rig) -> TlsStream<TcpStream> {
    let tls = TlsConnector::from(Arc::new(client_tls(&rig.trust, &[ALPN_H2])));
    let stream = TcpStream::connect(rig.address).await.unwrap();
    tls.connect(ServerName::try_from(rig.host).unwrap(), stream).await.unwrap()
}

pub(super) type Driver = JoinHandle<Result<(), ::h2::Error>>;

pub(super) async fn connect(rig: &Rig) -> (SendRequest<Bytes>, Driver) {
    // More than a stream's window, so that one stuck stream leaves room for others.
    let mut builder = ::h2::client::Builder::new();
    builder.initial_connection_window_size(1024 * 1024);
    let (client, connection) = builder.handshake(connect_tls(rig).await).await.unwrap();
    (client.ready().await.unwrap(), tokio::spawn(connection))
}

pub(super) async fn read(mut body: RecvStream) -> Result<(Bytes, Option<HeaderMap>), ::h2::Error> {
    let mut data = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len()).unwrap();
        data.extend_from_slice(&chunk);
    }
    Ok((data.freeze(), body.trailers().await?))
}

pub(super) async fn fetch(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
) -> (StatusCode, HeaderMap, Bytes) {
    let (response, _) = client.send_request(request, true).unwrap();
    let (head, body) = timeout(SOON, response).await.unwrap().unwrap().into_parts();
    let (data, _) = read(body).await.unwrap();
    (head.status, head.headers, data)
}

#[tokio::test]
async fn requests_bodies_and_trailers_go_both_ways() {
    let rig = Rig::start();
    let (mut client, _driver) = connect(&rig).await;
    let (status, headers, text) = fetch(&mut client, rig.get("/seen?q=1")).await;
    assert_eq!(status, 200);
    assert_eq!(text, format!("GET https://{HOST}/seen?q=1 h2 Some(\"{HOST}\")\n"));
    assert_eq!(headers["alt-svc"], "h3=\":8443\"; ma=86400");
    assert!(headers.contains_key("date"));
    assert_eq!(headers["content-length"], text.len().to_string().as_str());

    let (response, mut send) = client.send_request(rig.post("/echo"), false).unwrap();
    send.send_data("chu".into(), false).unwrap();
    send.send_data("nked".into(), false).unwrap();
    send.send_trailers(field("x-sum", "9")).unwrap();
    let (data, trailers) = read(response.await.unwrap().into_body()).await.unwrap();
    assert_eq!((&data[..], trailers.unwrap()), (&b"chunked"[..], field("x-sum", "9")));

    let (status, headers, data) = fetch(&mut client, rig.get("/empty")).await;
    assert_eq!((status.as_u16(), data.len(), headers.get("content-length")), (204, 0, None));
    let head = Request::head(format!("https://{HOST}/")).body(()).unwrap();
    let (status, _, data) = fetch(&mut client, head).await;
    assert_eq!((status.as_u16(), data.len()), (200, 0));
    rig.end().await;
}

#[tokio::test]
async fn a_large_body_streams_both_ways_through_small_windows() {
    let rig = Rig::start();
    let (mut client, _driver) = connect(&rig).await;
    let (response, mut send) = client.send_request(rig.post("/echo"), false).unwrap();
    let body = Bytes::from(vec![b'x'; 3 * 1024 * 1024]);
    let mut left = body.clone();
    while !left.is_empty() {
        send.reserve_capacity(left.len());
        let capacity = poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
        assert!(capacity <= 256 * 1024, "the edge lets no more wait on a stream");
        let part = left.split_to(capacity.min(left.len()));
        send.send_data(part, left.is_empty()).unwrap();
    }
    let (data, _) = read(response.await.unwrap().into_body()).await.unwrap();
    assert_eq!(data.len(), body.len());
    rig.end().await;
}

#[tokio::test]
async fn a_reset_request_is_dropped_at_once() {
    let rig = Rig::start();
    let (mut client, _driver) = connect(&rig).await;
    for (dropped, path) in [(1, "/wait"), (2, "/endless")] {
        let (response, mut send) = client.send_request(rig.get(path), true).unwrap();
        rig.upstream.until(|upstream| upstream.requests() == dropped).await;
        send.send_reset(Reason::CANCEL);
        drop(response);
        rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == dropped).await;
    }
    assert_eq!(fetch(&mut client, rig.get("/")).await.0, 200, "the connection goes on");
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_requests() {
    let rig = Rig::start();
    let (mut client, driver) = connect(&rig).await;
    let _response = client.send_request(rig.get("/wait"), true).unwrap();
    rig.upstream.until(|upstream| upstream.requests() == 1).await;
    driver.abort();
    rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn r23_a_stream_that_stands_still_is_reset_and_its_neighbours_go_on() {
    let rig = Rig::with(&short());
    let (mut client, _driver) = connect(&rig).await;
    // Its reader releases nothing, so the stream's window closes.
    let (response, _) = client.send_request(rig.get("/endless"), true).unwrap();
    let mut stuck = response.await.unwrap().into_body();
    // Its sender sends nothing.
    let (response, _send) = client.send_request(rig.post("/echo"), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 400);
    assert_eq!(*rig.upstream.ends.lock().unwrap(), [Some(BodyError::Stalled)]);
    let end = timeout(SOON, async {
        loop {
            match stuck.data().await {
                Some(Ok(_)) => {}
                other => return other,
            }
        }
    });
    let error = end.await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(fetch(&mut client, rig.get("/")).await.0, 200);
    rig.end().await;
}

#[tokio::test]
async fn r23_limits_of_a_head_are_those_of_h1() {
    let rig = Rig::start();
    let (mut client, _driver) = connect(&rig).await;
    let target = |len: usize| format!("/{}", "a".repeat(len - 1));
    assert_eq!(fetch(&mut client, rig.get(&target(8 * 1024))).await.0, 200);
    assert_eq!(fetch(&mut client, rig.get(&target(8 * 1024 + 1))).await.0, 414);
    assert_eq!(fetch(&mut client, rig.with_fields(100)).await.0, 200);
    assert_eq!(fetch(&mut client, rig.with_fields(101)).await.0, 431);
    for len in [33 * 1024, 100 * 1024] {
        is_told_too_large(&fetch(&mut client, rig.with_field_of(len)).await, len);
    }
    let connect = Request::connect("a.example:443").body(()).unwrap();
    assert_eq!(fetch(&mut client, connect).await.0, 405);
    assert_eq!(rig.upstream.requests(), 2);
    rig.end().await;
}

#[tokio::test]
async fn r23_trailers_have_the_limits_of_a_head() {
    let rig = Rig::start();
    let mut large = HeaderMap::new();
    large.insert("x", HeaderValue::try_from("y".repeat(33 * 1024)).unwrap());
    let (mut client, _driver) = connect(&rig).await;
    let (response, mut send) = client.send_request(rig.post("/echo"), false).unwrap();
    send.send_trailers(large).unwrap();
    drop(timeout(SOON, response).await.unwrap());
    assert_eq!(*rig.upstream.ends.lock().unwrap(), [Some(BodyError::Malformed)]);
    rig.end().await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_reset() {
    let rig = Rig::start();
    let (mut client, _driver) = connect(&rig).await;
    let (response, _) = client.send_request(rig.get("/broken"), true).unwrap();
    let error = match response.await {
        Ok(response) => read(response.into_body()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    rig.end().await;
}

#[tokio::test]
async fn r24_a_panicking_request_ends_its_stream_only() {
    let rig = Rig::start();
    let (mut client, _driver) = connect(&rig).await;
    let (response, _) = client.send_request(rig.get("/panic"), true).unwrap();
    assert!(timeout(SOON, response).await.unwrap().is_err());
    assert_eq!(fetch(&mut client, rig.get("/")).await.0, 200);
    rig.end().await;
}

#[tokio::test]
async fn drain_finishes_open_requests_and_says_goodbye() {
    let rig = Rig::start();
    let (mut client, driver) = connect(&rig).await;
    let (response, _) = client.send_request(rig.get("/wait"), true).unwrap();
    rig.upstream.until(|upstream| upstream.requests() == 1).await;
    rig.drain.begin();
    rig.upstream.release.notify_one();
    let (data, _) = read(timeout(SOON, response).await.unwrap().unwrap().into_body()).await.unwrap();
    assert_eq!(data, "waited");
    timeout(SOON, driver).await.unwrap().unwrap().unwrap();
    timeout(SOON, rig.drain.finished()).await.expect("the drain did not finish");
}

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Fields as HPACK literals, neither indexed nor Huffman-coded, so that any octet can be said (RFC 7541 §6.2.2).
pub(super) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Sends frames and reads until the edge resets stream 1, answers it, or goes away.
pub(super) async fn outcome(rig: &Rig, frames: &[u8]) -> String {
    let mut stream = connect_tls(rig).await;
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), frames].concat()).await.unwrap();
    let read = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return "closed".to_owned();
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            match (head[3], head[8]) {
                (1, 1) => return "answered".to_owned(),
                (3, 1) => return format!("reset {}", payload[3]),
                (7, _) => return format!("goaway {}", payload[7]),
                _ => {}
            }
        }
    };
    timeout(SOON, read).await.expect("no outcome")
}

#[tokio::test]
async fn r08_a_malformed_request_never_reaches_the_request_path() {
    for rig in [Rig::start(), Rig::fronted()] {
        let good = good(rig.host);
        let with = |extra: (&str, &str)| {
            let block = fields(&[&good[..], &[extra]].concat());
            [frame(1, END_HEADERS, 1, &block), frame(0, END_STREAM, 1, b"body")].concat()
        };
        for fine in FINE {
            assert_eq!(outcome(&rig, &with(fine)).await, "answered", "{fine:?}");
        }
        let reached = rig.upstream.requests();
        let rows = [
            ("a pseudo-field twice", (":path", "/other")),
            ("a pseudo-field of responses", (":status", "200")),
            ("a longer content-length", ("content-length", "5")),
        ];
        for (what, field) in MALFORMED.into_iter().chain(rows) {
            let outcome = outcome(&rig, &with(field)).await;
            assert!(outcome == "reset 1" || outcome == "goaway 1", "{what}: {outcome}");
        }
        let missing = fields(&good[..3]);
        assert_eq!(outcome(&rig, &frame(1, END_HEADERS | END_STREAM, 1, &missing)).await, "reset 1");
        assert!(rig.upstream.requests() <= reached + 2, "a wrong length shows only after the head");
        let ends = rig.upstream.ends.lock().unwrap().clone();
        assert!(ends.iter().all(Option::is_some), "no such body ever looked whole: {ends:?}");
        rig.end().await;
    }
}

#[tokio::test]
async fn r23_floods_end_the_connection() {
    let rig = Rig::start();
    let head = fields(&[(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/wait")]);
    let rapid: Vec<u8> = (0..2000_u32)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            [frame(1, END_HEADERS | END_STREAM, stream, &head), frame(3, 0, stream, &8_u32.to_be_bytes())]
                .concat()
        })
        .collect();
    let empty = [frame(1, END_HEADERS, 1, &head), frame(0, 0, 1, b"").repeat(20_000)].concat();
    let continuation =
        [frame(1, END_STREAM, 1, &head), frame(9, 0, 1, &fields(&[("x", "y")])).repeat(20_000)].concat();
    for (what, flood) in [("rapid reset", rapid), ("empty data", empty), ("continuation", continuation)] {
        let mut stream = connect_tls(&rig).await;
        let sent = async {
            stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &flood].concat()).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.map(|_| rest)
        };
        // A reset counts as the end as well.
        let rest =
            timeout(SOON, sent).await.unwrap_or_else(|_| panic!("{what} was let go on")).unwrap_or_default();
        drop(rest);
    }
    let (mut client, _driver) = connect(&rig).await;
    assert_eq!(fetch(&mut client, rig.get("/")).await.0, 200);
    rig.end().await;
}
