//! Performing the life of assertion keys: looks, asks [`super::assertion`] for the next step, takes it under the lease,
//! looks again.
//!
//! Every control node runs this. A step is chosen anew in the transaction that takes it, under the lease, so that two nodes
//! that look at once take one step and a node that dies leaves nothing half done.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::document::Partition;
use mezusphere_pki::signing::SigningKey;
use mezusphere_store::feed::{AppliedReport, FeedSource as _};
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::secret::{self, SecretRow, SecretState};
use mezusphere_store::primary::{ReadTx, StoreError, Tx, setting};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::assertion::{self, Announced, Kept, Key, Known, RETIRING_MAX, Step};
use crate::ca::look::members;
use crate::ca::machine::{Kind, Mark};
use crate::installation::secret_name;
use crate::lease::Job;
use crate::{OpenError, Shared};

/// Name of the setting beside the keys.
const SETTING: &str = "keys/assertion";

/// Between two looks when nothing is under way: keys live for weeks, and a clock may be set.
const IDLE: Duration = Duration::from_mins(1);

/// Between two looks while a key is being made known.
const WAITING: Duration = Duration::from_secs(5);

/// Wait after a failure.
const FAILED: Duration = Duration::from_secs(10);

/// Who acts where nobody asked.
const SCHEDULE: &str = "schedule";

/// Why no rotation is begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    /// One is under way, begun by hand.
    #[error("the next key is on its way already")]
    Runs,
    /// Too many old keys are still published.
    #[error("{0} old keys are still published; at most {RETIRING_MAX} are")]
    TooMany(usize),
    /// The database or the keys.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<StoreError> for RotateError {
    fn from(why: StoreError) -> Self {
        Self::Open(why.into())
    }
}

/// The keys and what is kept of them.
pub(crate) struct Seen {
    /// The keys, newest first.
    pub(crate) rows: Vec<SecretRow>,
    /// What is kept beside them.
    pub(crate) kept: Kept,
}

impl Seen {
    /// Reads both.
    pub(crate) async fn load(tx: &mut ReadTx) -> Result<Self, StoreError> {
        let rows = secret::list(tx, secret_name::ASSERTION).await?;
        Ok(Self { rows, kept: setting::get(tx, SETTING).await?.unwrap_or_default() })
    }

    /// The keys, as their turns depend on them.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let since = |row: &SecretRow| self.kept.since.get(&row.version).copied().unwrap_or(row.created_at);
        self.rows
            .iter()
            .map(|row| Key { version: row.version, state: row.state, since: since(row) })
            .collect()
    }

    fn has_next(&self) -> bool {
        self.rows.iter().any(|row| row.state == SecretState::Next)
    }
}

/// Runs until `cancel`.
pub(crate) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = shared.keys_due.notified() => {}
        }
        wait = match shared.turn_assertion_keys().await {
            Ok(Turn::Moved) => Duration::ZERO,
            Ok(Turn::Waits { under_way: true }) => WAITING,
            Ok(Turn::Waits { under_way: false }) => IDLE,
            Err(why) => {
                tracing::error!(error = %why, "The keys that sign assertions could not be looked after; it is tried again");
                FAILED
            }
        };
    }
}

/// What a look led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A step was taken, here or by another control node.
    Moved,
    /// Nothing is to be done now.
    Waits {
        /// Whether a next key is there.
        under_way: bool,
    },
}

impl Shared {
    /// One look, and the step it leads to.
    pub(crate) async fn turn_assertion_keys(&self) -> Result<Turn, OpenError> {
        let reports = self.primary.applied_by(Partition::Platform).await?;
        let (step, under_way) = self
            .primary
            .read(async |tx| {
                let seen = Seen::load(tx).await?;
                Ok::<_, OpenError>((self.choose_key_step(tx, &seen, &reports).await?, seen.has_next()))
            })
            .await?;
        if step == Step::Wait {
            return Ok(Turn::Waits { under_way });
        }
        let heads = self.primary.heads().await;
        let heads = heads.map_err(|why| StoreError::Unavailable(why.to_string()))?;
        let here = Mark::of(&heads);
        let taken =
            self.primary.write(async |tx| self.take_key_step(tx, &reports, here.clone()).await).await?;
        let Some(taken) = taken else { return Ok(Turn::Waits { under_way: true }) };
        if let Step::Make | Step::Sign(_) | Step::Forget(_) = taken {
            self.refresh_keys().await?;
            self.publish_keys().await?;
        }
        Ok(if taken == Step::Wait { Turn::Waits { under_way } } else { Turn::Moved })
    }

    /// Publishes the keys of now where edges find them; bundles follow by [`Shared::reconcile`].
    async fn publish_keys(&self) -> Result<(), OpenError> {
        self.primary.write(async |tx| Ok::<_, OpenError>(self.publish_platform(tx).await?)).await?;
        self.drift.notify_one();
        Ok(())
    }

    async fn choose_key_step(
        &self,
        tx: &mut ReadTx,
        seen: &Seen,
        reports: &[AppliedReport],
    ) -> Result<Step, OpenError> {
        let known = self.key_known(tx, seen, reports).await?;
        Ok(assertion::next(&seen.keys(), &seen.kept, known, &self.config.assertion_rotation, tx.now()))
    }

    /// How far the next key is known. What is published must be what follows from the keys that are there now, in this
    /// transaction: this node may not know them yet.
    async fn key_known(
        &self,
        tx: &mut ReadTx,
        seen: &Seen,
        reports: &[AppliedReport],
    ) -> Result<Known, OpenError> {
        let Some(announced) = &seen.kept.announced else {
            let is_published = self.publishes_all(tx, seen).await? && self.is_in_line(tx).await?;
            return Ok(if is_published { Known::Published } else { Known::Unpublished });
        };
        let members = members(self, tx, Some(&announced.mark), reports).await?;
        // Warpgates have it from edges or by their own polls, within the wait that follows.
        let mut edges = members.iter().filter(|member| member.here && member.kind == Kind::Edge);
        Ok(if edges.all(|edge| edge.told == Some(true)) { Known::Everywhere } else { Known::Published })
    }

    /// Whether the platform document has the keys of all rows.
    async fn publishes_all(&self, tx: &mut ReadTx, seen: &Seen) -> Result<bool, OpenError> {
        let known = self.keys();
        if known.assertion_versions != seen.rows.iter().map(|row| row.version).collect::<Vec<_>>() {
            return Ok(false);
        }
        Ok(self.is_platform_published(tx).await?)
    }

    /// Chooses once more, under the lease, and takes the step. `None`: another control node is at it.
    async fn take_key_step(
        &self,
        tx: &mut Tx,
        reports: &[AppliedReport],
        here: Option<Mark>,
    ) -> Result<Option<Step>, OpenError> {
        if self.take_lease(tx, Job::AssertionKeys).await?.is_none() {
            return Ok(None);
        }
        let mut seen = Seen::load(tx).await?;
        let step = self.choose_key_step(tx, &seen, reports).await?;
        let (name, now) = (secret_name::ASSERTION, tx.now());
        match step {
            Step::Wait => return Ok(Some(step)),
            Step::Make => {
                let key = SigningKey::generate().map_err(|why| OpenError::KeyMaking(why.to_string()))?;
                let row = secret::add(tx, name, SecretState::Next, key.pkcs8_der()).await?;
                seen.kept.since.insert(row.version, now);
                seen.kept.announced = None;
                tracing::info!(version = row.version, "The next key that signs assertions was made");
            }
            Step::Note(version) => {
                let Some(mark) = here else { return Ok(Some(Step::Wait)) };
                seen.kept.announced = Some(Announced { version, at: now, mark });
            }
            Step::Sign(version) => {
                for key in seen.keys().iter().filter(|key| key.state == SecretState::Current) {
                    seen.kept.since.insert(key.version, now);
                }
                secret::set_state(tx, name, version, SecretState::Current).await?;
                seen.kept.since.insert(version, now);
                let by = if seen.kept.by_hand { "operator" } else { SCHEDULE };
                seen.kept.announced = None;
                seen.kept.by_hand = false;
                tx.audit(AuditEntry {
                    organization: self.installation.organization,
                    project: None,
                    actor: self.config.node.id.to_string(),
                    action: "assertion_key.rotate".to_owned(),
                    target: format!("assertion/{version}"),
                    address: None,
                    detail: json!({ "by": by }),
                });
                tracing::info!(version, "Another key signs assertions from now on");
            }
            Step::Forget(version) => {
                secret::delete(tx, name, version).await?;
                seen.kept.since.remove(&version);
                tracing::info!(version, "An old key that signed assertions was forgotten");
            }
        }
        setting::put(tx, SETTING, &seen.kept).await?;
        Ok(Some(step))
    }

    /// Has the next key made now, and sign as soon as it is known.
    pub(crate) async fn begin_key_rotation(&self, tx: &mut Tx) -> Result<(), RotateError> {
        let mut seen = Seen::load(tx).await?;
        if seen.kept.by_hand {
            return Err(RotateError::Runs);
        }
        let retiring = seen.rows.iter().filter(|row| row.state == SecretState::Retiring).count();
        if retiring >= RETIRING_MAX {
            return Err(RotateError::TooMany(retiring));
        }
        seen.kept.by_hand = true;
        setting::put(tx, SETTING, &seen.kept).await?;
        Ok(())
    }
}
