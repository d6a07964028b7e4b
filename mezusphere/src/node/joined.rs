//! What a split edge keeps of its membership, so that it starts again without a token and without control: who it is,
//! its certificate and key, whom to trust, and where control nodes are. The key is sealed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mezusphere_edge_link::join::Joined;
use mezusphere_model::document::{NodeAddress, TrustDoc};
use mezusphere_model::id::EdgeId;
use mezusphere_model::seal::Seal;
use mezusphere_pki::trust::root_fingerprint;
use mezusphere_pki::{CurrentTrust, NodeIdentity, NodeKey};
use serde::{Deserialize, Serialize};
use tracing::warn;
use zeroize::Zeroizing;

use super::data::write_whole;
use super::edge::Keeps;
use super::identity::trust_of;
use crate::failure::{Failure, Kind};

/// What the key is sealed for: a sealed key of something else is not accepted here.
const SEALED_FOR: &str = "edge.json/key";

/// Version of the file's shape.
const VERSION: u32 = 1;

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    edge: EdgeId,
    name: String,
    chain_pem: String,
    /// PKCS #8, sealed, base64.
    key_sealed: String,
    trust: TrustDoc,
    /// What was trusted until this edge came back and control told it better: its copy of the state may still have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    superseded: Option<TrustDoc>,
    controls: Vec<NodeAddress>,
    /// SHA-256 of the root that the join token named, base64; empty in files of older versions.
    #[serde(default)]
    joined_under: String,
}

/// An edge's membership, on disk and current.
pub(crate) struct Membership {
    path: PathBuf,
    seal: Arc<dyn Seal>,
    kept: Mutex<Kept>,
}

impl Membership {
    /// Reads it; `None` if this edge has not joined yet.
    pub(crate) fn load(path: PathBuf, seal: Arc<dyn Seal>) -> Result<Option<(Self, NodeIdentity)>, Failure> {
        let damaged = |why: String| {
            Failure::new(Kind::Files, format!("{} cannot be used: {why}", path.display())).next(
                "restore it from a backup; or empty the data directory and join anew: mezusphere edge invite NAME",
            )
        };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(damaged(why.to_string())),
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(|why| damaged(why.to_string()))?;
        if kept.version != VERSION {
            let what = format!("{} is of version {}", path.display(), kept.version);
            return Err(Failure::new(Kind::TooNew, what).next("start the newer version again"));
        }
        let sealed = BASE64.decode(&kept.key_sealed).map_err(|why| damaged(why.to_string()))?;
        let key = seal.open(SEALED_FOR, &sealed).map_err(|_| {
            damaged("its key was sealed with another master key".to_owned())
                .next("give the master key this data was sealed with: --master-key-file")
        })?;
        let key = NodeKey::from_pkcs8_der(&Zeroizing::new(key)).map_err(|why| damaged(why.to_string()))?;
        let identity =
            NodeIdentity::from_pem(&kept.chain_pem, key).map_err(|why| damaged(why.to_string()))?;
        let is_outdated = seal.is_outdated(&sealed);
        let membership = Self { path, seal, kept: Mutex::new(kept) };
        if is_outdated {
            // Now: the old master key goes once the edge's copy is sealed anew, and nobody would open this file then.
            let mut kept = membership.kept();
            kept.key_sealed = self::sealed(&*membership.seal, &identity);
            membership.write(&kept)?;
        }
        Ok(Some((membership, identity)))
    }

    /// Writes down that this edge has joined.
    pub(crate) fn begin(
        path: PathBuf,
        seal: Arc<dyn Seal>,
        joined: &Joined,
        root_sha256: &[u8; 32],
    ) -> Result<Self, Failure> {
        let kept = Kept {
            version: VERSION,
            edge: joined.edge,
            name: joined.name.clone(),
            chain_pem: joined.identity.chain_pem(),
            key_sealed: sealed(&*seal, &joined.identity),
            trust: joined.trust.clone(),
            superseded: None,
            controls: joined.controls.clone(),
            joined_under: BASE64.encode(root_sha256),
        };
        let membership = Self { path, seal, kept: Mutex::new(kept.clone()) };
        membership.write(&kept)?;
        Ok(membership)
    }

    /// Which edge this is.
    pub(crate) fn edge(&self) -> EdgeId {
        self.kept().edge
    }

    /// What operators call it.
    pub(crate) fn name(&self) -> String {
        self.kept().name.clone()
    }

    /// Whom to trust until the replica says something newer.
    pub(crate) fn trust(&self) -> TrustDoc {
        self.kept().trust.clone()
    }

    /// The same, for handshakes.
    pub(crate) fn current_trust(&self) -> Result<CurrentTrust, Failure> {
        let trust = trust_of(&self.trust()).map_err(|why| {
            Failure::new(Kind::Files, format!("this edge does not know whom to trust: {why}"))
                .next("empty the data directory and join anew: mezusphere edge invite NAME")
        })?;
        Ok(CurrentTrust::new(trust))
    }

    /// Where control nodes are.
    pub(crate) fn controls(&self) -> Vec<NodeAddress> {
        self.kept().controls.clone()
    }

    /// Whether a root certificate with this SHA-256 is or was among those trusted: whether a join token is of the same
    /// installation.
    pub(crate) fn has_root(&self, sha256: &[u8; 32]) -> bool {
        self.kept().joined_under == BASE64.encode(sha256)
            || trust_of(&self.trust()).is_ok_and(|trust| {
                trust.roots().iter().chain(trust.former()).any(|root| root_fingerprint(root) == *sha256)
            })
    }

    /// Writes down what an edge got that came back.
    pub(crate) fn came_back(&self, joined: &Joined) {
        let sealed = sealed(&*self.seal, &joined.identity);
        self.change(|kept| {
            kept.chain_pem = joined.identity.chain_pem();
            kept.key_sealed = sealed;
            let before = std::mem::replace(&mut kept.trust, joined.trust.clone());
            if before != joined.trust {
                // The copy has the first of them, if the edge comes back more than once before the feed is heard again.
                kept.superseded.get_or_insert(before);
            }
            kept.controls.clone_from(&joined.controls);
        });
    }

    /// Remembers where control nodes are now.
    pub(crate) fn keep_controls(&self, controls: Vec<NodeAddress>) {
        self.change(|kept| kept.controls = controls);
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the file; a failed write is told and tried again with the next change.
    fn change(&self, change: impl FnOnce(&mut Kept)) {
        let mut kept = self.kept();
        change(&mut kept);
        if let Err(failure) = self.write(&kept) {
            warn!(error = failure.what, "What this edge must know after a restart could not be kept");
        }
    }

    fn write(&self, kept: &Kept) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(kept).map_err(|why| Failure::new(Kind::Unexpected, why))?;
        write_whole(&self.path, &text, 0o600)
    }
}

impl Keeps for Membership {
    fn identity(&self, identity: &NodeIdentity) {
        let sealed = sealed(&*self.seal, identity);
        self.change(|kept| {
            kept.chain_pem = identity.chain_pem();
            kept.key_sealed = sealed;
        });
    }

    fn trust(&self, trust: &TrustDoc) {
        let is_known = {
            let kept = self.kept();
            kept.trust == *trust && kept.superseded.is_none()
        };
        if !is_known {
            self.change(|kept| {
                kept.trust = trust.clone();
                kept.superseded = None;
            });
        }
    }

    fn is_superseded(&self, trust: &TrustDoc) -> bool {
        let kept = self.kept();
        kept.trust != *trust && kept.superseded.as_ref() == Some(trust)
    }
}

fn sealed(seal: &dyn Seal, identity: &NodeIdentity) -> String {
    BASE64.encode(seal.seal(SEALED_FOR, identity.key().pkcs8_der()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use mezusphere_model::{Entropy, Timestamp};
    use mezusphere_pki::seal::{MasterKey, Sealer};
    use mezusphere_pki::{Issuing, Role, Root, SpiffeName, TrustDomain};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    /// An edge that joined or came back, and was told this name beside its trust.
    fn joined(entropy: &Entropy, told: &str) -> Joined {
        let domain = TrustDomain::parse("mezu.example").unwrap();
        let root = Root::create(&domain, NOW, entropy).unwrap();
        let issuing = Issuing::create(&root, NOW, entropy).unwrap();
        let (edge, key) = (EdgeId::from_bits(1), NodeKey::generate().unwrap());
        let name = SpiffeName::new(domain, Role::Edge(edge));
        let leaf = issuing.issue(&key.csr_der().unwrap(), &name, NOW, Duration::from_hours(24)).unwrap();
        Joined {
            edge,
            name: "edge-1".to_owned(),
            identity: NodeIdentity::new(leaf.chain, key).unwrap(),
            trust: TrustDoc { denied: vec![told.to_owned()], ..TrustDoc::default() },
            controls: Vec::new(),
            clock_ahead_micros: 0,
        }
    }

    #[test]
    fn r20_what_control_told_an_edge_that_came_back_is_not_undone_by_what_its_copy_still_has() {
        let (dir, entropy) = (tempfile::tempdir().unwrap(), Entropy::counting());
        let seal: Arc<dyn Seal> = Arc::new(Sealer::new(MasterKey::generate(&entropy), entropy.clone()));
        let path = dir.path().join("edge.json");
        let told = ["first", "second", "third", "fourth"].map(|told| joined(&entropy, told));
        let [first, second, third, fourth] = &told;
        let membership = Membership::begin(path.clone(), Arc::clone(&seal), first, &[0; 32]).unwrap();
        assert!(!membership.is_superseded(&first.trust), "it is what is known");

        // Twice, before the copy has heard anything.
        membership.came_back(second);
        membership.came_back(third);
        let (membership, _) = Membership::load(path, seal).unwrap().unwrap();
        assert_eq!(membership.trust(), third.trust);
        assert!(membership.is_superseded(&first.trust), "also after a restart");
        assert!(!membership.is_superseded(&third.trust) && !membership.is_superseded(&fourth.trust));

        // The feed is heard again, and is the truth whatever it says.
        Keeps::trust(&membership, &fourth.trust);
        assert_eq!(membership.trust(), fourth.trust);
        assert!(!membership.is_superseded(&first.trust));
    }
}
