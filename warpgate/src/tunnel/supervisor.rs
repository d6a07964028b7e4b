//! Keeps one tunnel to one edge: dials, dials again, replaces the tunnel before a certificate ends.
//!
//! A replacement is made before the old tunnel is let go, and the old one finishes what it began, so
//! that a renewal drops no request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::bundle::EdgeAddress;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::dial::{Tunnel, dial};
use super::failure::Failure;
use super::live::{Live, Notice};
use super::{EdgeState, Orders, Shared};
use crate::backoff::Backoff;
use crate::limits::{CLOCK_LOOK_EVERY, DIAL_BACKOFF, DIAL_STABLE_AFTER, RENEWAL_PAUSE_MIN};
use crate::output::Event;

/// One edge's supervisor.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    edge: EdgeAddress,
    orders: watch::Receiver<Orders>,
    /// Wakes when there is a new certificate.
    renewals: watch::Receiver<u64>,
    current: Option<Live>,
    /// Tunnels that finish what they began.
    retiring: JoinSet<()>,
    backoff: Backoff,
}

/// Why the supervisor stops waiting.
enum Turn {
    Dial,
    Leave,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>, edge: EdgeAddress, orders: watch::Receiver<Orders>) -> Self {
        let backoff = Backoff::new(DIAL_BACKOFF, shared.entropy.clone());
        let renewals = shared.renewals.subscribe();
        Self { shared, edge, orders, renewals, current: None, retiring: JoinSet::new(), backoff }
    }

    /// Runs until it is ordered to leave, and its tunnels are done.
    pub(super) async fn run(mut self) {
        loop {
            let turn = match self.attempt().await {
                Some(Ok(tunnel)) => {
                    self.adopt(tunnel);
                    self.stay().await
                }
                Some(Err(failure)) => self.after_failure(&failure).await,
                None => Turn::Leave,
            };
            if matches!(turn, Turn::Leave) {
                break;
            }
        }
        self.leave().await;
    }

    /// Dials; `None` if it is ordered to leave meanwhile.
    async fn attempt(&mut self) -> Option<Result<Tunnel, Failure>> {
        self.renewals.mark_unchanged();
        let shared = Arc::clone(&self.shared);
        let edge = self.edge.clone();
        let mut dialling = std::pin::pin!(dial(&shared, &edge));
        loop {
            tokio::select! {
                dialled = &mut dialling => return Some(dialled),
                () = ordered_away(&mut self.orders) => return None,
                notice = next_notice(self.current.as_mut()) => self.on_notice_while_dialling(&notice),
            }
        }
    }

    /// Puts a new tunnel in the place of the old one, which may finish what it began.
    fn adopt(&mut self, tunnel: Tunnel) {
        let replaced = self.current.is_some();
        self.shared.reporter.works(&self.kind());
        self.shared.tell(Event::EdgeConnected {
            edge: self.edge.id.to_string(),
            name: self.edge.name.clone(),
            remote: shown(tunnel.connection.remote_address()),
            rtt_us: u64::try_from(tunnel.connection.rtt().as_micros()).unwrap_or(u64::MAX),
            replaced,
        });
        let live = Live::start(tunnel, Arc::clone(&self.shared));
        if let Some(old) = self.current.replace(live) {
            self.retiring.spawn(old.retire());
        }
        self.shared.set_state(self.edge.id, EdgeState::Connected { round_trip: None });
    }

    /// Waits while the tunnel is good; says what to do next.
    async fn stay(&mut self) -> Turn {
        loop {
            let replace_in = self.current.as_ref().map_or(Duration::ZERO, |live| {
                live.replace_at.since(self.shared.clock.now()).clamp(RENEWAL_PAUSE_MIN, CLOCK_LOOK_EVERY)
            });
            tokio::select! {
                notice = next_notice(self.current.as_mut()) => match notice {
                    Notice::Proven(round_trip) => {
                        self.shared.set_state(self.edge.id, EdgeState::Connected { round_trip: Some(round_trip) });
                    }
                    Notice::EdgeDrains => {
                        let text = "the edge is stopping; requests that run may finish".to_owned();
                        self.shared.tell(self.left(text));
                        self.set_aside();
                        self.shared.set_state(self.edge.id, EdgeState::Failed);
                        let wait = self.backoff.wait();
                        return self.pause(wait, false).await;
                    }
                    Notice::Ended(failure) => {
                        let wait = self.lost(&failure);
                        return self.pause(wait.0, wait.1).await;
                    }
                },
                // The old tunnel stays until the new one is up.
                Ok(()) = self.renewals.changed() => return Turn::Dial,
                () = sleep(replace_in) => {
                    if self.current.as_ref().is_none_or(|live| self.shared.clock.now() >= live.replace_at) {
                        return Turn::Dial;
                    }
                }
                Some(_) = self.retiring.join_next() => {}
                () = ordered_away(&mut self.orders) => return Turn::Leave,
            }
        }
    }

    async fn after_failure(&mut self, failure: &Failure) -> Turn {
        let (wait, until_change) = failure.wait(&mut self.backoff);
        self.tell_failure(failure, wait, until_change);
        if self.current.is_none() {
            self.shared.set_state(self.edge.id, EdgeState::Failed);
        }
        self.pause(wait, until_change).await
    }

    /// The tunnel ended by itself.
    fn lost(&mut self, failure: &Failure) -> (Duration, bool) {
        if self.current.take().is_some_and(|live| live.since.elapsed() >= DIAL_STABLE_AFTER) {
            self.backoff.reset();
        }
        let (wait, until_change) = failure.wait(&mut self.backoff);
        self.tell_failure(failure, wait, until_change);
        self.shared.set_state(self.edge.id, EdgeState::Failed);
        (wait, until_change)
    }

    /// Waits before the next dial. `until_change`: a new bundle or certificate ends the wait.
    async fn pause(&mut self, wait: Duration, until_change: bool) -> Turn {
        let until = Instant::now() + wait;
        let mut bundles = self.shared.gate.bundles.changes();
        loop {
            tokio::select! {
                () = sleep_until(until) => return Turn::Dial,
                Ok(()) = self.renewals.changed(), if until_change => return Turn::Dial,
                Ok(()) = bundles.changed(), if until_change => return Turn::Dial,
                notice = next_notice(self.current.as_mut()) => self.on_notice_while_dialling(&notice),
                Some(_) = self.retiring.join_next() => {}
                () = ordered_away(&mut self.orders) => return Turn::Leave,
            }
        }
    }

    /// The old tunnel speaks while its replacement is not there yet.
    fn on_notice_while_dialling(&mut self, notice: &Notice) {
        match notice {
            Notice::Proven(_) => {}
            Notice::EdgeDrains => self.set_aside(),
            Notice::Ended(failure) => {
                self.current = None;
                self.tell_failure(failure, Duration::ZERO, false);
                self.shared.set_state(self.edge.id, EdgeState::Failed);
            }
        }
    }

    fn set_aside(&mut self) {
        if let Some(old) = self.current.take() {
            self.retiring.spawn(old.retire());
        }
    }

    /// Lets what runs finish, within the time given with the order.
    async fn leave(mut self) {
        self.shared.forget_state(self.edge.id);
        let order = *self.orders.borrow();
        if let (Orders::Drain(grace), Some(live)) = (order, &self.current) {
            live.drain(grace);
        }
        self.set_aside();
        while self.retiring.join_next().await.is_some() {}
    }

    fn kind(&self) -> String {
        format!("edge {} ", self.edge.id)
    }

    fn left(&self, message: String) -> Event {
        Event::EdgeLeft { edge: self.edge.id.to_string(), name: self.edge.name.clone(), message }
    }

    fn tell_failure(&self, failure: &Failure, wait: Duration, until_change: bool) {
        if until_change {
            self.shared.doubt.notify_one();
        }
        let kind = format!("{}{}", self.kind(), failure.code);
        self.shared.reporter.tell_failure(&kind, |repeats| Event::EdgeFailed {
            edge: self.edge.id.to_string(),
            name: self.edge.name.clone(),
            code: failure.code.clone(),
            message: failure.message.clone(),
            next: failure.next.clone(),
            retry_ms: (!until_change).then(|| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            repeats,
        });
    }
}

/// An address as people write it: the socket speaks IPv4 in IPv6 form.
fn shown(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// What the tunnel tells; never, without one.
async fn next_notice(live: Option<&mut Live>) -> Notice {
    match live {
        Some(live) => live.next().await,
        None => std::future::pending().await,
    }
}

/// Resolves when the order is no longer to stay.
async fn ordered_away(orders: &mut watch::Receiver<Orders>) {
    // The sender gone is an order too.
    drop(orders.wait_for(|order| *order != Orders::Stay).await);
}
