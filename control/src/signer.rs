//! What signs bundles: the installation's own certificate and key, shared by all its control nodes.
//!
//! It is kept sealed in the database, so that bundles signed before a restart stay good until they are signed anew,
//! and so that what one node signs is what the others would. Whoever holds the lease renews it
//! ([`crate::jobs`]); the others notice by the mark beside it, which every transaction that signs compares first.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_model::seal::Seal;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_pki::{NodeIdentity, NodeKey, RenewalSchedule, Role, SpiffeName, TrustDomain};
use mezusphere_store::StoreError;
use mezusphere_store::primary::secret::{self, SecretState};
use mezusphere_store::primary::{Primary, ReadTx, Tx, setting};
use serde::{Deserialize, Serialize};
use tunnel_proto::jws::SigningKey;
use zeroize::Zeroizing;

use crate::ca::Ca;
use crate::digest::{hex, sha256};
use crate::installation::{Installation, secret_name};
use crate::leaf::note_issued;
use crate::{ControlConfig, OpenError, Shared};

/// Versions of the leaf that are kept: the one in use.
const LEAVES_KEPT: usize = 1;

/// Name of the setting that says which signer is in use: the fingerprint of its leaf.
const MARK_SETTING: &str = "signer/fingerprint";

/// What bundles are signed with.
pub(crate) struct Signer {
    /// The leaf and its key.
    pub(crate) identity: NodeIdentity,
    /// The same key, as JWS signs with it.
    pub(crate) key: SigningKey,
    /// SHA-256 of the leaf (DER), hexadecimal: which leaf signs.
    pub(crate) fingerprint: String,
}

/// The signer in use; replaced at each renewal.
pub(crate) type CurrentSigner = ArcSwap<Signer>;

/// A leaf and its key, as kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    chain_pem: String,
    key_pkcs8: String,
}

impl Signer {
    fn new(identity: NodeIdentity) -> Result<Self, OpenError> {
        let damaged = || OpenError::KeyDamaged(secret_name::LEAF);
        let key = SigningKey::from_pkcs8(identity.key().pkcs8_der()).map_err(|_| damaged())?;
        let leaf = identity.chain().first().ok_or_else(damaged)?;
        let fingerprint = hex(&sha256(leaf));
        Ok(Self { identity, key, fingerprint })
    }

    /// When to renew it.
    pub(crate) fn renewal(&self, entropy: &Entropy) -> RenewalSchedule {
        self.identity.renewal(entropy)
    }
}

/// The kept leaf, or a new one if there is none or it is past its half-life.
pub(crate) async fn load(
    primary: &Primary,
    config: &ControlConfig,
    installation: &Installation,
    seal: &dyn Seal,
    entropy: &Entropy,
) -> Result<Arc<Signer>, OpenError> {
    primary
        .write(async |tx| {
            let ca = Ca::load(tx, seal, entropy).await?;
            match kept(tx).await? {
                Some(signer) if usable(&signer, config, installation, &ca, tx.now(), entropy) => {
                    mark(tx, &signer).await?;
                    Ok(Arc::new(signer))
                }
                _ => renew_in(tx, config, installation, &ca).await,
            }
        })
        .await
}

fn usable(
    signer: &Signer,
    config: &ControlConfig,
    installation: &Installation,
    ca: &Ca,
    now: Timestamp,
    entropy: &Entropy,
) -> bool {
    let own = matches!(signer.identity.name().role, Role::Control(id) if id == installation.control);
    // A leaf made under a longer life than configured now would outlive what the operator asked for.
    let short = signer.identity.not_after() <= now.after(config.leaf_ttl.control);
    let current = signer.identity.leaf().issuer == Some(ca.issuing.digest());
    own && current && short && now >= signer.identity.not_before() && !signer.renewal(entropy).is_due(now)
}

pub(crate) async fn kept(tx: &mut ReadTx) -> Result<Option<Signer>, OpenError> {
    let Some(row) = secret::current(tx, secret_name::LEAF).await? else { return Ok(None) };
    // One that cannot be read is replaced: it can be made anew at any time.
    let Ok(kept) = serde_json::from_slice::<Kept>(&row.value) else { return Ok(None) };
    let Ok(der) = BASE64.decode(kept.key_pkcs8).map(Zeroizing::new) else { return Ok(None) };
    let identity =
        NodeKey::from_pkcs8_der(&der).ok().and_then(|key| NodeIdentity::from_pem(&kept.chain_pem, key).ok());
    identity.map(Signer::new).transpose()
}

/// Makes and keeps a new leaf. Every bundle must be signed anew after it.
pub(crate) async fn renew_in(
    tx: &mut Tx,
    config: &ControlConfig,
    installation: &Installation,
    ca: &Ca,
) -> Result<Arc<Signer>, OpenError> {
    let key = NodeKey::generate().map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    let csr = key.csr_der().map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    let name = SpiffeName::new(installation.trust_domain()?, Role::Control(installation.control));
    let leaf = ca.issuing.issue(&csr, &name, tx.now(), config.leaf_ttl.control)?;
    note_issued(tx, installation, &leaf, &name).await?;
    let identity = NodeIdentity::new(leaf.chain, key).map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    keep(tx, &identity).await?;
    let signer = Signer::new(identity)?;
    mark(tx, &signer).await?;
    Ok(Arc::new(signer))
}

/// Says beside the key which one is in use, so that it is told without opening the key.
async fn mark(tx: &mut Tx, signer: &Signer) -> Result<(), StoreError> {
    let known: Option<String> = setting::get(tx, MARK_SETTING).await?;
    if known.as_ref() != Some(&signer.fingerprint) {
        setting::put(tx, MARK_SETTING, &signer.fingerprint).await?;
    }
    Ok(())
}

impl Shared {
    /// Takes over what another control node renewed, and the CA likewise. Every change begins with it: a transaction that is confined to a
    /// tenant cannot.
    pub(crate) async fn refresh_signer(&self) -> Result<(), StoreError> {
        self.refresh_ca().await?;
        let known = self.signer.load_full();
        let mark: Option<String> = self.primary.read(async |tx| setting::get(tx, MARK_SETTING).await).await?;
        if mark.as_ref() != Some(&known.fingerprint) {
            self.primary.read(async |tx| self.signer(tx).await).await?;
        }
        Ok(())
    }

    /// The signer in use, as this transaction sees it: another control node may have renewed it since it was last
    /// looked at, and what the old one signs now would end before the new one is due.
    pub(crate) async fn signer(&self, tx: &mut ReadTx) -> Result<Arc<Signer>, StoreError> {
        let known = self.signer.load_full();
        let mark: Option<String> = setting::get(tx, MARK_SETTING).await?;
        if mark.as_ref() == Some(&known.fingerprint) {
            return Ok(known);
        }
        match kept(tx).await.map_err(|why| StoreError::Damaged(why.to_string()))? {
            Some(newer) => {
                let newer = Arc::new(newer);
                self.signer.store(Arc::clone(&newer));
                Ok(newer)
            }
            // A transaction that is confined to a tenant sees no secrets, and one that is signed with what this node has
            // would end too early.
            None => Err(StoreError::Unavailable("what signs bundles was renewed just now".to_owned())),
        }
    }
}

async fn keep(tx: &mut Tx, identity: &NodeIdentity) -> Result<(), OpenError> {
    let kept = Kept { chain_pem: identity.chain_pem(), key_pkcs8: BASE64.encode(identity.key().pkcs8_der()) };
    let text = serde_json::to_vec(&kept).map(Zeroizing::new);
    let text = text.map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    secret::add(tx, secret_name::LEAF, SecretState::Current, &text).await?;
    for old in secret::list(tx, secret_name::LEAF).await?.iter().skip(LEAVES_KEPT) {
        secret::delete(tx, secret_name::LEAF, old.version).await?;
    }
    Ok(())
}

impl Installation {
    /// The trust domain, parsed.
    pub(crate) fn trust_domain(&self) -> Result<TrustDomain, OpenError> {
        TrustDomain::parse(&self.trust_domain)
            .map_err(|why| OpenError::TrustDomain(self.trust_domain.clone(), why))
    }
}
