//! Restarting anything under load, in order: no request fails, and none runs twice.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::StatusCode;
use mezusphere_tests::client::h1;
use mezusphere_tests::cluster::Cluster;
use mezusphere_tests::program::{Program, SAYS_WITHIN};
use mezusphere_tests::recorder::{Outcome, Recorder};
use mezusphere_tests::system::connect;
use mezusphere_tests::upstream::Upstream;

/// Clients at once.
const CLIENTS: u64 = 8;

/// Numbers of one client's requests begin this far after the one before.
const NUMBERS: u64 = 1_000_000;

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_warpgates_and_edges_fails_no_request() -> Result<()> {
    let is_full = std::env::var_os("MEZU_FULL").is_some();
    let wanted = if is_full { 10_000 } else { 1_500 };
    let mut cluster = Cluster::start(2, &[]).await?;
    let upstream = Upstream::start().await?;
    let shop = cluster.admin().seed_shop().await?;
    cluster.routes(&shop.host, "/r").await?;
    let mut gates = Vec::new();
    for _ in 0..2 {
        gates.push(connected(&shop.connection_key, &upstream.url()).await?);
    }
    let tls = cluster.tls(b"http/1.1")?;
    let targets = (0..2).map(|edge| cluster.target(edge, &shop.host, "/r")).collect::<Result<Vec<_>>>()?;
    for target in &targets {
        h1::until(target, &tls, |status| status == StatusCode::OK).await?;
    }
    let clients: Vec<Recorder> = (0..CLIENTS)
        .map(|nth| Recorder::paced(targets.clone(), tls.clone(), String::new(), nth * NUMBERS, PACE))
        .collect();

    let mut rounds = 0;
    while rounds == 0 || arrived(&upstream).len() < wanted {
        for gate in &mut gates {
            restart_gate(gate, &shop.connection_key, &upstream.url()).await?;
        }
        for edge in 0..2 {
            let before: Vec<usize> = gates.iter().map(|gate| connections(gate, edge)).collect();
            let member = &mut cluster.edges[edge].member;
            member.program()?.signal("TERM").await?;
            anyhow::ensure!(member.program()?.exit_code().await? == 0);
            member.run(&[]).await?;
            let all_are_back = async {
                while gates.iter().zip(&before).any(|(gate, before)| connections(gate, edge) == *before) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(SAYS_WITHIN, all_are_back).await.context("each warpgate comes back")?;
        }
        rounds += 1;
    }
    let mut outcomes = Vec::new();
    for client in clients {
        outcomes.extend(client.stop().await?);
    }
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_good()).collect();
    println!(
        "| rolling restart, {rounds} × (2 warpgates, 2 edges) | {} requests, {} failed |",
        outcomes.len(),
        failed.len()
    );
    let arrived = arrived(&upstream);
    anyhow::ensure!(arrived.values().all(|times| *times == 1), "a POST arrived twice");
    anyhow::ensure!(failed.is_empty(), "{failed:?}");
    Ok(())
}

async fn restart_gate(gate: &mut Program, key: &str, upstream: &str) -> Result<()> {
    gate.signal("TERM").await?;
    anyhow::ensure!(gate.exit_code().await? == 0, "{}", gate.output().join("\n"));
    *gate = connected(key, upstream).await?;
    Ok(())
}

/// Starts a warpgate and waits until it has a tunnel to each of the two edges.
async fn connected(key: &str, upstream: &str) -> Result<Program> {
    let gate = connect(key, upstream).await?;
    for edge in 0..2 {
        gate.line("that it is connected to each edge", |line| tells_of(line, edge)).await?;
    }
    Ok(gate)
}

/// How often a warpgate has connected to an edge so far.
fn connections(gate: &Program, edge: usize) -> usize {
    gate.output().iter().filter(|line| tells_of(line, edge)).count()
}

/// Whether a line of a warpgate's tells of a new tunnel to this edge.
fn tells_of(line: &str, edge: usize) -> bool {
    line.contains("\"edge_connected\"") && line.contains(&format!("\"edge-{}\"", edge + 1))
}

/// How often each numbered request reached the upstream.
fn arrived(upstream: &Upstream) -> HashMap<String, usize> {
    let mut arrived = HashMap::new();
    for seen in upstream.seen() {
        if let Some(number) = seen.target.strip_prefix("/r/") {
            *arrived.entry(number.to_owned()).or_default() += 1;
        }
    }
    arrived
}
