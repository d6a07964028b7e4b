//! The steps of a rotation, each in one transaction with all that follows from it: keys, what is kept, what is published,
//! what signs bundles, the audit entry. Cut short, nothing of a step is there, and it is taken again.

use mezusphere_model::Timestamp;
use mezusphere_pki::{Issuing, Root};
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::secret::{self, SecretState};
use serde_json::{Value, json};

use super::machine::{Mark, NewRoot, Phase, Rotation, Step};
use super::run::RotationError;
use super::state::{CaState, Ended, How, What};
use super::{Ca, keep_issuing, root_here};
use crate::installation::secret_name;
use crate::{OpenError, Shared, signer};

/// Who is named in the audit log for what happens by itself.
pub(super) const SCHEDULE: &str = "schedule";

/// Most seconds that renewals are spread over if an operator looks on.
const SPREAD_BY_HAND_S: u64 = 30;

/// The same in a hurry: what thousands of warpgates need so as not to ask in one moment.
pub(super) const SPREAD_HURRY_S: u64 = 1;

impl Shared {
    /// Takes a step; `announced`: the end of the feed before this transaction. `left_behind`: how many members the phase
    /// that ends did not wait for any longer.
    pub(super) async fn take_step(
        &self,
        tx: &mut Tx,
        state: &mut CaState,
        step: Step,
        announced: Option<Mark>,
        left_behind: usize,
    ) -> Result<(), OpenError> {
        let now = tx.now();
        let Some(mut rotation) = state.rotation.take() else { return Ok(()) };
        match step {
            Step::Wait => state.rotation = Some(rotation),
            Step::Tick => {
                rotation.tick(now);
                state.rotation = Some(rotation);
                state.write(tx).await?;
            }
            Step::Clear(is_clear) => {
                rotation.tick(now);
                rotation.clear_ms = is_clear.then_some(rotation.waited_ms);
                state.rotation = Some(rotation);
                state.write(tx).await?;
            }
            Step::Make => {
                self.make(tx, state, &mut rotation).await?;
                self.note(tx, &rotation.by, "ca.announce", &rotation, json!({}));
                state.rotation = Some(rotation);
                self.put(tx, state).await?;
            }
            Step::Enter(phase) => {
                if phase == Phase::Trust {
                    // Read before this transaction began, and after the announcement was committed.
                    let Some(announced) = announced else {
                        state.rotation = Some(rotation);
                        return Ok(());
                    };
                    rotation.announced = Some(announced);
                }
                rotation.enter(phase, now);
                if phase == Phase::Sign {
                    self.sign_with_target(tx, state, &rotation).await?;
                }
                let action = match phase {
                    Phase::Announce | Phase::Trust => "ca.trust",
                    Phase::Sign => "ca.sign",
                    Phase::Retire => "ca.retire",
                };
                self.note(tx, &rotation.by, action, &rotation, json!({ "left_behind": left_behind }));
                rotation.left_behind = left_behind;
                state.rotation = Some(rotation);
                self.put(tx, state).await?;
                if phase == Phase::Sign {
                    self.sign_bundles_anew(tx).await?;
                }
            }
            Step::Call => {
                rotation.called = true;
                state.rotation = Some(rotation);
                self.put(tx, state).await?;
            }
            Step::Finish => self.finish(tx, state, &rotation).await?,
        }
        Ok(())
    }

    /// Makes the CA that is to come, if an operator has not brought it.
    async fn make(&self, tx: &mut Tx, state: &mut CaState, rotation: &mut Rotation) -> Result<(), OpenError> {
        let now = tx.now();
        let root = root_here(tx, &*self.seal).await?.ok_or(OpenError::KeyMissing(secret_name::ROOT))?;
        let issuing = match rotation.what {
            What::Issuing => Issuing::create(&root, now, &self.entropy)?,
            What::Root => {
                let new = Root::create(&root.trust_domain()?, now, &self.entropy)?;
                let cross = root
                    .cross_sign(new.certificate(), now, &self.entropy)
                    .map_err(|why| OpenError::KeyMaking(why.to_string()))?;
                let kept = secret::add(tx, secret_name::ROOT, SecretState::Next, new.secret_pem().as_bytes())
                    .await?;
                let new_root = NewRoot {
                    pem: new.certificate_pem(),
                    cross_pem: mezusphere_pki::ceremony::certificate_to_pem(&cross),
                    version: Some(kept.version),
                };
                state.announce_root(&new_root);
                rotation.root = Some(new_root);
                Issuing::create(&new, now, &self.entropy)?
            }
        };
        rotation.to = Some(keep_issuing(tx, &issuing, SecretState::Next).await?);
        Ok(())
    }

    /// Certificates come from the rotation's target from now on.
    async fn sign_with_target(
        &self,
        tx: &mut Tx,
        state: &mut CaState,
        rotation: &Rotation,
    ) -> Result<(), OpenError> {
        let Some(target) = rotation.target() else { return Ok(()) };
        state.issuing = target.clone();
        let most = match rotation {
            Rotation { hurry: true, .. } => SPREAD_HURRY_S,
            Rotation { by, .. } if by != SCHEDULE => SPREAD_BY_HAND_S,
            _ => u64::MAX,
        };
        state.spread_s = self.spread(most);
        secret::set_state(tx, secret_name::ISSUING, target.version, SecretState::Current).await?;
        Ok(())
    }

    /// The CA that goes is refused; its key, and an old root's, are gone.
    async fn finish(&self, tx: &mut Tx, state: &mut CaState, rotation: &Rotation) -> Result<(), OpenError> {
        let now = tx.now();
        if let Some(leaving) = rotation.leaving() {
            state.retire(leaving, now, false);
            secret::delete(tx, secret_name::ISSUING, leaving.version).await?;
        }
        if rotation.undo {
            self.drop_new_root(tx, state, rotation).await?;
        } else if let Some(root) = &rotation.root {
            state.adopt_new_root(rotation);
            self.keep_root_key(tx, root).await?;
        }
        let how = if rotation.undo { How::Aborted } else { How::Done };
        self.end(tx, state, rotation, how);
        self.put(tx, state).await?;
        // The bundles' signer is of the CA that stays already: all that changes for them is whom they trust.
        Ok(())
    }

    /// The new root's key takes the old one's place. One that is kept elsewhere leaves none here.
    async fn keep_root_key(&self, tx: &mut Tx, root: &NewRoot) -> Result<(), OpenError> {
        if let Some(version) = root.version {
            secret::set_state(tx, secret_name::ROOT, version, SecretState::Current).await?;
        }
        for old in secret::list(tx, secret_name::ROOT).await? {
            if Some(old.version) != root.version {
                secret::delete(tx, secret_name::ROOT, old.version).await?;
            }
        }
        Ok(())
    }

    async fn drop_new_root(
        &self,
        tx: &mut Tx,
        state: &mut CaState,
        rotation: &Rotation,
    ) -> Result<(), OpenError> {
        state.forget_new_root(rotation);
        if let Some(version) = rotation.root.as_ref().and_then(|root| root.version) {
            secret::delete(tx, secret_name::ROOT, version).await?;
        }
        Ok(())
    }

    /// Gives a rotation up from which nobody has a certificate yet.
    pub(super) async fn drop_rotation(
        &self,
        tx: &mut Tx,
        state: &mut CaState,
        rotation: &Rotation,
        how: How,
    ) -> Result<(), OpenError> {
        self.drop_new_root(tx, state, rotation).await?;
        if let Some(to) = &rotation.to {
            // Nobody was given anything of it, but its certificate was in the world.
            state.retire(to, tx.now(), how == How::Tainted);
            secret::delete(tx, secret_name::ISSUING, to.version).await?;
        }
        self.end(tx, state, rotation, how);
        Ok(())
    }

    fn end(&self, tx: &mut Tx, state: &mut CaState, rotation: &Rotation, how: How) {
        let now = tx.now();
        state.last = Some(Ended {
            what: rotation.what,
            how,
            started_at: rotation.started_at,
            at: now,
            by: rotation.by.clone(),
            left_behind: rotation.left_behind,
        });
        let action = match how {
            How::Done => "ca.rotated",
            How::Aborted => "ca.aborted",
            How::Tainted => return,
        };
        self.note(tx, &rotation.by, action, rotation, json!({ "left_behind": rotation.left_behind }));
    }

    /// Keeps a change, and publishes what edges must know of it.
    pub(super) async fn put(&self, tx: &mut Tx, state: &mut CaState) -> Result<(), OpenError> {
        state.write(tx).await?;
        self.publish_trust(tx).await?;
        Ok(())
    }

    /// What signs bundles gets a certificate of the CA in use, so that a warpgate that knows the old one as refused
    /// takes no bundle of it.
    pub(super) async fn sign_bundles_anew(&self, tx: &mut Tx) -> Result<(), OpenError> {
        let ca = Ca::load(tx, &*self.seal, &self.entropy).await?;
        signer::renew_in(tx, &self.config, &self.installation, &ca).await?;
        Ok(())
    }

    /// Over how many seconds nodes spread their renewals: an eighth of the shortest life, but not more than this.
    pub(super) fn spread(&self, most_s: u64) -> u32 {
        let ttls = &self.config.leaf_ttl;
        let eighth = ttls.edge.min(ttls.control).min(ttls.warpgate).as_secs() / 8;
        u32::try_from(eighth.min(most_s)).unwrap_or(u32::MAX)
    }

    fn note(&self, tx: &mut Tx, by: &str, action: &str, rotation: &Rotation, more: Value) {
        let mut detail = json!({
            "what": rotation.what,
            "from": rotation.from.key_sha256,
            "to": rotation.to.as_ref().map(|to| &to.key_sha256),
        });
        if let (Some(detail), Value::Object(more)) = (detail.as_object_mut(), more) {
            detail.extend(more);
        }
        tx.audit(AuditEntry {
            organization: self.installation.organization,
            project: None,
            actor: by.to_owned(),
            action: action.to_owned(),
            target: self.installation.trust_domain.clone(),
            address: None,
            detail,
        });
    }
}

impl CaState {
    /// Trusts a new root beside the old one.
    pub(super) fn announce_root(&mut self, root: &NewRoot) {
        self.roots.push(root.pem.clone());
        self.crosses.insert(0, root.cross_pem.clone());
    }

    /// Begins a rotation: the only one, at whose end there is room to refuse the CA that goes.
    pub(super) fn begin(&mut self, rotation: Rotation) -> Result<(), RotationError> {
        if self.rotation.is_some() {
            return Err(RotationError::Runs);
        }
        if self.is_full(rotation.started_at) {
            return Err(RotationError::Full);
        }
        self.rotation = Some(rotation);
        Ok(())
    }

    /// Turns a rotation that has begun to sign round: the two CAs change places.
    pub(super) fn turn_round(&mut self, now: Timestamp) {
        if let Some(rotation) = &mut self.rotation {
            rotation.undo = true;
            rotation.enter(Phase::Sign, now);
            self.issuing = rotation.from.clone();
        }
    }
}
