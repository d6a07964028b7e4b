//! The CA replaced, three times over, and thrown out, while requests go on through a cluster (R20).

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mezusphere_model::id::WarpgateId;
use mezusphere_tests::client::h1;
use mezusphere_tests::cluster::Cluster;
use mezusphere_tests::program::Program;
use mezusphere_tests::recorder::{Outcome, Recorder};
use mezusphere_tests::system::connect;
use mezusphere_tests::upstream::Upstream;
use serde_json::Value;

use super::forge::{Forge, Leaf, Shown};
use super::is_full;
use super::knock::{Met, Port, Ports};

/// How long one rotation may take in a hurry, on a machine that does much else.
const ROTATES_WITHIN: Duration = Duration::from_mins(2);

/// How long a retired CA's certificate may be accepted after the rotation is over.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

/// How long everybody may take to come back after the CA was thrown out.
const BACK_WITHIN: Duration = Duration::from_mins(1);

/// What a peer is told whose CA was retired: `certificate_revoked` (RFC 8446 §6.2).
const REVOKED: u8 = 44;

/// What a peer is told whose root is trusted no more: `unknown_ca`.
const UNKNOWN_CA: u8 = 48;

/// A cluster with one edge of its own and one warpgate, and requests through both.
struct Scene {
    cluster: Cluster,
    upstream: Upstream,
    key: String,
    ports: Ports,
    gate: Program,
    edge_name: String,
    gate_name: String,
}

impl Scene {
    async fn set() -> Result<Self> {
        let cluster = Cluster::start(1, &["--leaf-ttl", "1m"]).await?;
        let upstream = Upstream::start().await?;
        let shop = cluster.admin().seed_shop().await?;
        cluster.routes(&shop.host, "/r").await?;
        let gate = connect(&shop.connection_key, &upstream.url()).await?;
        let target = cluster.target(0, &shop.host, "/r")?;
        h1::until(&target, &cluster.tls(b"http/1.1")?, |status| status == http::StatusCode::OK).await?;
        let control = cluster.control.words();
        let at = control.iter().position(|word| word == "--node-listen").context("a node port")?;
        let ports = Ports {
            edge: SocketAddr::new(cluster.edges[0].address, cluster.port),
            control: control[at + 1].parse()?,
        };
        let members = members(&cluster).await?;
        let called = |role: &str| {
            let found = members.iter().find(|member| member["role"] == role);
            found.and_then(|member| member["spiffe"].as_str()).map(str::to_owned).context("a member")
        };
        let (edge_name, gate_name) = (called("edge")?, called("warpgate")?);
        Ok(Self { cluster, upstream, key: shop.connection_key, ports, gate, edge_name, gate_name })
    }

    /// Requests to the shop, until stopped.
    fn load(&self) -> Result<Recorder> {
        let target = self.cluster.target(0, "shop.localhost", "/r")?;
        Ok(Recorder::start(vec![target], self.cluster.tls(b"http/1.1")?, String::new()))
    }

    /// Replaces the CA, and waits until it is over.
    async fn rotate(&self, words: &[&str]) -> Result<Value> {
        let admin = self.cluster.admin();
        admin.run(&[&["ca", "rotate", "--now"], words].concat()).await?;
        let begun = Instant::now();
        loop {
            let status = admin.run(&["ca", "status"]).await?;
            if status["rotation"].is_null() {
                ensure!(status["last"]["how"] == "done" && status["last"]["left_behind"] == 0, "{status:#}");
                writeln!(
                    std::io::stdout(),
                    "| rotation {words:?} | {:.1} s |",
                    begun.elapsed().as_secs_f64()
                )?;
                return Ok(status);
            }
            ensure!(begun.elapsed() < ROTATES_WITHIN, "{status:#}\n{}", self.gate.output().join("\n"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Certificates as a CA that may be retired made them for nodes there are: at which port, and what.
    async fn forged(&self) -> Result<Vec<(Port, Shown)>> {
        let forge = Forge::of(&self.cluster).await?;
        // Of a name that nobody else has: one that is let in must not take the real warpgate's place.
        let (environment, _) = self.gate_name.rsplit_once('/').context("a name")?;
        let gate = Leaf::of(&format!("{environment}/{}", stranger()));
        let edge = Leaf::of(&self.edge_name);
        Ok(vec![
            (Port::Tunnel, forge.real(&gate)?),
            (Port::TunnelOverTcp, forge.real(&gate)?),
            (Port::Link, forge.real(&edge)?),
        ])
    }

    /// Waits until each of them is refused, but not for long.
    async fn refuses(&self, shown: &[(Port, Shown)]) -> Result<()> {
        let since = Instant::now();
        for (port, shown) in shown {
            loop {
                match self.ports.knock(*port, Some(shown), stranger()).await? {
                    Met::Alert(REVOKED | UNKNOWN_CA) => break,
                    met => ensure!(since.elapsed() < REFUSED_WITHIN, "{port:?}: {met:?}"),
                }
            }
        }
        Ok(())
    }
}

/// A warpgate that nobody enrolled.
fn stranger() -> WarpgateId {
    WarpgateId::from_bits(0x7e57)
}

/// Who holds certificates, as `ca status` tells.
async fn members(cluster: &Cluster) -> Result<Vec<Value>> {
    let status = cluster.admin().run(&["ca", "status"]).await?;
    Ok(status["members"].as_array().context("members")?.clone())
}

fn failed(outcomes: &[Outcome]) -> Vec<&Outcome> {
    outcomes.iter().filter(|outcome| !outcome.is_good()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_three_rotations_under_load_fail_no_request_and_old_keys_enrol_after_them() -> Result<()> {
    let scene = Scene::set().await?;
    let rounds: [&[&str]; 3] = [&[], &["--root"], &[]];
    let mut outcomes = Vec::new();
    for _ in 0..if is_full() { 3 } else { 1 } {
        for words in rounds {
            let old = scene.forged().await?;
            let load = scene.load()?;
            scene.rotate(words).await?;
            // What a forged tunnel that is let in for a moment does to requests is not what is asked here.
            outcomes.extend(load.stop().await?);
            scene.refuses(&old).await?;
        }
    }
    println!("| three rotations | {} requests, {} failed |", outcomes.len(), failed(&outcomes).len());
    ensure!(failed(&outcomes).is_empty(), "of {}: {:?}", outcomes.len(), failed(&outcomes));
    ensure!(outcomes.len() > 100, "{} requests", outcomes.len());
    // The key names a root that is trusted no more.
    let late = connect(&scene.key, &scene.upstream.url()).await?;
    let ca = scene.cluster.admin().run(&["ca", "status"]).await?;
    let wanted = &ca["issuing"]["key_sha256"];
    for member in ca["members"].as_array().context("members")? {
        ensure!(member["ca"] == *wanted, "{member:#}");
    }
    drop(late);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_a_tainted_ca_is_refused_everywhere_and_everybody_comes_back_with_new_certificates() -> Result<()>
{
    let scene = Scene::set().await?;
    let stolen = scene.forged().await?;
    let admin = scene.cluster.admin();
    let refused = admin.try_run(&["ca", "taint"]).await?;
    ensure!(!refused.status.success(), "nobody said yes");
    admin.run(&["ca", "taint", "--yes"]).await?;
    scene.refuses(&stolen).await?;
    let since = Instant::now();
    loop {
        let ca = admin.run(&["ca", "status"]).await?;
        let wanted = &ca["issuing"]["key_sha256"];
        let members = ca["members"].as_array().context("members")?;
        // Each of the four: control, what signs bundles, edge, warpgate.
        if members.len() >= 4
            && members.iter().all(|member| member["ca"] == *wanted && member["here"] == true)
        {
            break;
        }
        ensure!(since.elapsed() < BACK_WITHIN, "{ca:#}\n{}", scene.gate.output().join("\n"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let target = scene.cluster.target(0, "shop.localhost", "/r")?;
    h1::until(&target, &scene.cluster.tls(b"http/1.1")?, |status| status == http::StatusCode::OK).await?;
    let audit = admin.run(&["audit", "list"]).await?;
    ensure!(audit.to_string().contains("ca.taint"), "{audit}");
    Ok(())
}
