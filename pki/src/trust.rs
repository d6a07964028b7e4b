//! What is trusted: roots, the trust domain, and nodes evicted before their certificates end.
//!
//! Several roots may be trusted at once, so that one can replace another while nodes renew. Issuing CAs are
//! not listed: peers show them, and only what a trusted root signed counts, unless the CA was retired.
//!
//! A root that replaced another is signed by it ([`crate::ceremony`]). Such a cross is no anchor: it only leads from a
//! root that is trusted, or that a connection key names, to the one that replaced it.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::bundle::Bundle;
use mezusphere_model::document::TrustDoc;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;

use crate::certificate;
use crate::name::{NameError, SpiffeName, TrustDomain};
use crate::peer::{Peer, PeerError};
use crate::provider::provider;

/// Most roots trusted at once: the old, the new, and room for a change undone half-way.
pub const ROOTS_MAX: usize = 8;

/// Most evicted nodes remembered. An entry is needed only until the node's last certificate ends, a day at most.
pub const DENIED_MAX: usize = 100_000;

/// Most retired issuing CAs remembered: one is until its own certificate ends, and a CA that lives for years is replaced a
/// few times in them, even where it was replaced by hand.
pub const RETIRED_MAX: usize = 256;

/// Most roots signed by the root before them that are kept: how many changes of the root a connection key outlives.
pub const CROSSES_MAX: usize = 4;

/// Most roots kept to be shown that are trusted no more: one for each cross.
pub const FORMER_MAX: usize = CROSSES_MAX;

/// What a node trusts. Immutable; [`CurrentTrust`] swaps one for the next.
#[derive(Clone, Debug)]
pub struct Trust {
    domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    denied: HashSet<String>,
    retired: HashSet<[u8; 32]>,
    crosses: Vec<CertificateDer<'static>>,
    former: Vec<CertificateDer<'static>>,
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
    /// More than [`RETIRED_MAX`].
    #[error("there are {0} retired CAs; at most {RETIRED_MAX} are remembered")]
    TooManyRetired(usize),
    /// A retired CA is not named by a SHA-256.
    #[error("a retired CA is named by something that is no SHA-256 in base64url")]
    Retired,
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
        let (retired, crosses, former) = (HashSet::new(), Vec::new(), Vec::new());
        Ok(Self { domain, roots, denied, retired, crosses, former, clients, servers })
    }

    /// Refuses every leaf that one of these issuing CAs issued: SHA-256 of each one's public key.
    pub fn with_retired(mut self, issuers: impl IntoIterator<Item = [u8; 32]>) -> Result<Self, TrustError> {
        self.retired = issuers.into_iter().collect();
        if self.retired.len() > RETIRED_MAX {
            return Err(TrustError::TooManyRetired(self.retired.len()));
        }
        Ok(self)
    }

    /// Knows how the roots of now follow from earlier ones: `crosses`, roots signed by the root before them, and `former`,
    /// roots that connection keys may still name; both newest first. Neither is trusted for being here. Past
    /// [`CROSSES_MAX`] and [`FORMER_MAX`] the oldest are left out.
    #[must_use]
    pub fn with_lineage(
        mut self,
        mut crosses: Vec<CertificateDer<'static>>,
        mut former: Vec<CertificateDer<'static>>,
    ) -> Self {
        crosses.truncate(CROSSES_MAX);
        former.truncate(FORMER_MAX);
        self.crosses = crosses;
        self.former = former;
        self
    }

    /// What a trust document says.
    pub fn from_doc(doc: &TrustDoc) -> Result<Self, TrustError> {
        let roots = doc.roots_pem.iter().map(String::as_str);
        let trust = Self::from_pem(&doc.trust_domain, roots, doc.denied.iter().cloned())?;
        let trust = trust.with_retired(digests(&doc.retired)?)?;
        Ok(trust.with_lineage(all_from_pem(&doc.crosses_pem)?, all_from_pem(&doc.former_pem)?))
    }

    /// What a bundle says. Whether it may say so is the caller's to ask.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self, TrustError> {
        let roots = bundle.roots_pem.iter().map(String::as_str);
        let trust = Self::from_pem(&bundle.trust_domain, roots, bundle.denied.iter().cloned())?;
        trust.with_retired(digests(&bundle.retired)?)
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
    /// the answer offered as roots is an edge's word, and is not taken; the crosses among it (at most [`CROSSES_MAX`])
    /// lead to newer roots where that root signed them.
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
        let is_cross =
            |der: &&CertificateDer<'_>| certificate::facts(der).is_ok_and(|facts| facts.is_cross());
        let crosses = candidates.iter().filter(is_cross).cloned().collect();
        Ok(Self::new(domain, vec![root.clone()], [])?.with_lineage(crosses, Vec::new()))
    }

    /// Whose nodes are trusted.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The roots.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Roots signed by the root before them, newest first.
    pub fn crosses(&self) -> &[CertificateDer<'static>] {
        &self.crosses
    }

    /// Roots that are trusted no more but that connection keys may name, newest first.
    pub fn former(&self) -> &[CertificateDer<'static>] {
        &self.former
    }

    /// Whether the issuing CA whose public key has this SHA-256 was retired.
    pub fn has_retired(&self, issuer: &[u8; 32]) -> bool {
        self.retired.contains(issuer)
    }

    /// Why a peer that was let in is to be let go: it was evicted, or its CA retired. Ask it for live connections when
    /// trust changes (R20: closed within 5 s). What is seen of the chain alone, [`crate::verify_peer`] judges.
    pub fn refuses(&self, peer: &Peer) -> Option<PeerError> {
        if self.denies(&peer.name) {
            return Some(PeerError::Denied(Box::new(peer.name.clone())));
        }
        let retired = peer.issuer.is_some_and(|issuer| self.has_retired(&issuer));
        retired.then(|| PeerError::Retired(Box::new(peer.name.clone())))
    }

    /// Whether this node was evicted. Ask [`Trust::refuses`] for live connections when trust changes.
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

/// When a CA's certificate ends.
pub fn ca_ends_at(ca: &CertificateDer<'_>) -> Result<mezusphere_model::Timestamp, TrustError> {
    certificate::facts(ca).map(|facts| facts.not_after).map_err(|error| TrustError::Root(error.to_string()))
}

/// The trust domain a root was made for; `None`: it is no root of Mezusphere's kind, which signs itself.
pub fn root_trust_domain(root: &CertificateDer<'_>) -> Option<TrustDomain> {
    certificate::facts(root).ok().filter(|facts| !facts.is_cross())?.ca_trust_domain()
}

/// A SHA-256 as documents have it: base64url without padding.
pub fn digest_text(digest: &[u8; 32]) -> String {
    BASE64URL.encode(digest)
}

/// Reads [`digest_text`].
pub fn digest_from_text(text: &str) -> Result<[u8; 32], TrustError> {
    let octets = BASE64URL.decode(text).map_err(|_| TrustError::Retired)?;
    <[u8; 32]>::try_from(octets.as_slice()).map_err(|_| TrustError::Retired)
}

fn digests(texts: &[String]) -> Result<Vec<[u8; 32]>, TrustError> {
    texts.iter().map(|text| digest_from_text(text)).collect()
}

fn all_from_pem(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(certificates_from_pem(text)?);
    }
    Ok(all)
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
    /// [`Trust::refuses`] or [`crate::verify_peer`].
    pub fn replace(&self, trust: Trust) {
        self.0.store(Arc::new(trust));
    }
}
