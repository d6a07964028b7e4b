//! What a small GET costs on the wire, in time: each side's encoding and decoding, without I/O.
//!
//! `cargo run --release -p tunnel-proto --example head_cost`

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use mezusphere_model::id::{RequestId, RouteId};
use tunnel_proto::exchange::{Decoder, Encoder, Event, IdentityRef, RequestHead, ResponseHead, Scheme};
use tunnel_proto::headers;

/// Runs per measurement; the best of [`ROUNDS`] counts, because whatever disturbs one only makes it slower.
const RUNS: u32 = 100_000;
const ROUNDS: u32 = 15;

fn main() -> std::io::Result<()> {
    let (request, response) = (request(), response());
    let request_bytes = encoded(|encoder| encoder.request(&request, true).is_ok());
    let response_bytes = encoded(|encoder| encoder.response(&response, false).is_ok());
    let mut encoder = Encoder::new();
    let rows = [
        (
            "edge strips request",
            best(|| {
                let mut headers = request.headers.clone();
                headers::strip_request(&mut headers);
                black_box(headers.len());
            }),
        ),
        (
            "(clone of the headers in it)",
            best(|| {
                black_box(request.headers.clone().len());
            }),
        ),
        (
            "edge encodes request",
            best(|| {
                black_box(encoder.request(black_box(&request), true).is_ok());
                black_box(encoder.take());
            }),
        ),
        ("warpgate decodes request", best(|| decoded(Decoder::requests(), &request_bytes))),
        (
            "warpgate encodes response",
            best(|| {
                black_box(encoder.response(black_box(&response), false).is_ok());
                encoder.data(&[7; 200]);
                encoder.end();
                black_box(encoder.take());
            }),
        ),
        ("edge decodes response", best(|| decoded(Decoder::responses(), &response_bytes))),
    ];
    let mut out = std::io::stdout().lock();
    writeln!(out, "request head {} octets, response {} octets", request_bytes.len(), response_bytes.len())?;
    for (what, time) in rows {
        writeln!(out, "{what:<30} {:>6} ns", time.as_nanos())?;
    }
    Ok(())
}

/// The time of one run of `run`, at best.
fn best(mut run: impl FnMut()) -> Duration {
    let start = Instant::now();
    let round = |_| {
        let before = on_cpu(start);
        for _ in 0..RUNS {
            run();
        }
        on_cpu(start).saturating_sub(before) / RUNS
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

/// What this thread has spent on a processor, so that a busy machine does not count; where the system does not
/// tell, the time since `start`.
fn on_cpu(start: Instant) -> Duration {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn encoded(write: impl FnOnce(&mut Encoder) -> bool) -> Bytes {
    let mut encoder = Encoder::new();
    black_box(write(&mut encoder));
    encoder.take()
}

fn decoded(mut decoder: Decoder, bytes: &Bytes) {
    decoder.push(bytes.clone());
    while let Ok(Some(event)) = decoder.poll() {
        let event: Event = event;
        black_box(&event);
    }
}

fn fields(rows: &[(&'static str, &'static str)]) -> HeaderMap {
    rows.iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn request() -> RequestHead {
    RequestHead {
        request: RequestId::from_bits(1),
        route: RouteId::from_bits(2),
        revision: 40,
        client: [192, 0, 2, 1].into(),
        scheme: Scheme::Https,
        authority: "shop.apps.example".to_owned(),
        method: Method::GET,
        target: "/api/orders?page=2&sort=date".to_owned(),
        headers: fields(&[
            (
                "accept",
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            ),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
            ("cookie", "theme=dark; cart=0f8c1f77a2b94e58"),
            ("referer", "https://shop.apps.example/api/orders"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "same-origin"),
            ("upgrade-insecure-requests", "1"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
        ]),
        identity: IdentityRef::Known(17),
        upgrade: None,
    }
}

fn response() -> ResponseHead {
    ResponseHead {
        status: StatusCode::OK,
        headers: fields(&[
            ("cache-control", "private, max-age=0"),
            ("content-length", "200"),
            ("content-type", "application/json; charset=utf-8"),
            ("date", "Sat, 21 Nov 2026 21:00:00 GMT"),
            ("etag", "\"5f-18c0a7\""),
            ("x-request-cost", "3"),
        ]),
    }
}
