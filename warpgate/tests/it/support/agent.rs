//! A warpgate under test: the whole agent, in this process, with what it prints captured.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use mezusphere_model::Clock;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use warpgate::agent::{self, Config};
use warpgate::exit::Exit;
use warpgate::output::{Format, Reporter};
use warpgate::state::StateDir;
use warpgate::upstream::{Declared, Upstreams};

use super::Platform;
use super::edge::{Edge, Tunnel};

#[derive(Clone, Default)]
pub struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub struct Agent {
    pub signals: watch::Sender<u32>,
    pub task: JoinHandle<Exit>,
    printed: Printed,
    /// The connect service lives as long as the agent.
    _connect: quinn::Endpoint,
}

impl Agent {
    /// Starts an agent with these upstreams.
    pub fn start(platform: &Arc<Platform>, upstreams: &[String]) -> Self {
        Self::start_with(platform, upstreams, |_| {})
    }

    pub fn start_with(
        platform: &Arc<Platform>,
        upstreams: &[String],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_at(platform, platform.clock(), upstreams, change)
    }

    /// Starts an agent on a machine with this clock.
    pub fn start_at(
        platform: &Arc<Platform>,
        clock: Clock,
        upstreams: &[String],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let (running, agent) = Self::prepare(platform, clock, upstreams, change);
        let task = tokio::spawn(running);
        agent(task)
    }

    /// Starts an agent on a runtime of its own, which ends with it: as in the program, what it has not sent when it
    /// returns is never sent.
    pub fn start_alone(platform: &Arc<Platform>, upstreams: &[String]) -> Self {
        let (running, agent) = Self::prepare(platform, platform.clock(), upstreams, |_| {});
        #[expect(clippy::disallowed_methods, reason = "one thread, in a test")]
        let task = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let exit = runtime.block_on(running);
            runtime.shutdown_background();
            exit
        });
        agent(task)
    }

    fn prepare(
        platform: &Arc<Platform>,
        clock: Clock,
        upstreams: &[String],
        change: impl FnOnce(&mut Config),
    ) -> (BoxFuture<'static, Exit>, impl FnOnce(JoinHandle<Exit>) -> Self) {
        let connect = platform.connect_service();
        let key = platform.key(connect.local_addr().unwrap());
        let declared: Vec<Declared> = upstreams.iter().map(|text| text.parse().unwrap()).collect();
        let upstreams = Upstreams::new(declared).unwrap();
        let mut config = Config::new(key, "a91c".to_owned(), upstreams, "test".to_owned());
        change(&mut config);
        let printed = Printed::default();
        let (reporter, _console) =
            Reporter::start(Format::Json, platform.clock(), printed.clone(), std::io::sink()).unwrap();
        let (signals, counted) = watch::channel(0);
        let entropy = platform.entropy.clone();
        let running = Box::pin(agent::run(config, clock, entropy, reporter, counted));
        (running, move |task| Self { signals, task, printed, _connect: connect })
    }

    /// Everything it printed so far.
    pub fn events(&self) -> Vec<Value> {
        let bytes = self.printed.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn named(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == name).collect()
    }

    /// The first event of this name, once it is there.
    pub async fn event(&self, name: &str) -> Value {
        super::until(name, || !self.named(name).is_empty()).await;
        self.named(name).remove(0)
    }

    /// Ends it in the middle of whatever it does.
    pub async fn kill(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }

    pub fn signal(&self) {
        self.signals.send_modify(|count| *count += 1);
    }

    /// How it ended.
    pub async fn exit(&mut self) -> Exit {
        tokio::time::timeout(std::time::Duration::from_secs(45), &mut self.task).await.unwrap().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One on a runtime of its own cannot be aborted.
        self.signals.send_replace(2);
        self.task.abort();
    }
}

/// One platform, one edge, one agent, one tunnel between them.
pub struct Scene {
    pub platform: Arc<Platform>,
    pub edge: Edge,
    pub agent: Agent,
    pub tunnel: Arc<Tunnel>,
}

impl Scene {
    pub async fn with_upstream(upstream: SocketAddr) -> Self {
        Self::on(Platform::new(), upstream).await
    }

    pub async fn on(platform: Arc<Platform>, upstream: SocketAddr) -> Self {
        Self::declared(platform, vec![upstream.to_string().parse().unwrap()]).await
    }

    /// With upstreams of which more is said than where they are.
    pub async fn declared(platform: Arc<Platform>, upstreams: Vec<Declared>) -> Self {
        let edge = Edge::start(&platform);
        let upstreams = Upstreams::new(upstreams).unwrap();
        let agent = Agent::start_with(&platform, &[], |config| config.upstreams = upstreams);
        let tunnel = edge.tunnel(1).await;
        // Until then the warpgate's own probe of the upstream may come in between.
        agent.event("ready").await;
        Self { platform, edge, agent, tunnel }
    }
}

pub fn state(path: &Path) -> StateDir {
    StateDir::open(path).unwrap()
}
