//! The public TLS configurations: one for TCP, one for QUIC, with one certificate resolver and one ticket key.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};

use super::PublicCertificates;
use crate::listen::decide::{ALPN_H1, ALPN_H2, ALPN_H3};

/// The public TLS configurations.
#[derive(Clone, Debug)]
pub struct PublicTls {
    /// For TCP: TLS 1.2 and 1.3, `h2` and `http/1.1`.
    pub tcp: Arc<ServerConfig>,
    /// For QUIC: TLS 1.3, `h3`.
    pub quic: Arc<ServerConfig>,
}

/// Why there is no public TLS configuration.
#[derive(Debug, thiserror::Error)]
#[error("the public TLS configuration cannot be made: {0}")]
pub struct PublicTlsError(#[from] rustls::Error);

impl PublicTls {
    /// Configurations that take their certificates from `certificates`, as it stands at each handshake.
    ///
    /// No client certificate is asked for. Sessions resume by tickets whose key lives in this process only and
    /// rotates every six hours; early data (0-RTT) is off, because it can be replayed.
    pub fn new(certificates: &PublicCertificates) -> Result<Self, PublicTlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tickets = aws_lc_rs::Ticketer::new()?;
        let config = |versions: &[&'static rustls::SupportedProtocolVersion], alpn: &[&[u8]]| {
            let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(certificates.clone()));
            config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
            config.ticketer = Arc::clone(&tickets);
            config.max_early_data_size = 0;
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        Ok(Self { tcp: config(&[&TLS13, &TLS12], &[ALPN_H2, ALPN_H1])?, quic: config(&[&TLS13], &[ALPN_H3])? })
    }
}
