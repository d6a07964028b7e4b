//! What each path of the workload does.
//!
//! | path | does |
//! |---|---|
//! | `/told` | JSON: method, target, headers, protocol, octets received |
//! | `/echo` | the body comes back as it comes in, its trailers too |
//! | `/sse/GATE` | an event, then waits at the gate, then a second event and the end |
//! | `/release/GATE` | opens a gate |
//! | `/trailers`, `/trailers-only` | a response with trailers; one that is nothing but a head |
//! | `/hints` | 103, then 200 |
//! | `/processing` | 102 twice, then 200 |
//! | `/sink` | reads the body (after a 100, if asked), answers its length, digest and trailers |
//! | `/refuse` | 417 to the head alone |
//! | `/too-large` | 413 to the head alone, while the body comes |
//! | `/bytes/N`, `/chunked/N` | N octets of known, of unknown length; `x-digest` where N is small |
//! | `/range` | a part of 1000 octets |
//! | `/status/N` | that status, no body |
//! | `/cut/N`, `/cut-chunked/N` | N octets of more, then breaks off |
//! | `/cut-head` | breaks off before any head |
//! | `/slow/MS` | waits before its head |
//! | `/hang/GATE`, `/hang-head/GATE` | nothing after, or before, its head until the gate opens or the client leaves |
//! | `/barrier/N` | waits until N exchanges wait here |
//! | `/ws` | WebSocket echo |
//! | `/upgrade` | switches to the protocol it was asked for, if that is `shout`, and answers in capitals |

use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::call::{Call, Length, Reply, Upload};
use super::{End, Record, hex, websocket};

/// The digest of a longer body would hold up its head.
const DIGEST_LEN_MAX: u64 = 64 * 1024 * 1024;

/// How long a response that will break off is let go before it does.
const CUT_AFTER: Duration = Duration::from_millis(150);

/// How long a barrier waits for the others.
const BARRIER_MAX: Duration = Duration::from_secs(30);

/// How much of a refused body is read, so that the client can read the refusal before the connection closes.
const REFUSED_LEN_MAX: u64 = 256 * 1024 * 1024;

/// Runs one exchange to its end and files what became of it; gives the halves back.
pub(super) async fn run(protocol: &'static str, mut call: Call) -> (Upload, Reply) {
    let record = Record {
        protocol,
        method: call.head.method.to_string(),
        target: call.head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: call.head.headers.clone(),
        received: 0,
        end: End::Running,
        ended_at: None::<Instant>,
    };
    let index = call.shared.begin(record);
    let path = call.head.uri.path().to_owned();
    let outcome = answer(&path, &mut call).await;
    if outcome.is_err() && call.end == End::Whole {
        call.end = End::Cancelled;
    }
    if outcome.is_err() {
        // Nothing may follow on a connection whose exchange broke.
        let why = call.end;
        call.cut();
        call.end = why;
    }
    call.shared.end(index, call.end, call.received);
    (call.upload, call.reply)
}

async fn answer(path: &str, call: &mut Call) -> anyhow::Result<()> {
    let mut words = path.trim_start_matches('/').splitn(2, '/');
    let (what, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match what {
        "echo" => echo(call).await,
        "sse" => sse(call, rest).await,
        "release" => {
            call.shared.gate(rest).send_modify(|count| *count += 1);
            call.text(StatusCode::OK, "text/plain", "released".to_owned()).await
        }
        "trailers" => trailers(call).await,
        "trailers-only" => {
            let fields = fields(&[
                ("content-type", "application/grpc"),
                ("grpc-status", "5"),
                ("grpc-message", "none"),
            ])?;
            call.answer(StatusCode::OK, fields, Length::Empty).await
        }
        "hints" => {
            call.informational(StatusCode::EARLY_HINTS, fields(&[("link", "</style.css>; rel=preload")])?)
                .await?;
            told(call).await
        }
        "processing" => {
            call.informational(StatusCode::PROCESSING, HeaderMap::new()).await?;
            call.informational(StatusCode::PROCESSING, HeaderMap::new()).await?;
            told(call).await
        }
        "sink" => sink(call).await,
        "refuse" => call.text(StatusCode::EXPECTATION_FAILED, "text/plain", "not that".to_owned()).await,
        "too-large" => too_large(call).await,
        "bytes" => generated(call, rest.parse()?, true).await,
        "chunked" => generated(call, rest.parse()?, false).await,
        "range" => range(call).await,
        "status" => {
            let status = rest.parse()?;
            call.answer(status, fields(&[("etag", "\"one\"")])?, Length::Empty).await
        }
        "cut" => cut(call, rest.parse()?, true).await,
        "cut-chunked" => cut(call, rest.parse()?, false).await,
        "cut-head" => {
            call.cut();
            Ok(())
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(rest.parse()?)).await;
            told(call).await
        }
        "hang" => {
            call.answer(StatusCode::OK, HeaderMap::new(), Length::Unknown).await?;
            call.send(Bytes::from_static(b"here\n")).await?;
            if call.wait_at(rest, 1).await {
                return call.finish(None).await;
            }
            anyhow::bail!("the client left")
        }
        "hang-head" => {
            anyhow::ensure!(call.wait_at(rest, 1).await, "the client left");
            told(call).await
        }
        "barrier" => barrier(call, rest).await,
        "ws" => websocket::echo(call).await,
        "upgrade" => shout(call).await,
        _ => told(call).await,
    }
}

async fn told(call: &mut Call) -> anyhow::Result<()> {
    call.accept_body().await?;
    while call.data().await?.is_some() {}
    let headers: serde_json::Map<String, serde_json::Value> = call
        .head
        .headers
        .keys()
        .map(|name| {
            let values = call.head.headers.get_all(name).iter();
            let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            (name.to_string(), json!(values))
        })
        .collect();
    let text = json!({
        "method": call.head.method.as_str(), "target": call.head.uri.path_and_query().map(ToString::to_string),
        "headers": headers, "received": call.received,
    });
    call.text(StatusCode::OK, "application/json", text.to_string()).await
}

async fn echo(call: &mut Call) -> anyhow::Result<()> {
    call.accept_body().await?;
    call.answer(StatusCode::OK, fields(&[("trailer", "x-echoed")])?, Length::Unknown).await?;
    while let Some(data) = call.data().await? {
        call.send(data).await?;
    }
    let told = call.trailers().await?;
    let mut trailers = HeaderMap::new();
    for (name, value) in &told {
        trailers.append(HeaderName::from_bytes(format!("x-echoed-{name}").as_bytes())?, value.clone());
    }
    trailers.append("x-echoed", told.len().into());
    call.finish(Some(trailers)).await
}

async fn sse(call: &mut Call, gate: &str) -> anyhow::Result<()> {
    call.answer(StatusCode::OK, fields(&[("content-type", "text/event-stream")])?, Length::Unknown).await?;
    call.send(Bytes::from_static(b"data: first\n\n")).await?;
    anyhow::ensure!(call.wait_at(gate, 1).await, "the client left");
    call.send(Bytes::from_static(b"data: second\n\n")).await?;
    call.finish(None).await
}

async fn trailers(call: &mut Call) -> anyhow::Result<()> {
    call.answer(StatusCode::OK, fields(&[("trailer", "x-sum, x-late")])?, Length::Unknown).await?;
    call.send(Bytes::from_static(b"with trailers\n")).await?;
    call.finish(Some(fields(&[("x-sum", "abc"), ("x-late", "one"), ("x-late", "two")])?)).await
}

async fn sink(call: &mut Call) -> anyhow::Result<()> {
    call.accept_body().await?;
    let mut context = digest::Context::new(&digest::SHA256);
    while let Some(data) = call.data().await? {
        context.update(&data);
    }
    let trailers = call.trailers().await?;
    let trailers: Vec<(String, String)> = trailers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let text =
        json!({ "received": call.received, "digest": hex(context.finish().as_ref()), "trailers": trailers });
    call.text(StatusCode::OK, "application/json", text.to_string()).await
}

/// Answers before the body is there, and then takes what is on its way.
async fn too_large(call: &mut Call) -> anyhow::Result<()> {
    call.text(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "too large".to_owned()).await?;
    // Who leaves after the answer has left in good order.
    while call.received < REFUSED_LEN_MAX && matches!(call.data().await, Ok(Some(_))) {}
    call.end = End::Whole;
    Ok(())
}

async fn generated(call: &mut Call, len: u64, is_known: bool) -> anyhow::Result<()> {
    let mut headers = fields(&[("content-type", "application/octet-stream")])?;
    if len <= DIGEST_LEN_MAX {
        let mut context = digest::Context::new(&digest::SHA256);
        call.shared.pieces(len).for_each(|piece| context.update(&piece));
        headers.insert("x-digest", hex(context.finish().as_ref()).parse()?);
    }
    call.answer(StatusCode::OK, headers, if is_known { Length::Known(len) } else { Length::Unknown }).await?;
    if call.head.method != http::Method::HEAD {
        for piece in call.shared.pieces(len) {
            call.send(piece).await?;
        }
    }
    call.finish(None).await
}

async fn range(call: &mut Call) -> anyhow::Result<()> {
    const WHOLE: usize = 1000;
    let content = call.shared.piece.slice(..WHOLE);
    let asked = call.head.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let ends = asked.and_then(|text| text.strip_prefix("bytes=")).and_then(|text| text.split_once('-'));
    let Some((first, last)) = ends.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
    else {
        let headers = fields(&[("accept-ranges", "bytes")])?;
        call.answer(StatusCode::OK, headers, Length::Known(WHOLE as u64)).await?;
        call.send(content).await?;
        return call.finish(None).await;
    };
    let (first, last): (usize, usize) = (first, last);
    anyhow::ensure!(first <= last && last < WHOLE, "the range asks for more than there is");
    let told = format!("bytes {first}-{last}/{WHOLE}");
    let part = content.slice(first..=last);
    let headers = fields(&[("content-range", told.as_str())])?;
    call.answer(StatusCode::PARTIAL_CONTENT, headers, Length::Known(part.len() as u64)).await?;
    call.send(part).await?;
    call.finish(None).await
}

async fn cut(call: &mut Call, len: u64, is_known: bool) -> anyhow::Result<()> {
    let length = if is_known { Length::Known(len * 2 + 1) } else { Length::Unknown };
    call.answer(StatusCode::OK, HeaderMap::new(), length).await?;
    for piece in call.shared.pieces(len) {
        call.send(piece).await?;
    }
    // What was sent is on its way by then: a break that overtakes the head is answered with 502, as it should be.
    tokio::time::sleep(CUT_AFTER).await;
    call.cut();
    Ok(())
}

async fn barrier(call: &mut Call, count: &str) -> anyhow::Result<()> {
    let wanted: usize = count.split('/').next().unwrap_or_default().parse()?;
    let gate = format!("barrier/{count}");
    call.shared.gate(&gate).send_modify(|waiting| *waiting += 1);
    let all = tokio::time::timeout(BARRIER_MAX, call.wait_at(&gate, wanted)).await;
    anyhow::ensure!(all.context("the others never came")?, "the client left");
    call.text(StatusCode::OK, "text/plain", "all here".to_owned()).await
}

/// Another protocol than WebSocket: what comes in goes out in capitals.
async fn shout(call: &mut Call) -> anyhow::Result<()> {
    let asked = call.head.headers.get(header::UPGRADE).is_some_and(|value| value == "shout");
    let extended =
        call.head.extensions.get::<::h2::ext::Protocol>().is_some_and(|asked| asked.as_str() == "shout");
    if !asked && !extended {
        return call.text(StatusCode::UPGRADE_REQUIRED, "text/plain", "shout".to_owned()).await;
    }
    let headers =
        if asked { fields(&[("connection", "upgrade"), ("upgrade", "shout")])? } else { HeaderMap::new() };
    call.switch(headers).await?;
    while let Some(data) = call.data().await? {
        call.send(data.to_ascii_uppercase().into()).await?;
    }
    call.finish(None).await
}

/// Fields from pairs.
pub(super) fn fields(pairs: &[(&'static str, &str)]) -> anyhow::Result<HeaderMap> {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        fields.append(*name, HeaderValue::from_str(value)?);
    }
    Ok(fields)
}
