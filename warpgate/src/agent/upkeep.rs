//! What goes on beside the traffic: renewal of the certificate, polling for bundles, closing idle connections.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_pki::RenewalSchedule;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;

use crate::backoff::jittered;
use crate::enroll::{ConnectFailure, ConnectService};
use crate::limits::{BUNDLE_POLL_EVERY, CLOCK_LOOK_EVERY, DOUBT_PAUSE, RENEWAL_PAUSE_MIN, SWEEP_EVERY};
use crate::output::Event;
use crate::state::StateDir;
use crate::tunnel::Shared;

/// The upkeep of one warpgate.
pub(super) struct Upkeep {
    shared: Arc<Shared>,
    service: ConnectService,
    state: Option<StateDir>,
    schedule: RenewalSchedule,
    bundles: watch::Receiver<u64>,
    next_poll: Instant,
    next_sweep: Instant,
}

impl Upkeep {
    /// `enrolled`: control was asked just now, so the first poll can wait.
    pub(super) fn new(
        shared: Arc<Shared>,
        service: ConnectService,
        state: Option<StateDir>,
        enrolled: bool,
    ) -> Self {
        let schedule = shared.identity.get().renewal(&shared.entropy);
        let now = Instant::now();
        let first = if enrolled { jittered(BUNDLE_POLL_EVERY, &shared.entropy) } else { Duration::ZERO };
        let bundles = shared.gate.bundles.changes();
        Self {
            shared,
            service,
            state,
            schedule,
            bundles,
            next_poll: now + first,
            next_sweep: now + SWEEP_EVERY,
        }
    }

    /// Runs for ever; resolves only with a reason to give up.
    pub(super) async fn run(mut self) -> ConnectFailure {
        loop {
            let shared = Arc::clone(&self.shared);
            let until_renewal = self.schedule.wait(shared.clock.now()).min(CLOCK_LOOK_EVERY);
            let done = tokio::select! {
                () = sleep(until_renewal.max(RENEWAL_PAUSE_MIN)) => self.renew_if_due().await,
                () = sleep_until(self.next_poll) => self.poll().await,
                () = shared.doubt.notified() => {
                    // An edge says that our key or our place is gone: ask control itself, but not in a flood.
                    self.next_poll = self.next_poll.min(Instant::now() + DOUBT_PAUSE);
                    Ok(())
                }
                Ok(()) = self.bundles.changed() => {
                    self.save();
                    Ok(())
                }
                () = sleep_until(self.next_sweep) => {
                    self.shared.gate.sweep();
                    self.next_sweep = Instant::now() + SWEEP_EVERY;
                    Ok(())
                }
            };
            if let Err(failure) = done {
                return failure;
            }
        }
    }

    async fn renew_if_due(&mut self) -> Result<(), ConnectFailure> {
        if !self.schedule.is_due(self.shared.clock.now()) {
            return Ok(());
        }
        let enrolled = self.service.enroll(Some(self.shared.instance)).await.and_then(|enrollment| {
            // It may bring the very roots that its certificate needs.
            self.shared.take_bundle(enrollment.bundle.clone());
            enrollment.judge(&self.shared.gate.bundles.trust().get(), self.shared.clock.now())?;
            Ok(enrollment)
        });
        let enrollment = match enrolled {
            Ok(enrollment) => enrollment,
            Err(failure) => {
                let now = self.shared.clock.now();
                self.schedule.failed(now, &self.shared.entropy);
                return self.after_failure(failure, self.schedule.wait(now));
            }
        };
        let now = self.shared.clock.now();
        let identity = enrollment.identity;
        self.schedule.renewed(identity.not_before(), identity.not_after(), &self.shared.entropy);
        self.shared.reporter.works("control ");
        self.shared.reporter.tell(Event::Renewed {
            valid_s: identity.not_after().since(now).as_secs(),
            renews_s: self.schedule.wait(now).as_secs(),
        });
        self.shared.identity.replace(identity);
        self.shared.renewals.send_modify(|count| *count += 1);
        self.save();
        Ok(())
    }

    async fn poll(&mut self) -> Result<(), ConnectFailure> {
        let have = self.shared.gate.bundles.current().revision();
        let answer = self.service.newer_bundle(have).await;
        let wait = jittered(BUNDLE_POLL_EVERY, &self.shared.entropy);
        self.next_poll = Instant::now() + wait;
        match answer {
            Ok(bundle) => {
                self.shared.reporter.works("control ");
                if let Some(bundle) = bundle {
                    self.shared.take_bundle(bundle);
                }
                Ok(())
            }
            Err(failure) => self.after_failure(failure, wait),
        }
    }

    /// Gives up only if control says so and no edge says otherwise: an edge relays the answer, and one edge's
    /// word must not stop a warpgate that others serve.
    fn after_failure(&self, failure: ConnectFailure, wait: Duration) -> Result<(), ConnectFailure> {
        if failure.is_final && self.shared.status.borrow().connected() == 0 {
            return Err(failure);
        }
        self.shared.reporter.tell_failure(&format!("control {}", failure.code), |repeats| {
            Event::ControlFailed {
                address: self.service.address(),
                code: failure.code.clone(),
                message: failure.message.clone(),
                next: failure.next.clone(),
                retry_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                repeats,
            }
        });
        Ok(())
    }

    /// Keeps certificate and bundle, on a thread of its own: a slow disk must not stop traffic.
    fn save(&self) {
        let Some(state) = self.state.clone() else { return };
        let shared = Arc::clone(&self.shared);
        let environment = self.service.key().environment;
        let now: Timestamp = shared.clock.now();
        let write = move || {
            let bundles = &shared.gate.bundles;
            let (identity, trust) = (shared.identity.get(), bundles.trust().get());
            if let Err(why) = state.save(environment, &identity, &bundles.signed(), &trust, now) {
                shared
                    .reporter
                    .tell_failure("state", |_| Event::Note { text: format!("nothing is kept: {why}") });
            }
        };
        // Ends by itself after one write. Two at once would write the same file; the last rename wins, whole.
        if let Err(why) = std::thread::Builder::new().name("state".to_owned()).spawn(write) {
            info!(%why, "No thread to keep the state");
        }
    }
}
