//! A malicious upstream behind an honest warpgate.

use anyhow::{Result, ensure};
use mezusphere_tests::clients::{Fetched, Place, curl};
use mezusphere_tests::rogue::upstream::{EVIL, RogueUpstream};

use super::honest::Neighbours;

/// What may come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// 502, or 504 where it only never ends, whole and with a page that names the hop.
    Refused,
    /// The head came and the body broke off.
    Cut,
    /// What was honest of it, and nothing more.
    Honest,
}

use Fate::{Cut, Honest, Refused};

const FATES: [(&str, &[Fate]); 26] = [
    ("/cr", &[Refused]),
    // RFC 9112 §2.2: a single LF may be taken for the end of a line. It is written anew as CRLF.
    ("/lf", &[Refused, Honest]),
    ("/nul", &[Refused]),
    ("/nul-name", &[Refused]),
    ("/space-in-name", &[Refused]),
    ("/folded", &[Refused]),
    ("/long-field", &[Refused]),
    ("/endless-head", &[Refused]),
    ("/slow-head", &[Refused]),
    ("/short", &[Cut, Refused]),
    ("/long", &[Honest]),
    ("/two-lengths", &[Refused]),
    // RFC 9112 §6.3: chunked wins, and what follows must not be taken for another answer.
    ("/length-and-chunked", &[Refused, Honest]),
    ("/negative-length", &[Refused]),
    ("/bad-chunk", &[Cut, Refused]),
    ("/huge-chunk", &[Cut, Refused]),
    ("/chunk-tail", &[Cut, Refused]),
    ("/no-last-chunk", &[Cut, Refused]),
    ("/endless-1xx", &[Refused]),
    ("/unasked-101", &[Refused]),
    ("/bad-status", &[Refused]),
    ("/low-status", &[Refused]),
    ("/old", &[Refused]),
    ("/not-http", &[Refused]),
    ("/unasked", &[Honest]),
    ("/silence", &[Refused]),
];

fn fate(fetched: &Fetched) -> Result<Fate> {
    match (fetched.code, fetched.status()) {
        (0, 502 | 504) => {
            let page = String::from_utf8_lossy(&fetched.body);
            ensure!(page.contains(r#""hop":"upstream""#), "the page does not name the hop: {page}");
            Ok(Refused)
        }
        (0, 200) if fetched.body == b"ok" => Ok(Honest),
        // A partial file, a failed receipt, or a stream that was reset.
        (18 | 56 | 92, 200) => Ok(Cut),
        (code, status) => anyhow::bail!(
            "curl ended with {code} and {status}: {}\n{}",
            fetched.heads,
            String::from_utf8_lossy(&fetched.body)
        ),
    }
}

/// Nothing that an answer smuggled may show: not as a field, not as a body, not as the next answer.
fn is_clean(path: &str, client: &str, fetched: &Fetched) -> Result<()> {
    let shown = [fetched.heads.as_bytes(), &fetched.body].concat();
    let shown = String::from_utf8_lossy(&shown).to_lowercase();
    // The names of other hosts' scripts do not belong to what was smuggled.
    ensure!(!shown.contains(EVIL), "{path} over {client} shows what it must not:\n{shown}");
    Ok(())
}

async fn ask(place: &Place, client: &str, path: &str, allowed: &[Fate]) -> Result<()> {
    let fetched = curl(place, client, path, &[]).await?;
    let came = fate(&fetched).map_err(|why| why.context(format!("{path} over {client}")))?;
    ensure!(allowed.contains(&came), "{path} over {client}: {came:?}\n{}", fetched.heads);
    // An interim head of an endless row of them is the one thing that may pass.
    if path != "/endless-1xx" {
        is_clean(path, client, &fetched)?;
    }
    // Whoever comes next, on whatever connection was kept, gets their own answer.
    let next = curl(place, client, "/plain", &[]).await?;
    ensure!(next.status() == 200 && next.body == b"plain", "after {path}: {} {}", next.status(), next.heads);
    is_clean(path, client, &next)
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_r23_no_answer_of_a_malicious_upstream_gets_past_the_warpgate() -> Result<()> {
    let neighbours = Neighbours::set().await?;
    let rogue = RogueUpstream::start().await?;
    let gate = neighbours.node.connect(&neighbours.rogue_key, &rogue.url()).await?;
    let place = neighbours.rogue();
    let watch = neighbours.watch();
    let mut failures = Vec::new();
    for (path, allowed) in FATES {
        for client in ["h1", "h2"] {
            if let Err(why) = ask(&place, client, path, allowed).await {
                failures.push(format!("{why:#}"));
            }
        }
    }
    println!("{}", neighbours.judge(watch).await?);
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    // Both programs live.
    neighbours.node.server.pid()?;
    gate.pid()?;
    Ok(())
}
