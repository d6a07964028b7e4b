//! The signed identity that travels with a caller's requests: pulled from control at first use, renewed at
//! half-life without anybody waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::{ControlLink, Credential, IssuedAssertion, LinkError};
use mezusphere_model::{Clock, Timestamp};
use tokio::sync::mpsc;

use super::caller::Caller;

/// Renewals that wait to be made. One that finds no room is asked for again by the next request.
const RENEWALS_WAITING_MAX: usize = 4096;

/// Renewals under way at once.
const RENEWALS_MAX: usize = 32;

/// An assertion is not used in its last moments: it must still be good when the warpgate reads it.
const MARGIN: Duration = Duration::from_secs(15);

/// How long a refusal by control stands before it is asked again for the same caller.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// How long to wait for control, once a request needs it.
const PULL_MAX: Duration = Duration::from_secs(5);

/// An assertion that may be sent.
#[derive(Debug)]
pub(crate) struct Assertion {
    /// The JWS. Cloning shares it, so that tunnels recognise it by its address.
    pub(crate) jws: Bytes,
    environment: EnvironmentId,
    renew_at: Timestamp,
    use_until: Timestamp,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAssertion {
    /// Control cannot be reached.
    Away,
    /// Control says that the caller is not good.
    Refused,
}

/// The place of a caller's assertion.
#[derive(Debug, Default)]
pub(crate) struct AssertionSlot {
    held: ArcSwapOption<Assertion>,
    /// One pull at a time; the others wait and take what it brought.
    pulling: tokio::sync::Mutex<()>,
    renewing: AtomicBool,
    /// Until when control's last refusal stands, in microseconds.
    refused_until: AtomicI64,
}

impl AssertionSlot {
    /// Forgets the assertion: a warpgate did not accept it.
    pub(crate) fn discard(&self) {
        self.held.store(None);
    }

    fn usable(&self, environment: EnvironmentId, now: Timestamp) -> Option<Arc<Assertion>> {
        let held = self.held.load();
        let held = held.as_ref()?;
        (held.environment == environment && now < held.use_until).then(|| Arc::clone(held))
    }

    fn hold(&self, issued: IssuedAssertion, environment: EnvironmentId, now: Timestamp) -> Arc<Assertion> {
        let life = issued.expires_at.since(now);
        // A short-lived one (tests) keeps three quarters of its life.
        let margin = MARGIN.min(life / 4);
        let assertion = Arc::new(Assertion {
            jws: Bytes::from(issued.jws),
            environment,
            renew_at: now.after(life / 2),
            use_until: issued.expires_at.before(margin),
        });
        self.held.store(Some(Arc::clone(&assertion)));
        assertion
    }
}

/// A renewal somebody's request has found due.
pub(crate) struct Renewal {
    caller: Arc<Caller>,
    credential: Credential,
    environment: EnvironmentId,
}

/// Pulls assertions.
pub(crate) struct Assertions {
    link: Arc<dyn ControlLink>,
    clock: Clock,
    renewals: mpsc::Sender<Renewal>,
}

impl Assertions {
    /// Pulls over `link`; renewals come out of the receiver, which [`renew`] drains.
    pub(crate) fn new(link: Arc<dyn ControlLink>, clock: Clock) -> (Self, mpsc::Receiver<Renewal>) {
        let (renewals, waiting) = mpsc::channel(RENEWALS_WAITING_MAX);
        (Self { link, clock, renewals }, waiting)
    }

    /// The caller's assertion for `environment`. Waits for control only if there is none that may be used.
    pub(crate) async fn of(
        &self,
        caller: &Arc<Caller>,
        credential: &Credential,
        environment: EnvironmentId,
    ) -> Result<Arc<Assertion>, NoAssertion> {
        let slot = &caller.assertion;
        let now = self.clock.now();
        if let Some(held) = slot.usable(environment, now) {
            if now >= held.renew_at && !slot.renewing.swap(true, Ordering::Relaxed) {
                let renewal =
                    Renewal { caller: Arc::clone(caller), credential: credential.clone(), environment };
                if self.renewals.try_send(renewal).is_err() {
                    slot.renewing.store(false, Ordering::Relaxed);
                }
            }
            return Ok(held);
        }
        let pull = Box::pin(async {
            let _one = slot.pulling.lock().await;
            let now = self.clock.now();
            if let Some(held) = slot.usable(environment, now) {
                return Ok(held);
            }
            if now.as_micros() < slot.refused_until.load(Ordering::Relaxed) {
                return Err(NoAssertion::Refused);
            }
            pull(&*self.link, caller, credential, environment, now).await
        });
        tokio::time::timeout(PULL_MAX, pull).await.unwrap_or(Err(NoAssertion::Away))
    }
}

async fn pull(
    link: &dyn ControlLink,
    caller: &Caller,
    credential: &Credential,
    environment: EnvironmentId,
    now: Timestamp,
) -> Result<Arc<Assertion>, NoAssertion> {
    match link.assertion(credential.clone(), environment).await {
        Ok(issued) => Ok(caller.assertion.hold(issued, environment, now)),
        Err(LinkError::Away) => Err(NoAssertion::Away),
        Err(LinkError::Refused(why)) => {
            tracing::info!(subject = %caller.identity.subject, why, "Control refused an assertion");
            let until = now.after(REFUSED_FOR).as_micros();
            caller.assertion.refused_until.store(until, Ordering::Relaxed);
            Err(NoAssertion::Refused)
        }
    }
}

/// Makes the renewals that are waiting, a few at a time, for ever. One that fails is asked for again by the next
/// request; the assertion at hand is good for its second half meanwhile.
pub(crate) async fn renew(link: Arc<dyn ControlLink>, mut waiting: mpsc::Receiver<Renewal>, clock: Clock) {
    use futures_util::StreamExt as _;
    let mut running = futures_util::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            renewal = waiting.recv(), if running.len() < RENEWALS_MAX => {
                let Some(renewal) = renewal else { return };
                let (link, clock) = (Arc::clone(&link), clock.clone());
                running.push(async move {
                    let Renewal { caller, credential, environment } = renewal;
                    let asked = pull(&*link, &caller, &credential, environment, clock.now());
                    let renewed = matches!(tokio::time::timeout(PULL_MAX, asked).await, Ok(Ok(_)));
                    if !renewed {
                        // Not at every request of a busy session: the next try is a moment away.
                        tokio::time::sleep(REFUSED_FOR).await;
                    }
                    caller.assertion.renewing.store(false, Ordering::Relaxed);
                });
            }
            Some(()) = running.next(), if !running.is_empty() => {}
        }
    }
}
