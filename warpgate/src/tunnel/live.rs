//! A tunnel that is up: takes streams from its edge, keeps the control stream going, and ends in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mezusphere_model::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{SessionEnd, WarpgateEvent};
use tunnel_proto::limits::{EXCHANGES_MAX, GRACE_MAX};

use super::Shared;
use super::connection::Connection;
use super::dial::{Tunnel, why_ended};
use super::failure::Failure;
use super::probe::{Probe, Verdict};
use super::transport::Transport;
use super::upstreams::Told;
use crate::exchange::{self, Gate, TunnelExchanges};
use crate::limits::{
    CERTIFICATE_MARGIN, CLOCK_LOOK_EVERY, CONTROL_QUEUE_MAX, DRAIN_LATE_ARRIVALS, LISTEN_EVERY, REBIND_AFTER,
};

/// Commands to one tunnel, at most a few in its life.
const COMMANDS_MAX: usize = 4;

/// A tunnel's handle. Dropped, the tunnel is closed at once.
pub(super) struct Live {
    /// When a replacement should be dialled, because a certificate is about to end.
    pub(super) replace_at: Timestamp,
    pub(super) since: Instant,
    pub(super) transport: Transport,
    pub(super) remote: SocketAddr,
    /// Round-trip time when it was made.
    pub(super) rtt: Duration,
    commands: mpsc::Sender<Command>,
    notices: mpsc::Receiver<Notice>,
    _task: AbortOnDropHandle<()>,
}

/// What a tunnel tells its supervisor.
#[derive(Debug)]
pub(super) enum Notice {
    /// A probe went through.
    Proven(Duration),
    /// A probe is overdue; another is on its way.
    Doubtful,
    /// Probes no longer come back: connect anew.
    Unproven,
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
        let (transport, remote) = (tunnel.connection.transport(), tunnel.connection.remote());
        let rtt = tunnel.rtt();
        let task = tokio::spawn(run(tunnel, shared, commands_in, notices_out));
        Self {
            replace_at,
            since: Instant::now(),
            transport,
            remote,
            rtt,
            commands,
            notices,
            _task: AbortOnDropHandle::new(task),
        }
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
        heard: Heard::new(),
        told: Told::in_hello(&shared.gate, Arc::clone(&tunnel.declared)),
        bundles: shared.gate.bundles.changes(),
        exchanges,
        shared,
        tunnel,
        draining: None,
        alone: false,
    };
    let (code, failure) = state.drive(&mut commands, &mut acknowledged, &notices).await;
    state.tunnel.close(code).await;
    drop(notices.send(Notice::Ended(failure)).await);
}

struct State {
    tunnel: Tunnel,
    shared: Arc<Shared>,
    exchanges: Arc<TunnelExchanges>,
    bundles: watch::Receiver<u64>,
    probe: Probe,
    heard: Heard,
    told: Told,
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

impl State {
    /// Runs until the tunnel is over; says how to close it, and why.
    async fn drive(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        acknowledged: &mut mpsc::Receiver<u64>,
        notices: &mpsc::Sender<Notice>,
    ) -> (CloseCode, Failure) {
        self.told.tell(&mut self.tunnel.control.session);
        loop {
            self.look_at_probe(notices);
            self.listen();
            let wake = self.next_look();
            let drained = drained(&self.exchanges, self.tunnel.rtt(), self.draining);
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
                () = self.told.changed() => self.told.tell(&mut self.tunnel.control.session),
                () = drained => {
                    return (CloseCode::Done, Failure::from(&SessionEnd::GraceOver));
                }
                () = connection.closed(), if self.alone => {
                    let failure = Failure::of_session(&SessionEnd::Left, connection.close_reason().as_ref());
                    return (CloseCode::Done, failure);
                }
                () = sleep(wake) => {
                    if self.shared.clock.now() >= self.tunnel.ends_at {
                        return (CloseCode::CertificateEnded, Failure::certificate_ended());
                    }
                }
            }
        }
    }

    fn on_event(&mut self, event: WarpgateEvent, notices: &mpsc::Sender<Notice>) -> Option<SessionEnd> {
        match event {
            WarpgateEvent::Bundle(signed) => self.shared.take_bundle(signed),
            WarpgateEvent::ProbeDone { nonce, rtt } => {
                if self.probe.done(nonce, Instant::now()) {
                    drop(notices.try_send(Notice::Proven(rtt)));
                }
            }
            WarpgateEvent::Draining { until } => {
                debug!(grace = ?until.saturating_duration_since(Instant::now().into_std()), "Edge drains");
                drop(notices.try_send(Notice::EdgeDrains));
            }
            // An edge that has another tunnel to us may say nothing more on this one, while exchanges still run.
            WarpgateEvent::Ended(SessionEnd::Silent | SessionEnd::Left)
                if self.draining.is_some() && !self.tunnel.connection.is_over() =>
            {
                self.alone = true;
            }
            WarpgateEvent::Ended(end) => return Some(end),
            WarpgateEvent::Welcomed(_) => {}
        }
        None
    }

    /// Asks for a probe when one is due, and tells when they stop to come back.
    fn look_at_probe(&mut self, notices: &mpsc::Sender<Notice>) {
        if self.draining.is_some() {
            return;
        }
        let verdict = self.probe.look(Instant::now(), self.tunnel.rtt());
        match verdict {
            Verdict::Wait => return,
            Verdict::Ask => {}
            Verdict::AskAgain => drop(notices.try_send(Notice::Doubtful)),
            Verdict::GiveUp => return drop(notices.try_send(Notice::Unproven)),
        }
        let nonce = u64::from_be_bytes(self.shared.entropy.bytes());
        self.probe.asked(nonce, Instant::now());
        self.tunnel.control.session.request_probe(nonce);
    }

    /// Takes note of packets; where none come, the way from here may have changed.
    fn listen(&mut self) {
        let now = Instant::now();
        let over_quic = self.tunnel.connection.transport() == Transport::Quic;
        if self.heard.note(self.tunnel.connection.heard(), now) {
            self.tunnel.control.session.handle_alive(now.into_std());
            if over_quic {
                self.shared.network.heard(now);
            }
        } else if over_quic && now.duration_since(self.heard.at) >= REBIND_AFTER {
            self.shared.network.rebind_if_silent(now);
        }
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
        let probe = self.probe.next_look(Instant::now(), self.tunnel.rtt());
        certificate.min(probe).min(LISTEN_EVERY).max(Duration::from_millis(1))
    }
}

/// When packets last came from the edge.
struct Heard {
    packets: u64,
    at: Instant,
}

impl Heard {
    fn new() -> Self {
        Self { packets: 0, at: Instant::now() }
    }

    /// Whether there are new ones.
    fn note(&mut self, packets: u64, now: Instant) -> bool {
        let more = packets != self.packets;
        if more {
            *self = Self { packets, at: now };
        }
        more
    }
}

/// Resolves when a tunnel that drains has nothing left to do; never for another.
async fn drained(exchanges: &TunnelExchanges, rtt: Duration, draining: Option<Draining>) {
    let Some(Draining { since, until }) = draining else {
        return std::future::pending().await;
    };
    // An exchange that crossed Drain on the wire is on its way for a round trip at most.
    let (shortest, longest) = DRAIN_LATE_ARRIVALS;
    let settle = rtt.saturating_mul(3).clamp(shortest, longest);
    sleep_until(since + settle).await;
    tokio::select! {
        () = exchanges.running.idle() => {}
        () = sleep_until(until) => {}
    }
}

/// Takes the streams the edge opens, each as a task of its own that ends with its stream.
async fn accept(connection: Connection, gate: Arc<Gate>, exchanges: Arc<TunnelExchanges>, streams_max: u32) {
    let mut allowed = tunnel_proto::limits::EXCHANGES_FIRST;
    while let Some(halves) = connection.accept().await {
        // Counted here: a crowd is taken in one go, before the first of its tasks has run, and if it were not seen to be one,
        // nothing more would come that could make us look again.
        let counted = exchanges.running.enter();
        tokio::spawn(exchange::serve(Arc::clone(&gate), Arc::clone(&exchanges), counted, halves));
        let running = u32::try_from(exchanges.running.count()).unwrap_or(u32::MAX);
        if running > allowed / 4 * 3 && allowed < streams_max {
            allowed = allowed.saturating_mul(2).min(streams_max);
            connection.allow(allowed);
        }
    }
}
