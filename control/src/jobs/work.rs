//! Work that comes due: certificates and bundles before they end, the note that this node is alive, what is over.
//!
//! What concerns the whole installation is done under a lease ([`crate::lease`]); when another control node is at it,
//! this one looks again later.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_pki::RenewalSchedule;
use mezusphere_store::WriteError;
use mezusphere_store::primary::node::{self as nodes, NodeId};
use mezusphere_store::primary::prune;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::Job;
use crate::node::row::{self, BEAT_EVERY};
use crate::{OpenError, Shared, signer};

/// Between two removals of what is over.
const PRUNE_EVERY: Duration = Duration::from_mins(1);

/// Between two looks at public certificates, which live for months.
const CERTIFICATES_EVERY: Duration = Duration::from_hours(1);

/// Between two looks at users whom a node of an older version added and at session limits, besides those after a change
/// here.
const PEOPLE_EVERY: Duration = Duration::from_hours(1);

/// Between two looks at whether bundles are in line with the nodes, besides those after a change here: the control node
/// that changed something may have died before its own look.
const DRIFT_EVERY: Duration = Duration::from_secs(10);

/// Wait before another look when another control node is at it, or a look failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Longest sleep, so that a wall clock that was set is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Shortest sleep, so that a job that is due and fails at once does not spin.
const SLEEP_MIN: Duration = Duration::from_millis(200);

/// Works until `cancel`.
pub(super) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut work = Work::new(Arc::clone(&shared));
    // A job is not cut short: what it does in one transaction is done or not, and the next start resumes.
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(work.sleep()) => {}
            () = shared.drift.notified() => work.drift_at = Instant::now(),
            () = shared.limits.notified() => work.people_at = Instant::now(),
        }
        work.run().await;
    }
}

/// When each job is due.
struct Work {
    shared: Arc<Shared>,
    /// Of which signer `renewal` is.
    signer: String,
    renewal: RenewalSchedule,
    own_renewal: RenewalSchedule,
    beat_at: Instant,
    drift_at: Instant,
    prune_at: Instant,
    certificates_at: Instant,
    people_at: Instant,
}

impl Work {
    fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let signer = shared.signer.load();
        Self {
            signer: signer.fingerprint.clone(),
            renewal: signer.renewal(&shared.entropy),
            own_renewal: shared.node.identity.get().renewal(&shared.entropy),
            beat_at: now + BEAT_EVERY,
            drift_at: now + DRIFT_EVERY,
            prune_at: now + PRUNE_EVERY,
            certificates_at: now + CERTIFICATES_EVERY,
            people_at: now,
            shared,
        }
    }

    fn sleep(&self) -> Duration {
        let now = self.shared.clock.now();
        let renewal = self.renewal.wait(now).min(self.own_renewal.wait(now));
        let next = [self.prune_at, self.certificates_at, self.beat_at, self.people_at]
            .into_iter()
            .fold(self.drift_at, Instant::min);
        renewal.min(next.saturating_duration_since(Instant::now())).clamp(SLEEP_MIN, SLEEP_MAX)
    }

    async fn run(&mut self) {
        self.renew_signer().await;
        self.renew_identity().await;
        self.beat().await;
        self.reconcile().await;
        self.prune().await;
        self.renew_certificates().await;
        self.look_after_people().await;
    }

    async fn renew_signer(&mut self) {
        let shared = &self.shared;
        let known = shared.signer.load_full();
        if known.fingerprint != self.signer {
            // Another control node renewed it.
            self.renewal = known.renewal(&shared.entropy);
            self.signer.clone_from(&known.fingerprint);
        }
        if !self.renewal.is_due(shared.clock.now()) {
            return;
        }
        match shared.renew_signer().await {
            Ok(true) => {
                let signer = shared.signer.load_full();
                self.renewal = signer.renewal(&shared.entropy);
                self.signer.clone_from(&signer.fingerprint);
                // Every bundle must be signed anew.
                self.drift_at = Instant::now();
            }
            // Another control node is at it, and the drift it makes is noticed in any case.
            Ok(false) => {}
            Err(why) => {
                tracing::error!(error = %why, "What signs bundles could not be renewed");
                self.renewal.failed(shared.clock.now(), &shared.entropy);
            }
        }
    }

    async fn renew_identity(&mut self) {
        let shared = &self.shared;
        if !self.own_renewal.is_due(shared.clock.now()) {
            return;
        }
        match shared.renew_identity().await {
            Ok(()) => self.own_renewal = shared.node.identity.get().renewal(&shared.entropy),
            Err(why) => {
                tracing::error!(error = %why, "This node's certificate could not be renewed");
                self.own_renewal.failed(shared.clock.now(), &shared.entropy);
            }
        }
    }

    async fn beat(&mut self) {
        if Instant::now() < self.beat_at {
            return;
        }
        self.beat_at = Instant::now() + BEAT_EVERY;
        if let Err(why) = self.shared.beat().await {
            tracing::warn!(error = %why, "This node could not say that it is alive");
        }
    }

    async fn reconcile(&mut self) {
        if Instant::now() < self.drift_at {
            return;
        }
        self.drift_at = Instant::now() + DRIFT_EVERY;
        match self.shared.reconcile().await {
            Ok(done) if done.elsewhere => self.drift_at = Instant::now() + LOOK_AGAIN,
            Ok(done) if done.bundles > 0 => tracing::info!(bundles = done.bundles, "Bundles signed anew"),
            Ok(_) => {}
            Err(why) => {
                self.drift_at = Instant::now() + LOOK_AGAIN;
                tracing::error!(error = %why, "Bundles could not be signed anew");
            }
        }
    }

    async fn prune(&mut self) {
        if Instant::now() < self.prune_at {
            return;
        }
        self.prune_at = Instant::now() + PRUNE_EVERY;
        if let Err(why) = self.shared.prune().await {
            tracing::warn!(error = %why, "What is over could not be removed");
        }
    }

    async fn look_after_people(&mut self) {
        if Instant::now() < self.people_at {
            return;
        }
        self.people_at = Instant::now() + PEOPLE_EVERY;
        if let Err(why) = self.shared.look_after_people().await {
            tracing::warn!(error = %why, "Users could not be looked after");
        }
    }

    async fn renew_certificates(&mut self) {
        if Instant::now() < self.certificates_at {
            return;
        }
        self.certificates_at = Instant::now() + CERTIFICATES_EVERY;
        if let Err(why) = self.shared.renew_certificates().await {
            tracing::error!(error = %why, "Public certificates could not be renewed");
        }
    }
}

impl Shared {
    /// Makes a new certificate and key to sign bundles with, unless another control node is at it or was faster: `false`.
    /// Every bundle must be signed anew after it.
    pub(crate) async fn renew_signer(&self) -> Result<bool, OpenError> {
        let before = self.signer.load_full();
        let renewed = self.primary.write(async |tx| {
            if self.take_lease(tx, Job::Signer).await?.is_none() {
                return Ok(None);
            }
            // Takes over what another one renewed. One that cannot be read is replaced.
            if let Some(kept) = signer::kept(tx).await?
                && kept.fingerprint != before.fingerprint
            {
                self.signer.store(Arc::new(kept));
                return Ok(None);
            }
            let ca = self.ca(tx).await?;
            signer::renew_in(tx, &self.config, &self.installation, &ca).await.map(Some)
        });
        let Some(signer) = renewed.await? else { return Ok(false) };
        tracing::info!(until = %signer.identity.not_after(), "What signs bundles was renewed");
        self.signer.store(signer);
        Ok(true)
    }

    /// Notes that this node is alive; as time passes, publishes which control nodes are there and who is still denied.
    pub(crate) async fn beat(&self) -> Result<(), OpenError> {
        self.primary
            .write(async |tx| {
                match nodes::seen(tx, NodeId::Control(self.config.node.id)).await {
                    // Forgotten while this process slept for days.
                    Err(WriteError::NotFound { .. }) => self.write_nodes(tx).await?,
                    other => other?,
                }
                if self.take_lease(tx, Job::Platform).await?.is_some() {
                    self.publish_platform(tx).await?;
                    self.publish_trust(tx).await?;
                }
                Ok(())
            })
            .await
    }

    /// Removes what is over, batch by batch, so that writers in between wait for one batch at most. Says how many rows;
    /// 0 also if another control node is at it.
    pub(crate) async fn prune(&self) -> Result<u64, WriteError> {
        let mut removed = 0;
        loop {
            let batch = self.primary.write(async |tx| {
                if self.take_lease(tx, Job::Prune).await?.is_none() {
                    return Ok(0);
                }
                row::forget_gone(tx).await?;
                Ok::<_, WriteError>(prune::prune(tx).await?)
            });
            match batch.await? {
                0 => return Ok(removed),
                batch => removed += batch,
            }
        }
    }
}
