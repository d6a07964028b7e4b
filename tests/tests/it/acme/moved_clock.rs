//! Months in seconds: renewals under a clock that is moved, and an authority that is away while one is due.
//!
//! Only the server's clock moves. Pebble is a Go program, which libfaketime does not reach: its certificates begin at the real time, so
//! each time it is started anew, without anything it knew, and issues for longer.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use mezusphere_tests::moved_clock::MovedClock;
use mezusphere_tests::pebble::Habits;
use rustls::pki_types::UnixTime;

use super::scene::{ORDERED_WITHIN, Scene, is_full, leaf};

const DAY: Duration = Duration::from_hours(24);

/// How long a certificate is good when it is issued, by the server's clock.
const GOOD_FOR: u32 = 90;

/// Where the clock goes, in days from now: each time past two thirds of the certificate before, and before its end.
const JUMPS: [u32; 4] = [65, 110, 140, 160];

/// Longest between two looks at what is served while a renewal is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const HOST: &str = "www.shop.test";

fn ahead(days: u32) -> Duration {
    DAY.saturating_mul(days)
}

fn habits(at: u32) -> Habits {
    Habits { validity: ahead(at + GOOD_FOR), ..Habits::default() }
}

/// The server's time when its clock is so many days ahead.
fn then(days: u32) -> Result<UnixTime> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a client's clock is the server's, moved from the real one"
    )]
    let now = SystemTime::now();
    Ok(UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH)? + ahead(days)))
}

/// Every root the authority has had, in one file.
fn all_roots(scene: &Scene, folder: &tempfile::TempDir) -> Result<PathBuf> {
    let path = folder.path().join("roots.pem");
    let mut roots = std::fs::read_to_string(&path).unwrap_or_default();
    roots.push_str(&std::fs::read_to_string(scene.pebble.root())?);
    std::fs::write(&path, roots)?;
    Ok(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_expired_certificate_is_served_while_there_could_be_another() -> Result<()> {
    if !is_full() {
        return Ok(());
    }
    let (clock, folder) = (MovedClock::new()?, tempfile::tempdir()?);
    let way = clock.way();
    let way: Vec<&str> = way.iter().map(String::as_str).collect();
    let mut scene = Scene::start_through(&habits(0), &way, &["--custom-domains", "trusted"]).await?;
    scene.node.admin(&["project", "create", "shop"]).await?;
    scene.node.admin(&["host", "add", "shop", HOST]).await?;
    scene.node.admin(&["route", "add", "shop", "/*", "--auth", "public"]).await?;
    let mut known = scene.served(HOST).await?;
    let mut roots = all_roots(&scene, &folder)?;
    for days in JUMPS {
        // The authority has lost its state: accounts, orders and its own CA.
        scene.pebble = scene.pebble.restart(&habits(days)).await?;
        roots = all_roots(&scene, &folder)?;
        clock.ahead(ahead(days))?;
        known = renewed(&scene, &roots, days, &known).await?;
    }

    // Away for weeks: the certificate goes on, and people are told.
    let (at, Scene { names, pebble, node }) = (scene.at(), scene);
    let stopped = pebble.stop().await?;
    let days = 200;
    clock.ahead(ahead(days))?;
    let told = async {
        loop {
            let served = leaf(at, HOST, &roots, Some(then(days)?)).await?;
            anyhow::ensure!(served == known, "another certificate from nowhere");
            let shown = node.admin(&["certificate", "show", HOST]).await?;
            if shown["error"]["code"] == "acme.unreachable" {
                return anyhow::Ok(shown);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let shown = tokio::time::timeout(ORDERED_WITHIN, told).await.context("nobody is told")??;
    assert!(shown["next_at"].is_string() && shown["not_after"].is_string(), "{shown}");
    let scene = Scene { names, pebble: stopped.start_again(&habits(days)).await?, node };
    let roots = all_roots(&scene, &folder)?;
    scene.node.admin(&["certificate", "retry", HOST]).await?;
    renewed(&scene, &roots, days, &known).await?;
    Ok(())
}

/// Waits for another certificate; whatever is served meanwhile must be good by the server's clock.
async fn renewed(scene: &Scene, roots: &std::path::Path, days: u32, known: &[u8]) -> Result<Vec<u8>> {
    let search = async {
        loop {
            let served = leaf(scene.at(), HOST, roots, Some(then(days)?)).await;
            let served = served
                .with_context(|| format!("{days} days ahead: {}", scene.node.server.output().join("\n")))?;
            if served != known {
                return anyhow::Ok(served);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let found = tokio::time::timeout(ORDERED_WITHIN, search).await;
    found.with_context(|| {
        format!("{days} days ahead it is not renewed: {}", scene.node.server.output().join("\n"))
    })?
}
