//! A control node, an edge of its own and warpgates, as real processes whose wall clocks a test moves with libfaketime.
//!
//! All read their offset from one file, so that one write moves them all at once; whoever is started with a file of its own
//! has a clock that is wrong. What is measured with a monotonic clock goes on as it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mezusphere_tests::admin::{Admin, Shop};
use mezusphere_tests::client::{Target, h1, tls};
use mezusphere_tests::program::Program;
use mezusphere_tests::system::free_port;
use mezusphere_tests::upstream::Upstream;
use serde_json::Value;
use tempfile::TempDir;

/// Where Debian's `faketime` package has its library, below the directory of the architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// How long libfaketime keeps what it read of its file, in seconds.
const OFFSET_CACHED_S: &str = "1";

/// A clock that processes are started with.
#[derive(Clone, Debug)]
pub(super) struct FakeClock {
    file: PathBuf,
    library: PathBuf,
}

impl FakeClock {
    /// One that is right, until it is moved.
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self> {
        let mut library = None;
        for entry in std::fs::read_dir(LIBRARIES)? {
            let at = entry?.path().join(LIBRARY);
            if at.exists() {
                library = Some(at);
            }
        }
        let library =
            library.context("libfaketime is missing; scripts/test installs the package faketime")?;
        let clock = Self { file: folder.join(name), library };
        clock.set(0)?;
        Ok(clock)
    }

    /// Puts it so many seconds ahead of the time, or behind it.
    pub(super) fn set(&self, ahead_s: i64) -> Result<()> {
        // Renamed into place: a process must never read half of it.
        let whole = self.file.with_extension("new");
        std::fs::write(&whole, format!("{ahead_s:+}s\n"))?;
        Ok(std::fs::rename(&whole, &self.file)?)
    }

    fn environment(&self) -> Vec<(String, String)> {
        let own = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", OFFSET_CACHED_S.to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        own.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// Starts a program whose clock this is.
    pub(super) fn start(
        &self,
        name: &str,
        words: &[String],
        environment: &[(&str, &str)],
    ) -> Result<Program> {
        let own = self.environment();
        let all: Vec<(&str, &str)> = own
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(environment.iter().copied())
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Program::start(name, &words, &all)
    }
}

/// The installation.
pub(super) struct Place {
    pub(super) folder: Arc<TempDir>,
    /// The clock of everybody.
    pub(super) clock: FakeClock,
    pub(super) upstream: Upstream,
    pub(super) shop: Shop,
    pub(super) control: Option<Program>,
    pub(super) edge: Option<Program>,
    pub(super) port: u16,
    node_port: u16,
    flags: Vec<String>,
}

impl Place {
    /// Starts control and edge, and seeds the shop; `flags` go to control.
    pub(super) async fn start(flags: &[&str]) -> Result<Self> {
        let folder = Arc::new(tempfile::tempdir()?);
        let clock = FakeClock::new(folder.path(), "clock")?;
        let (port, node_port) = (free_port()?, free_port()?);
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let upstream = Upstream::start().await?;
        let control = start_control(&clock, folder.path(), port, node_port, &flags).await?;
        let admin = Admin::of(&folder.path().join("control"));
        let invited = admin.run(&["edge", "invite", "edge-1", "--region", "test"]).await?;
        let token = invited.get("token").and_then(Value::as_str).context("a token is printed once")?;
        let edge =
            clock.start("mezusphere", &edge_words(folder.path(), port), &[("MEZUSPHERE_JOIN", token)])?;
        edge.event("ready").await?;
        let shop = admin.seed_shop().await?;
        let place = Self {
            folder,
            clock,
            upstream,
            shop,
            control: Some(control),
            edge: Some(edge),
            port,
            node_port,
            flags,
        };
        let known = |status| status != http::StatusCode::NOT_FOUND;
        h1::until(&place.target("/account/")?, &place.tls()?, known).await?;
        Ok(place)
    }

    /// Admin commands on the control node.
    pub(super) fn admin(&self) -> Admin {
        Admin::of(&self.folder.path().join("control"))
    }

    /// A path of the shop at the edge.
    pub(super) fn target(&self, path: &str) -> Result<Target> {
        Target::parse(&format!("https://{}:{}{path}", self.shop.host, self.port))
    }

    /// A client's TLS that trusts the installation.
    pub(super) fn tls(&self) -> Result<Arc<rustls::ClientConfig>> {
        Ok(Arc::new(tls(&self.folder.path().join("control/ca.pem"), &[b"http/1.1"])?))
    }

    /// Waits until a public request goes through a tunnel.
    pub(super) async fn tunnelled(&self) -> Result<()> {
        h1::until(&self.target("/up")?, &self.tls()?, |status| status == http::StatusCode::OK).await
    }

    /// Starts a warpgate with `clock` that keeps its identity in the folder `state`.
    pub(super) fn warpgate(&self, clock: &FakeClock, state: &str) -> Result<Program> {
        let state = self.folder.path().join(state).display().to_string();
        let words =
            ["connect", "--output", "json", "--upstream", &self.upstream.url(), "--state-dir", &state];
        clock.start("warpgate", &words.map(str::to_owned), &[("WARPGATE_KEY", &self.shop.connection_key)])
    }

    /// Ends the control node.
    pub(super) async fn stop_control(&mut self) -> Result<()> {
        end(self.control.take()).await
    }

    /// Starts it again.
    pub(super) async fn start_control(&mut self) -> Result<()> {
        let (folder, flags) = (self.folder.path(), &self.flags);
        self.control = Some(start_control(&self.clock, folder, self.port, self.node_port, flags).await?);
        Ok(())
    }

    /// Ends the edge.
    pub(super) async fn stop_edge(&mut self) -> Result<()> {
        end(self.edge.take()).await
    }

    /// Starts it again on what it kept, without a token.
    pub(super) fn start_edge(&mut self) -> Result<&Program> {
        let edge = self.clock.start("mezusphere", &edge_words(self.folder.path(), self.port), &[])?;
        Ok(self.edge.insert(edge))
    }
}

/// Ends a program in order.
pub(super) async fn end(program: Option<Program>) -> Result<()> {
    let mut program = program.context("it runs")?;
    program.signal("TERM").await?;
    program.exit_code().await?;
    Ok(())
}

async fn start_control(
    clock: &FakeClock,
    folder: &Path,
    port: u16,
    node_port: u16,
    flags: &[String],
) -> Result<Program> {
    let node = SocketAddr::from((Ipv4Addr::LOCALHOST, node_port)).to_string();
    let data = folder.join("control").display().to_string();
    let mut words = ["serve", "--json", "--role", "control", "--store", "sqlite", "--data", &data]
        .map(str::to_owned)
        .to_vec();
    words.extend(["--public-port".to_owned(), port.to_string()]);
    words.extend(["--node-listen".to_owned(), node.clone(), "--node-advertise".to_owned(), node]);
    words.extend(flags.iter().cloned());
    let control = clock.start("mezusphere", &words, &[])?;
    control.event("ready").await?;
    Ok(control)
}

fn edge_words(folder: &Path, port: u16) -> Vec<String> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let data = folder.join("edge").display().to_string();
    [
        "serve",
        "--json",
        "--role",
        "edge",
        "--name",
        "edge-1",
        "--data",
        &data,
        "--listen",
        &at,
        "--advertise",
        &at,
    ]
    .map(str::to_owned)
    .to_vec()
}
