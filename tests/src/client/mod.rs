//! Outside clients: they know a URL and a root certificate, nothing of the product.

pub mod browser;
pub mod h1;
pub mod h2;
pub mod h3;
pub mod ws;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

/// Where to send requests.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host and port as a browser shows them.
    pub authority: String,
    /// Host alone.
    pub host: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads `https://host[:port]/path`. Names under `localhost` are loopback (RFC 6761 §6.3); others must be addresses.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: http::Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
        let authority = uri.authority().context("a URL needs a host")?;
        let host = authority.host().to_owned();
        let ip = match host.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) if host == "localhost" || host.ends_with(".localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Err(_) => anyhow::bail!("{host}: this client resolves only names under localhost"),
        };
        Ok(Self {
            address: SocketAddr::new(ip, authority.port_u16().unwrap_or(443)),
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
            host,
        })
    }

    /// The name for TLS.
    pub fn server_name(&self) -> anyhow::Result<ServerName<'static>> {
        Ok(ServerName::try_from(self.host.clone())?)
    }
}

/// The root certificates in a PEM file.
pub fn roots(file: &Path) -> anyhow::Result<rustls::RootCertStore> {
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(|| file.display().to_string())? {
        store.add(certificate?)?;
    }
    Ok(store)
}

/// A TLS client configuration that trusts the root certificates in a PEM file and nothing else.
pub fn tls(roots: &Path, alpn: &[&[u8]]) -> anyhow::Result<rustls::ClientConfig> {
    let store = self::roots(roots)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}
