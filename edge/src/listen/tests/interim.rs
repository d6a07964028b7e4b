//! Interim heads and expectations on real connections, on each protocol; and that nothing waits for company.

use bytes::Buf as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::*;

/// Longest any of the single words of a stream may take through the edge, on a machine that does much else. A word that
/// waits for company waits for ever, and Nagle's algorithm with a delayed acknowledgement for 40 ms each time.
const WORD_WITHIN: Duration = Duration::from_millis(30);

#[tokio::test]
async fn on_h1_hints_come_at_once_in_order_and_between_the_right_responses() {
    let rig = Rig::start();
    let mut stream = h1::connect(&rig).await;
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let hints = "GET /hints HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{hints}{last}").as_bytes()).await.unwrap();
    let mut text = String::new();
    let first = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    let read = async {
        while !text.ends_with(first) {
            text.push(char::from(stream.read_u8().await.unwrap()));
        }
    };
    timeout(SOON, read).await.expect("the first hint waits for nothing");
    assert_eq!(h1::statuses(&text), [200, 103], "{text}");
    rig.upstream.release.notify_one();
    let rest = h1::read_all(&mut stream).await;
    assert!(rest.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\nHTTP/1.1 200"), "{rest}");
    assert_eq!(h1::statuses(&rest), [103, 200, 200], "{rest}");
    // HTTP/1.0 knows no interim heads.
    rig.upstream.release.notify_one();
    let old = h1::send(&rig, b"GET /hints HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("hinted"), "{old}");
    rig.end().await;
}

#[tokio::test]
async fn on_h2_hints_come_before_the_response() {
    let rig = Rig::start();
    let (mut client, _driver) = h2::connect(&rig).await;
    let (mut response, _) = client.send_request(rig.get("/hints"), true).unwrap();
    let hint = async |response: &mut ::h2::client::ResponseFuture| {
        let hint = timeout(SOON, std::future::poll_fn(|cx| response.poll_informational(cx))).await.unwrap();
        hint.unwrap().unwrap()
    };
    let first = hint(&mut response).await;
    assert_eq!((first.status().as_u16(), &first.headers()["link"]), (103, &"</a.css>".parse().unwrap()));
    rig.upstream.release.notify_one();
    assert_eq!(hint(&mut response).await.headers()["link"], "</b.css>");
    let response = timeout(SOON, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(h2::read(response.into_body()).await.unwrap().0, "hinted");
    rig.end().await;
}

#[tokio::test]
async fn on_h3_hints_come_before_the_response() {
    let rig = Rig::start();
    let (mut client, _driver, _connection) = h3::connect(&rig).await;
    let mut exchange = client.send_request(rig.get("/hints")).await.unwrap();
    exchange.finish().await.unwrap();
    // The client of the h3 crate gives each head as it comes.
    let first = timeout(SOON, exchange.recv_response()).await.unwrap().unwrap();
    assert_eq!((first.status().as_u16(), &first.headers()["link"]), (103, &"</a.css>".parse().unwrap()));
    rig.upstream.release.notify_one();
    let second = timeout(SOON, exchange.recv_response()).await.unwrap().unwrap();
    assert_eq!((second.status().as_u16(), &second.headers()["link"]), (103, &"</b.css>".parse().unwrap()));
    assert_eq!(timeout(SOON, exchange.recv_response()).await.unwrap().unwrap().status(), 200);
    assert_eq!(h3::read(&mut exchange).await.unwrap().0, "hinted");
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_go_on_when_the_request_path_says_so_and_not_before() {
    let rig = Rig::start();
    let early = Duration::from_millis(200);

    let mut stream = h1::connect(&rig).await;
    let head = "POST /expect HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(timeout(early, stream.read_u8()).await.is_err(), "h1: nobody has said so");
    rig.upstream.release.notify_one();
    let mut told = [0; 25];
    timeout(SOON, stream.read_exact(&mut told)).await.unwrap().unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let answer = h1::read_all(&mut stream).await;
    assert_eq!(h1::statuses(&answer), [200], "told once");
    assert!(answer.ends_with("\r\n\r\nbody"), "{answer}");

    let mut ask = rig.post("/expect");
    ask.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    let (mut client, _driver) = h2::connect(&rig).await;
    let (mut response, mut send) = client.send_request(ask.clone(), false).unwrap();
    let mut told = async || std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    assert!(timeout(early, told()).await.is_err(), "h2: nobody has said so");
    rig.upstream.release.notify_one();
    assert_eq!(timeout(SOON, told()).await.unwrap().unwrap().unwrap().status(), 100);
    send.send_data("body".into(), true).unwrap();
    assert_eq!(h2::read(response.await.unwrap().into_body()).await.unwrap().0, "body");

    let (mut client, _driver, _connection) = h3::connect(&rig).await;
    let mut exchange = client.send_request(ask).await.unwrap();
    rig.upstream.until(|upstream| upstream.requests() == 3).await;
    rig.upstream.release.notify_one();
    assert_eq!(timeout(SOON, exchange.recv_response()).await.unwrap().unwrap().status(), 100);
    exchange.send_data("body".into()).await.unwrap();
    exchange.finish().await.unwrap();
    assert_eq!(timeout(SOON, exchange.recv_response()).await.unwrap().unwrap().status(), 200);
    assert_eq!(h3::read(&mut exchange).await.unwrap().0, "body");
    rig.end().await;
}

#[tokio::test]
async fn a_final_answer_instead_of_100_leaves_the_body_with_the_client() {
    let rig = Rig::start();
    let mut stream = h1::connect(&rig).await;
    let head = "POST /decline HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = h1::read_all(&mut stream).await;
    assert_eq!(h1::statuses(&answer), [417], "{answer}");
    assert!(answer.ends_with("declined"), "{answer}");
    rig.end().await;
}

#[tokio::test]
async fn trailers_without_a_body_arrive_on_every_protocol() {
    let rig = Rig::start();
    let answer =
        h1::send(&rig, b"GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n")
            .await;
    assert!(answer.ends_with("\r\n\r\n0\r\ngrpc-status: 12\r\n\r\n"), "{answer}");

    let (mut client, _driver) = h2::connect(&rig).await;
    let (response, _) = client.send_request(rig.get("/trailers"), true).unwrap();
    let (data, trailers) = h2::read(response.await.unwrap().into_body()).await.unwrap();
    assert_eq!((data.len(), trailers.unwrap()), (0, field("grpc-status", "12")));

    let (mut client, _driver, _connection) = h3::connect(&rig).await;
    let mut exchange = client.send_request(rig.get("/trailers")).await.unwrap();
    exchange.finish().await.unwrap();
    exchange.recv_response().await.unwrap();
    let (data, trailers) = h3::read(&mut exchange).await.unwrap();
    assert_eq!((data.len(), trailers.unwrap()), (0, field("grpc-status", "12")));
    rig.end().await;
}

/// The median of how long each of some words takes through the edge.
async fn median(rig: &Rig, mut word: impl AsyncFnMut() -> usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        rig.upstream.release.notify_one();
        let mut len = 0;
        while len < 4 {
            len += timeout(SOON, word()).await.expect("a word waits for company");
        }
        times.push(began.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
async fn what_comes_alone_leaves_alone_and_at_once() {
    let rig = Rig::start();
    let mut stream = h1::connect(&rig).await;
    stream.write_all(b"GET /words HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    let on_h1 = median(&rig, async || {
        // A chunk of its own: size, word, end.
        let mut chunk = [0; 9];
        stream.read_exact(&mut chunk).await.unwrap();
        assert_eq!(&chunk, b"4\r\nword\r\n");
        4
    })
    .await;
    assert!(on_h1 < WORD_WITHIN, "h1: {on_h1:?}");
    drop(stream);

    let (mut client, _driver) = h2::connect(&rig).await;
    let (response, _) = client.send_request(rig.get("/words"), true).unwrap();
    let mut body = timeout(SOON, response).await.unwrap().unwrap().into_body();
    let on_h2 = median(&rig, async || {
        let data = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        data.len()
    })
    .await;
    assert!(on_h2 < WORD_WITHIN, "h2: {on_h2:?}");
    drop(body);

    let (mut client, _driver, _connection) = h3::connect(&rig).await;
    let mut exchange = client.send_request(rig.get("/words")).await.unwrap();
    exchange.finish().await.unwrap();
    timeout(SOON, exchange.recv_response()).await.unwrap().unwrap();
    let on_h3 = median(&rig, async || exchange.recv_data().await.unwrap().unwrap().remaining()).await;
    assert!(on_h3 < WORD_WITHIN, "h3: {on_h3:?}");
    rig.end().await;
}
