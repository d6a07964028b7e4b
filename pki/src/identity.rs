//! A node's own certificate and key, and the slot in which a renewed one replaces it under running listeners.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mezusphere_model::{Entropy, Timestamp};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::certificate;
use crate::key::NodeKey;
use crate::name::SpiffeName;
use crate::peer::{CHAIN_LEN_MAX, Peer, PeerError};
use crate::provider::provider;
use crate::renewal::{RenewalSchedule, renew_at};

/// A node's certificate chain with its key.
#[derive(Debug)]
pub struct NodeIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: NodeKey,
    leaf: Peer,
    certified: Arc<CertifiedKey>,
}

/// Why a chain and a key do not make an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The PEM text holds no certificate chain.
    #[error("the certificate chain cannot be read")]
    Malformed,
    /// The leaf names no node of ours.
    #[error("the certificate cannot be used: {0}")]
    Leaf(PeerError),
    /// The key is not the one the certificate was issued for.
    #[error("the certificate was issued for another key")]
    OtherKey,
}

impl NodeIdentity {
    /// An identity from the chain control issued (leaf first) and the key the request was made with.
    ///
    /// Checks that they belong together; whether peers trust the chain is theirs to say.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: NodeKey) -> Result<Self, IdentityError> {
        if chain.is_empty() || chain.len() > CHAIN_LEN_MAX {
            return Err(IdentityError::Malformed);
        }
        let leaf = Peer::read(&chain).map_err(IdentityError::Leaf)?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8_der().to_vec()));
        let certified =
            CertifiedKey::from_der(chain.clone(), der, &provider()).map_err(|_| IdentityError::OtherKey)?;
        Ok(Self { chain, key, leaf, certified: Arc::new(certified) })
    }

    /// The same from a PEM text.
    pub fn from_pem(chain_pem: &str, key: NodeKey) -> Result<Self, IdentityError> {
        let chain = certificate::from_pem(chain_pem).map_err(|_| IdentityError::Malformed)?;
        Self::new(chain, key)
    }

    /// The chain, leaf first, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        certificate::to_pem(&self.chain)
    }

    /// The key; control signs bundles with it.
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// What peers read in its leaf; ask [`crate::Trust::refuses`] whether they let it in.
    pub fn leaf(&self) -> &Peer {
        &self.leaf
    }

    /// Who this node is.
    pub fn name(&self) -> &SpiffeName {
        &self.leaf.name
    }

    /// From when the leaf is valid; lies before the moment of issue by the skew allowance.
    pub fn not_before(&self) -> Timestamp {
        self.leaf.not_before
    }

    /// When the leaf ends.
    pub fn not_after(&self) -> Timestamp {
        self.leaf.not_after
    }

    /// When to renew: half-life ±10 %.
    pub fn renew_at(&self, entropy: &Entropy) -> Timestamp {
        renew_at(self.leaf.not_before, self.leaf.not_after, entropy)
    }

    /// The renewals of this identity, with their back-off.
    pub fn renewal(&self, entropy: &Entropy) -> RenewalSchedule {
        RenewalSchedule::new(self.leaf.not_before, self.leaf.not_after, entropy)
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

/// The identity a node uses now. Cheap to clone; every clone sees a replacement at once.
///
/// The configurations of [`crate::tls`] read it at each handshake, so renewal needs no new listener, and
/// connections that are up keep the certificate they were made with.
#[derive(Clone, Debug)]
pub struct CurrentIdentity(Arc<ArcSwap<NodeIdentity>>);

impl CurrentIdentity {
    /// A slot that holds `identity`.
    pub fn new(identity: NodeIdentity) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(identity)))
    }

    /// The identity now.
    pub fn get(&self) -> Arc<NodeIdentity> {
        self.0.load_full()
    }

    /// Uses `identity` for every handshake from now on.
    pub fn replace(&self, identity: NodeIdentity) {
        self.0.store(Arc::new(identity));
    }
}
