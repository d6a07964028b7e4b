//! An edge that misbehaves: each question it should not ask is refused, and the link and control go on.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use http::{Method, Request};
use mezusphere_edge_link::limits::{CONNECT_QUESTION_LEN_MAX, QUESTION_LEN_MAX, REPORT_LEN_MAX};
use mezusphere_model::document::Partition;
use mezusphere_model::id::ProjectId;

use crate::limits::raw_link;
use crate::world::{World, within};

struct Row {
    what: &'static str,
    method: Method,
    path: &'static str,
    kind: &'static str,
    encoding: &'static str,
    body: Vec<u8>,
    status: u16,
    word: &'static str,
}

impl Row {
    fn json(what: &'static str, path: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let (method, kind) = (Method::POST, "application/json");
        Self { what, method, path, kind, encoding: "", body: body.into(), status: 400, word: "malformed" }
    }
}

fn bomb() -> Vec<u8> {
    let mut bomb = ZlibEncoder::new(Vec::new(), Compression::best());
    let blank = vec![b' '; 1024 * 1024];
    for _ in 0..2 {
        std::io::Write::write_all(&mut bomb, &blank).unwrap();
    }
    bomb.finish().unwrap()
}

fn rows() -> Vec<Row> {
    let unknown = |row: Row| Row { status: 404, word: "unknown", ..row };
    let blank = |len: usize| vec![b' '; len];
    let deep = "[".repeat(10_000);
    vec![
        unknown(Row::json("a path of the future", "/v1/feed/everything", "{}")),
        unknown(Row::json("a path beside a known one", "/v1/feed/heads/", "{}")),
        unknown(Row { method: Method::GET, ..Row::json("another method", "/v1/feed/heads", "") }),
        Row { kind: "text/plain", ..Row::json("another type", "/v1/node/about", "{}") },
        Row { encoding: "gzip", ..Row::json("another encoding", "/v1/node/about", "{}") },
        Row { encoding: "deflate", ..Row::json("deflated, it says", "/v1/denials", "{}") },
        Row { encoding: "deflate", ..Row::json("a bomb", "/v1/denials", bomb()) },
        Row::json("no JSON", "/v1/node/about", "hello"),
        Row::json("nothing", "/v1/session/find", ""),
        Row::json("JSON that nests without end", "/v1/session/find", deep),
        Row::json("a token that is none", "/v1/session/find", r#"{"token":"x"}"#),
        Row::json("no credential", "/v1/assertion", r#"{"environment":"env_00000000000000000000000001"}"#),
        Row::json(
            "two credentials",
            "/v1/assertion",
            r#"{"session":"a","api_key":"b","environment":"env_00000000000000000000000001"}"#,
        ),
        Row::json("a partition that is none", "/v1/feed/snapshot", r#"{"partition":"all","max":1}"#),
        Row::json("the control partition", "/v1/feed/snapshot", r#"{"partition":"control","max":1}"#),
        Row::json("a long question", "/v1/session/sign-out", blank(QUESTION_LEN_MAX + 1)),
        Row::json("a long report", "/v1/session/activity", blank(REPORT_LEN_MAX + 1)),
        Row::json("a long message", "/v1/connect", blank(CONNECT_QUESTION_LEN_MAX + 1)),
        Row::json("a request to certify that is too long", "/v1/node/certify", {
            format!(r#"{{"csr_der":"{}"}}"#, "A".repeat(8_000))
        }),
    ]
}

#[tokio::test]
async fn r24_each_question_an_edge_should_not_ask_is_refused_and_the_link_goes_on() {
    let world = World::new();
    let node = world.control().await;
    node.fake.publish(Partition::Project(ProjectId::from_bits(1)), "a", Some("{}"));
    let (mut send, driver) = raw_link(&world, &node).await;
    for row in rows() {
        let request = Request::builder()
            .method(row.method)
            .uri(format!("https://control.mezu.internal{}", row.path))
            .header("content-type", row.kind)
            .header("content-encoding", row.encoding)
            .body(())
            .unwrap();
        send = within(send.ready()).await.unwrap();
        let (answer, mut stream) = send.send_request(request, false).unwrap();
        // Fails where the answer comes before all was read.
        drop(stream.send_data(Bytes::from(row.body), true));
        let answer = within(answer).await.unwrap_or_else(|why| panic!("{}: {why}", row.what));
        assert_eq!(answer.status().as_u16(), row.status, "{}", row.what);
        let mut body = answer.into_body();
        let mut json = Vec::new();
        while let Some(chunk) = within(body.data()).await {
            json.extend_from_slice(&chunk.unwrap());
        }
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["error"], row.word, "{}: {json}", row.what);
        assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", row.what);
    }
    assert_eq!(node.fake.asked(), [], "control was asked nothing");
    assert_eq!(node.fake.batches.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert!(!driver.is_finished(), "the link goes on");
}

#[tokio::test]
async fn r25_a_refusal_does_not_repeat_what_was_sent() {
    let world = World::new();
    let node = world.control().await;
    let (send, _driver) = raw_link(&world, &node).await;
    let secret = "mzk_c2VjcmV0c2VjcmV0";
    let request = Request::post("https://control.mezu.internal/v1/session/find")
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let mut send = within(send.ready()).await.unwrap();
    let (answer, mut stream) = send.send_request(request, false).unwrap();
    stream.send_data(Bytes::from(format!(r#"{{"token":"{secret}"}}"#)), true).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(chunk) = within(body.data()).await {
        text.extend_from_slice(&chunk.unwrap());
    }
    assert!(!String::from_utf8(text).unwrap().contains(secret));
}
