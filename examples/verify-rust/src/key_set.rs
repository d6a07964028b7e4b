//! The key set of the installation: fetched once, kept, and fetched again when an assertion names a key that is not in it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::assertion::{self, Key};

/// How long the set is used without looking again: as long as it says by `cache-control`.
const KEPT_FOR: Duration = Duration::from_mins(5);

/// Between two fetches, whatever assertions name: an invented key must not turn requests into fetches.
const FETCH_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How long a fetch may take.
const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// Largest key set, in octets.
const LEN_MAX: usize = 64 * 1024;

/// Where the keys come from.
pub(crate) enum Source {
    /// `https://<a host of the application>/.mezu/jwks.json`.
    Url(Uri, Arc<rustls::ClientConfig>),
    /// A file that somebody keeps up to date.
    File(PathBuf),
}

/// The keys.
pub(crate) struct KeySet {
    source: Source,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: HashMap<String, Key>,
    fetched: Option<Instant>,
}

impl KeySet {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, held: Mutex::default() }
    }

    /// The key of this name. The set is fetched again if it is old, or if it does not have the key.
    pub(crate) async fn find(&self, kid: &str) -> anyhow::Result<Option<Key>> {
        let mut held = self.held.lock().await;
        let age = held.fetched.map(|at| at.elapsed());
        let is_missing = !held.keys.contains_key(kid);
        let is_due = age.is_none_or(|age| age >= KEPT_FOR || (is_missing && age >= FETCH_AGAIN_AFTER));
        if is_due {
            let set = tokio::time::timeout(FETCH_WITHIN, self.source.read()).await.context("time ran out")?;
            match set {
                Ok(set) => {
                    held.keys = assertion::keys(&set).into_iter().map(|key| (key.kid.clone(), key)).collect();
                    held.fetched = Some(Instant::now());
                }
                // What is held still verifies; keys are announced long before they sign.
                Err(_) if !held.keys.is_empty() => {}
                Err(why) => return Err(why.context("the key set cannot be read")),
            }
        }
        Ok(held.keys.get(kid).cloned())
    }
}

impl Source {
    async fn read(&self) -> anyhow::Result<serde_json::Value> {
        let text = match self {
            Self::File(path) => tokio::fs::read(path).await?,
            Self::Url(url, tls) => fetch(url, tls).await?,
        };
        Ok(serde_json::from_slice(&text)?)
    }
}

async fn fetch(url: &Uri, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Vec<u8>> {
    let host = url.host().context("the address names no host")?.to_owned();
    // Names under localhost are loopback (RFC 6761 §6.3), which not every resolver knows.
    let address = if host.ends_with(".localhost") { "127.0.0.1" } else { &host };
    let tcp = TcpStream::connect((address, url.port_u16().unwrap_or(443))).await?;
    let name = ServerName::try_from(host)?;
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender, at the end of this function.
    let driver = tokio::spawn(connection);
    let request = Request::get(url.path())
        .header(header::HOST, url.authority().map(http::uri::Authority::as_str).unwrap_or_default())
        .body(Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status() == StatusCode::OK, "{url} answered {}", response.status());
    let body = Limited::new(response.into_body(), LEN_MAX).collect().await;
    driver.abort();
    Ok(body.map_err(|why| anyhow::anyhow!("{why}"))?.to_bytes().to_vec())
}

/// A TLS configuration that trusts the roots in a PEM file; the system's if there is none.
pub(crate) fn tls(ca: Option<&PathBuf>) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(path) => {
            let context = || format!("cannot read {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
                roots.add(certificate?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
