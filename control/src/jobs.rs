//! What control does without being asked: renews its certificate and signs bundles anew, renews public
//! certificates, and removes what is over. One task, owned by whoever holds [`Jobs`].

use std::sync::Arc;
use std::time::Duration;

use mezusphere_pki::RenewalSchedule;
use mezusphere_store::primary::prune;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{OpenError, Shared, node};

/// Between two removals of what is over.
const PRUNE_EVERY: Duration = Duration::from_mins(1);

/// Between two looks at public certificates, which live for months.
const CERTIFICATES_EVERY: Duration = Duration::from_hours(1);

/// Longest sleep, so that a wall clock that was set is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Shortest sleep, so that a job that is due and fails at once does not spin.
const SLEEP_MIN: Duration = Duration::from_millis(200);

/// The running jobs. Ends them when dropped; [`Jobs::stop`] also waits for the one at work.
#[derive(Debug)]
pub struct Jobs {
    cancel: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Jobs {
    /// Starts them on the current runtime.
    pub(crate) fn start(shared: Arc<Shared>) -> Self {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let task = tokio::spawn(async move {
            let mut work = Work::new(shared);
            // A job is not cut short: what it does in one transaction is done or not, and the next start resumes.
            while token.run_until_cancelled(tokio::time::sleep(work.sleep())).await.is_some() {
                work.run().await;
            }
        });
        Self { cancel, task: Some(task) }
    }

    /// Ends them and waits until the one at work is done.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        if let Some(task) = self.task.take()
            && let Err(why) = task.await
        {
            tracing::error!(error = %why, "Control's jobs ended badly");
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// When each job is due.
struct Work {
    shared: Arc<Shared>,
    renewal: RenewalSchedule,
    prune_at: Instant,
    certificates_at: Instant,
    /// A renewal was followed by bundles that could not all be signed anew.
    unreconciled: bool,
}

impl Work {
    fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let renewal = shared.signer.load().renewal(&shared.entropy);
        Self {
            renewal,
            prune_at: now + PRUNE_EVERY,
            certificates_at: now + CERTIFICATES_EVERY,
            unreconciled: false,
            shared,
        }
    }

    fn sleep(&self) -> Duration {
        let renewal = self.renewal.wait(self.shared.clock.now());
        let next = self.prune_at.min(self.certificates_at).saturating_duration_since(Instant::now());
        renewal.min(next).clamp(SLEEP_MIN, SLEEP_MAX)
    }

    async fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.now();
        if self.renewal.is_due(now) {
            match shared.renew_signer().await {
                Ok(()) => {
                    self.renewal = shared.signer.load().renewal(&shared.entropy);
                    self.unreconciled = true;
                }
                Err(why) => {
                    tracing::error!(error = %why, "Control's own certificate could not be renewed");
                    self.renewal.failed(shared.clock.now(), &shared.entropy);
                }
            }
        }
        if self.unreconciled {
            match shared.reconcile().await {
                Ok(done) => {
                    self.unreconciled = false;
                    tracing::info!(bundles = done.bundles, "Bundles signed anew");
                }
                Err(why) => tracing::error!(error = %why, "Bundles could not be signed anew"),
            }
        }
        if Instant::now() >= self.prune_at {
            self.prune_at = Instant::now() + PRUNE_EVERY;
            if let Err(why) = shared.prune().await {
                tracing::warn!(error = %why, "What is over could not be removed");
            }
        }
        if Instant::now() >= self.certificates_at {
            self.certificates_at = Instant::now() + CERTIFICATES_EVERY;
            if let Err(why) = shared.renew_certificates().await {
                tracing::error!(error = %why, "Public certificates could not be renewed");
            }
            // Drops the names of evicted warpgates whose certificates have ended.
            if let Err(why) = shared.primary.write(async |tx| shared.publish_platform(tx).await).await {
                tracing::error!(error = %why, "The platform document could not be published");
            }
        }
    }
}

impl Shared {
    /// Gives this node a new certificate; every bundle must be signed anew after it.
    pub(crate) async fn renew_signer(&self) -> Result<(), OpenError> {
        let signer = node::renew(&self.primary, &self.config, &self.installation, &self.keys).await?;
        tracing::info!(until = %signer.identity.not_after(), "Control's own certificate renewed");
        self.signer.store(signer);
        Ok(())
    }

    /// Removes what is over, batch by batch, so that writers in between wait for one batch at most.
    pub(crate) async fn prune(&self) -> Result<u64, mezusphere_store::StoreError> {
        let mut removed = 0;
        loop {
            match self.primary.write(async |tx| prune::prune(tx).await).await? {
                0 => return Ok(removed),
                batch => removed += batch,
            }
        }
    }
}
