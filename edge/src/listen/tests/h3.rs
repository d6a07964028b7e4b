//! HTTP/3: with a client of the `h3` crate over h3-quinn, and with raw streams where a client would not say it.

use std::sync::Arc;

use ::h3::client::{RequestStream, SendRequest};
use ::h3::error::StreamError;
use ::http::{Request, StatusCode};
use bytes::Buf as _;
use h3_quinn::{BidiStream, OpenStreams};
use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::heads::is_told_too_large;
use super::raw::{FINE, MALFORMED, good};
use super::*;

pub(super) type Client = SendRequest<OpenStreams, Bytes>;
pub(super) type Exchange = RequestStream<BidiStream<Bytes>, Bytes>;

/// A QUIC client of its own endpoint.
pub(super) async fn connect_quic(
    rig: &Rig,
    tls: rustls::ClientConfig,
    name: &str,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = QuicClientConfig::try_from(tls).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    timeout(SOON, endpoint.connect(rig.address, name).unwrap()).await.expect("the handshake hung")
}

pub(super) async fn connect_raw(rig: &Rig) -> quinn::Connection {
    connect_quic(rig, client_tls(&rig.trust, &[ALPN_H3]), HOST).await.unwrap()
}

pub(super) async fn connect(rig: &Rig) -> (Client, JoinHandle<()>, quinn::Connection) {
    let connection = connect_raw(rig).await;
    let (mut driver, client) =
        ::h3::client::new(h3_quinn::Connection::new(connection.clone())).await.unwrap();
    let driver = tokio::spawn(async move {
        std::future::poll_fn(|cx| driver.poll_close(cx)).await;
    });
    (client, driver, connection)
}

pub(super) async fn read(exchange: &mut Exchange) -> Result<(Bytes, Option<HeaderMap>), StreamError> {
    let mut data = BytesMut::new();
    while let Some(mut chunk) = exchange.recv_data().await? {
        data.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    Ok((data.freeze(), exchange.recv_trailers().await?))
}

pub(super) async fn fetch(client: &mut Client, request: Request<()>) -> (StatusCode, HeaderMap, Bytes) {
    let mut exchange = client.send_request(request).await.unwrap();
    exchange.finish().await.unwrap();
    let (head, ()) = timeout(SOON, exchange.recv_response()).await.unwrap().unwrap().into_parts();
    let (data, _) = read(&mut exchange).await.unwrap();
    (head.status, head.headers, data)
}

#[tokio::test]
async fn requests_bodies_and_trailers_go_both_ways() {
    let rig = Rig::start();
    let (mut client, _driver, _connection) = connect(&rig).await;
    let (status, headers, text) = fetch(&mut client, rig.get("/seen?q=1")).await;
    assert_eq!(status, 200);
    assert_eq!(text, format!("GET https://{HOST}/seen?q=1 h3 Some(\"{HOST}\")\n"));
    assert!(headers.contains_key("date") && !headers.contains_key("alt-svc"), "{headers:?}");
    assert_eq!(headers["content-length"], text.len().to_string().as_str());

    let mut exchange = client.send_request(rig.post("/echo")).await.unwrap();
    exchange.send_data("chu".into()).await.unwrap();
    exchange.send_data(Bytes::new()).await.unwrap();
    exchange.send_data("nked".into()).await.unwrap();
    exchange.send_trailers(field("x-sum", "9")).await.unwrap();
    exchange.finish().await.unwrap();
    exchange.recv_response().await.unwrap();
    let (data, trailers) = read(&mut exchange).await.unwrap();
    assert_eq!((&data[..], trailers.unwrap()), (&b"chunked"[..], field("x-sum", "9")));

    let (status, headers, data) = fetch(&mut client, rig.get("/empty")).await;
    assert_eq!((status.as_u16(), data.len(), headers.get("content-length")), (204, 0, None));
    let head = Request::head(format!("https://{HOST}/")).body(()).unwrap();
    let (status, _, data) = fetch(&mut client, head).await;
    assert_eq!((status.as_u16(), data.len()), (200, 0));
    rig.end().await;
}

#[tokio::test]
async fn a_large_body_streams_both_ways() {
    let rig = Rig::start();
    let (mut client, _driver, _connection) = connect(&rig).await;
    let mut exchange = client.send_request(rig.post("/echo")).await.unwrap();
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    for _ in 0..48 {
        exchange.send_data(chunk.clone()).await.unwrap();
    }
    exchange.finish().await.unwrap();
    exchange.recv_response().await.unwrap();
    let (data, _) = read(&mut exchange).await.unwrap();
    assert_eq!(data.len(), 48 * chunk.len());
    rig.end().await;
}

#[tokio::test]
async fn a_request_the_client_gives_up_is_dropped_at_once() {
    let rig = Rig::start();
    let (mut client, _driver, _connection) = connect(&rig).await;
    for (dropped, path) in [(1, "/wait"), (2, "/endless")] {
        let mut exchange = client.send_request(rig.get(path)).await.unwrap();
        exchange.finish().await.unwrap();
        rig.upstream.until(|upstream| upstream.requests() == dropped).await;
        exchange.stop_sending(::h3::error::Code::H3_REQUEST_CANCELLED);
        rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == dropped).await;
    }
    assert_eq!(fetch(&mut client, rig.get("/")).await.0, 200, "the connection goes on");
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_requests() {
    let rig = Rig::start();
    let (mut client, _driver, connection) = connect(&rig).await;
    let mut exchange = client.send_request(rig.get("/wait")).await.unwrap();
    exchange.finish().await.unwrap();
    rig.upstream.until(|upstream| upstream.requests() == 1).await;
    connection.close(VarInt::from_u32(0x100), b"");
    rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn an_answer_to_half_a_request_lets_the_client_stop() {
    let rig = Rig::start();
    let (mut client, _driver, _connection) = connect(&rig).await;
    let mut exchange = client.send_request(rig.post("/early")).await.unwrap();
    exchange.send_data("half".into()).await.unwrap();
    assert_eq!(exchange.recv_response().await.unwrap().status(), 200);
    assert_eq!(read(&mut exchange).await.unwrap().0, "early");
    assert_eq!(fetch(&mut client, rig.get("/")).await.0, 200, "the connection goes on");
    rig.end().await;
}

#[tokio::test]
async fn r23_a_stream_that_stands_still_is_reset_and_its_neighbours_go_on() {
    let rig = Rig::with(&short());
    let (mut client, _driver, _connection) = connect(&rig).await;
    let mut stuck = client.send_request(rig.get("/endless")).await.unwrap();
    stuck.finish().await.unwrap();
    stuck.recv_response().await.unwrap();
    let mut silent = client.send_request(rig.post("/echo")).await.unwrap();
    assert_eq!(timeout(SOON, silent.recv_response()).await.unwrap().unwrap().status(), 400);
    assert_eq!(*rig.upstream.ends.lock().unwrap(), [Some(BodyError::Stalled)]);
    rig.upstream.until(|upstream| upstream.dropped.load(Ordering::SeqCst) == 1).await;
    assert!(read(&mut stuck).await.is_err(), "the stuck response does not look complete");
    assert_eq!(fetch(&mut client, rig.get("/")).await.0, 200);
    rig.end().await;
}

#[tokio::test]
async fn r23_limits_of_a_head_are_those_of_h1() {
    let rig = Rig::start();
    let (mut client, _driver, _connection) = connect(&rig).await;
    let target = |len: usize| format!("/{}", "a".repeat(len - 1));
    assert_eq!(fetch(&mut client, rig.get(&target(8 * 1024))).await.0, 200);
    assert_eq!(fetch(&mut client, rig.get(&target(8 * 1024 + 1))).await.0, 414);
    assert_eq!(fetch(&mut client, rig.with_fields(100)).await.0, 200);
    assert_eq!(fetch(&mut client, rig.with_fields(101)).await.0, 431);
    for len in [33 * 1024, 100 * 1024] {
        is_told_too_large(&fetch(&mut client, rig.with_field_of(len)).await, len);
    }
    assert_eq!(rig.upstream.requests(), 2);
    rig.end().await;
}

#[tokio::test]
async fn r23_trailers_have_the_limits_of_a_head() {
    let rig = Rig::start();
    let mut large = HeaderMap::new();
    large.insert("x", HeaderValue::try_from("y".repeat(33 * 1024)).unwrap());
    let (mut client, _driver, _connection) = connect(&rig).await;
    let mut exchange = client.send_request(rig.post("/echo")).await.unwrap();
    exchange.send_data("body".into()).await.unwrap();
    exchange.send_trailers(large).await.unwrap();
    exchange.finish().await.unwrap();
    drop(timeout(SOON, exchange.recv_response()).await.unwrap());
    rig.upstream.until(|upstream| !upstream.ends.lock().unwrap().is_empty()).await;
    assert_eq!(*rig.upstream.ends.lock().unwrap(), [Some(BodyError::Malformed)]);
    rig.end().await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_reset() {
    let rig = Rig::start();
    let (mut client, _driver, _connection) = connect(&rig).await;
    let mut exchange = client.send_request(rig.get("/broken")).await.unwrap();
    exchange.finish().await.unwrap();
    let outcome = async {
        exchange.recv_response().await?;
        read(&mut exchange).await
    };
    assert!(timeout(SOON, outcome).await.unwrap().is_err());
    rig.end().await;
}

#[tokio::test]
async fn r24_a_panicking_request_ends_its_stream_only() {
    let rig = Rig::start();
    let (mut client, _driver, _connection) = connect(&rig).await;
    let mut exchange = client.send_request(rig.get("/panic")).await.unwrap();
    exchange.finish().await.unwrap();
    assert!(timeout(SOON, exchange.recv_response()).await.unwrap().is_err());
    assert_eq!(fetch(&mut client, rig.get("/")).await.0, 200);
    rig.end().await;
}

#[tokio::test]
async fn drain_finishes_open_requests_and_says_goodbye() {
    let rig = Rig::start();
    let (mut client, driver, connection) = connect(&rig).await;
    let mut exchange = client.send_request(rig.get("/wait")).await.unwrap();
    exchange.finish().await.unwrap();
    rig.upstream.until(|upstream| upstream.requests() == 1).await;
    rig.drain.begin();
    rig.upstream.release.notify_one();
    timeout(SOON, exchange.recv_response()).await.unwrap().unwrap();
    assert_eq!(read(&mut exchange).await.unwrap().0, "waited");
    drop(exchange);
    timeout(SOON, rig.drain.finished()).await.expect("the drain did not finish");
    let closed = timeout(SOON, connection.closed()).await.unwrap();
    assert!(
        matches!(&closed, quinn::ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == 0x100),
        "{closed}"
    );
    timeout(SOON, driver).await.unwrap().unwrap();
}

/// Fields as QPACK literals without references or Huffman coding, so that any octet can be said (RFC 9204 §4.5.6).
pub(super) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0, 0];
    for (name, value) in fields {
        // A three-bit prefix for the name's length, seven bits for the value's.
        match name.len() {
            len @ 0..7 => block.push(0x20 | u8::try_from(len).unwrap()),
            len => block.extend_from_slice(&[0x27, u8::try_from(len - 7).unwrap()]),
        }
        block.extend_from_slice(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&(u32::try_from(payload.len()).unwrap() | 0x8000_0000).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Sends octets as one request stream and says what came of it.
async fn outcome(rig: &Rig, octets: &[u8], is_end: bool) -> String {
    let connection = connect_raw(rig).await;
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[&[0][..], &frame(4, &[])].concat()).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(octets).await.unwrap();
    if is_end {
        send.finish().unwrap();
    }
    let read = timeout(SOON, recv.read_to_end(64 * 1024)).await.expect("no outcome");
    match read {
        Ok(bytes) if bytes.first() == Some(&1) => "answered".to_owned(),
        Ok(bytes) => format!("{bytes:?}"),
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => {
            format!("reset {:#x}", code.into_inner())
        }
        Err(quinn::ReadToEndError::Read(quinn::ReadError::ConnectionLost(
            quinn::ConnectionError::ApplicationClosed(close),
        ))) => format!("closed {:#x}", close.error_code.into_inner()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn r08_a_malformed_request_never_reaches_the_request_path() {
    let rig = Rig::start();
    let good = good(HOST);
    let with = |extra: (&str, &str)| {
        [frame(1, &section(&[&good[..], &[extra]].concat())), frame(0, b"body")].concat()
    };
    for fine in FINE {
        assert_eq!(outcome(&rig, &with(fine), true).await, "answered", "{fine:?}");
    }
    let reached = rig.upstream.requests();
    for (what, field) in MALFORMED {
        assert_eq!(outcome(&rig, &with(field), true).await, "reset 0x10e", "{what}");
    }
    let promised = frame(1, &section(&[&good[..], &[("content-length", "5")]].concat()));
    assert_eq!(outcome(&rig, &promised, true).await, "reset 0x10e", "a body that was promised and not sent");
    assert_eq!(rig.upstream.requests(), reached);
    let echo: &[(&str, &str)] = &[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", HOST),
        (":path", "/echo"),
        ("content-length", "5"),
    ];
    let short = [frame(1, &section(echo)), frame(0, b"body")].concat();
    assert_eq!(outcome(&rig, &short, true).await, "answered");
    assert_eq!(*rig.upstream.ends.lock().unwrap(), [Some(BodyError::Malformed)], "and never looked whole");
    rig.end().await;
}

#[tokio::test]
async fn r23_frames_cannot_make_the_edge_hold_more_than_a_head() {
    let rig = Rig::start();
    let huge = section(&[(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/")]);
    let mut announced = vec![1];
    announced.extend_from_slice(&(1_u32 << 20 | 0x8000_0000).to_be_bytes());
    assert_eq!(
        outcome(&rig, &announced, false).await,
        "closed 0x107",
        "a section of a mebioctet is not waited for"
    );
    let large = [&huge[..], &section(&[("x", "y".repeat(100).as_str()); 300])[2..]].concat();
    assert!(large.len() < 128 * 1024);
    assert_eq!(outcome(&rig, &frame(1, &large), true).await, "answered", "431");
    let grease = [frame(0x21, &vec![0; 60_000]), frame(1, &huge)].concat();
    assert_eq!(outcome(&rig, &grease, true).await, "answered");
    assert_eq!(rig.upstream.requests(), 1);
    rig.end().await;
}

#[tokio::test]
async fn r23_a_head_that_does_not_end_is_timed_out() {
    let rig = Rig::with(&short());
    let half = &frame(1, &section(&[(":method", "GET")]))[..8];
    let outcome = outcome(&rig, half, false).await;
    assert!(outcome.starts_with("reset") || outcome == "[]", "{outcome}");
    assert_eq!(rig.upstream.requests(), 0);
    rig.end().await;
}
