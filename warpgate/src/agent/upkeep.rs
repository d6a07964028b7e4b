//! What goes on beside the traffic: renewal of the certificate, polling for bundles, closing idle connections.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_pki::RenewalSchedule;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;

use crate::backoff::jittered;
use crate::enroll::{Applicant, ConnectFailure, ConnectService, Known};
use crate::limits::{
    BUNDLE_POLL_EVERY, CLOCK_LOOK_EVERY, DOUBT_PAUSE, LOST_POLL_EVERY, REFUSED_IDENTITY_PAUSE,
    RENEWAL_PAUSE_MIN, SWEEP_EVERY,
};
use crate::output::Event;
use crate::state::StateDir;
use crate::tunnel::{Doubt, Shared, Status};

/// The upkeep of one warpgate.
pub(super) struct Upkeep {
    shared: Arc<Shared>,
    service: ConnectService,
    state: Option<StateDir>,
    schedule: RenewalSchedule,
    bundles: watch::Receiver<u64>,
    doubts: watch::Receiver<Option<Doubt>>,
    status: watch::Receiver<Status>,
    next_poll: Instant,
    next_sweep: Instant,
    /// When control is asked for another certificate because edges refuse the present one; `None`: none does.
    ask_again: Option<Instant>,
    asked_again: Option<Instant>,
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
        Self {
            bundles: shared.gate.bundles.changes(),
            doubts: shared.doubts.changes(),
            status: shared.status.subscribe(),
            shared,
            service,
            state,
            schedule,
            next_poll: now + first,
            next_sweep: now + SWEEP_EVERY,
            ask_again: None,
            asked_again: None,
        }
    }

    /// Runs for ever; resolves only with a reason to give up.
    pub(super) async fn run(mut self) -> ConnectFailure {
        loop {
            let shared = Arc::clone(&self.shared);
            self.follow_ca();
            let until_renewal = self.schedule.wait(shared.clock.now()).min(CLOCK_LOOK_EVERY);
            let done = tokio::select! {
                () = sleep(until_renewal.max(RENEWAL_PAUSE_MIN)) => self.renew_if_due().await,
                () = sleep_until(self.next_poll) => self.poll().await,
                () = at(self.ask_again) => self.renew_refused().await,
                Ok(()) = self.doubts.changed() => {
                    self.plan_for_doubt();
                    Ok(())
                }
                Ok(()) = self.status.changed() => {
                    self.plan_for_loss();
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

    /// Brings the renewal forward if the bundle names another CA than the one our certificate is of.
    fn follow_ca(&mut self) {
        let (identity, bundle) =
            (self.shared.identity.get(), Arc::clone(&self.shared.gate.bundles.current()));
        let (issuer, from) = (identity.leaf().issuer, bundle.renew_from.as_ref());
        self.schedule.follow(issuer.as_ref(), from, self.shared.clock.now(), &self.shared.entropy);
    }

    async fn renew_if_due(&mut self) -> Result<(), ConnectFailure> {
        if !self.schedule.is_due(self.shared.clock.now()) {
            return Ok(());
        }
        let Some(instance) = self.shared.instance() else { return Ok(()) };
        if let Err(failure) = self.renew(Applicant::Renewing(instance)).await {
            let now = self.shared.clock.now();
            self.schedule.failed(now, &self.shared.entropy);
            return self.after_failure(failure, self.schedule.wait(now));
        }
        Ok(())
    }

    /// Edges refuse our certificate: control gives another one, or says why not.
    async fn renew_refused(&mut self) -> Result<(), ConnectFailure> {
        self.asked_again = Some(Instant::now());
        self.ask_again = None;
        let Some(instance) = self.shared.instance() else { return Ok(()) };
        let asked = self.renew(Applicant::Refused(instance)).await;
        let outcome = match asked {
            Ok(()) => Ok(()),
            Err(failure) => {
                let again = !failure.by_control;
                let outcome = self.after_failure(failure, REFUSED_IDENTITY_PAUSE);
                if again {
                    self.ask_again = Some(Instant::now() + REFUSED_IDENTITY_PAUSE);
                }
                outcome
            }
        };
        self.shared.doubts.settle(Doubt::Identity);
        outcome
    }

    async fn renew(&mut self, applicant: Applicant) -> Result<(), ConnectFailure> {
        let known = self.known();
        let enrollment = self.service.enroll(applicant, &known).await?;
        // It may bring the very roots that its certificate needs.
        self.shared.take_bundle(enrollment.bundle.clone());
        let now = self.shared.clock.now();
        enrollment.judge(&self.shared.gate.bundles.trust().get(), now)?;
        let before = self.shared.identity.get().name().clone();
        let identity = enrollment.identity;
        self.schedule.renewed(identity.not_before(), identity.not_after(), &self.shared.entropy);
        self.shared.reporter.works("control ");
        if *identity.name() != before {
            let text =
                format!("control gave this warpgate another name, {}: {before} was evicted", identity.name());
            self.shared.reporter.tell(Event::Note { text });
        }
        self.shared.reporter.tell(Event::Renewed {
            valid_s: identity.not_after().since(now).as_secs(),
            renews_s: self.schedule.wait(now).as_secs(),
        });
        self.shared.renewed(identity);
        self.save();
        Ok(())
    }

    /// What edges make doubtful is asked of control itself, soon but not in a flood.
    fn plan_for_doubt(&mut self) {
        let soon = Instant::now() + DOUBT_PAUSE;
        match *self.doubts.borrow_and_update() {
            Some(Doubt::Key) => self.next_poll = self.next_poll.min(soon),
            Some(Doubt::Identity) => {
                let pause_over = self.asked_again.map_or(soon, |asked| asked + REFUSED_IDENTITY_PAUSE);
                self.ask_again.get_or_insert(soon.max(pause_over));
            }
            None => {}
        }
    }

    /// Where no edge is reached, none can relay that others have taken their place: control is asked soon.
    fn plan_for_loss(&mut self) {
        if self.status.borrow_and_update().all_failed() {
            self.next_poll = self.next_poll.min(Instant::now() + DOUBT_PAUSE);
        }
    }

    fn known(&self) -> Known {
        Known::of(&self.shared.gate.bundles)
    }

    async fn poll(&mut self) -> Result<(), ConnectFailure> {
        let have = self.shared.gate.bundles.current().revision();
        let known = self.known();
        let answer = self.service.newer_bundle(have, &known).await;
        self.shared.doubts.settle(Doubt::Key);
        let every = if self.status.borrow().all_failed() { LOST_POLL_EVERY } else { BUNDLE_POLL_EVERY };
        let wait = jittered(every, &self.shared.entropy);
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

    /// Gives up only if control says so and no edge says otherwise: an edge may relay the answer, and one edge's
    /// word must not stop a warpgate that others serve. What went wrong on the way is never a reason.
    fn after_failure(&self, failure: ConnectFailure, wait: Duration) -> Result<(), ConnectFailure> {
        if failure.is_final && failure.by_control && self.shared.status.borrow().connected() == 0 {
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

/// Resolves then; never, without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
