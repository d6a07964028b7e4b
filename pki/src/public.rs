//! Certificates strangers see: reading them from PEM, and which names they stand for. The TLS that shows one is
//! [`PublicTls`]; its session tickets are [`TicketKeys`]'.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use mezusphere_model::{Host, Timestamp};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::certificate;
use crate::lifetime::SKEW_MAX;
use crate::provider::provider;

mod shown;
mod suites;
mod tickets;

pub use self::shown::{PublicTls, TICKETS_PER_HANDSHAKE};
pub use self::tickets::{TICKET_KEY_LIFE, TICKET_LEN_MAX, TicketKeys};

/// Longest PEM text of a chain or a key, in octets.
pub const PEM_LEN_MAX: usize = 256 * 1024;

/// Most certificates in a public chain.
pub const PUBLIC_CHAIN_LEN_MAX: usize = 10;

/// A public certificate with its key, ready for handshakes.
#[derive(Clone, Debug)]
pub struct PublicCertificate {
    certified: Arc<CertifiedKey>,
    /// SHA-256 of the leaf: tells this certificate from every other, the next of the same names too.
    digest: [u8; SHA256_OUTPUT_LEN],
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
    /// Not begun, by more than clocks may disagree.
    #[error("the certificate is valid only from {not_before}; the time here is {now}: is the clock right?")]
    NotYetValid {
        /// When it begins.
        not_before: Timestamp,
        /// The time here.
        now: Timestamp,
    },
}

impl PublicCertificate {
    /// Reads a chain (leaf first) and its key, and checks that they are a pair and valid at `now`, or within [`SKEW_MAX`]:
    /// then it is rather this clock that is late, and clients go by their own.
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
        let digest = leaf_digest(leaf).ok_or(E::NoCertificate)?;
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
        if now.after(SKEW_MAX) < facts.not_before {
            return Err(E::NotYetValid { not_before: facts.not_before, now });
        }
        Ok(Self {
            certified: Arc::new(certified),
            digest,
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

fn leaf_digest(leaf: &CertificateDer<'_>) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    digest(&SHA256, leaf).as_ref().try_into().ok()
}

/// Whether one of a certificate's DNS names stands for `host`: the same name, or `*.` in place of its first
/// label only (RFC 9525 §6.3).
pub fn covers(names: &[String], host: &Host) -> bool {
    covers_name(names, host.as_str())
}

fn covers_name(names: &[String], host: &str) -> bool {
    let parent = host.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| match name.strip_prefix("*.") {
        Some(rest) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(rest)),
        None => name.eq_ignore_ascii_case(host),
    })
}
