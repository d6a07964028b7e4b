//! What is trusted: roots, the trust domain, and nodes evicted before their certificates end.
//!
//! Several roots may be trusted at once, so that one can replace another while nodes renew. Issuing CAs are
//! not listed: peers show them, and only what a trusted root signed counts.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;

use crate::certificate;
use crate::name::{NameError, SpiffeName, TrustDomain};
use crate::provider::provider;

/// Most roots trusted at once: the old, the new, and room for a change undone half-way.
pub const ROOTS_MAX: usize = 8;

/// Most evicted nodes remembered. An entry is needed only until the node's last certificate ends, a day at most.
pub const DENIED_MAX: usize = 100_000;

/// What a node trusts. Immutable; [`CurrentTrust`] swaps one for the next.
#[derive(Clone, Debug)]
pub struct Trust {
    domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    denied: HashSet<String>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    pub(crate) servers: Arc<WebPkiServerVerifier>,
}

/// Why what was given cannot be trusted as a whole. Keep the last good one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No root at all: nobody could be trusted.
    #[error("there is no root certificate to trust")]
    NoRoots,
    /// More than [`ROOTS_MAX`].
    #[error("there are {0} root certificates; at most {ROOTS_MAX} are trusted at once")]
    TooManyRoots(usize),
    /// More than [`DENIED_MAX`].
    #[error("there are {0} evicted nodes; at most {DENIED_MAX} are remembered")]
    TooManyDenied(usize),
    /// Not a certificate, or not a CA's.
    #[error("a root certificate cannot be used: {0}")]
    Root(String),
    /// The trust domain is misspelt.
    #[error("the trust domain cannot be used: {0}")]
    Domain(NameError),
    /// A root was made for another installation.
    #[error("a root certificate belongs to trust domain {0}, not to this one")]
    OtherDomain(TrustDomain),
    /// The connection key names a root that was not shown.
    #[error("the installation that answered is not the one the connection key was made for")]
    PinNotFound,
}

impl Trust {
    /// Trust in `roots` for nodes of `domain`, except those whose SPIFFE URI is in `denied`.
    pub fn new(
        domain: TrustDomain,
        roots: Vec<CertificateDer<'static>>,
        denied: impl IntoIterator<Item = String>,
    ) -> Result<Self, TrustError> {
        if roots.is_empty() {
            return Err(TrustError::NoRoots);
        }
        if roots.len() > ROOTS_MAX {
            return Err(TrustError::TooManyRoots(roots.len()));
        }
        let denied: HashSet<String> = denied.into_iter().collect();
        if denied.len() > DENIED_MAX {
            return Err(TrustError::TooManyDenied(denied.len()));
        }
        let mut store = RootCertStore::empty();
        for root in &roots {
            let facts = certificate::facts(root).map_err(|error| TrustError::Root(error.to_string()))?;
            if !facts.is_ca {
                return Err(TrustError::Root("it is not a CA".to_owned()));
            }
            if let Some(other) = facts.ca_trust_domain().filter(|found| *found != domain) {
                return Err(TrustError::OtherDomain(other));
            }
            store.add(root.clone()).map_err(|error| TrustError::Root(error.to_string()))?;
        }
        let store = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), provider())
            // Which roots are trusted is nobody's business before they have proved who they are.
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| TrustError::Root(error.to_string()))?;
        let servers = WebPkiServerVerifier::builder_with_provider(store, provider())
            .build()
            .map_err(|error| TrustError::Root(error.to_string()))?;
        Ok(Self { domain, roots, denied, clients, servers })
    }

    /// The same from the texts in a platform document or a bundle.
    pub fn from_pem<'a>(
        domain: &str,
        roots_pem: impl IntoIterator<Item = &'a str>,
        denied: impl IntoIterator<Item = String>,
    ) -> Result<Self, TrustError> {
        let domain = TrustDomain::parse(domain).map_err(TrustError::Domain)?;
        let mut roots = Vec::new();
        for pem in roots_pem {
            roots.extend(certificate::from_pem(pem).map_err(|error| TrustError::Root(error.to_string()))?);
        }
        Self::new(domain, roots, denied)
    }

    /// Trust in nothing but the one root of `candidates` whose SHA-256 is `root_sha256`, for the trust domain
    /// that root names: how a warpgate that holds only a connection key verifies its first bundle. What else
    /// the answer offered as roots is an edge's word, and is not taken.
    pub fn from_pin(
        root_sha256: &[u8; 32],
        candidates: &[CertificateDer<'static>],
    ) -> Result<Self, TrustError> {
        let root = candidates
            .iter()
            .find(|der| certificate::fingerprint(der) == *root_sha256)
            .ok_or(TrustError::PinNotFound)?;
        let facts = certificate::facts(root).map_err(|error| TrustError::Root(error.to_string()))?;
        let domain = facts.ca_trust_domain().ok_or(TrustError::Domain(NameError::TrustDomain))?;
        Self::new(domain, vec![root.clone()], [])
    }

    /// Whose nodes are trusted.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The roots.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Whether this node was evicted. Ask it for live connections when trust changes (R20: closed within 5 s).
    pub fn denies(&self, name: &SpiffeName) -> bool {
        !self.denied.is_empty() && self.denied.contains(&name.to_string())
    }
}

/// SHA-256 of a root certificate: the pin in a connection key.
pub fn root_fingerprint(root: &CertificateDer<'_>) -> [u8; 32] {
    certificate::fingerprint(root)
}

/// Every certificate in a PEM text, in order.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    certificate::from_pem(pem).map_err(|error| TrustError::Root(error.to_string()))
}

/// The trust a node holds now. Cheap to clone; every clone sees a replacement at once, and the configurations
/// of [`crate::tls`] read it at each handshake.
#[derive(Clone, Debug)]
pub struct CurrentTrust(Arc<ArcSwap<Trust>>);

impl CurrentTrust {
    /// A slot that holds `trust`.
    pub fn new(trust: Trust) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(trust)))
    }

    /// The trust now.
    pub fn get(&self) -> Arc<Trust> {
        self.0.load_full()
    }

    /// Judges every handshake by `trust` from now on. Connections that are up stay: walk them with
    /// [`Trust::denies`] or [`crate::verify_peer`].
    pub fn replace(&self, trust: Trust) {
        self.0.store(Arc::new(trust));
    }
}
