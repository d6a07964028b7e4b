//! What curl and h2load ask.

use std::time::Duration;

use anyhow::{Result, ensure};
use aws_lc_rs::digest;
use mezusphere_tests::clients::{Fetched, Loaded, Place, Stream, curl, h2load};
use mezusphere_tests::workload::{End, Workload};
use serde_json::Value;

use super::scene::Scene;
use super::{Cell, Found, tag};

/// Bodies of the row `large`.
const LARGE: u64 = 64 * 1024 * 1024;

/// The one of issue C; only with `MEZU_FULL`, and only where nothing but the tunnel is measured.
const HUGE: u64 = 10 * 1024 * 1024 * 1024;

/// Exchanges at once, and on how many connections; the edge takes 100 streams on one.
const MANY: (u32, u32, u32) = (1000, 10, 100);

/// The same over HTTP/1.1, where each needs a connection of its own.
const MANY_H1: (u32, u32, u32) = (300, 300, 1);

/// The limit of a tunnel, with `MEZU_FULL`; the upstream's protocol must not need a socket for each.
const MANY_FULL: (u32, u32, u32) = (10_000, 100, 100);

fn is_full() -> bool {
    std::env::var_os("MEZU_FULL").is_some()
}

/// Every row curl can ask for.
pub(super) async fn features(scene: &Scene, place: &Place, cell: Cell) -> Found {
    let client = cell.0;
    let workload = &scene.workload;
    let rows = [
        ("get", get(place, client).await),
        ("head", head(place, client).await),
        ("ranges", ranges(place, client, workload).await),
        ("no_body", no_body(place, client).await),
        ("bodies", bodies(place, client, workload).await),
        ("streamed", streamed(place, cell, workload).await),
        ("response_trailers", trailers(place, client).await),
        ("early_hints", early_hints(place, client).await),
        ("cut", cut(place, client).await),
        ("leaves", leaves(place, cell, workload).await),
        ("early_final", early_final(place, client, workload).await),
    ];
    let mut found: Found = rows.into_iter().map(|(row, outcome)| (row.to_owned(), told(outcome))).collect();
    // curl asks for a 100 over HTTP/1.1 only.
    if client == "h1" {
        found.push(("continued".to_owned(), told(continued(place).await)));
        found.push(("continue_refused".to_owned(), told(continue_refused(place).await)));
    }
    found
}

fn told(outcome: Result<()>) -> Result<(), String> {
    outcome.map_err(|why| format!("{why:#}"))
}

/// It came whole, with this status.
fn is(fetched: &Fetched, status: u16) -> Result<()> {
    ensure!(fetched.code == 0, "curl ended with {}: {}\n{}", fetched.code, fetched.said, fetched.heads);
    ensure!(fetched.status() == status, "{} instead of {status}: {}", fetched.status(), fetched.heads);
    Ok(())
}

fn sha256(octets: &[u8]) -> String {
    let sum = digest::digest(&digest::SHA256, octets);
    sum.as_ref().iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}

async fn get(place: &Place, client: &str) -> Result<()> {
    let fetched = curl(place, client, "/told/a%20b?c=d&e=%2F", &["-H", "x-own: mine"]).await?;
    is(&fetched, 200)?;
    let version = if client == "h1" { "HTTP/1.1 200" } else { "HTTP/2 200" };
    ensure!(fetched.heads.starts_with(version), "{}", fetched.heads);
    let said: Value = serde_json::from_slice(&fetched.body)?;
    ensure!(said["target"] == "/told/a%20b?c=d&e=%2F" && said["headers"]["x-own"][0] == "mine", "{said}");
    Ok(())
}

async fn head(place: &Place, client: &str) -> Result<()> {
    let fetched = curl(place, client, "/bytes/1234", &["--head", "-o", "/dev/null"]).await?;
    is(&fetched, 200)?;
    ensure!(fetched.header("content-length") == Some("1234"), "{}", fetched.heads);
    Ok(())
}

async fn ranges(place: &Place, client: &str, workload: &Workload) -> Result<()> {
    let fetched = curl(place, client, "/range", &["--range", "100-299"]).await?;
    is(&fetched, 206)?;
    ensure!(fetched.body == workload.body(1000)[100..300], "{} other octets", fetched.body.len());
    Ok(())
}

async fn no_body(place: &Place, client: &str) -> Result<()> {
    for status in [204, 304] {
        let fetched = curl(place, client, &format!("/status/{status}"), &[]).await?;
        is(&fetched, status)?;
        ensure!(fetched.body.is_empty(), "{status} with a body");
    }
    Ok(())
}

async fn bodies(place: &Place, client: &str, workload: &Workload) -> Result<()> {
    const LEN: u64 = 1_000_000;
    let body = tempfile::NamedTempFile::new()?;
    std::fs::write(body.path(), workload.body(LEN))?;
    let file = body.path().display().to_string();
    let whole = format!("@{file}");
    let known = ["-X", "POST", "--data-binary", whole.as_str(), "-H", "expect:"];
    let unknown = ["-X", "POST", "-T", file.as_str(), "-H", "transfer-encoding: chunked", "-H", "expect:"];
    for (way, arguments) in [("known", known.as_slice()), ("unknown", unknown.as_slice())] {
        let fetched = curl(place, client, "/sink", arguments).await?;
        is(&fetched, 200)?;
        let said: Value = serde_json::from_slice(&fetched.body)?;
        ensure!(said["received"] == LEN && said["digest"] == workload.digest(LEN), "{way}: {said}");
    }
    for path in ["/bytes/1000000", "/chunked/1000000"] {
        let fetched = curl(place, client, path, &[]).await?;
        is(&fetched, 200)?;
        ensure!(sha256(&fetched.body) == workload.digest(LEN), "{path}: {} other octets", fetched.body.len());
    }
    Ok(())
}

async fn streamed(place: &Place, cell: Cell, workload: &Workload) -> Result<()> {
    let gate = tag("curl-sse", cell, place);
    let mut stream = Stream::open(place, cell.0, &format!("/sse/{gate}"))?;
    let first = stream.read("data: first\n\n".len()).await?;
    ensure!(first == b"data: first\n\n", "{}", String::from_utf8_lossy(&first));
    workload.release(&gate);
    ensure!(stream.all().await? == b"data: second\n\n", "the second event");
    Ok(())
}

async fn trailers(place: &Place, client: &str) -> Result<()> {
    let fetched = curl(place, client, "/trailers", &["-H", "te: trailers"]).await?;
    is(&fetched, 200)?;
    ensure!(fetched.header("x-sum") == Some("abc"), "{}", fetched.heads);
    Ok(())
}

async fn early_hints(place: &Place, client: &str) -> Result<()> {
    let fetched = curl(place, client, "/hints", &[]).await?;
    is(&fetched, 200)?;
    let first = fetched.heads.lines().next().unwrap_or_default();
    ensure!(first.contains(" 103"), "{}", fetched.heads);
    ensure!(fetched.header("link") == Some("</style.css>; rel=preload"), "{}", fetched.heads);
    Ok(())
}

async fn continued(place: &Place) -> Result<()> {
    // curl waits 60 s for the 100: only a true one gets the body moving in time.
    let arguments =
        ["-X", "POST", "--data-binary", "hello", "-H", "expect: 100-continue", "--expect100-timeout", "60"];
    let fetched = curl(place, "h1", "/sink", &arguments).await?;
    is(&fetched, 200)?;
    ensure!(fetched.heads.starts_with("HTTP/1.1 100"), "{}", fetched.heads);
    let said: Value = serde_json::from_slice(&fetched.body)?;
    ensure!(said["received"] == 5, "{said}");
    Ok(())
}

async fn continue_refused(place: &Place) -> Result<()> {
    let body = "x".repeat(100_000);
    let arguments =
        ["-X", "POST", "--data-binary", &body, "-H", "expect: 100-continue", "--expect100-timeout", "60"];
    let fetched = curl(place, "h1", "/refuse", &arguments).await?;
    ensure!(fetched.status() == 417 && !fetched.heads.contains(" 100"), "{}", fetched.heads);
    Ok(())
}

async fn early_final(place: &Place, client: &str, workload: &Workload) -> Result<()> {
    let body = tempfile::NamedTempFile::new()?;
    std::fs::write(body.path(), workload.body(20 * 1024 * 1024))?;
    let file = body.path().display().to_string();
    let fetched = curl(place, client, "/too-large", &["-X", "POST", "-T", &file, "-H", "expect:"]).await?;
    // Whether curl calls it whole depends on whether it had all of its upload out; the answer must be there.
    ensure!(
        fetched.status() == 413 && fetched.body == b"too large",
        "{}: {} {}",
        fetched.code,
        fetched.said,
        fetched.heads
    );
    Ok(())
}

async fn cut(place: &Place, client: &str) -> Result<()> {
    for path in ["/cut/100000", "/cut-chunked/100000"] {
        let fetched = curl(place, client, path, &[]).await?;
        // A partial file, a failed receipt, or a stream that was reset: not 0, which is "whole".
        ensure!(
            [18, 56, 92].contains(&fetched.code),
            "{path}: {} {} {}",
            fetched.code,
            fetched.status(),
            fetched.said
        );
        ensure!(fetched.status() == 200, "{path}: {}", fetched.heads);
    }
    let fetched = curl(place, client, "/cut-head", &[]).await?;
    is(&fetched, 502)?;
    Ok(())
}

async fn leaves(place: &Place, cell: Cell, workload: &Workload) -> Result<()> {
    let path = format!("/hang/{}", tag("curl-leaves", cell, place));
    let mut stream = Stream::open(place, cell.0, &path)?;
    stream.read("here\n".len()).await?;
    stream.leave().await?;
    let record = workload.ended(&path, Duration::from_secs(1)).await?;
    ensure!(record.end == End::Cancelled, "the upstream saw {:?}", record.end);
    Ok(())
}

/// The row `large`: a body each way that no buffer holds.
pub(super) async fn large(scene: &Scene, place: &Place, cell: Cell) -> Found {
    let len = if is_full() && cell == ("h2", "http") { HUGE } else { LARGE };
    vec![("large".to_owned(), told(large_both(place, cell.0, &scene.workload, len).await))]
}

async fn large_both(place: &Place, client: &str, workload: &Workload, len: u64) -> Result<()> {
    // Through a file, so that this process holds no body either.
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().display().to_string();
    let fetched = curl(place, client, &format!("/bytes/{len}"), &["-o", &path]).await?;
    is(&fetched, 200)?;
    ensure!(file.as_file().metadata()?.len() == len, "{} of {len}", file.as_file().metadata()?.len());
    let fetched = curl(place, client, "/sink", &["-X", "POST", "-T", &path, "-H", "expect:"]).await?;
    is(&fetched, 200)?;
    // What came down goes up again, so one digest judges both ways.
    let said: Value = serde_json::from_slice(&fetched.body)?;
    ensure!(said["received"] == len && said["digest"] == workload.digest(len), "{said}");
    Ok(())
}

/// The row `many`: none is answered before all are at the workload.
pub(super) async fn many(place: &Place, cell: Cell) -> Found {
    let load = match cell {
        ("h2", "h2c") if is_full() => MANY_FULL,
        ("h1", _) => MANY_H1,
        _ => MANY,
    };
    let path = format!("/barrier/{}/{}", load.0, tag("h2load", cell, place));
    let outcome = h2load(place, cell.0, &path, load).await;
    let outcome = outcome.and_then(|loaded| {
        ensure!(loaded == Loaded { succeeded: load.0, failed: 0 }, "{loaded:?}");
        Ok(())
    });
    vec![("many".to_owned(), told(outcome))]
}
