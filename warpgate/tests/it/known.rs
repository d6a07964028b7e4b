//! A warpgate that was in tells its key to nobody it knows to be out, though the key's own root stands behind them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::check::check_at;
use crate::support::agent::{Agent, Scene, state};
use crate::support::edge::{Edge, Order};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, until};
use serde_json::Value;
use warpgate::exit::Exit;
use warpgate::state::StateDir;

/// How often the connect service was told a key.
fn told(platform: &Platform) -> usize {
    platform.enrolled.load(Ordering::SeqCst) + platform.polled.load(Ordering::SeqCst)
}

/// The CA's key got away: everybody is told, and who has the key poses as control with a certificate of that CA.
fn taint(platform: &Platform) -> mezusphere_model::bundle::SignedBundle {
    *platform.retired.lock().unwrap() = vec![platform.ca()];
    platform.publish(|_| {})
}

#[tokio::test]
async fn r20_a_running_warpgate_tells_its_key_to_no_control_node_whose_ca_was_retired() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let platform = Arc::clone(&scene.platform);
    let before = told(&platform);
    scene.tunnel.order(Order::Bundle(taint(&platform))).await;
    // Every tunnel is lost by that, so control is asked at once.
    let failed = scene.agent.event("control_failed").await;
    assert_eq!(failed["code"], "trust.edge_unknown_ca", "{failed}");
    assert_eq!(told(&platform), before, "not a word was said");
}

#[tokio::test]
async fn r20_what_was_kept_counts_at_a_start_whose_certificate_has_ended_and_in_a_check() {
    let (address, _) = upstream::fixed(OK).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("warpgate");
    // What signs bundles lives longer.
    let platform = Platform::with_ttl(Duration::from_hours(1));
    let edge = Edge::start(&platform);
    let start = || {
        Agent::start_with(&platform, &[address.to_string()], |config| {
            config.state = Some(state(&path));
            config.exit_on_failure = true;
        })
    };
    let first = start();
    let tunnel = edge.tunnel(1).await;
    let news = taint(&platform);
    let revision = news.revision;
    tunnel.order(Order::Bundle(news)).await;
    until("it is kept", || {
        let text = std::fs::read_to_string(path.join("identity.json")).unwrap_or_default();
        serde_json::from_str(&text).is_ok_and(|kept: Value| kept["bundle"]["revision"] == revision)
    })
    .await;
    first.kill().await;
    // Its last write may not be over.
    let is_free = || StateDir::open(&path).is_ok();
    until("the directory is free", is_free).await;

    platform.hand.advance(Duration::from_secs(3700));
    let before = told(&platform);
    let mut second = start();
    assert_eq!(second.exit().await, Exit::ControlUnreachable);
    assert_eq!(second.event("error").await["code"], "trust.edge_unknown_ca");
    let kept_in = |check: &mut warpgate::check::Check| check.state_dir = Some(path.clone());
    let report = check_at(&platform, platform.clock(), &[], kept_in).await;
    assert_eq!(report.exit(), Exit::ControlUnreachable);
    assert_eq!(told(&platform), before, "not a word was said");

    // Control itself has a certificate of another CA by now.
    platform.change_ca();
    let report = check_at(&platform, platform.clock(), &[], kept_in).await;
    assert!(told(&platform) > before, "{}", report.text(warpgate::output::Style::Plain, 80));
    until("the directory is free", is_free).await;
    let third = start();
    until("it enrols", || platform.enrolled.load(Ordering::SeqCst) == 2).await;
    drop(third);
}
