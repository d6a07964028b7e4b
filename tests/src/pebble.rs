//! A certificate authority of one's own: Debian's pebble, with the DNS server that its tests bring, both as child processes on
//! free ports.
//!
//! Pebble forgets everything when it ends, its own CA included; [`Pebble::restart`] is an authority that lost its state.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::program::Program;
use crate::system::free_port;

/// How long a question to pebble or its DNS may take.
const ASKED_WITHIN: Duration = Duration::from_secs(20);

/// The key of the external account that pebble knows as `kid-1`, as its documentation has it.
pub const EXTERNAL_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// How an authority behaves.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Of a hundred good nonces, how many it refuses.
    pub bad_nonces: u8,
    /// Longest wait before it looks whether a name is proven, in seconds; 0: none.
    pub sleeps: u8,
    /// How long its certificates are good.
    pub validity: Duration,
    /// Whether it wants to know an external account.
    pub external_account: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { bad_nonces: 50, sleeps: 0, validity: Duration::from_hours(90 * 24), external_account: false }
    }
}

/// A DNS server of the tests' own: every name leads to one address, TXT records are what it is told.
#[derive(Debug)]
pub struct Names {
    _program: Program,
    /// Where it answers, UDP and TCP.
    pub at: SocketAddr,
    manage: u16,
}

impl Names {
    /// Starts it; every name leads to `address`.
    pub async fn start(address: Ipv4Addr) -> anyhow::Result<Self> {
        let (dns, manage) = (free_port()?, free_port()?);
        let (at, manager) = (format!("127.0.0.1:{dns}"), format!("127.0.0.1:{manage}"));
        let address = address.to_string();
        let words = [
            "-dns01",
            &at,
            "-management",
            &manager,
            "-defaultIPv4",
            &address,
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ];
        let program = Program::start_outside(Path::new("pebble-challtestsrv"), &words)?;
        let names = Self { _program: program, at: SocketAddr::from((Ipv4Addr::LOCALHOST, dns)), manage };
        names.ready().await?;
        Ok(names)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let open = async {
            while self.text("_ready.test", "yes").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(ASKED_WITHIN, open).await.context("pebble-challtestsrv does not start")
    }

    /// Where it is told records, for hooks.
    pub fn manager(&self) -> String {
        format!("http://127.0.0.1:{}", self.manage)
    }

    /// Adds a TXT record.
    pub async fn text(&self, name: &str, value: &str) -> anyhow::Result<()> {
        self.tell("set-txt", &json!({ "host": format!("{name}."), "value": value })).await
    }

    /// Lets a name lead to another address.
    pub async fn address(&self, name: &str, address: Ipv4Addr) -> anyhow::Result<()> {
        let told = json!({ "host": format!("{name}."), "addresses": [address.to_string()] });
        self.tell("add-a", &told).await
    }

    async fn tell(&self, what: &str, told: &serde_json::Value) -> anyhow::Result<()> {
        let url = format!("{}/{what}", self.manager());
        curl(&["--data", &told.to_string(), &url]).await.map(drop)
    }
}

/// A running authority.
#[derive(Debug)]
pub struct Pebble {
    program: Program,
    folder: TempDir,
    port: u16,
    manage: u16,
    dns: SocketAddr,
    public: (u16, u16),
}

impl Pebble {
    /// Starts one that looks for `http` and `https` on these ports, and asks `names`.
    pub async fn start(habits: &Habits, names: &Names, (http, https): (u16, u16)) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        own_certificate(folder.path())?;
        let (port, manage) = (free_port()?, free_port()?);
        let public = (http, https);
        let program = run(habits, folder.path(), (port, manage), names.at, public).await?;
        let pebble = Self { program, folder, port, manage, dns: names.at, public };
        pebble.note_root().await?;
        Ok(pebble)
    }

    /// From its next start on it looks for `http` and `https` on these ports.
    #[must_use]
    pub fn at_ports(self, (http, https): (u16, u16)) -> Self {
        Self { public: (http, https), ..self }
    }

    /// Ends it and starts it again where it was, with nothing it knew before: accounts, orders, its own CA.
    pub async fn restart(self, habits: &Habits) -> anyhow::Result<Self> {
        self.stop().await?.start_again(habits).await
    }

    /// Ends it; nobody answers at its address from now on.
    pub async fn stop(self) -> anyhow::Result<Stopped> {
        let Self { program, folder, port, manage, dns, public } = self;
        program.kill().await?;
        Ok(Stopped { folder, port, manage, dns, public })
    }

    /// What `mezusphere serve` is given to order here.
    pub fn flags(&self) -> Vec<String> {
        let ca = self.ca().display().to_string();
        let url = format!("https://127.0.0.1:{}/dir", self.port);
        ["--acme", &url, "--acme-agree-tos", "--acme-email", "ada@shop.test", "--acme-ca-file", &ca]
            .map(str::to_owned)
            .to_vec()
    }

    /// The root of its server's own certificate, PEM.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The root of the certificates it issues, PEM.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// How many orders it was given.
    pub fn orders(&self) -> usize {
        self.program.output().iter().filter(|line| line.contains("Added order ")).count()
    }

    /// What it said.
    pub fn output(&self) -> Vec<String> {
        self.program.output()
    }

    /// Keeps the root of now, once it answers for both of its ports: it says that it listens a moment before it does.
    async fn note_root(&self) -> anyhow::Result<()> {
        let ca = self.ca().display().to_string();
        let directory = format!("https://127.0.0.1:{}/dir", self.port);
        let root = format!("https://127.0.0.1:{}/roots/0", self.manage);
        let ask = async {
            loop {
                let both =
                    (curl(&["--cacert", &ca, &directory]).await, curl(&["--cacert", &ca, &root]).await);
                match both {
                    (Ok(_), Ok(pem)) => return pem,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let pem = tokio::time::timeout(ASKED_WITHIN, ask).await.context("pebble does not answer")?;
        Ok(std::fs::write(self.root(), pem)?)
    }
}

/// An authority that is away.
#[derive(Debug)]
pub struct Stopped {
    folder: TempDir,
    port: u16,
    manage: u16,
    dns: SocketAddr,
    public: (u16, u16),
}

impl Stopped {
    /// Starts it where it was, with nothing it knew before.
    pub async fn start_again(self, habits: &Habits) -> anyhow::Result<Pebble> {
        let Self { folder, port, manage, dns, public } = self;
        let program = run(habits, folder.path(), (port, manage), dns, public).await?;
        let pebble = Pebble { program, folder, port, manage, dns, public };
        pebble.note_root().await?;
        Ok(pebble)
    }
}

async fn run(
    habits: &Habits,
    folder: &Path,
    (port, manage): (u16, u16),
    dns: SocketAddr,
    (http, https): (u16, u16),
) -> anyhow::Result<Program> {
    let config = json!({ "pebble": {
        "listenAddress": format!("127.0.0.1:{port}"),
        "managementListenAddress": format!("127.0.0.1:{manage}"),
        "certificate": folder.join("server.pem"),
        "privateKey": folder.join("server.key"),
        "httpPort": http,
        "tlsPort": https,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": habits.external_account,
        "externalAccountMACKeys": { "kid-1": EXTERNAL_KEY },
        "certificateValidityPeriod": habits.validity.as_secs(),
    } });
    let file = folder.join("config.json");
    std::fs::write(&file, config.to_string())?;
    let (file, dns) = (file.display().to_string(), dns.to_string());
    let nonces = format!("PEBBLE_WFE_NONCEREJECT={}", habits.bad_nonces);
    let sleeps = match habits.sleeps {
        0 => "PEBBLE_VA_NOSLEEP=1".to_owned(),
        seconds => format!("PEBBLE_VA_SLEEPTIME={seconds}"),
    };
    // Every order is proven anew, so that what is tested is tested each time.
    let words =
        [nonces.as_str(), &sleeps, "PEBBLE_AUTHZREUSE=0", "pebble", "-config", &file, "-dnsserver", &dns];
    let program = Program::start_outside(Path::new("env"), &words)?;
    program.line("its directory", |line| line.contains("ACME directory available")).await?;
    Ok(program)
}

/// Makes the certificate of pebble's own server, which Debian leaves out, and the CA that clients of it are given.
fn own_certificate(folder: &Path) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the authority's own");
    // rcgen's own default: good for centuries, so a moved clock does not shut the authority out.
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let server = params.signed_by(&key, &ca)?;
    std::fs::write(folder.join("ca.pem"), ca.pem())?;
    std::fs::write(folder.join("server.pem"), server.pem())?;
    std::fs::write(folder.join("server.key"), key.serialize_pem())?;
    Ok(())
}

async fn curl(arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail"]).args(arguments).kill_on_drop(true);
    let output =
        tokio::time::timeout(ASKED_WITHIN, command.output()).await.context("curl does not end")??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(output.stdout)
}
