//! A whole cluster on loopback: PostgreSQL, a control node and edges, as real processes with their own data.
//!
//! Every edge has an address of its own (127.0.0.2, 127.0.0.3, …) and the same public port, as machines do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::client::{Target, tls};
use crate::postgres::Postgres;
use crate::program::Program;
use crate::system::free_port;

/// A running process of a cluster, and what it takes to start it again.
#[derive(Debug)]
pub struct Member {
    /// The process; `None` while it is killed.
    program: Option<Program>,
    /// What it said when it was ready.
    pub ready: Value,
    data: Arc<TempDir>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Member {
    async fn start(
        data: Arc<TempDir>,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        let mut member = Self { program: None, ready: Value::Null, data, arguments, environment };
        member.run(&[]).await?;
        Ok(member)
    }

    /// Starts it on the data that is there, with `more` arguments, and waits until it is ready.
    pub async fn run(&mut self, more: &[&str]) -> anyhow::Result<()> {
        let program = self.spawn(more)?;
        self.ready = program.event("ready").await?;
        self.program = Some(program);
        Ok(())
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&self, more: &[&str]) -> anyhow::Result<Program> {
        let words: Vec<&str> =
            self.arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Program::start("mezusphere", &words, &environment)
    }

    /// Kills it at once (SIGKILL).
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.take().context("it runs")?.kill().await
    }

    /// The process.
    pub fn program(&mut self) -> anyhow::Result<&mut Program> {
        self.program.as_mut().context("it was killed")
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// What it was started with, `serve` first.
    pub fn words(&self) -> Vec<String> {
        self.arguments.clone()
    }

    /// The join token it was started with.
    pub fn token(&self) -> Option<&str> {
        let token = self.environment.iter().find(|(name, _)| name == "MEZUSPHERE_JOIN");
        token.map(|(_, value)| value.as_str())
    }
}

/// An edge of a cluster.
#[derive(Debug)]
pub struct EdgeMember {
    /// The process.
    pub member: Member,
    /// What people call it.
    pub name: String,
    /// Where it listens.
    pub address: IpAddr,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The database.
    pub postgres: Postgres,
    /// The control node.
    pub control: Member,
    /// The edges, in the order they joined.
    pub edges: Vec<EdgeMember>,
    /// The public port of every edge.
    pub port: u16,
    flags: Vec<String>,
}

impl Cluster {
    /// Starts PostgreSQL, one control node and `edges` edges; `flags` go to the control node.
    pub async fn start(edges: usize, flags: &[&str]) -> anyhow::Result<Self> {
        let postgres = Postgres::start().await?;
        let port = shared_port(edges)?;
        let data = Arc::new(tempfile::tempdir()?);
        let node_port = free_port()?;
        let mut words =
            ["serve", "--json", "--role", "control", "--name", "control-1"].map(str::to_owned).to_vec();
        let node = SocketAddr::from((Ipv4Addr::LOCALHOST, node_port)).to_string();
        words.extend(["--data".to_owned(), data.path().display().to_string()]);
        words.extend(["--public-port".to_owned(), port.to_string()]);
        words.extend(["--node-listen".to_owned(), node.clone(), "--node-advertise".to_owned(), node]);
        words.extend(flags.iter().map(|&flag| flag.to_owned()));
        let environment = vec![("MEZUSPHERE_STORE".to_owned(), postgres.url())];
        let control = Member::start(data, words, environment).await?;
        let mut cluster = Self { postgres, control, edges: Vec::new(), port, flags: Vec::new() };
        for _ in 0..edges {
            cluster.add_edge().await?;
        }
        Ok(cluster)
    }

    /// Invites one more edge and starts it.
    pub async fn add_edge(&mut self) -> anyhow::Result<()> {
        let number = self.edges.len() + 1;
        let name = format!("edge-{number}");
        let invited = self.admin().run(&["edge", "invite", &name, "--region", "test"]).await?;
        let token = invited.get("token").and_then(Value::as_str).context("a token is printed once")?;
        let address = address(number)?;
        let at = SocketAddr::from((address, self.port)).to_string();
        let data = Arc::new(tempfile::tempdir()?);
        let mut words = ["serve", "--json", "--role", "edge", "--name"].map(str::to_owned).to_vec();
        words.extend([name.clone(), "--data".to_owned(), data.path().display().to_string()]);
        words.extend(["--listen".to_owned(), at.clone(), "--advertise".to_owned(), at]);
        words.extend(self.flags.iter().cloned());
        // The token is used up by the first start; later ones find the variable and must not mind.
        let environment = vec![("MEZUSPHERE_JOIN".to_owned(), token.to_owned())];
        let member = Member::start(data, words, environment).await?;
        self.edges.push(EdgeMember { member, name, address: address.into() });
        Ok(())
    }

    /// Admin commands on the control node.
    pub fn admin(&self) -> Admin {
        Admin::of(self.control.data())
    }

    /// The root certificate that signed the public certificates, PEM.
    pub fn roots(&self) -> PathBuf {
        self.control.data().join("ca.pem")
    }

    /// `https://host:port/path` on one edge, as a client's target.
    pub fn target(&self, edge: usize, host: &str, path: &str) -> anyhow::Result<Target> {
        let mut target = Target::parse(&self.url(host, path))?;
        target.address.set_ip(self.edges.get(edge).context("an edge")?.address);
        Ok(target)
    }

    /// `https://host:port/path`.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.port)
    }

    /// A client's TLS configuration that trusts this installation.
    pub fn tls(&self, alpn: &[u8]) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        Ok(Arc::new(tls(&self.roots(), &[alpn])?))
    }

    /// Waits until every edge knows a route for this path.
    pub async fn routes(&self, host: &str, path: &str) -> anyhow::Result<()> {
        for edge in 0..self.edges.len() {
            let known = |status| status != http::StatusCode::NOT_FOUND;
            crate::client::h1::until(&self.target(edge, host, path)?, &self.tls(b"http/1.1")?, known).await?;
        }
        Ok(())
    }
}

/// The first edge is where names under `localhost` lead.
fn address(number: usize) -> anyhow::Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(127, 0, 0, u8::try_from(number).context("few edges")?))
}

/// A port that was free a moment ago on the addresses of so many edges, and of a few that may join later.
fn shared_port(edges: usize) -> anyhow::Result<u16> {
    for _ in 0..100 {
        let port = free_port()?;
        let is_free = |number| {
            let at = (address(number)?, port);
            anyhow::Ok(TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok())
        };
        if (1..=edges + 2).map(is_free).collect::<anyhow::Result<Vec<bool>>>()?.iter().all(|free| *free) {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free on all addresses")
}
