//! The internal CA at work, and its whole life: what it is now ([`Ca`], kept as [`state`]), replacing it under live traffic
//! ([`machine`] decides, [`run`] performs, [`look`] sees how far the members are), throwing it out at once ([`taint`]), and
//! a root whose key is kept elsewhere ([`offline`]).
//!
//! Owns which CA issues, which are trusted, which are refused. Leaves to others: who may have a certificate
//! ([`crate::leaf`], [`crate::connect`], [`crate::edge`]), when a node renews, and how a peer is judged (`pki`).

pub(crate) mod look;
pub(crate) mod machine;
pub(crate) mod offline;
pub(crate) mod run;
pub(crate) mod state;
mod step;
pub(crate) mod taint;

use std::sync::Arc;

use mezusphere_model::document::{RenewFrom, TrustDoc};
use mezusphere_model::seal::Seal;
use mezusphere_model::{Entropy, Timestamp};
use mezusphere_pki::trust::{certificates_from_pem, digest_text, root_fingerprint};
use mezusphere_pki::{Issuing, Root, Trust};
use mezusphere_store::StoreError;
use mezusphere_store::primary::secret::{self, SecretRow, SecretState};
use mezusphere_store::primary::{ReadTx, Tx, setting};
use rustls_pki_types::CertificateDer;

use self::machine::Phase;
use self::state::{CaRef, CaState, ROOTS_SETTING};
use crate::installation::secret_name;
use crate::{OpenError, Shared};

/// The CA as one control node knows it now. Replaced as a whole.
pub(crate) struct Ca {
    /// What is kept of it.
    pub(crate) state: CaState,
    /// Signs leaves.
    pub(crate) issuing: Issuing,
    /// SHA-256 of the root that new connection keys and join tokens name.
    pub(crate) root_sha256: [u8; 32],
}

/// The CA in use.
pub(crate) type CurrentCa = arc_swap::ArcSwap<Ca>;

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("generation", &self.state.generation).finish_non_exhaustive()
    }
}

impl Ca {
    /// Reads it as this transaction sees it. In a database of a version without rotations, what is kept follows from what
    /// that version kept.
    pub(crate) async fn load(tx: &mut ReadTx, seal: &dyn Seal, entropy: &Entropy) -> Result<Self, OpenError> {
        if let Some(state) = CaState::read(tx).await? {
            let row = secret::get(tx, secret_name::ISSUING, state.issuing.version).await;
            let row = row.map_err(unopened)?.ok_or(OpenError::KeyMissing(secret_name::ISSUING))?;
            return Self::of(state, open_issuing(&row, seal, entropy)?);
        }
        let roots: Vec<String> = setting::get(tx, ROOTS_SETTING).await?.unwrap_or_default();
        let root = roots.into_iter().next().ok_or(OpenError::KeyDamaged(ROOTS_SETTING))?;
        let row = secret::current(tx, secret_name::ISSUING).await.map_err(unopened)?;
        let row = row.ok_or(OpenError::KeyMissing(secret_name::ISSUING))?;
        let issuing = open_issuing(&row, seal, entropy)?;
        let known = CaRef::of(&issuing, row.version, row.created_at);
        Self::of(CaState { generation: 0, ..CaState::first(root, known) }, issuing)
    }

    fn of(state: CaState, issuing: Issuing) -> Result<Self, OpenError> {
        let damaged = || OpenError::KeyDamaged(ROOTS_SETTING);
        let first = certificates_from_pem(state.roots.first().ok_or_else(damaged)?).map_err(|_| damaged())?;
        let root_sha256 = root_fingerprint(first.first().ok_or_else(damaged)?);
        // While a root is replaced, for nodes that know the old one alone. Afterwards every node knows the new one, and only
        // whoever enrols is shown crosses.
        let newest = if state.issues_below_new_root() { state.crosses.get(..1) } else { None };
        let crosses = certificates(newest.unwrap_or_default()).map_err(|_| damaged())?;
        let issuing = issuing.with_crosses(crosses);
        Ok(Self { state, issuing, root_sha256 })
    }

    /// Fills in whom every node trusts; `denied` are names of nodes that are refused.
    pub(crate) fn trust_doc(&self, trust_domain: &str, denied: Vec<String>) -> TrustDoc {
        TrustDoc {
            trust_domain: trust_domain.to_owned(),
            roots_pem: self.state.roots.clone(),
            denied,
            retired: self.retired(),
            crosses_pem: self.state.crosses.clone(),
            former_pem: self.state.former.clone(),
            renew_from: Some(self.renew_from()),
        }
    }

    /// CAs whose certificates are refused, as documents name them.
    pub(crate) fn retired(&self) -> Vec<String> {
        self.state.retired.iter().map(|retired| retired.key_sha256.clone()).collect()
    }

    /// Which CA certificates are to come from.
    pub(crate) fn renew_from(&self) -> RenewFrom {
        RenewFrom { issuer: self.state.issuing.key_sha256.clone(), within_s: self.state.spread_s }
    }

    /// The same for warpgates, who are asked after the edges.
    pub(crate) fn gates_renew_from(&self) -> Option<RenewFrom> {
        let rotation = self.state.rotation.as_ref();
        let waits = rotation.is_some_and(|rotation| rotation.phase == Phase::Sign && !rotation.called);
        (!waits).then(|| self.renew_from())
    }

    /// Trust as every node of the installation has it once it knows `state`.
    pub(crate) fn trust(&self, trust_domain: &str) -> Result<Trust, OpenError> {
        Ok(Trust::from_doc(&self.trust_doc(trust_domain, Vec::new()))?)
    }
}

impl CaState {
    /// Whether certificates come from a CA below a root that is still being brought in.
    fn issues_below_new_root(&self) -> bool {
        self.rotation.as_ref().is_some_and(|rotation| {
            rotation.root.is_some() && rotation.to.as_ref().is_some_and(|to| *to == self.issuing)
        })
    }
}

impl CaRef {
    /// What tells this CA from others.
    pub(crate) fn of(issuing: &Issuing, version: u32, made_at: Timestamp) -> Self {
        Self { key_sha256: digest_text(&issuing.digest()), version, made_at, not_after: issuing.not_after() }
    }
}

/// A secret that cannot be opened is nearly always the wrong master key; say so instead of "damaged".
fn unopened(why: StoreError) -> OpenError {
    match why {
        StoreError::Damaged(detail) => OpenError::MasterKey(detail),
        why => OpenError::Store(why),
    }
}

/// What a PEM text begins with; what was sealed once more does not.
const PEM: &[u8] = b"-----BEGIN";

/// An issuing CA from its secret. Versions before this one sealed it once more inside.
pub(crate) fn open_issuing(
    row: &SecretRow,
    seal: &dyn Seal,
    entropy: &Entropy,
) -> Result<Issuing, OpenError> {
    if row.value.starts_with(PEM) {
        Ok(Issuing::from_secret_pem(&row.value, entropy)?)
    } else {
        Ok(Issuing::open(&row.value, seal, entropy)?)
    }
}

/// A root from its secret, likewise.
fn open_root(row: &SecretRow, seal: &dyn Seal) -> Result<Root, OpenError> {
    if row.value.starts_with(PEM) {
        Ok(Root::from_secret_pem(&row.value)?)
    } else {
        Ok(Root::open(&row.value, seal)?)
    }
}

/// The root in use with its key; `None`: its key is kept elsewhere.
pub(crate) async fn root_here(tx: &mut ReadTx, seal: &dyn Seal) -> Result<Option<Root>, OpenError> {
    let row = secret::current(tx, secret_name::ROOT).await.map_err(unopened)?;
    row.map(|row| open_root(&row, seal)).transpose()
}

/// Keeps an issuing CA's key.
pub(crate) async fn keep_issuing(
    tx: &mut Tx,
    issuing: &Issuing,
    state: SecretState,
) -> Result<CaRef, OpenError> {
    let row = secret::add(tx, secret_name::ISSUING, state, issuing.secret_pem().as_bytes()).await?;
    Ok(CaRef::of(issuing, row.version, row.created_at))
}

/// Every certificate in some PEM texts.
pub(crate) fn certificates(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(certificates_from_pem(text)?);
    }
    Ok(all)
}

impl Shared {
    /// The CA as this node last knew it.
    pub(crate) fn known_ca(&self) -> Arc<Ca> {
        self.current_ca.load_full()
    }

    /// The CA as this transaction sees it: another control node may have changed it since this one last looked. Whatever
    /// issues, publishes or signs asks here.
    pub(crate) async fn ca(&self, tx: &mut ReadTx) -> Result<Arc<Ca>, StoreError> {
        let known = self.known_ca();
        let Some(state) = CaState::read(tx).await? else { return Ok(known) };
        if state == known.state {
            return Ok(known);
        }
        match Ca::load(tx, &*self.seal, &self.entropy).await {
            Ok(newer) => Ok(Arc::new(newer)),
            // A transaction that is confined to a tenant sees no secrets.
            Err(OpenError::KeyMissing(_)) => {
                Err(StoreError::Unavailable("the CA was changed just now".to_owned()))
            }
            Err(OpenError::Store(why)) => Err(why),
            Err(why) => Err(StoreError::Damaged(why.to_string())),
        }
    }

    /// Writes down what follows from what an older version kept.
    pub(crate) async fn keep_ca(&self, tx: &mut Tx) -> Result<(), StoreError> {
        if CaState::read(tx).await?.is_none() {
            self.known_ca().state.clone().write(tx).await?;
        }
        Ok(())
    }

    /// Takes over what was changed, here or by another control node. Says whether anything was.
    pub(crate) async fn refresh_ca(&self) -> Result<bool, StoreError> {
        let newer = self.primary.read(async |tx| self.ca(tx).await).await?;
        let known = self.known_ca();
        // Two looks may end in the other order than they began.
        if newer.state.generation <= known.state.generation {
            return Ok(false);
        }
        self.current_ca.store(Arc::clone(&newer));
        self.roots.send_if_modified(|roots| {
            let is_new = *roots != newer.state.roots;
            roots.clone_from(&newer.state.roots);
            is_new
        });
        self.drift.notify_one();
        Ok(true)
    }
}
