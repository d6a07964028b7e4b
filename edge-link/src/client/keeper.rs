//! Keeps one connection to one control node: dials, fails over, hears the wake, renews, and says how things are.
//!
//! ```text
//!            ┌──────── all failed: wait (full jitter) ───────┐
//!  start ─▶ race ── one answered ─▶ hold ── lost ────────────┴─▶ race, the lost one last
//!                                    │ ▲
//!   own certificate renewed, the node's about to end or of another CA, or the node left the list: race for a new one, keep
//!   the old until then
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mezusphere_model::clock::Clock;
use mezusphere_model::document::{NodeAddress, Partition};
use mezusphere_model::entropy::Entropy;
use mezusphere_pki::tls::{TlsSetupError, link_client_config};
use mezusphere_pki::{CurrentIdentity, CurrentTrust};
use mezusphere_store::feed::{Bell, Cursor, Head};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info, warn};

use super::ask::AskError;
use super::dial::{dial, race};
use super::line::{Good, Line, Listening};
use super::problem::NOT_LISTED;
use super::wake::WakeStream;
use super::{ClientParts, LinkCounts, LinkProblem, LinkState};
use crate::limits::{
    CONNECTION_WINDOW, CONTROLS_MAX, FIELDS_LEN_MAX, LinkLimits, SEND_BUFFER_LEN_MAX, STREAM_WINDOW,
};
use crate::wire::{Endpoint, Nothing, WakeLine};
use crate::{ALPN_LINK, ALPN_SPLICE};

/// Before a connection with a renewed certificate is tried again after it failed, as long as the old one works.
const RENEW_AGAIN: Duration = Duration::from_secs(2);

/// Before a connection is made anew because its two certificates are of different CAs; doubled up to the longest as long as
/// that does not help, because the other side changes over in its own time.
const MIXED_AGAIN: Duration = Duration::from_secs(1);
const MIXED_AGAIN_MAX: Duration = Duration::from_mins(5);

/// What questions and the keeper share.
pub(super) struct Shared {
    pub(super) controls: watch::Receiver<Vec<NodeAddress>>,
    identity: CurrentIdentity,
    trust: CurrentTrust,
    pub(super) clock: Clock,
    entropy: Entropy,
    pub(super) limits: LinkLimits,
    link_tls: Arc<ClientConfig>,
    pub(super) splice_tls: Arc<ClientConfig>,
    /// The current connection.
    pub(super) line: watch::Sender<Option<Arc<Line>>>,
    pub(super) state: watch::Sender<LinkState>,
    problem: Mutex<Option<LinkProblem>>,
    pub(super) bell: Bell,
    /// Where partitions ended when our follower last asked: what differs after a gap has changed in it.
    heads: Mutex<HashMap<Partition, Cursor>>,
    /// Questions at once.
    pub(super) turns: Semaphore,
    /// Splices being opened.
    pub(super) opening: Semaphore,
    pub(super) tally: Tally,
}

#[derive(Default)]
pub(super) struct Tally {
    connects: AtomicU64,
    rounds_failed: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) nonsense: AtomicU64,
}

/// A connection with its wake.
struct Held {
    line: Arc<Line>,
    wake: WakeStream,
}

/// Why a connection is not held any more.
enum Over {
    /// It is gone.
    Lost(LinkProblem),
    /// It works, but another one is due.
    Replace,
}

impl Shared {
    pub(super) fn new(parts: ClientParts, limits: LinkLimits) -> Result<Self, TlsSetupError> {
        let ClientParts { edge: _, controls, identity, trust, clock, entropy } = parts;
        let config = |alpn| link_client_config(&identity, &trust, &clock, &[alpn]).map(Arc::new);
        Ok(Self {
            link_tls: config(ALPN_LINK)?,
            splice_tls: config(ALPN_SPLICE)?,
            turns: Semaphore::new(limits.questions),
            opening: Semaphore::new(limits.splices_opening),
            controls,
            identity,
            trust,
            clock,
            entropy,
            limits,
            line: watch::Sender::new(None),
            state: watch::Sender::new(LinkState::Connecting),
            problem: Mutex::default(),
            bell: Bell::new(),
            heads: Mutex::default(),
            tally: Tally::default(),
        })
    }

    pub(super) fn last_problem(&self) -> Option<LinkProblem> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, problem: LinkProblem) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }

    pub(super) fn counts(&self) -> LinkCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LinkCounts {
            connects: read(&self.tally.connects),
            rounds_failed: read(&self.tally.rounds_failed),
            answered: read(&self.tally.answered),
            unanswered: read(&self.tally.unanswered),
            nonsense: read(&self.tally.nonsense),
        }
    }

    fn heads(&self) -> MutexGuard<'_, HashMap<Partition, Cursor>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what our follower was told.
    pub(super) fn heard_heads(&self, heads: &[Head]) {
        *self.heads() = heads.iter().map(|head| (head.partition, head.cursor)).collect();
    }

    /// The control nodes to try, `first` before and `last` after all others.
    pub(super) fn order(&self, first: Option<&NodeAddress>, last: Option<&NodeAddress>) -> Vec<NodeAddress> {
        let mut order = self.controls.borrow().clone();
        order.sort_unstable();
        order.dedup();
        // Edges spread over control nodes.
        for end in (1..order.len()).rev() {
            let below = u64::try_from(end + 1).unwrap_or(u64::MAX);
            order.swap(end, usize::try_from(self.entropy.below(below)).unwrap_or(0));
        }
        order.sort_by_key(|control| match control {
            control if Some(control) == first => 0,
            control if Some(control) == last => 2,
            _ => 1,
        });
        order.truncate(CONTROLS_MAX);
        order
    }
}

/// Keeps the link for ever; its owner ends it.
pub(super) async fn keep(shared: Arc<Shared>) {
    let limits = shared.limits.clone();
    let mut back_off = limits.back_off_min;
    let mut last: Option<NodeAddress> = None;
    let mut controls = shared.controls.clone();
    loop {
        let order = shared.order(None, last.as_ref());
        let problem = match shared.connect(&order).await {
            Ok(held) => {
                let begun = Instant::now();
                let problem = shared.hold(held).await;
                shared.line.send_replace(None);
                shared.state.send_replace(LinkState::Connecting);
                last.clone_from(&problem.control);
                warn!(control = %problem.control_text(), code = problem.code, why = %problem, "The link to control is lost");
                shared.note(problem);
                if begun.elapsed() >= limits.stable {
                    back_off = limits.back_off_min;
                    continue;
                }
                None
            }
            Err(problem) => Some(problem),
        };
        if let Some(problem) = problem {
            shared.tally.rounds_failed.fetch_add(1, Ordering::Relaxed);
            if !matches!(&*shared.state.borrow(), LinkState::Away(before) if before.code == problem.code) {
                warn!(control = %problem.control_text(), code = problem.code, why = %problem, next = problem.next, "No control node answers");
            }
            shared.note(problem.clone());
            shared.state.send_replace(LinkState::Away(problem));
        }
        let wait = u64::try_from(back_off.as_millis()).unwrap_or(u64::MAX);
        tokio::select! {
            () = sleep(Duration::from_millis(shared.entropy.below(wait + 1))) => {}
            Ok(()) = controls.changed() => {}
        }
        back_off = (back_off * 2).min(limits.back_off_max);
    }
}

impl Shared {
    /// A connection to the first of `order` that answers.
    async fn connect(&self, order: &[NodeAddress]) -> Result<Held, LinkProblem> {
        race(order, self.limits.stagger, self.clock.now(), |control| self.attempt(control)).await
    }

    async fn attempt(&self, control: &NodeAddress) -> Result<Held, LinkProblem> {
        let silent = |_| LinkProblem::silent(control.clone(), self.clock.now());
        let begun = timeout(self.limits.connect, self.begin(control)).await.map_err(silent)?;
        begun.map_err(|problem| problem.of_holder(&self.identity.get()))
    }

    /// Connects, and waits for the first line of the wake: only then has the control node let us in.
    async fn begin(&self, control: &NodeAddress) -> Result<Held, LinkProblem> {
        let identity = self.identity.get();
        if self.clock.now() > identity.not_after() {
            return Err(LinkProblem::ended(control.clone(), self.clock.now()));
        }
        let (stream, peer) = dial(&self.link_tls, ALPN_LINK, control, &self.clock).await?;
        let (stream, heard) = Listening::new(stream);
        let good = Good {
            clock: self.clock.clone(),
            trust: self.trust.clone(),
            ends_at: peer.not_after.min(identity.not_after()),
            control: peer,
        };
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(FIELDS_LEN_MAX)
            .max_send_buffer_size(SEND_BUFFER_LEN_MAX)
            .enable_push(false);
        let left = |why: &h2::Error| match heard.get() {
            Some(said) => LinkProblem::from_tls(said, control.clone(), self.clock.now()),
            None => LinkProblem::left(&why.to_string(), control.clone(), self.clock.now()),
        };
        let (send, connection) = builder.handshake(stream).await.map_err(|why| left(&why))?;
        let line =
            Line::new(control.clone(), identity, send, connection, Arc::clone(&heard), good, &self.limits);
        let line = Arc::new(line);
        let nonsense = |what: &str| LinkProblem::nonsense(what, control.clone(), self.clock.now());
        let wake = self.open_wake(&line).await.map_err(|why| match why {
            AskError::Nonsense(what) => nonsense(&what),
            AskError::Refused(what) if what.starts_with(NOT_LISTED) => {
                LinkProblem::not_listed(control.clone(), self.clock.now())
            }
            AskError::Refused(what) | AskError::Away(what) | AskError::Damaged(what) => {
                line.problem(&what, self.clock.now())
            }
        })?;
        let mut wake = WakeStream::new(wake);
        match wake.next().await {
            Ok(Some(_)) => Ok(Held { line, wake }),
            Ok(None) => Err(nonsense("the wake ended before it began")),
            Err(why) => Err(match heard.get() {
                Some(said) => LinkProblem::from_tls(said, control.clone(), self.clock.now()),
                None => nonsense(&why.to_string()),
            }),
        }
    }

    /// Uses a connection, and the ones that replace it, until one is lost.
    async fn hold(&self, mut held: Held) -> LinkProblem {
        let mut renew_from = Instant::now();
        let mut mixed_wait = MIXED_AGAIN;
        let mut mixed_from = Instant::now() + mixed_wait;
        self.show(&held.line);
        let mut must_catch_up = true;
        loop {
            match self.listen(&mut held, (renew_from, mixed_from), must_catch_up).await {
                Over::Lost(problem) => return problem,
                Over::Replace => {
                    // The same node first, if it is still one: what is known of it is known.
                    let order = self.order(Some(&held.line.control), None);
                    match self.connect(&order).await {
                        Ok(next) => {
                            debug!(control = %next.line.control.host, "The link has moved to a new connection");
                            held = next;
                            self.show(&held.line);
                            must_catch_up = true;
                        }
                        Err(problem) => {
                            self.note(problem);
                            must_catch_up = false;
                        }
                    }
                    renew_from = Instant::now() + RENEW_AGAIN;
                    let is_mixed = held.line.is_of_another_ca(&self.identity.get());
                    mixed_wait = if is_mixed { (mixed_wait * 2).min(MIXED_AGAIN_MAX) } else { MIXED_AGAIN };
                    mixed_from = Instant::now() + mixed_wait;
                }
            }
        }
    }

    /// From now on questions use this connection.
    fn show(&self, line: &Arc<Line>) {
        let control = line.control.clone();
        self.tally.connects.fetch_add(1, Ordering::Relaxed);
        info!(host = %control.host, port = control.port, "Linked to control");
        self.line.send_replace(Some(Arc::clone(line)));
        self.state.send_replace(LinkState::Connected { control, since: self.clock.now() });
    }

    /// Hears the wake until the connection is lost or is to be replaced.
    async fn listen(
        &self,
        held: &mut Held,
        (renew_from, mixed_from): (Instant, Instant),
        must_catch_up: bool,
    ) -> Over {
        let Held { line, wake } = held;
        let mut look = interval(self.limits.look);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silence = std::pin::pin!(sleep(self.limits.silence));
        let mut catch_up = std::pin::pin!(self.catch_up(line));
        let mut is_behind = must_catch_up;
        loop {
            let lost = |why: &str| Over::Lost(line.problem(why, self.clock.now()));
            tokio::select! {
                () = line.ended() => return lost("it ended"),
                () = &mut silence => return lost("nothing came any more"),
                heard = wake.next() => match heard {
                    Ok(Some(told)) => {
                        silence.as_mut().reset(Instant::now() + self.limits.silence);
                        if told.anything {
                            catch_up.set(self.catch_up(line));
                            is_behind = true;
                        }
                        self.ring(&told);
                    }
                    Ok(None) => return lost("the control node is going away"),
                    Err(why) => return lost(&why.to_string()),
                },
                () = &mut catch_up, if is_behind => is_behind = false,
                _ = look.tick() => {
                    let (identity, now) = (self.identity.get(), Instant::now());
                    let is_renewed = !Arc::ptr_eq(&identity, &line.identity);
                    let is_mixed = line.is_of_another_ca(&identity) && now >= mixed_from;
                    let is_listed = self.controls.borrow().contains(&line.control);
                    let is_ending = line.replace_at.is_some_and(|at| self.clock.now() >= at);
                    if (is_renewed || is_ending || is_mixed || !is_listed) && now >= renew_from {
                        return Over::Replace;
                    }
                }
            }
        }
    }

    fn ring(&self, told: &WakeLine) {
        let known = told.changed.iter().filter_map(|text| text.parse().ok());
        let changed: Arc<[Partition]> = known.filter(|partition| *partition != Partition::Control).collect();
        if !changed.is_empty() {
            self.bell.ring(changed);
        }
    }

    /// Rings for what has changed since our follower last asked, because we may not have heard of it.
    async fn catch_up(&self, line: &Arc<Line>) {
        if self.heads().is_empty() {
            return; // nobody follows yet
        }
        let asked = timeout(self.limits.batch, self.ask_on(line, Endpoint::Heads, &Nothing {})).await;
        let Ok(Ok(heads)) = asked else { return }; // the follower polls anyway
        let Ok(heads) = super::feed::read_heads(heads) else { return };
        let known = self.heads().clone();
        let changed: Arc<[Partition]> = heads
            .iter()
            .filter(|head| known.get(&head.partition) != Some(&head.cursor))
            .map(|head| head.partition)
            .collect();
        if !changed.is_empty() {
            self.bell.ring(changed);
        }
    }
}
