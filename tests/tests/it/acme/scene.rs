//! An installation, an authority, and a DNS between them; what clients that trust the authority's root are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mezusphere_tests::pebble::{Habits, Names, Pebble};
use mezusphere_tests::system::{Node, free_port};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an order may take on a slow machine: the server's and pebble's own waits come to a few seconds.
pub(super) const ORDERED_WITHIN: Duration = Duration::from_mins(1);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long one handshake may take.
const SHAKES_WITHIN: Duration = Duration::from_secs(10);

/// Whether the long forms are wanted.
pub(super) fn is_full() -> bool {
    std::env::var_os("MEZU_FULL").is_some()
}

/// An installation with its authority.
pub(super) struct Scene {
    pub(super) names: Names,
    pub(super) pebble: Pebble,
    pub(super) node: Node,
}

impl Scene {
    /// Starts all three; `flags` are for `serve`.
    pub(super) async fn start(habits: &Habits, flags: &[&str]) -> Result<Self> {
        Self::start_through(habits, &[], flags).await
    }

    /// The same, the server through `way`.
    pub(super) async fn start_through(habits: &Habits, way: &[&str], flags: &[&str]) -> Result<Self> {
        let names = Names::start(Ipv4Addr::LOCALHOST).await?;
        let (port, plain) = (free_port()?, free_port()?);
        let pebble = Pebble::start(habits, &names, (plain, port)).await?;
        let ordering = pebble.flags();
        let flags: Vec<&str> = ordering.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let node = Node::start_at((port, plain), way, &flags).await?;
        Ok(Self { names, pebble, node })
    }

    /// Where the node is.
    pub(super) fn at(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.node.port))
    }

    /// Waits until a client that trusts the authority is served at `host`; gives the leaf.
    pub(super) async fn served(&self, host: &str) -> Result<Vec<u8>> {
        let root = self.pebble.root();
        let served = until(ORDERED_WITHIN, async || leaf(self.at(), host, &root, None).await).await;
        match served {
            Ok(leaf) => Ok(leaf),
            Err(why) => {
                let told = self.node.admin(&["certificate", "list"]).await;
                let log = self.node.server.output().join("\n");
                Err(why.context(format!("{host}: {told:#?}\nserver:\n{log}")))
            }
        }
    }

    /// What the operator is told of a certificate, with its time-line.
    pub(super) async fn certificate(&self, name: &str) -> Result<Value> {
        self.node.admin(&["certificate", "show", name]).await
    }
}

/// Tries until it works.
pub(super) async fn until<T>(within: Duration, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    let search = async {
        loop {
            match ask().await {
                Ok(found) => return found,
                Err(why) => last = Some(why),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(within, search).await {
        Ok(found) => Ok(found),
        Err(_) => Err(last.unwrap_or_else(|| anyhow::anyhow!("nothing came")).context("time ran out")),
    }
}

#[derive(Debug)]
struct Moment(UnixTime);

impl TimeProvider for Moment {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// The leaf that `host` is served with at `at`, if it and its chain are good for a client that trusts `root`; `when`: for a
/// client whose clock says so.
pub(super) async fn leaf(at: SocketAddr, host: &str, root: &Path, when: Option<UnixTime>) -> Result<Vec<u8>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = match when {
        None => rustls::ClientConfig::builder_with_provider(provider),
        Some(when) => rustls::ClientConfig::builder_with_details(provider, Arc::new(Moment(when))),
    };
    let mut config =
        builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let shake = async {
        let tcp = TcpStream::connect(at).await?;
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let chain = stream.get_ref().1.peer_certificates().context("a chain")?;
        anyhow::Ok(chain.first().context("a leaf")?.as_ref().to_vec())
    };
    tokio::time::timeout(SHAKES_WITHIN, shake).await.context("the handshake does not end")?
}
