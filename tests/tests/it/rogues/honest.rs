//! The honest neighbour: its own project, warpgate and workload, and a client that measures every answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use mezusphere_tests::client::{Target, h1};
use mezusphere_tests::clients::Place;
use mezusphere_tests::program::Program;
use mezusphere_tests::stats::Latencies;
use mezusphere_tests::system::Node;
use mezusphere_tests::workload::Workload;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What is measured before anything goes wrong, to compare with.
const CALM: Duration = Duration::from_secs(2);

/// Between two requests of the honest client.
const PACE: Duration = Duration::from_millis(5);

/// Attackers share two cores with those they attack here: this much is theirs before twice as slow counts.
const SHARED_CORES: Duration = Duration::from_millis(60);

/// A node, an honest project that is served, and a second project for the rogue.
pub(super) struct Neighbours {
    pub(super) node: Node,
    /// What the rogue's warpgate connects with.
    pub(super) rogue_key: String,
    target: Target,
    tls: std::sync::Arc<rustls::ClientConfig>,
    calm: Latencies,
    _gate: Program,
    _workload: Workload,
}

impl Neighbours {
    pub(super) async fn set() -> Result<Self> {
        let node = Node::start(&[]).await?;
        let workload = Workload::start().await?;
        let honest_key = project(&node, "honest").await?;
        let rogue_key = project(&node, "rogue").await?;
        let gate = node.connect(&honest_key, &workload.h1()).await?;
        node.routes("honest.localhost", "/told").await?;
        node.routes("rogue.localhost", "/told").await?;
        let target = node.target("honest.localhost", "/told")?;
        let tls = node.tls(b"http/1.1")?;
        let client = Client::start(target.clone(), std::sync::Arc::clone(&tls));
        tokio::time::sleep(CALM).await;
        let calm = client.stop().await?;
        Ok(Self { node, rogue_key, target, tls, calm, _gate: gate, _workload: workload })
    }

    /// Where the rogue's own clients go.
    pub(super) fn rogue(&self) -> Place {
        Place { host: "rogue.localhost".to_owned(), port: self.node.port, ca: self.node.roots() }
    }

    /// Starts the honest client.
    pub(super) fn watch(&self) -> Client {
        Client::start(self.target.clone(), std::sync::Arc::clone(&self.tls))
    }

    /// Ends the honest client and judges what it met: every request answered, and none of them late (R23).
    /// Gives what was measured, to be printed.
    pub(super) async fn judge(&self, client: Client) -> Result<String> {
        let mut calm = self.calm.clone();
        let mut now = client.stop().await?;
        let (before, after) = (calm.percentile(99.0), now.percentile(99.0));
        ensure!(now.count() > 20, "the honest client got {} answers", now.count());
        let bound = 2 * u128::from(before) + SHARED_CORES.as_micros();
        ensure!(u128::from(after) <= bound, "p99 {after} µs, and {before} µs before the attack");
        Ok(format!("honest client: {} answers, p99 {after} µs, {before} µs before", now.count()))
    }
}

/// Makes a project with one public route; gives a connection key.
async fn project(node: &Node, name: &str) -> Result<String> {
    node.admin(&["project", "create", name]).await?;
    node.admin(&[
        "route",
        "add",
        name,
        "/*",
        "--auth",
        "public",
        "--head-timeout",
        "2s",
        "--idle-timeout",
        "5s",
    ])
    .await?;
    let key = node.admin(&["api-key", "create", name]).await?;
    Ok(key["secret"].as_str().context("a key is printed once")?.to_owned())
}

/// A client that keeps asking; ends when dropped.
pub(super) struct Client {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Latencies>>,
}

impl Client {
    fn start(target: Target, tls: std::sync::Arc<rustls::ClientConfig>) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut latencies = Latencies::default();
            let mut connection = h1::Connection::open(&target, &tls).await?;
            loop {
                let request = Request::get(&target.path).header("host", &target.authority);
                let start = Instant::now();
                let answer = connection.fetch(request.body(Full::<Bytes>::default())?).await?;
                latencies.add(start.elapsed().as_micros());
                ensure!(answer.status() == StatusCode::OK, "the honest client got {}", answer.status());
                tokio::select! {
                    () = tokio::time::sleep(PACE) => {}
                    _ = &mut stopped => return Ok(latencies),
                }
            }
        });
        Self { stop, task }
    }

    async fn stop(self) -> Result<Latencies> {
        // It may have ended by itself, by an answer that was not honest; the task tells.
        let (Ok(()) | Err(())) = self.stop.send(());
        self.task.await?
    }
}
