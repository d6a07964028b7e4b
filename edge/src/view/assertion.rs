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
use tokio::time::Instant;
use tunnel_proto::limits::{ASSERTION_LEN_MAX, ASSERTION_TTL, CLOCK_SKEW_MAX};

use super::caller::Caller;

/// Renewals that wait to be made. One that finds no room is asked for again by the next request.
const RENEWALS_WAITING_MAX: usize = 4096;

/// Renewals under way at once.
const RENEWALS_MAX: usize = 32;

/// An assertion is not used in its last moments: it must still be good when the warpgate reads it.
const MARGIN: Duration = Duration::from_secs(15);

/// How long control's no, or its silence, stands before it is asked again for the same caller: neither a dead session
/// nor a control that is away may turn each request into a question.
const FAILED_FOR: Duration = Duration::from_secs(2);

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
    /// Control cannot be reached, or answers what cannot be used.
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
    /// Until when nothing is expected of control, in microseconds.
    away_until: AtomicI64,
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

    /// Why control is not asked now.
    fn failure(&self, now: Timestamp) -> Option<NoAssertion> {
        let stands = |until: &AtomicI64| now.as_micros() < until.load(Ordering::Relaxed);
        if stands(&self.refused_until) {
            return Some(NoAssertion::Refused);
        }
        stands(&self.away_until).then_some(NoAssertion::Away)
    }

    fn failed(&self, why: NoAssertion, now: Timestamp) {
        let until = match why {
            NoAssertion::Refused => &self.refused_until,
            NoAssertion::Away => &self.away_until,
        };
        until.store(now.after(FAILED_FOR).as_micros(), Ordering::Relaxed);
    }

    /// Keeps what control signed; `None` if no warpgate could use it.
    fn hold(
        &self,
        issued: IssuedAssertion,
        environment: EnvironmentId,
        now: Timestamp,
    ) -> Option<Arc<Assertion>> {
        let life = issued.expires_at.since(now);
        let is_jws = issued.jws.bytes().filter(|byte| *byte == b'.').count() == 2
            && issued.jws.bytes().all(|byte| byte.is_ascii_graphic())
            && issued.jws.len() <= ASSERTION_LEN_MAX;
        if life.is_zero() || !is_jws {
            return None;
        }
        // Nobody signs for longer; a far end would only hide that nothing is renewed.
        let life = life.min(ASSERTION_TTL + CLOCK_SKEW_MAX);
        // A short-lived one (tests) keeps three quarters of its life.
        let margin = MARGIN.min(life / 4);
        let assertion = Arc::new(Assertion {
            jws: Bytes::from(issued.jws),
            environment,
            renew_at: now.after(life / 2),
            use_until: now.after(life).before(margin),
        });
        self.held.store(Some(Arc::clone(&assertion)));
        Some(assertion)
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
    /// How long a request waits for control, once it needs it.
    wait_max: Duration,
    renewals: mpsc::Sender<Renewal>,
}

impl Assertions {
    /// Pulls over `link` and waits for at most `wait_max`; renewals come out of the receiver, which
    /// [`Assertions::renew`] drains.
    pub(crate) fn new(
        link: Arc<dyn ControlLink>,
        clock: Clock,
        wait_max: Duration,
    ) -> (Self, mpsc::Receiver<Renewal>) {
        let (renewals, waiting) = mpsc::channel(RENEWALS_WAITING_MAX);
        (Self { link, clock, wait_max, renewals }, waiting)
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
        Box::pin(async {
            // For the lock too: whoever stands behind a slow question waits no longer than its asker.
            let deadline = Instant::now() + self.wait_max;
            let pulling = tokio::time::timeout_at(deadline, slot.pulling.lock()).await;
            let Ok(_one) = pulling else { return Err(NoAssertion::Away) };
            let now = self.clock.now();
            if let Some(held) = slot.usable(environment, now) {
                return Ok(held);
            }
            match slot.failure(now) {
                Some(why) => Err(why),
                None => self.pull(caller, credential, environment, deadline).await,
            }
        })
        .await
    }

    async fn pull(
        &self,
        caller: &Caller,
        credential: &Credential,
        environment: EnvironmentId,
        deadline: Instant,
    ) -> Result<Arc<Assertion>, NoAssertion> {
        let slot = &caller.assertion;
        let asked = tokio::time::timeout_at(deadline, self.link.assertion(credential.clone(), environment));
        let answer = asked.await.unwrap_or(Err(LinkError::Away));
        let now = self.clock.now();
        let why = match answer {
            Ok(issued) => {
                if let Some(held) = slot.hold(issued, environment, now) {
                    return Ok(held);
                }
                tracing::warn!("Control sent an assertion that cannot be used");
                NoAssertion::Away
            }
            Err(LinkError::Away) => NoAssertion::Away,
            Err(LinkError::Refused(why)) => {
                tracing::info!(subject = %caller.identity.subject, why, "Control refused an assertion");
                NoAssertion::Refused
            }
        };
        slot.failed(why, now);
        Err(why)
    }

    /// Makes the renewals that are waiting, a few at a time, for ever. One that fails is asked for again by the next
    /// request; the assertion at hand is good for its second half meanwhile.
    pub(crate) async fn renew(&self, mut waiting: mpsc::Receiver<Renewal>) {
        use futures_util::StreamExt as _;
        let mut running = futures_util::stream::FuturesUnordered::new();
        loop {
            tokio::select! {
                renewal = waiting.recv(), if running.len() < RENEWALS_MAX => {
                    let Some(renewal) = renewal else { return };
                    running.push(async move {
                        let Renewal { caller, credential, environment } = renewal;
                        let deadline = Instant::now() + self.wait_max;
                        if self.pull(&caller, &credential, environment, deadline).await.is_err() {
                            // Not at every request of a busy session: the next try is a moment away.
                            tokio::time::sleep(FAILED_FOR).await;
                        }
                        caller.assertion.renewing.store(false, Ordering::Relaxed);
                    });
                }
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
    }
}
