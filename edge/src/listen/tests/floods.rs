//! Clients that make the edge work for nothing: what each protocol lets them say most cheaply, until it is too much.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::h2::{END_HEADERS, END_STREAM, PREFACE};
use super::raw::good;
use super::*;
use crate::http::DEBT_MAX;

/// More frames than any connection may owe.
const MANY: usize = DEBT_MAX as usize + 2_000;

/// Sends frames on an HTTP/2 connection while it reads what comes back; the code of the GOAWAY, if there was one.
async fn flood_h2(rig: &Rig, frames: &[u8]) -> Option<u8> {
    let (mut read, mut write) = tokio::io::split(h2::connect_tls(rig).await);
    let all = [PREFACE, &h2::frame(4, 0, 0, &[]), frames].concat();
    let send = async {
        // Fails when the edge has had enough.
        drop(write.write_all(&all).await);
        drop(write.flush().await);
        std::future::pending::<()>().await;
    };
    let hear = async {
        loop {
            let mut head = [0; 9];
            read.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            read.read_exact(&mut payload).await.ok()?;
            if head[3] == 7 {
                return Some(payload[7]);
            }
        }
    };
    tokio::select! {
        () = send => unreachable!(),
        heard = timeout(SOON, hear) => heard.expect("it was let go on"),
    }
}

#[tokio::test]
async fn r23_frames_that_carry_nothing_end_an_h2_connection_and_no_other() {
    let rig = Rig::start();
    let (mut honest, _driver) = h2::connect(&rig).await;
    let floods = [
        ("ping", h2::frame(6, 0, 0, &[7; 8])),
        ("settings", h2::frame(4, 0, 0, &[])),
        ("priority", h2::frame(2, 0, 1, &[0, 0, 0, 3, 1])),
        ("unknown", h2::frame(0xbe, 0, 0, b"grease")),
        ("window updates", h2::frame(8, 0, 0, &1_u32.to_be_bytes())),
    ];
    for (what, frame) in floods {
        // GOAWAY says ENHANCE_YOUR_CALM, unless the connection's end overtakes it.
        let code = flood_h2(&rig, &frame.repeat(MANY)).await;
        assert!(matches!(code, Some(11) | None), "{what}: {code:?}");
        assert_eq!(h2::fetch(&mut honest, rig.get("/")).await.0, 200, "{what}");
    }
    rig.end().await;
}

#[tokio::test]
async fn r23_requests_that_reach_the_path_and_are_given_up_at_once_end_an_h2_connection() {
    let rig = Rig::start();
    let (mut client, driver) = h2::connect(&rig).await;
    let mut count = 0;
    let give_up = async {
        while let Ok(ready) = client.clone().ready().await {
            client = ready;
            let Ok((response, mut send)) = client.send_request(rig.get("/wait"), true) else { break };
            count += 1;
            // Only once it is being worked on: what is reset before that is counted by the h2 crate.
            let is_here = rig.upstream.until(|upstream| upstream.requests() >= count);
            if timeout(Duration::from_secs(2), is_here_or_closed(is_here, &driver)).await.is_err() {
                break;
            }
            send.send_reset(::h2::Reason::CANCEL);
            drop(response);
            if driver.is_finished() {
                break;
            }
        }
    };
    timeout(3 * SOON, give_up).await.expect("it was let go on");
    assert!((500..1500).contains(&count), "{count} requests were given up");
    assert!(timeout(SOON, driver).await.unwrap().unwrap().is_err());
    rig.end().await;
}

async fn is_here_or_closed(is_here: impl Future<Output = ()>, driver: &h2::Driver) {
    let closed = async {
        while !driver.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = is_here => {}
        () = closed => {}
    }
}

/// Sends octets as one request stream of an HTTP/3 connection; the code it was closed with.
async fn flood_h3(rig: &Rig, on_control: &[u8], on_request: &[u8]) -> u64 {
    let connection = h3::connect_raw(rig).await;
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[&[0][..], &h3::frame(4, &[])].concat()).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    // Fails when the edge has had enough.
    drop(send.write_all(on_request).await);
    drop(control.write_all(on_control).await);
    match timeout(SOON, connection.closed()).await.expect("it was let go on") {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn r23_frames_that_carry_nothing_end_an_h3_connection_and_no_other() {
    let rig = Rig::start();
    let (mut honest, _driver, _connection) = h3::connect(&rig).await;
    let mut echo = good(HOST);
    echo[3].1 = "/echo";
    let head = h3::frame(1, &h3::section(&echo));
    let floods = [
        ("empty data", Vec::new(), [head.clone(), h3::frame(0, b"").repeat(MANY)].concat()),
        ("unknown", Vec::new(), [head.clone(), h3::frame(0x21, b"").repeat(MANY)].concat()),
        ("unknown on control", h3::frame(0x21, b"").repeat(MANY), head.clone()),
        ("push ids", h3::frame(0xd, &[1]).repeat(MANY), head.clone()),
    ];
    for (what, control, request) in floods {
        assert_eq!(flood_h3(&rig, &control, &request).await, 0x107, "{what}: H3_EXCESSIVE_LOAD");
        assert_eq!(h3::fetch(&mut honest, rig.get("/")).await.0, 200, "{what}");
    }
    rig.end().await;
}

#[tokio::test]
async fn r23_requests_given_up_at_once_end_an_h3_connection() {
    let rig = Rig::start();
    let connection = h3::connect_raw(&rig).await;
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[&[0][..], &h3::frame(4, &[])].concat()).await.unwrap();
    let head = h3::frame(1, &h3::section(&good(HOST)));
    let mut count = 0;
    let give_up = async {
        while let Ok((mut send, mut recv)) = connection.open_bi().await {
            count += 1;
            drop(send.write_all(&head).await);
            drop(send.reset(0x10c_u32.into()));
            drop(recv.stop(0x10c_u32.into()));
        }
    };
    timeout(3 * SOON, give_up).await.expect("it was let go on");
    let closed = connection.closed().await;
    assert!(
        matches!(&closed, quinn::ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == 0x107),
        "{closed}"
    );
    assert!(count < 3000, "{count} requests were given up");
    rig.end().await;
}

#[tokio::test]
async fn an_answer_to_half_a_request_lets_the_client_stop_without_an_error() {
    let rig = Rig::start();
    // HTTP/2: the whole response, and then RST_STREAM with NO_ERROR (RFC 9113 §8.1).
    let (mut client, _driver) = h2::connect(&rig).await;
    let (response, mut send) = client.send_request(rig.post("/early"), false).unwrap();
    send.send_data("half".into(), false).unwrap();
    let (data, _) = h2::read(timeout(SOON, response).await.unwrap().unwrap().into_body()).await.unwrap();
    assert_eq!(data, "early");
    let reset = std::future::poll_fn(|cx| send.poll_reset(cx));
    assert_eq!(timeout(SOON, reset).await.unwrap().unwrap(), ::h2::Reason::NO_ERROR);
    assert_eq!(h2::fetch(&mut client, rig.get("/")).await.0, 200, "the connection goes on");

    // HTTP/1.1: the response, then a bounded amount is read, then the connection ends; the client meets no reset.
    let mut stream = h1::connect(&rig).await;
    stream.write_all(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await.unwrap();
    let answer = h1::read_all(&mut stream).await;
    assert!(answer.ends_with("early"), "{answer}");
    assert_eq!(h1::statuses(&answer), [200]);
    rig.end().await;
}

#[tokio::test]
async fn a_pattern_of_small_frames_with_something_in_them_is_no_flood() {
    let rig = Rig::start();
    let head =
        h2::fields(&[(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/echo")]);
    // A client that pings and updates its window with each small piece.
    let piece =
        [h2::frame(0, 0, 1, &[b'x'; 40]), h2::frame(6, 0, 0, &[7; 8]), h2::frame(8, 0, 1, &[0, 0, 0, 1])];
    let pieces = piece.concat().repeat(700);
    let frames = [h2::frame(1, END_HEADERS, 1, &head), pieces, h2::frame(0, END_STREAM, 1, b"end")].concat();
    assert_eq!(h2::outcome(&rig, &frames).await, "answered");
    rig.end().await;
}
