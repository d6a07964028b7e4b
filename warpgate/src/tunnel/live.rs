//! A tunnel that is up: takes streams from its edge, keeps the control stream going, and ends in order.

use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use quinn::{Connection, VarInt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{SessionEnd, WarpgateEvent};
use tunnel_proto::limits::{EXCHANGES_MAX, GRACE_MAX};

use super::Shared;
use super::dial::{Tunnel, why_ended};
use super::failure::Failure;
use super::stream::{QuicSend, RecvHalf, SendHalf};
use crate::exchange::{self, Gate, TunnelExchanges};
use crate::limits::{
    CERTIFICATE_MARGIN, CLOCK_LOOK_EVERY, CONTROL_QUEUE_MAX, DRAIN_LATE_ARRIVALS, ROUND_TRIP_MAX,
};

/// Commands to one tunnel, at most a few in its life.
const COMMANDS_MAX: usize = 4;

/// A tunnel's handle. Dropped, the tunnel is closed at once.
pub(super) struct Live {
    /// When a replacement should be dialled, because a certificate is about to end.
    pub(super) replace_at: Timestamp,
    pub(super) since: Instant,
    commands: mpsc::Sender<Command>,
    notices: mpsc::Receiver<Notice>,
    _task: AbortOnDropHandle<()>,
}

/// What a tunnel tells its supervisor.
#[derive(Debug)]
pub(super) enum Notice {
    /// A probe went through.
    Proven(Duration),
    /// The edge takes no new exchanges here: connect anew.
    EdgeDrains,
    /// It is over.
    Ended(Failure),
}

enum Command {
    Drain(Duration),
}

impl Live {
    pub(super) fn start(tunnel: Tunnel, shared: Arc<Shared>) -> Self {
        let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
        let (notices_out, notices) = mpsc::channel(COMMANDS_MAX);
        let now = shared.clock.now();
        // A quarter of what is left, at most ten minutes, is enough to dial again several times.
        let ahead = (tunnel.ends_at.since(now) / 4).min(Duration::from_mins(10));
        let replace_at = tunnel.ends_at.before(ahead);
        let task = tokio::spawn(run(tunnel, shared, commands_in, notices_out));
        Self { replace_at, since: Instant::now(), commands, notices, _task: AbortOnDropHandle::new(task) }
    }

    /// What it tells next. Cancel safe.
    pub(super) async fn next(&mut self) -> Notice {
        let gone = || Failure::from(&SessionEnd::Left);
        self.notices.recv().await.unwrap_or_else(|| Notice::Ended(gone()))
    }

    /// Asks for no new exchanges; it ends when those that run are done, after `grace` at the latest.
    pub(super) fn drain(&self, grace: Duration) {
        // Full only if it was told already; closed only if it has ended.
        drop(self.commands.try_send(Command::Drain(grace)));
    }

    /// Lets it finish, then ends; for one that another has replaced. What runs may take until the certificate ends: a
    /// renewal happens while half of its life is left, and must not cut a download or a WebSocket.
    pub(super) async fn retire(mut self) {
        self.drain(GRACE_MAX);
        while !matches!(self.next().await, Notice::Ended(_)) {}
    }
}

async fn run(
    tunnel: Tunnel,
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    notices: mpsc::Sender<Notice>,
) {
    let (acknowledge, mut acknowledged) = mpsc::channel(CONTROL_QUEUE_MAX);
    let exchanges = Arc::new(TunnelExchanges::new(acknowledge));
    let streams_max = tunnel.welcome.limits.exchanges_max.min(EXCHANGES_MAX);
    let accepting =
        accept(tunnel.connection.clone(), Arc::clone(&shared.gate), Arc::clone(&exchanges), streams_max);
    // Ended with this task, and by itself when the connection is gone.
    let _accepting = AbortOnDropHandle::new(tokio::spawn(accepting));
    let mut state = State {
        probe: Probe::default(),
        bundles: shared.gate.bundles.changes(),
        exchanges,
        shared,
        tunnel,
        draining: None,
        alone: false,
    };
    let (code, failure) = state.drive(&mut commands, &mut acknowledged, &notices).await;
    state.tunnel.connection.close(VarInt::from_u32(code.number()), b"");
    drop(notices.send(Notice::Ended(failure)).await);
}

struct State {
    tunnel: Tunnel,
    shared: Arc<Shared>,
    exchanges: Arc<TunnelExchanges>,
    bundles: watch::Receiver<u64>,
    probe: Probe,
    draining: Option<Draining>,
    /// The control stream is over, but what runs may go on.
    alone: bool,
}

/// No new exchanges are wanted.
#[derive(Clone, Copy)]
struct Draining {
    since: Instant,
    until: Instant,
}

/// The probe that proves the whole way from the edge and back, once per tunnel.
#[derive(Default)]
struct Probe {
    nonce: u64,
    asked: Option<Instant>,
    done: bool,
}

impl State {
    /// Runs until the tunnel is over; says how to close it, and why.
    async fn drive(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        acknowledged: &mut mpsc::Receiver<u64>,
        notices: &mpsc::Sender<Notice>,
    ) -> (CloseCode, Failure) {
        self.ask_for_probe();
        loop {
            let wake = self.next_look();
            let drained = drained(&self.exchanges, &self.tunnel.connection, self.draining);
            let connection = self.tunnel.connection.clone();
            tokio::select! {
                event = self.tunnel.control.next(), if !self.alone => {
                    if let Some(end) = self.on_event(event, notices) {
                        return (end.close_code(), why_ended(&connection, &end).await);
                    }
                }
                Some(slot) = acknowledged.recv() => {
                    self.tunnel.control.session.principal_known(slot);
                }
                Some(Command::Drain(grace)) = commands.recv() => self.drain(grace),
                Ok(()) = self.bundles.changed() => {
                    let trust = self.shared.gate.bundles.trust().get();
                    if let Err(why) = self.tunnel.judge(&trust, self.shared.clock.now()) {
                        info!(%why, "Edge no longer trusted");
                        return (CloseCode::Evicted, Failure::untrusted(&why));
                    }
                }
                () = drained => {
                    return (CloseCode::Done, Failure::from(&SessionEnd::GraceOver));
                }
                why = connection.closed(), if self.alone => return (CloseCode::Done, Failure::from(&why)),
                () = sleep(wake) => {
                    if self.shared.clock.now() >= self.tunnel.ends_at {
                        return (CloseCode::CertificateEnded, Failure::certificate_ended());
                    }
                    if !self.probe.done && self.probe.asked.is_some_and(|asked| asked.elapsed() >= ROUND_TRIP_MAX) {
                        self.ask_for_probe();
                    }
                }
            }
        }
    }

    fn on_event(&mut self, event: WarpgateEvent, notices: &mpsc::Sender<Notice>) -> Option<SessionEnd> {
        match event {
            WarpgateEvent::Bundle(signed) => self.shared.take_bundle(signed),
            WarpgateEvent::ProbeDone { nonce, rtt } if nonce == self.probe.nonce && !self.probe.done => {
                self.probe.done = true;
                drop(notices.try_send(Notice::Proven(rtt)));
            }
            WarpgateEvent::Draining { until } => {
                debug!(grace = ?until.saturating_duration_since(Instant::now().into_std()), "Edge drains");
                drop(notices.try_send(Notice::EdgeDrains));
            }
            // An edge that has another tunnel to us may say nothing more on this one, while exchanges still run.
            WarpgateEvent::Ended(SessionEnd::Silent | SessionEnd::Left)
                if self.draining.is_some() && self.tunnel.connection.close_reason().is_none() =>
            {
                self.alone = true;
            }
            WarpgateEvent::Ended(end) => return Some(end),
            WarpgateEvent::Welcomed(_) | WarpgateEvent::ProbeDone { .. } => {}
        }
        None
    }

    fn ask_for_probe(&mut self) {
        self.probe.nonce = u64::from_be_bytes(self.shared.entropy.bytes());
        self.probe.asked = Some(Instant::now());
        self.tunnel.control.session.request_probe(self.probe.nonce);
    }

    fn drain(&mut self, grace: Duration) {
        // The edge must never have to cut an exchange because a certificate ends.
        let left = self.tunnel.ends_at.since(self.shared.clock.now()).saturating_sub(CERTIFICATE_MARGIN);
        let (since, grace) = (Instant::now(), grace.min(left));
        self.draining.get_or_insert(Draining { since, until: since + grace });
        self.exchanges.running.start_draining();
        self.tunnel.control.session.drain(since.into_std(), grace);
    }

    fn next_look(&self) -> Duration {
        let certificate = self.tunnel.ends_at.since(self.shared.clock.now()).min(CLOCK_LOOK_EVERY);
        let probe = if self.probe.done { CLOCK_LOOK_EVERY } else { ROUND_TRIP_MAX };
        certificate.min(probe).max(Duration::from_millis(1))
    }
}

/// Resolves when a tunnel that drains has nothing left to do; never for another.
async fn drained(exchanges: &TunnelExchanges, connection: &Connection, draining: Option<Draining>) {
    let Some(Draining { since, until }) = draining else {
        return std::future::pending().await;
    };
    // An exchange that crossed Drain on the wire is on its way for a round trip at most.
    let (shortest, longest) = DRAIN_LATE_ARRIVALS;
    let settle = connection.rtt().saturating_mul(3).clamp(shortest, longest);
    sleep_until(since + settle).await;
    tokio::select! {
        () = exchanges.running.idle() => {}
        () = sleep_until(until) => {}
    }
}

/// Takes the streams the edge opens, each as a task of its own that ends with its stream.
async fn accept(connection: Connection, gate: Arc<Gate>, exchanges: Arc<TunnelExchanges>, streams_max: u32) {
    let mut allowed = tunnel_proto::limits::EXCHANGES_FIRST;
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(exchange::serve(
            Arc::clone(&gate),
            Arc::clone(&exchanges),
            SendHalf::Quic(QuicSend::new(send)),
            RecvHalf::Quic(receive),
        ));
        let running = u32::try_from(exchanges.running.count()).unwrap_or(u32::MAX);
        if running > allowed / 4 * 3 && allowed < streams_max {
            allowed = allowed.saturating_mul(2).min(streams_max);
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(allowed));
        }
    }
}
