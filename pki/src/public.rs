//! Certificates strangers see: reading them from PEM, choosing one by host name, and the TLS a browser meets.

use std::sync::Arc;

use mezusphere_model::{Clock, Host, Timestamp};
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

use crate::certificate;
use crate::provider::{RustlsClock, provider};
use crate::tls::{TlsSetupError, owned};

/// Session tickets sent after a full TLS 1.3 handshake: one for each of the two connections a browser opens.
pub const TICKETS_PER_HANDSHAKE: usize = 2;

/// Longest PEM text of a chain or a key, in octets.
pub const PEM_LEN_MAX: usize = 256 * 1024;

/// Most certificates in a public chain.
pub const PUBLIC_CHAIN_LEN_MAX: usize = 10;

/// A public certificate with its key, ready for handshakes.
#[derive(Clone, Debug)]
pub struct PublicCertificate {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a public certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicCertificateError {
    /// Longer than [`PEM_LEN_MAX`].
    #[error("the certificate or key is longer than {PEM_LEN_MAX} octets")]
    TooLong,
    /// No certificate in the text, or one that cannot be read.
    #[error("the certificate file holds no certificate (PEM, leaf first)")]
    NoCertificate,
    /// More than [`PUBLIC_CHAIN_LEN_MAX`].
    #[error("the certificate file holds {0} certificates; at most {PUBLIC_CHAIN_LEN_MAX} are shown")]
    ChainTooLong(usize),
    /// No key in the text, or one of a kind we cannot sign with.
    #[error("the key file holds no private key we can use (PEM: PKCS #8, PKCS #1 or SEC 1)")]
    NoKey,
    /// The two files are not a pair.
    #[error("the private key does not belong to the certificate: the files are not a pair")]
    NotAPair,
    /// The first certificate is a CA's: the files are in the wrong order.
    #[error("the first certificate in the file is a CA's; the server's own must come first")]
    CaFirst,
    /// A certificate without a DNS name: no client accepts it.
    #[error("the certificate names no host (subjectAltName)")]
    NoNames,
    /// Ended.
    #[error("the certificate ended at {not_after}; the time here is {now}")]
    Expired {
        /// When it ended.
        not_after: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// Not begun.
    #[error("the certificate is valid only from {not_before}; the time here is {now}: is the clock right?")]
    NotYetValid {
        /// When it begins.
        not_before: Timestamp,
        /// The time here.
        now: Timestamp,
    },
}

impl PublicCertificate {
    /// Reads a chain (leaf first) and its key, and checks that they are a pair and valid at `now`.
    pub fn from_pem(chain_pem: &str, key_pem: &str, now: Timestamp) -> Result<Self, PublicCertificateError> {
        use PublicCertificateError as E;
        if chain_pem.len() > PEM_LEN_MAX || key_pem.len() > PEM_LEN_MAX {
            return Err(E::TooLong);
        }
        let chain = certificate::from_pem(chain_pem).map_err(|_| E::NoCertificate)?;
        if chain.len() > PUBLIC_CHAIN_LEN_MAX {
            return Err(E::ChainTooLong(chain.len()));
        }
        let leaf = chain.first().ok_or(E::NoCertificate)?;
        let facts = certificate::facts(leaf).map_err(|_| E::NoCertificate)?;
        if facts.is_ca {
            return Err(E::CaFirst);
        }
        let names: Vec<String> = facts.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if names.is_empty() {
            return Err(E::NoNames);
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| E::NoKey)?;
        let key = provider().key_provider.load_private_key(key).map_err(|_| E::NoKey)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| E::NotAPair)?;
        if now > facts.not_after {
            return Err(E::Expired { not_after: facts.not_after, now });
        }
        if now < facts.not_before {
            return Err(E::NotYetValid { not_before: facts.not_before, now });
        }
        Ok(Self {
            certified: Arc::new(certified),
            names,
            not_before: facts.not_before,
            not_after: facts.not_after,
        })
    }

    /// What a resolver gives to rustls.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// The DNS names in it, lower-case; `*.` in front of one stands for any single label.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// From when it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether a client that asked for `host` accepts this certificate.
    pub fn covers(&self, host: &Host) -> bool {
        covers(&self.names, host)
    }
}

/// Whether one of a certificate's DNS names stands for `host`: the same name, or `*.` in place of its first
/// label only (RFC 9525 §6.3).
pub fn covers(names: &[String], host: &Host) -> bool {
    let host = host.as_str();
    let parent = host.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| match name.strip_prefix("*.") {
        Some(rest) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(rest)),
        None => name.eq_ignore_ascii_case(host),
    })
}

/// The TLS strangers meet: 1.2 (ECDHE with AEAD only) and 1.3, X25519MLKEM768 preferred, no client
/// certificate asked, no 0-RTT.
///
/// Resumption is stateless: tickets are sealed with a key that this configuration makes and changes every six
/// hours, so nothing is kept per client, and a restart costs each client one full handshake.
pub fn public_server_config(
    resolver: Arc<dyn ResolvesServerCert>,
    clock: &Clock,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsSetupError> {
    let mut config = ServerConfig::builder_with_details(provider(), RustlsClock::shared(clock))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
    config.max_early_data_size = 0;
    config.alpn_protocols = owned(alpn);
    Ok(config)
}
