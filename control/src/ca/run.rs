//! Performing a rotation: looks, asks [`super::machine`] for the next step, takes it under the lease, looks again.
//!
//! Every control node runs this. What it decides rests on the database alone, the lease is taken in the transaction that
//! takes the step, and the step is chosen anew in there: two nodes that look at once take one step, and a node that dies
//! leaves a rotation that the next one goes on with.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::document::Partition;
use mezusphere_pki::trust::{RETIRED_MAX, ca_ends_at, certificates_from_pem};
use mezusphere_store::feed::{AppliedReport, Cursor, FeedSource as _};
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::secret::{self, SecretState};
use mezusphere_store::{StoreError, WriteError};
use tokio_util::sync::CancellationToken;

use super::machine::{self, MAX_WAIT, Mark, Member, Phase, Rotation, Schedule, Step};
use super::state::{CaState, How, ROOTS_SETTING, What};
use super::step::SCHEDULE;
use super::{look, root_here};
use crate::installation::secret_name;
use crate::lease::Job;
use crate::{OpenError, Shared};

/// Between two looks while no rotation runs: what is due by schedule has months.
const IDLE: Duration = Duration::from_secs(30);

/// Between two looks while one waits. One look reads what every node holds.
const WAITING: Duration = Duration::from_secs(1);

/// The same in a hurry.
const WAITING_HURRY: Duration = Duration::from_millis(200);

/// After a look that failed.
const FAILED: Duration = Duration::from_secs(5);

/// What only an operator can do is said once a day: in the looks of so many seconds after midnight (UTC).
const SAID_S: i64 = 60;
const DAY_S: i64 = 24 * 60 * 60;

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// No rotation runs.
    Idle,
    /// One waits for members; whether it was asked to hurry.
    Waits(bool),
    /// A step was taken.
    Moved(Step),
    /// Another control node is at it.
    Elsewhere,
}

/// Why a rotation cannot be begun or taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// One runs.
    #[error("a rotation runs already")]
    Runs,
    /// None runs.
    #[error("no rotation runs")]
    None,
    /// The old CA is refused already.
    #[error("the old CA is being retired; it is too late to go back")]
    TooLate,
    /// It is on its way back.
    #[error("the rotation is being taken back already")]
    Undone,
    /// As many CAs are refused as nodes remember.
    #[error("{RETIRED_MAX} CAs are refused already, and none of them can be forgotten yet")]
    Full,
    /// The root's key is not here.
    #[error("the root's key is not kept here")]
    Offline,
    /// Another root than the one in use.
    #[error("this is not the root in use")]
    OtherRoot,
    /// The database or the keys.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<WriteError> for RotationError {
    fn from(why: WriteError) -> Self {
        Self::Open(why.into())
    }
}

impl From<StoreError> for RotationError {
    fn from(why: StoreError) -> Self {
        Self::Open(why.into())
    }
}

/// Runs until `cancel`.
pub(crate) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = shared.rotation.notified() => {}
        }
        wait = match shared.turn_ca().await {
            Ok(Turn::Idle) => IDLE,
            Ok(Turn::Waits(true)) => WAITING_HURRY,
            Ok(Turn::Waits(false) | Turn::Elsewhere) => WAITING,
            Ok(Turn::Moved(_)) => Duration::ZERO,
            Err(why) => {
                tracing::error!(error = %why, "The rotation of the CA could not go on; it is tried again");
                FAILED
            }
        };
    }
}

impl Shared {
    /// One look, and the step it leads to.
    pub(crate) async fn turn_ca(&self) -> Result<Turn, OpenError> {
        let Some(known) = self.primary.read(async |tx| CaState::read(tx).await).await? else {
            return Ok(Turn::Idle);
        };
        let Some(rotation) = &known.rotation else {
            return if self.begin_if_due(&known).await? {
                Ok(Turn::Moved(Step::Wait))
            } else {
                Ok(Turn::Idle)
            };
        };
        let reports = self.primary.applied_by(Partition::Platform).await?;
        let (step, _) = self
            .primary
            .read(async |tx| {
                let members = look::rotating(self, tx, Some(rotation), &reports).await?;
                let old_until = look::old_until(tx, rotation).await?;
                Ok::<_, OpenError>(choose(rotation, &members, old_until, tx.now()))
            })
            .await?;
        if step == Step::Wait {
            return Ok(Turn::Waits(rotation.hurry));
        }
        let heads = self.primary.heads().await.map_err(|why| StoreError::Unavailable(why.to_string()))?;
        let announced = Mark::of(&heads);
        let taken = self
            .primary
            .write(async |tx| self.step_once(tx, &known, &reports, announced.clone()).await)
            .await?;
        match taken {
            None => Ok(Turn::Elsewhere),
            Some(Step::Wait) => Ok(Turn::Waits(rotation.hurry)),
            Some(step @ (Step::Tick | Step::Clear(_))) => {
                self.refresh_ca().await?;
                tracing::debug!(?step, "The rotation of the CA waits");
                Ok(Turn::Waits(rotation.hurry))
            }
            Some(step) => {
                tracing::info!(?step, "The rotation of the CA went on");
                self.follow_ca().await?;
                Ok(Turn::Moved(step))
            }
        }
    }

    /// Chooses once more, under the lease, and takes the step. `None`: another control node is at it.
    pub(crate) async fn step_once(
        &self,
        tx: &mut Tx,
        known: &CaState,
        reports: &[AppliedReport],
        announced: Option<Mark>,
    ) -> Result<Option<Step>, OpenError> {
        if self.take_lease(tx, Job::Rotation).await?.is_none() {
            return Ok(None);
        }
        let Some(mut state) = CaState::read(tx).await? else { return Ok(Some(Step::Wait)) };
        if state != *known {
            // What was read before this transaction belongs to another state: `announced` may be older than the announcement.
            return Ok(Some(Step::Wait));
        }
        let Some(rotation) = state.rotation.clone() else { return Ok(Some(Step::Wait)) };
        let members = look::rotating(self, tx, Some(&rotation), reports).await?;
        let old_until = look::old_until(tx, &rotation).await?;
        let (step, left_behind) = choose(&rotation, &members, old_until, tx.now());
        self.take_step(tx, &mut state, step, announced, left_behind).await?;
        Ok(Some(step))
    }

    /// Takes up here what was changed just now: whom this node trusts, what signs, its own certificate.
    pub(crate) async fn follow_ca(&self) -> Result<(), OpenError> {
        self.refresh_ca().await?;
        self.refresh_signer().await?;
        self.refresh_trust().await?;
        self.renew_if_other_ca().await?;
        self.drift.notify_one();
        Ok(())
    }

    /// The end of the installation's own part of the feed, while a rotation waits for who has applied it.
    pub(crate) async fn announced(&self) -> Result<Option<Cursor>, StoreError> {
        if self.known_ca().state.rotation.is_none() {
            return Ok(None);
        }
        let heads = self.primary.heads().await.map_err(|why| StoreError::Unavailable(why.to_string()))?;
        Ok(heads.into_iter().find(|head| head.partition == Partition::Platform).map(|head| head.cursor))
    }

    /// Says, as edges do, that this node has applied what was published up to `head`.
    pub(crate) async fn report_applied(&self, head: Option<Cursor>) -> Result<(), StoreError> {
        let Some(cursor) = head else { return Ok(()) };
        let (follower, at) = (self.config.node.id.to_string(), self.clock.now());
        let report = AppliedReport { follower, partition: Partition::Platform, cursor, at };
        self.primary.applied(vec![report]).await.map_err(|why| StoreError::Unavailable(why.to_string()))
    }

    /// Renews this node's own certificate if it is of another CA than certificates come from now.
    pub(crate) async fn renew_if_other_ca(&self) -> Result<(), OpenError> {
        let own = self.node.identity.get().leaf().issuer;
        if own == Some(self.known_ca().issuing.digest()) { Ok(()) } else { self.renew_identity().await }
    }

    /// Begins what is due by schedule; says whether anything was begun.
    async fn begin_if_due(&self, known: &CaState) -> Result<bool, OpenError> {
        let now = self.clock.now();
        if machine_due(known, now)?.is_none() {
            return Ok(false);
        }
        self.primary
            .write(async |tx| {
                if self.take_lease(tx, Job::Rotation).await?.is_none() {
                    return Ok(false);
                }
                let Some(mut state) = CaState::read(tx).await? else { return Ok(false) };
                let due = machine_due(&state, tx.now())?;
                let (Some(what), None) = (due, &state.rotation) else { return Ok(false) };
                if root_here(tx, &*self.seal).await?.is_none() {
                    if tx.now().as_seconds().rem_euclid(DAY_S) < SAID_S {
                        tracing::warn!(
                            ?what,
                            until = %state.issuing.not_after,
                            "The CA is to be replaced, and the root's key is kept elsewhere: see mezusphere ca status"
                        );
                    }
                    return Ok(false);
                }
                let from = state.issuing.clone();
                let rotation = Rotation::new(what, SCHEDULE.to_owned(), false, MAX_WAIT, from, tx.now());
                if let Err(why) = state.begin(rotation) {
                    tracing::error!(?what, %why, "The CA is to be replaced, and cannot be");
                    return Ok(false);
                }
                state.write(tx).await?;
                tracing::info!(?what, "The CA is replaced by schedule");
                Ok::<_, OpenError>(true)
            })
            .await
    }

    /// Begins a rotation by hand.
    pub(crate) async fn begin_rotation(
        &self,
        tx: &mut Tx,
        what: What,
        by: &str,
        hurry: bool,
        max_wait: Duration,
    ) -> Result<(), RotationError> {
        let mut state = self.ca_to_change(tx).await?;
        let from = state.issuing.clone();
        state.begin(Rotation::new(what, by.to_owned(), hurry, max_wait, from, tx.now()))?;
        if root_here(tx, &*self.seal).await?.is_none() {
            return Err(RotationError::Offline);
        }
        state.write(tx).await?;
        Ok(())
    }

    /// Takes the rotation back that runs.
    pub(crate) async fn abort_rotation(&self, tx: &mut Tx) -> Result<(), RotationError> {
        let mut state = self.ca_to_change(tx).await?;
        let Some(rotation) = state.rotation.clone() else { return Err(RotationError::None) };
        match rotation.phase {
            Phase::Announce | Phase::Trust => {
                state.rotation = None;
                self.drop_rotation(tx, &mut state, &rotation, How::Aborted).await?;
                self.put(tx, &mut state).await?;
            }
            Phase::Sign if rotation.undo => return Err(RotationError::Undone),
            Phase::Sign => {
                state.turn_round(tx.now());
                let (old, version) = (secret_name::ISSUING, rotation.from.version);
                secret::set_state(tx, old, version, SecretState::Current).await?;
                self.put(tx, &mut state).await?;
                self.sign_bundles_anew(tx).await?;
            }
            Phase::Retire => return Err(RotationError::TooLate),
        }
        Ok(())
    }

    /// What is kept, to be changed in this transaction.
    pub(crate) async fn ca_to_change(&self, tx: &mut Tx) -> Result<CaState, OpenError> {
        Ok(self.ca(tx).await?.state.clone())
    }
}

/// The next step, and how many members it does not wait for any longer.
fn choose(
    rotation: &Rotation,
    members: &[Member],
    old_until: Option<Timestamp>,
    now: Timestamp,
) -> (Step, usize) {
    let step = machine::next(rotation, members, old_until, now);
    (step, members.iter().filter(|member| rotation.lacks(member).is_some()).count())
}

/// What is due by schedule.
fn machine_due(state: &CaState, now: Timestamp) -> Result<Option<What>, OpenError> {
    let root = state.roots.first().map(String::as_str).unwrap_or_default();
    let root = certificates_from_pem(root)?;
    let root = root.first().ok_or(OpenError::KeyDamaged(ROOTS_SETTING))?;
    Ok(Schedule::of(&state.issuing, ca_ends_at(root)?, state.last.as_ref()).due(now))
}
