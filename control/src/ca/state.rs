//! What is kept about the internal CA beside its keys, in one setting: which certificates stand for it, and how far a
//! rotation is.
//!
//! Every transaction that issues, publishes or signs reads it, so that what one control node decided holds for all of them
//! from the commit on. Keys are secrets of their own; this names their versions.

use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_pki::trust::{CROSSES_MAX, FORMER_MAX, RETIRED_MAX};
use mezusphere_store::StoreError;
use mezusphere_store::primary::{ReadTx, Tx, setting};
use serde::{Deserialize, Serialize};

use super::machine::Rotation;
use crate::config::LEAF_TTL_MAX;

/// Name of the setting.
const SETTING: &str = "ca/state";

/// Name of the setting that held the roots before there were rotations. Still written: control nodes of the version before
/// read it while the cluster is upgraded.
pub(crate) const ROOTS_SETTING: &str = "ca/roots";

/// SHA-256 of a CA's public key, base64url without padding, as published documents name CAs.
pub(crate) type Digest = String;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CaState {
    /// Grows with every change, so that a node tells at a glance whether it knows this one.
    pub(crate) generation: u64,
    /// Roots that are trusted, PEM: the first is the pin of new connection keys.
    pub(crate) roots: Vec<String>,
    /// Roots signed by the roots before them, PEM, newest first.
    #[serde(default)]
    pub(crate) crosses: Vec<String>,
    /// Roots that are trusted no more, PEM, newest first: old connection keys name them.
    #[serde(default)]
    pub(crate) former: Vec<String>,
    /// The CA that certificates come from.
    pub(crate) issuing: CaRef,
    /// Over how many seconds nodes spread their renewals when that has changed.
    pub(crate) spread_s: u32,
    /// CAs whose certificates are refused.
    #[serde(default)]
    pub(crate) retired: Vec<Retired>,
    /// The rotation that runs.
    #[serde(default)]
    pub(crate) rotation: Option<Rotation>,
    /// How the last one ended.
    #[serde(default)]
    pub(crate) last: Option<Ended>,
}

/// An issuing CA, by what tells it from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CaRef {
    /// Its public key.
    pub(crate) key_sha256: Digest,
    /// Version of the secret that holds its key.
    pub(crate) version: u32,
    /// When it was made.
    pub(crate) made_at: Timestamp,
    /// When its certificate ends.
    pub(crate) not_after: Timestamp,
}

/// An issuing CA whose certificates are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retired {
    /// Its public key.
    pub(crate) key_sha256: Digest,
    /// When it was retired.
    pub(crate) at: Timestamp,
    /// When its certificate ends: nobody need remember it any longer.
    pub(crate) until: Timestamp,
    /// Whether its key was in other hands.
    pub(crate) tainted: bool,
}

impl Retired {
    /// Whether somebody may still show a certificate of it: one that was issued last, or, where the key is in other hands,
    /// one that is made now.
    fn must_stay(&self, now: Timestamp) -> bool {
        self.until > now && (self.tainted || now.since(self.at) <= LEAVES_GONE_AFTER)
    }
}

/// After a CA was retired, and its key deleted: until none of its certificates lives, by any clock.
const LEAVES_GONE_AFTER: Duration = LEAF_TTL_MAX.saturating_mul(2);

/// What was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// The issuing CA, below the root there is.
    Issuing,
    /// The root, and with it the issuing CA.
    Root,
}

/// How a rotation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// What was replaced.
    pub(crate) what: What,
    /// How.
    pub(crate) how: How,
    /// When it was started.
    pub(crate) started_at: Timestamp,
    /// When it was over.
    pub(crate) at: Timestamp,
    /// Who started it.
    pub(crate) by: String,
    /// Nodes that were not waited for any longer: they enrol anew when they come back.
    pub(crate) left_behind: usize,
}

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// The new CA took over.
    Done,
    /// It was taken back, and the old one stayed.
    Aborted,
    /// The old one was thrown out at once, because its key was in other hands.
    Tainted,
}

impl CaState {
    /// Of a new installation.
    pub(crate) fn first(root_pem: String, issuing: CaRef) -> Self {
        Self {
            generation: 1,
            roots: vec![root_pem],
            crosses: Vec::new(),
            former: Vec::new(),
            issuing,
            spread_s: 0,
            retired: Vec::new(),
            rotation: None,
            last: None,
        }
    }

    /// Every root that a connection key may name, and what leads from it to the root of now: whoever comes with a pin
    /// believes none of them but for the pin.
    pub(crate) fn lineage(&self) -> Vec<String> {
        [&self.roots, &self.crosses, &self.former].into_iter().flatten().cloned().collect()
    }

    /// Refuses what this CA issued, from now on. Of those before, the oldest that nobody can show a certificate of are
    /// forgotten for it; a key in other hands never is. Whoever makes a CA that is to be retired once asks
    /// [`CaState::is_full`] first.
    pub(crate) fn retire(&mut self, ca: &CaRef, now: Timestamp, tainted: bool) {
        let tainted =
            tainted || self.retired.iter().any(|known| known.tainted && known.key_sha256 == ca.key_sha256);
        self.retired.retain(|known| known.until > now && known.key_sha256 != ca.key_sha256);
        self.retired
            .insert(0, Retired { key_sha256: ca.key_sha256.clone(), at: now, until: ca.not_after, tainted });
        while self.retired.len() > RETIRED_MAX {
            let Some(over) = self.retired.iter().rposition(|known| !known.must_stay(now)) else { return };
            self.retired.remove(over);
        }
    }

    /// Whether no CA can be refused beside those that must be.
    pub(crate) fn is_full(&self, now: Timestamp) -> bool {
        self.retired.iter().filter(|known| known.must_stay(now)).count() >= RETIRED_MAX
    }

    /// Forgets the new root of a rotation that is given up; nothing happens if it has none.
    pub(crate) fn forget_new_root(&mut self, rotation: &Rotation) {
        if let Some(root) = &rotation.root {
            self.roots.retain(|pem| *pem != root.pem);
            self.crosses.retain(|pem| *pem != root.cross_pem);
        }
    }

    /// The new root takes the old one's place. What was trusted before is only shown from now on.
    pub(crate) fn adopt_new_root(&mut self, rotation: &Rotation) {
        let Some(root) = &rotation.root else { return };
        let before = std::mem::replace(&mut self.roots, vec![root.pem.clone()]);
        let old = before.into_iter().filter(|pem| *pem != root.pem);
        self.former = old.chain(std::mem::take(&mut self.former)).take(FORMER_MAX).collect();
        self.crosses.truncate(CROSSES_MAX);
    }

    /// Reads it; `None` before the first start, and in an installation of a version that had no rotations.
    pub(crate) async fn read(tx: &mut ReadTx) -> Result<Option<Self>, StoreError> {
        setting::get(tx, SETTING).await
    }

    /// Keeps a change.
    pub(crate) async fn write(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        self.generation += 1;
        setting::put(tx, SETTING, self).await?;
        let known: Option<Vec<String>> = setting::get(tx, ROOTS_SETTING).await?;
        if known.as_ref() != Some(&self.roots) {
            setting::put(tx, ROOTS_SETTING, &self.roots).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::RotationError;
    use super::*;

    const BEGIN: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const DAY: Duration = Duration::from_hours(24);

    fn ca(number: usize) -> CaRef {
        let key_sha256 = format!("ca-{number}");
        CaRef { key_sha256, version: 1, made_at: BEGIN, not_after: BEGIN.after(1000 * DAY) }
    }

    fn refused(state: &CaState, number: usize) -> bool {
        state.retired.iter().any(|known| known.key_sha256 == format!("ca-{number}"))
    }

    #[test]
    fn r20_a_ca_whose_key_is_in_other_hands_is_refused_until_it_ends_however_many_come_after_it() {
        let mut state = CaState::first(String::new(), ca(0));
        state.retire(&ca(0), BEGIN, true);
        state.retire(&ca(1), BEGIN, false);
        for number in 2..2 + 2 * RETIRED_MAX {
            let now = BEGIN.after(u32::try_from(number).unwrap() * DAY);
            state.retire(&ca(number), now, false);
            assert!(!state.is_full(now));
        }
        assert_eq!(state.retired.len(), RETIRED_MAX);
        assert!(refused(&state, 0) && !refused(&state, 1), "of the other no certificate lives");
        state.retire(&ca(0), BEGIN.after(600 * DAY), false);
        assert!(state.retired[0].tainted, "a key does not come back from other hands");
        let ended = BEGIN.after(1001 * DAY);
        state.retire(&CaRef { not_after: ended.after(DAY), ..ca(1) }, ended, false);
        assert_eq!(state.retired.len(), 1, "what has ended is forgotten");
    }

    #[test]
    fn r20_no_rotation_begins_at_whose_end_the_old_ca_could_not_be_refused() {
        let mut state = CaState::first(String::new(), ca(RETIRED_MAX));
        for number in 1..RETIRED_MAX {
            state.retire(&ca(number), BEGIN, number % 2 == 0);
        }
        let begin = |state: &mut CaState, now| {
            let from = state.issuing.clone();
            state.begin(Rotation::new(What::Issuing, String::new(), false, DAY, from, now))
        };
        assert!(begin(&mut state.clone(), BEGIN).is_ok(), "there is room for one");
        state.retire(&ca(0), BEGIN, false);
        assert!(matches!(begin(&mut state, BEGIN), Err(RotationError::Full)));
        assert!(begin(&mut state, BEGIN.after(3 * DAY)).is_ok(), "the certificates of some have ended");
        assert!(matches!(begin(&mut state, BEGIN.after(3 * DAY)), Err(RotationError::Runs)));
    }
}
