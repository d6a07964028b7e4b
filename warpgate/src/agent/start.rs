//! How a warpgate comes to its identity and its first bundle.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_model::id::WarpgateId;
use mezusphere_pki::{CurrentIdentity, NodeIdentity};
use tokio::time::sleep;

use super::Agent;
use crate::backoff::Backoff;
use crate::bundle::Bundles;
use crate::enroll::{Applicant, ConnectFailure, ConnectService, Enrollment, Known};
use crate::exit::Exit;
use crate::limits::CONTROL_BACKOFF;
use crate::output::Event;
use crate::state::Found;

/// What everything else runs on.
pub(super) struct Started {
    pub(super) identity: CurrentIdentity,
    pub(super) bundles: Arc<Bundles>,
    /// Whether control was asked just now, so that the bundle is the newest.
    pub(super) enrolled: bool,
}

/// Takes what was kept, or enrols; tries for ever unless that is useless or not wanted.
///
/// # Errors
/// How the program ends; it was told why.
pub(super) async fn start(agent: &mut Agent, service: &ConnectService) -> Result<Started, Exit> {
    let (applicant, known) = match restore(agent) {
        Restored::Whole(started) => return Ok(started),
        Restored::Known(instance, known) => (Applicant::Refused(instance), known),
        Restored::Nothing => (Applicant::New, Known::default()),
    };
    let mut backoff = Backoff::new(CONTROL_BACKOFF, agent.entropy.clone());
    loop {
        let attempt = async {
            let enrollment = service.enroll(applicant, &known).await?;
            adopt(agent, service, enrollment)
        };
        let mut signals = agent.signals.clone();
        let attempted = tokio::select! {
            attempted = attempt => attempted,
            _ = signals.wait_for(|count| *count >= 1) => return Err(stopped(agent)),
        };
        let failure = match attempted {
            Ok(started) => return Ok(started),
            Err(failure) => failure,
        };
        if failure.is_final || agent.config.exit_on_failure {
            return Err(agent.fail_with(&failure));
        }
        let wait = backoff.wait();
        tell_failure(agent, service, &failure, wait);
        tokio::select! {
            () = sleep(wait) => {}
            _ = signals.wait_for(|count| *count >= 1) => return Err(stopped(agent)),
        }
    }
}

/// What was kept is good for.
enum Restored {
    /// Everything.
    Whole(Started),
    /// Who this warpgate was, and what it knew. Edges refuse its certificate, which has ended, so control may give it another
    /// name.
    Known(WarpgateId, Known),
    Nothing,
}

fn restore(agent: &Agent) -> Restored {
    let Some(state) = agent.config.state.as_ref() else { return Restored::Nothing };
    let now = agent.clock.now();
    let environment = agent.config.key.environment;
    let aside = |why: &dyn std::fmt::Display| {
        let text = format!("what is kept in {} is not used: {why}", state.path().display());
        agent.reporter.tell(Event::Note { text });
        Restored::Nothing
    };
    let kept = match state.load(environment, now) {
        Ok(Found::Kept(kept)) => kept,
        Ok(Found::Nothing) => return Restored::Nothing,
        Ok(Found::Ended(kept)) => {
            let (place, not_after) = (state.path().display(), kept.identity.not_after());
            let text = format!(
                "the certificate kept in {place} ended at {not_after}, and this machine's clock says {now}: a new one is \
                 fetched"
            );
            agent.reporter.tell(Event::Note { text });
            return Restored::Known(kept.instance, Known::kept(&kept, &agent.clock));
        }
        Err(why) => return aside(&why),
    };
    let bundles = match kept.bundles(agent.clock.clone()) {
        Ok(bundles) => bundles,
        Err(why) => return aside(&why),
    };
    tell_certificate(agent, &kept.identity, now);
    Restored::Whole(Started {
        identity: CurrentIdentity::new(kept.identity),
        bundles: Arc::new(bundles),
        enrolled: false,
    })
}

/// Verifies what enrollment gave, tells about it, and keeps it.
fn adopt(agent: &Agent, service: &ConnectService, enrollment: Enrollment) -> Result<Started, ConnectFailure> {
    let now = agent.clock.now();
    let environment = agent.config.key.environment;
    let bundles =
        Bundles::start(enrollment.bundle.clone(), &enrollment.pinned, environment, now, agent.clock.clone())
            .map_err(|why| ConnectFailure::unusable_bundle(&why))?;
    enrollment.judge(&bundles.trust().get(), now)?;
    agent.reporter.tell(Event::Control {
        address: service.address(),
        transport: enrollment.transport.as_str(),
        took_ms: u64::try_from(enrollment.took.as_millis()).unwrap_or(u64::MAX),
        clock_skew_ms: enrollment.clock_skew_ms,
    });
    agent.reporter.tell(Event::Key {
        account: enrollment.account,
        project: enrollment.project,
        environment: enrollment.environment,
        hint: agent.config.key_hint.clone(),
    });
    tell_certificate(agent, &enrollment.identity, now);
    if let Some(state) = &agent.config.state {
        let trust = bundles.trust().get();
        if let Err(why) = state.save(environment, &enrollment.identity, &bundles.signed(), &trust, now) {
            agent.reporter.tell(Event::Note { text: format!("nothing is kept: {why}") });
        }
    }
    Ok(Started {
        identity: CurrentIdentity::new(enrollment.identity),
        bundles: Arc::new(bundles),
        enrolled: true,
    })
}

fn tell_certificate(agent: &Agent, identity: &NodeIdentity, now: Timestamp) {
    let renews_at = identity.renew_at(&agent.entropy);
    agent.reporter.tell(Event::Certificate {
        name: identity.name().to_string(),
        valid_s: identity.not_after().since(now).as_secs(),
        renews_s: renews_at.since(now).as_secs(),
        kept_in: agent.config.state.as_ref().map(|state| state.path().to_owned()),
    });
}

fn tell_failure(agent: &Agent, service: &ConnectService, failure: &ConnectFailure, wait: Duration) {
    agent.reporter.tell_failure(&format!("control {}", failure.code), |repeats| Event::ControlFailed {
        address: service.address(),
        code: failure.code.clone(),
        message: failure.message.clone(),
        next: failure.next.clone(),
        retry_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        repeats,
    });
}

fn stopped(agent: &Agent) -> Exit {
    agent.reporter.tell(Event::Stopped { cut: 0 });
    Exit::Done
}
