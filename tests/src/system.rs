//! A whole installation on loopback: server, warpgate and workload, as real processes with their own data.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::admin::{Admin, Shop};
use crate::client::{self, Target};
use crate::program::{self, Program};

/// A port that was free a moment ago on TCP and UDP.
pub fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = tcp.local_addr()?.port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free on TCP and UDP")
}

/// A running server with its own data directory.
#[derive(Debug)]
pub struct Node {
    /// The server.
    pub server: Program,
    /// The public port.
    pub port: u16,
    /// The port of plain HTTP.
    pub plain_port: u16,
    /// What it said when it was ready.
    pub ready: Value,
    data: Arc<TempDir>,
    way: Vec<String>,
    arguments: Vec<String>,
}

impl Node {
    /// Starts a new installation, with `more` arguments for `serve`.
    pub async fn start(more: &[&str]) -> anyhow::Result<Self> {
        Self::start_through(&[], more).await
    }

    /// The same through `way`, a command that runs another in its own place.
    pub async fn start_through(way: &[&str], more: &[&str]) -> anyhow::Result<Self> {
        Self::start_at((free_port()?, free_port()?), way, more).await
    }

    /// The same at these ports, the public one and that of plain HTTP.
    pub async fn start_at(
        (port, plain_port): (u16, u16),
        way: &[&str],
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let data = Arc::new(tempfile::tempdir()?);
        let way = way.iter().map(|&word| word.to_owned()).collect();
        let mut arguments: Vec<String> = ["serve", "--json", "--data"].map(str::to_owned).to_vec();
        arguments.push(data.path().display().to_string());
        arguments.extend(["--listen".to_owned(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()]);
        arguments
            .extend(["--http".to_owned(), SocketAddr::from((Ipv4Addr::LOCALHOST, plain_port)).to_string()]);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        Self::launch(way, arguments, port, plain_port, data).await
    }

    /// Kills the server at once and starts it again on the same data and ports.
    pub async fn kill_and_restart(self) -> anyhow::Result<Self> {
        let Self { server, port, plain_port, data, way, arguments, .. } = self;
        server.kill().await?;
        Self::launch(way, arguments, port, plain_port, data).await
    }

    /// Ends the server and keeps its data and ports for later.
    pub async fn stop(self) -> anyhow::Result<Stopped> {
        let Self { mut server, port, plain_port, data, way, arguments, .. } = self;
        server.signal("TERM").await?;
        server.exit_code().await?;
        server.event("stopped").await?;
        Ok(Stopped { port, plain_port, data, way, arguments })
    }

    async fn launch(
        way: Vec<String>,
        arguments: Vec<String>,
        port: u16,
        plain_port: u16,
        data: Arc<TempDir>,
    ) -> anyhow::Result<Self> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let through: Vec<&str> = way.iter().map(String::as_str).collect();
        let server = Program::start_through(&through, "mezusphere", &words, &[])?;
        let ready = server.event("ready").await?;
        Ok(Self { server, port, plain_port, ready, data, way, arguments })
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The root certificate that signed its public certificates, PEM.
    pub fn roots(&self) -> PathBuf {
        self.data.path().join("ca.pem")
    }

    /// Its admin commands.
    pub fn console(&self) -> Admin {
        Admin::of(self.data())
    }

    /// Runs an admin command and gives its JSON answer; a failing one is an error with what it said.
    pub async fn admin(&self, words: &[&str]) -> anyhow::Result<Value> {
        self.console().run(words).await
    }

    /// Runs an admin command whatever comes of it.
    pub async fn try_admin(&self, words: &[&str]) -> anyhow::Result<std::process::Output> {
        self.console().try_run(words).await
    }

    /// `https://host:port/path` on this node, as a client's target.
    pub fn target(&self, host: &str, path: &str) -> anyhow::Result<Target> {
        Target::parse(&format!("https://{host}:{}{path}", self.port))
    }

    /// A client's TLS configuration that trusts this installation.
    pub fn tls(&self, alpn: &[u8]) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        Ok(Arc::new(client::tls(&self.roots(), &[alpn])?))
    }

    /// Waits until the edge answers for a host at all: certificate and site come over the feed, a moment after they were made.
    pub async fn serves(&self, host: &str) -> anyhow::Result<()> {
        client::h1::until(&self.target(host, "/")?, &self.tls(b"http/1.1")?, |_| true).await
    }

    /// Waits until the edge knows a route for this path.
    pub async fn routes(&self, host: &str, path: &str) -> anyhow::Result<()> {
        let known = |status| status != http::StatusCode::NOT_FOUND;
        client::h1::until(&self.target(host, path)?, &self.tls(b"http/1.1")?, known).await
    }

    /// Waits until a public request goes through a tunnel: a warpgate notices a restart and dials again.
    pub async fn tunnelled(&self, host: &str) -> anyhow::Result<()> {
        let answered = |status| status == http::StatusCode::OK;
        client::h1::until(&self.target(host, "/up")?, &self.tls(b"http/1.1")?, answered).await
    }

    /// [`Admin::seed_shop`], known at the edge.
    pub async fn seed_shop(&self) -> anyhow::Result<Shop> {
        let shop = self.console().seed_shop().await?;
        self.routes(&shop.host, "/account/").await?;
        Ok(shop)
    }

    /// Connects a warpgate for `key` that forwards to `upstream`, and waits until it is ready.
    pub async fn connect(&self, key: &str, upstream: &str) -> anyhow::Result<Program> {
        connect(key, upstream).await
    }
}

/// Connects a warpgate for `key` that forwards to `upstream`, and waits until it is ready.
pub async fn connect(key: &str, upstream: &str) -> anyhow::Result<Program> {
    let arguments = ["connect", "--output", "json", "--upstream", upstream];
    let gate = Program::start("warpgate", &arguments, &[("WARPGATE_KEY", key)])?;
    gate.event("ready").await?;
    Ok(gate)
}

/// A server that was stopped, with its data.
#[derive(Debug)]
pub struct Stopped {
    port: u16,
    plain_port: u16,
    data: Arc<TempDir>,
    way: Vec<String>,
    arguments: Vec<String>,
}

impl Stopped {
    /// Gives it more arguments from now on.
    pub fn add_flags(&mut self, more: &[&str]) {
        self.arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    }

    /// Starts it where it must fail; gives its exit code and what it said.
    pub async fn fails_to_start(&self) -> anyhow::Result<(i32, String)> {
        let words: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        program::run("mezusphere", &words, &[]).await
    }

    /// Starts it again on the same data and ports.
    pub async fn start_again(self) -> anyhow::Result<Node> {
        Node::launch(self.way, self.arguments, self.port, self.plain_port, self.data).await
    }
}
