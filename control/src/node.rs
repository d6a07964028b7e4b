//! This control node's own certificate: made and renewed here, kept sealed, and the key that signs bundles.
//!
//! It is kept over restarts, so that bundles signed before one stay good until they are signed anew.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_pki::{NodeIdentity, NodeKey, RenewalSchedule, Role, SpiffeName, TrustDomain};
use mezusphere_store::primary::certificate::{self, IssuedRow};
use mezusphere_store::primary::secret::{self, SecretState};
use mezusphere_store::primary::{Primary, ReadTx, Tx};
use serde::{Deserialize, Serialize};
use tunnel_proto::jws::SigningKey;
use zeroize::Zeroizing;

use crate::installation::{Installation, Keys, secret_name};
use crate::{ControlConfig, OpenError};

/// Versions of the leaf that are kept: the one in use.
const LEAVES_KEPT: usize = 1;

/// What bundles are signed with.
pub(crate) struct Signer {
    /// The leaf and its key.
    pub(crate) identity: NodeIdentity,
    /// The same key, as JWS signs with it.
    pub(crate) key: SigningKey,
    /// SHA-256 of the leaf (DER), hexadecimal: which leaf signed.
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
        let fingerprint = hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf).as_ref());
        Ok(Self { identity, key, fingerprint })
    }

    /// When to renew it.
    pub(crate) fn renewal(&self, entropy: &Entropy) -> RenewalSchedule {
        self.identity.renewal(entropy)
    }
}

/// Octets as hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let (Ok(()) | Err(_)) = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

/// The kept leaf, or a new one if there is none or it is past its half-life.
pub(crate) async fn load(
    primary: &Primary,
    config: &ControlConfig,
    installation: &Installation,
    keys: &Keys,
    entropy: &Entropy,
) -> Result<Arc<Signer>, OpenError> {
    let (kept, now) = primary
        .read(async |tx| {
            let kept = kept(tx).await?;
            Ok::<_, OpenError>((kept, tx.now()))
        })
        .await?;
    match kept {
        Some(signer) if usable(&signer, config, installation, now, entropy) => Ok(Arc::new(signer)),
        _ => renew(primary, config, installation, keys).await,
    }
}

fn usable(
    signer: &Signer,
    config: &ControlConfig,
    installation: &Installation,
    now: Timestamp,
    entropy: &Entropy,
) -> bool {
    let own = matches!(signer.identity.name().role, Role::Control(id) if id == installation.control);
    // A leaf made under a longer life than configured now would outlive what the operator asked for.
    let short = signer.identity.not_after() <= now.after(config.leaf_ttl);
    own && short && now >= signer.identity.not_before() && !signer.renewal(entropy).is_due(now)
}

async fn kept(tx: &mut ReadTx) -> Result<Option<Signer>, OpenError> {
    let Some(row) = secret::current(tx, secret_name::LEAF).await? else { return Ok(None) };
    // One that cannot be read is replaced: it can be made anew at any time.
    let Ok(kept) = serde_json::from_slice::<Kept>(&row.value) else { return Ok(None) };
    let Ok(der) = BASE64.decode(kept.key_pkcs8).map(Zeroizing::new) else { return Ok(None) };
    let identity =
        NodeKey::from_pkcs8_der(&der).ok().and_then(|key| NodeIdentity::from_pem(&kept.chain_pem, key).ok());
    identity.map(Signer::new).transpose()
}

/// Makes and keeps a new leaf for this node.
pub(crate) async fn renew(
    primary: &Primary,
    config: &ControlConfig,
    installation: &Installation,
    keys: &Keys,
) -> Result<Arc<Signer>, OpenError> {
    let key = NodeKey::generate().map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    let csr = key.csr_der().map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    let domain = installation.trust_domain()?;
    let name = SpiffeName::new(domain, Role::Control(installation.control));
    primary
        .write(async |tx| {
            let now = tx.now();
            let leaf = keys.issuing.issue(&csr, &name, now, config.leaf_ttl)?;
            note_issued(tx, &leaf, &name).await?;
            let identity =
                NodeIdentity::new(leaf.chain, key).map_err(|why| OpenError::KeyMaking(why.to_string()))?;
            keep(tx, &identity).await?;
            Ok(Arc::new(Signer::new(identity)?))
        })
        .await
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

/// Notes a leaf in the table of certificates issued.
pub(crate) async fn note_issued(
    tx: &mut Tx,
    leaf: &mezusphere_pki::IssuedLeaf,
    name: &SpiffeName,
) -> Result<(), mezusphere_store::WriteError> {
    let Some(certificate) = leaf.chain.first() else { return Ok(()) };
    let project = match name.role {
        Role::Warpgate { project, .. } => Some(project),
        Role::Edge(_) | Role::Control(_) => None,
    };
    let row = IssuedRow {
        fingerprint: sha256(certificate),
        name: name.to_string(),
        project,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        issued_at: tx.now(),
    };
    certificate::insert(tx, &row).await
}

/// SHA-256 of some octets.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

impl Installation {
    /// The trust domain, parsed.
    pub(crate) fn trust_domain(&self) -> Result<TrustDomain, OpenError> {
        TrustDomain::parse(&self.trust_domain)
            .map_err(|why| OpenError::TrustDomain(self.trust_domain.clone(), why))
    }
}
