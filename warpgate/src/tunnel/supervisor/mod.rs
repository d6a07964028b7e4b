//! Keeps one tunnel to one edge: dials, dials again, replaces the tunnel before a certificate ends or when the
//! edge moves.
//!
//! A replacement is made before the old tunnel is let go, and the old one finishes what it began, so
//! that neither a renewal nor a move drops a request.

mod telling;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mezusphere_model::bundle::EdgeAddress;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use crate::limits::{CLOCK_LOOK_EVERY, RENEWAL_PAUSE_MIN};
use crate::tunnel::again::{Again, Pause, Waits};
use crate::tunnel::dial::Proven;
use crate::tunnel::edges::Order;
use crate::tunnel::failure::Failure;
use crate::tunnel::live::{Live, Notice};
use crate::tunnel::race::{HeadStart, NotReturned, Path, over_quic, race};
use crate::tunnel::{Shared, Transport};

/// One edge's supervisor.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    edge: EdgeAddress,
    orders: watch::Receiver<Order>,
    /// Wakes when there is a new certificate.
    renewals: watch::Receiver<u64>,
    current: Option<Live>,
    /// Tunnels that finish what they began.
    retiring: JoinSet<()>,
    waits: Waits,
    path: Path,
    /// The way back to QUIC, while it is tried beside a tunnel over TCP.
    returning: Option<Returning>,
}

/// A dial over QUIC beside a tunnel over TCP.
type Returning = BoxFuture<'static, Result<Proven, NotReturned>>;

/// Why the supervisor stops waiting.
enum Turn {
    Dial,
    Leave,
}

/// What became of a dial.
enum Attempt {
    Up(Box<Proven>),
    Failed(Failure),
    /// The edge is elsewhere now.
    Moved,
    Dismissed,
}

/// A new order.
enum Ordered {
    /// The edge is to be dialled at another place.
    Move,
    Leave,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>, edge: EdgeAddress, orders: watch::Receiver<Order>) -> Self {
        let waits = Waits::new(&shared.entropy);
        let renewals = shared.renewals.subscribe();
        let path = Path::new(&shared.entropy);
        let retiring = JoinSet::new();
        Self { shared, edge, orders, renewals, current: None, retiring, waits, path, returning: None }
    }

    /// Dials for the first time `after` this, and runs until it is ordered to leave and its tunnels are done.
    pub(super) async fn run(mut self, after: Duration) {
        let mut turn = self.pause(Pause::of(after)).await;
        while matches!(turn, Turn::Dial) {
            turn = match self.attempt().await {
                Attempt::Up(proven) => {
                    self.adopt(*proven);
                    self.stay().await
                }
                Attempt::Failed(failure) => self.after_failure(&failure).await,
                Attempt::Moved => {
                    self.path.forget();
                    Turn::Dial
                }
                Attempt::Dismissed => Turn::Leave,
            };
        }
        self.leave().await;
    }

    async fn attempt(&mut self) -> Attempt {
        self.renewals.mark_unchanged();
        let shared = Arc::clone(&self.shared);
        let edge = self.edge.clone();
        self.returning = None;
        let head_start = HeadStart::of(&self.path, &shared);
        let mut dialling = std::pin::pin!(race(&shared, &edge, head_start));
        loop {
            tokio::select! {
                dialled = &mut dialling => return match dialled {
                    Ok(proven) => Attempt::Up(Box::new(proven)),
                    Err(failure) => {
                        Attempt::Failed(failure.dated(&shared.identity.get(), shared.clock.now()))
                    }
                },
                ordered = next_order(&mut self.orders, &mut self.edge) => return match ordered {
                    Ordered::Move => Attempt::Moved,
                    Ordered::Leave => Attempt::Dismissed,
                },
                notice = next_notice(self.current.as_mut()) => match notice {
                    // The edge may close the old tunnel before its Welcome on the new one was read.
                    Notice::Ended(failure) if failure.is_replaced() => self.current = None,
                    notice => self.on_notice_without_one(&notice),
                },
            }
        }
    }

    /// Puts a new tunnel in the place of the old one, which may finish what it began.
    fn adopt(&mut self, proven: Proven) {
        let Proven { live, round_trip } = proven;
        let replaced = self.current.is_some();
        self.shared.reporter.works(&self.kind());
        self.path.works(live.transport);
        self.tell_connected(&live, round_trip, replaced);
        if let Some(old) = self.current.replace(live) {
            self.retiring.spawn(old.retire());
        }
    }

    /// Waits while the tunnel is good; says what to do next.
    async fn stay(&mut self) -> Turn {
        let turn = self.keep().await;
        // Not to be left half-way: the edge may have welcomed it.
        self.returning = None;
        turn
    }

    async fn keep(&mut self) -> Turn {
        loop {
            let replace_in = self.current.as_ref().map_or(CLOCK_LOOK_EVERY, |live| {
                live.replace_at.since(self.shared.clock.now()).clamp(RENEWAL_PAUSE_MIN, CLOCK_LOOK_EVERY)
            });
            let return_at = self.path.return_at().filter(|_| self.returning.is_none());
            tokio::select! {
                notice = next_notice(self.current.as_mut()) => match notice {
                    Notice::Proven(round_trip) => self.proven(round_trip),
                    Notice::Doubtful => self.doubtful(),
                    Notice::EdgeDrains => {
                        let text = "the edge is stopping; requests that run may finish".to_owned();
                        self.shared.tell(self.left(text));
                        self.set_aside();
                        self.set_failed(&Failure::edge_stops());
                        let pause = self.waits.after(Again::Soon);
                        return self.pause(pause).await;
                    }
                    Notice::Unproven => {
                        let pause = self.unproven();
                        return self.pause(pause).await;
                    }
                    // By the tunnel over QUIC that is about to be proven.
                    Notice::Ended(failure) if failure.is_replaced() && self.returning.is_some() => {
                        self.current = None;
                    }
                    Notice::Ended(failure) => {
                        let pause = self.lost(&failure);
                        return self.pause(pause).await;
                    }
                },
                () = at(return_at) => {
                    let (shared, edge) = (Arc::clone(&self.shared), self.edge.clone());
                    self.returning = Some(Box::pin(async move { over_quic(&shared, &edge).await }));
                }
                returned = next_return(&mut self.returning) => match returned {
                    Ok(proven) => self.adopt(proven),
                    Err(NotReturned { failure, greeted }) => {
                        debug!(edge = %self.edge.id, code = failure.code, why = failure.message, "No way back to QUIC");
                        self.path.plan_return();
                        if greeted || self.current.is_none() {
                            // The edge took it for the newest tunnel, and sends nothing new on the one that works.
                            return Turn::Dial;
                        }
                    }
                },
                // The old tunnel stays until the new one is up.
                Ok(()) = self.renewals.changed() => return Turn::Dial,
                () = sleep(replace_in) => {
                    if self.current.as_ref().is_some_and(|live| self.shared.clock.now() >= live.replace_at) {
                        return Turn::Dial;
                    }
                }
                Some(_) = self.retiring.join_next() => {}
                ordered = next_order(&mut self.orders, &mut self.edge) => return match ordered {
                    Ordered::Move => {
                        self.path.forget();
                        Turn::Dial
                    }
                    Ordered::Leave => Turn::Leave,
                },
            }
        }
    }

    /// No exchange gets through: what runs may finish, if it can, and the edge is dialled anew.
    fn unproven(&mut self) -> Pause {
        self.path.doubt_udp();
        self.set_aside();
        let failure = Failure::unproven();
        let pause = self.waits.after(failure.again);
        self.tell_failure(&failure, pause);
        self.set_failed(&failure);
        pause
    }

    async fn after_failure(&mut self, failure: &Failure) -> Turn {
        let pause = self.waits.after(failure.again);
        self.tell_failure(failure, pause);
        if self.current.is_none() {
            self.set_failed(failure);
        }
        self.pause(pause).await
    }

    /// The tunnel ended by itself.
    fn lost(&mut self, failure: &Failure) -> Pause {
        if let Some(live) = self.current.take() {
            self.waits.lasted(live.since.elapsed());
            if live.transport == Transport::Quic && failure.is_of_the_way() {
                self.path.doubt_udp();
            }
        }
        let pause = self.waits.after(failure.again);
        self.tell_failure(failure, pause);
        self.set_failed(failure);
        pause
    }

    /// Waits before the next dial; a move of the edge ends it too.
    async fn pause(&mut self, pause: Pause) -> Turn {
        let until = Instant::now() + pause.time;
        let mut bundles = self.shared.gate.bundles.changes();
        loop {
            tokio::select! {
                () = sleep_until(until) => return Turn::Dial,
                Ok(()) = self.renewals.changed(), if pause.until_change => return Turn::Dial,
                Ok(()) = bundles.changed(), if pause.until_change => return Turn::Dial,
                notice = next_notice(self.current.as_mut()) => self.on_notice_without_one(&notice),
                Some(_) = self.retiring.join_next() => {}
                ordered = next_order(&mut self.orders, &mut self.edge) => return match ordered {
                    Ordered::Move => Turn::Dial,
                    Ordered::Leave => Turn::Leave,
                },
            }
        }
    }

    /// The old tunnel speaks while its replacement is not there yet.
    fn on_notice_without_one(&mut self, notice: &Notice) {
        match notice {
            Notice::Proven(round_trip) => self.proven(*round_trip),
            Notice::Doubtful => self.doubtful(),
            Notice::EdgeDrains => {
                self.set_aside();
                self.set_failed(&Failure::edge_stops());
            }
            Notice::Unproven => drop(self.unproven()),
            Notice::Ended(failure) => {
                self.current = None;
                self.tell_failure(failure, Pause::of(Duration::ZERO));
                self.set_failed(failure);
            }
        }
    }

    fn set_aside(&mut self) {
        if let Some(old) = self.current.take() {
            self.waits.lasted(old.since.elapsed());
            self.retiring.spawn(old.retire());
        }
    }

    /// Lets what runs finish, within the time given with the order.
    async fn leave(mut self) {
        let order = self.orders.borrow().clone();
        if let (Order::Leave(grace), Some(live)) = (order, &self.current) {
            live.drain(grace);
        }
        self.set_aside();
        while self.retiring.join_next().await.is_some() {}
    }
}

/// What the tunnel tells; never, without one.
async fn next_notice(live: Option<&mut Live>) -> Notice {
    match live {
        Some(live) => live.next().await,
        None => std::future::pending().await,
    }
}

/// What the way back to QUIC comes to; never, while none is tried.
async fn next_return(returning: &mut Option<Returning>) -> Result<Proven, NotReturned> {
    let Some(dialling) = returning else { return std::future::pending().await };
    let returned = dialling.await;
    *returning = None;
    returned
}

/// Resolves then; never, without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The next order that asks for something to be done. Keeps `edge` up to date. Cancel safe.
async fn next_order(orders: &mut watch::Receiver<Order>, edge: &mut EdgeAddress) -> Ordered {
    loop {
        // The sender gone is an order too.
        if orders.changed().await.is_err() {
            return Ordered::Leave;
        }
        match &*orders.borrow_and_update() {
            Order::Leave(_) => return Ordered::Leave,
            Order::Keep(now) => {
                let moved = (&now.host, now.port) != (&edge.host, edge.port);
                edge.clone_from(now); // a new name alone needs no new tunnel
                if moved {
                    return Ordered::Move;
                }
            }
        }
    }
}
