//! One tunnel's control stream: drives `tunnel_proto`'s session, relays bundles, answers probes, and decides when
//! the tunnel is over.
//!
//! Everything of a tunnel that is not an exchange runs in this one future, so that dropping it ends all of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mezusphere_model::Timestamp;
use mezusphere_model::id::{EnvironmentId, ProjectId, WarpgateId};
use mezusphere_model::link::TunnelReport;
use mezusphere_pki::{Peer, Role};
use quinn::VarInt;
use tokio::sync::watch;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{EdgeEvent, EdgeSession, Hello, RefusalCode, Refused, SessionLimits};
use tunnel_proto::exchange::{Decoder, Encoder, Event};
use tunnel_proto::limits::{DRAIN_GRACE, HANDSHAKE_MAX};

use super::registry::{Full, Tunnel};
use super::{AcceptorParts, reports};

/// Octets that may be on their way to the edge on one tunnel. Never to be reached: what bounds memory is each
/// stream's own window and the stall limit, so that one stalled reader does not hold up the others.
const RECEIVE_WINDOW: u32 = 1024 * 1024 * 1024;

/// Octets sent and not acknowledged on one tunnel.
const SEND_WINDOW: u64 = 64 * 1024 * 1024;

/// Streams a warpgate may have open towards the edge: the control stream.
const WARPGATE_STREAMS_MAX: u32 = 1;

/// Probes under way at once; one is due after each connect.
const PROBES_MAX: usize = 4;

/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// Octets of one probe's answer.
const PROBE_LEN_MAX: usize = 64;

/// Longest wait for one event: certificates end by the wall clock, which may be set.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// When a warpgate that met a full edge may come back.
const BUSY_RETRY_MS: u64 = 30_000;

/// How long the last words on a control stream may take to leave.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// The state of one tunnel while it is served.
struct Control<'a> {
    parts: &'a AcceptorParts,
    connection: &'a quinn::Connection,
    session: EdgeSession,
    name: (ProjectId, EnvironmentId, WarpgateId),
    /// The peer's SPIFFE URI.
    uri: String,
    /// When the first of the two certificates ends.
    ends_at: Timestamp,
    /// From when the warpgate is told to leave, so that what runs can finish before the end.
    leave_at: Timestamp,
    tunnel: Option<Arc<Tunnel>>,
    /// Revision of the newest bundle the warpgate has.
    bundle: u64,
    agent: String,
    since: Timestamp,
    report: watch::Sender<Option<TunnelReport>>,
    probes: Vec<u64>,
}

/// Serves the tunnel until it ends; the answer is what to close the connection with, if it is not closed by then.
pub(super) async fn serve(parts: &AcceptorParts, connection: &quinn::Connection, peer: &Peer) -> CloseCode {
    let Role::Warpgate { project, environment, id } = peer.name.role else { return CloseCode::Refused };
    let ends_at = peer.not_after.min(parts.identity.get().not_after());
    // At most a tenth of the certificate's life, for the short ones of tests.
    let lead = DRAIN_GRACE.min(peer.not_after.since(peer.not_before) / 10);
    let (report, reported) = watch::channel(None);
    let mut control = Control {
        parts,
        connection,
        session: EdgeSession::new(Instant::now()),
        name: (project, environment, id),
        uri: peer.name.to_string(),
        ends_at,
        leave_at: ends_at.before(lead),
        tunnel: None,
        bundle: 0,
        agent: String::new(),
        since: parts.clock.now(),
        report,
        probes: Vec::new(),
    };
    let code = tokio::select! {
        code = control.run() => code,
        () = reports::send(&*parts.link, reported) => CloseCode::Internal,
    };
    if let Some(tunnel) = control.tunnel.take() {
        parts.tunnels.leave(&tunnel);
        super::close(connection, code);
        tracing::info!(warpgate = %id, %environment, why = code.name(), "Tunnel ended");
        let gone = control.state(&tunnel, false);
        // Last, because it may wait for control.
        drop(reports::once(&*parts.link, gone).await);
    }
    code
}

impl Control<'_> {
    async fn run(&mut self) -> CloseCode {
        let opened = tokio::time::timeout(HANDSHAKE_MAX, self.connection.accept_bi()).await;
        let (mut send, mut recv) = match opened {
            Ok(Ok(streams)) => streams,
            Ok(Err(_)) => return CloseCode::Done,
            Err(_) => return CloseCode::HandshakeTimeout,
        };
        let mut platform = self.parts.view.platform_changes();
        let mut bundles = self.parts.view.bundle_changes(self.name.1);
        let mut outgoing: VecDeque<Bytes> = VecDeque::new();
        let mut probing = FuturesUnordered::new();
        // Set once a newer connection has taken this one's place: until when it may finish.
        let mut gives_way = None;
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(code) = self.handle(event) {
                    self.last_words(&mut send, outgoing).await;
                    return code;
                }
            }
            if outgoing.is_empty() {
                outgoing.extend(self.session.poll_transmit());
            }
            if self.is_denied() {
                self.session.refuse(Refused {
                    code: RefusalCode::KeyRevoked,
                    message: "the warpgate's certificate was revoked".to_owned(),
                    retry_after_ms: None,
                    do_not_retry: true,
                });
                self.last_words(&mut send, outgoing).await;
                return CloseCode::Evicted;
            }
            if self.parts.clock.now() >= self.ends_at {
                return CloseCode::CertificateEnded;
            }
            for nonce in self.probes.drain(..) {
                if probing.len() < PROBES_MAX {
                    let connection = self.connection.clone();
                    probing.push(async move { (nonce, probe(&connection, nonce).await) });
                }
            }
            let timeout = self.session.poll_timeout().map(tokio::time::Instant::from_std);
            let (draining, leaving) = (self.session.is_draining(), self.parts.clock.now() >= self.leave_at);
            if leaving && !draining {
                self.leave(self.ends_at.since(self.parts.clock.now()));
                continue;
            }
            let tunnel = self.tunnel.clone();
            tokio::select! {
                read = recv.read_chunk(usize::MAX, true) => match read {
                    Ok(Some(chunk)) => self.session.handle_bytes(Instant::now(), chunk.bytes),
                    Ok(None) => self.session.handle_end_of_stream(),
                    Err(_) => return CloseCode::Done,
                },
                written = write(&mut send, &mut outgoing), if !outgoing.is_empty() => if written.is_err() {
                    return CloseCode::Done;
                },
                () = sleep_until(timeout) => self.session.handle_timeout(Instant::now()),
                () = tokio::time::sleep(LOOK_AT_CLOCK.min(self.next_wall_time())) => {}
                Some((nonce, rtt)) = probing.next(), if !probing.is_empty() => if let Some(rtt) = rtt {
                    self.session.probe_done(nonce, rtt);
                },
                Ok(()) = bundles.changed() => self.relay_bundle(),
                Ok(()) = platform.changed() => {}
                () = self.parts.drain.draining(), if !draining => self.leave(DRAIN_GRACE),
                // Not before the warpgate was told.
                () = finished(tunnel.as_deref()), if (draining || gives_way.is_some()) && outgoing.is_empty() => {
                    self.last_words(&mut send, outgoing).await;
                    return if gives_way.is_some() { CloseCode::Replaced } else { CloseCode::Done };
                }
                () = replaced(tunnel.as_deref()), if gives_way.is_none() => {
                    // What runs may finish here; nothing new comes.
                    gives_way = Some(tokio::time::Instant::now() + DRAIN_GRACE);
                }
                () = sleep_until(gives_way) => return CloseCode::Replaced,
            }
        }
    }

    /// Acts on what the warpgate said; the answer ends the tunnel.
    fn handle(&mut self, event: EdgeEvent) -> Option<CloseCode> {
        match event {
            EdgeEvent::Hello(hello) => self.greet(hello),
            EdgeEvent::Offered(upstreams) => self.declare(|tunnel| tunnel.offer(upstreams)),
            EdgeEvent::Withdrawn(upstreams) => self.declare(|tunnel| tunnel.withdraw(&upstreams)),
            EdgeEvent::PrincipalKnown { slot } => {
                if let Some(tunnel) = &self.tunnel {
                    tunnel.principals().acknowledge(slot);
                }
            }
            EdgeEvent::ProbeRequested { nonce } if self.probes.len() < PROBES_MAX => self.probes.push(nonce),
            EdgeEvent::ProbeRequested { .. } => {}
            EdgeEvent::Draining { .. } => {
                if let Some(tunnel) = &self.tunnel {
                    self.parts.tunnels.leave(tunnel);
                    tracing::info!(warpgate = %tunnel.warpgate, "Warpgate drains");
                }
            }
            EdgeEvent::Ended(why) => {
                if self.tunnel.is_none() {
                    tracing::warn!(warpgate = self.uri, %why, "A tunnel was not opened");
                }
                return Some(why.close_code());
            }
        }
        None
    }

    fn greet(&mut self, hello: Hello) {
        if let Err(refused) = self.admit(hello) {
            self.session.refuse(refused);
        }
    }

    fn admit(&mut self, hello: Hello) -> Result<(), Refused> {
        let refused = |code: RefusalCode, message: &str, retry_after_ms| Refused {
            code,
            message: message.to_owned(),
            retry_after_ms,
            do_not_retry: code.is_final(),
        };
        if hello.instance != self.name.2 {
            return Err(refused(RefusalCode::BadHello, "the certificate is another instance's", None));
        }
        if self.parts.drain.is_draining() {
            return Err(refused(RefusalCode::Draining, "this edge is about to stop", Some(BUSY_RETRY_MS)));
        }
        self.agent = hello.agent;
        self.bundle = hello.bundle_revision;
        let tunnel = Arc::new(Tunnel::new(self.connection.clone(), self.name, hello.index, hello.upstreams));
        self.connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
        self.connection.set_send_window(SEND_WINDOW);
        self.connection.set_max_concurrent_bi_streams(VarInt::from_u32(WARPGATE_STREAMS_MAX));
        self.connection.set_max_concurrent_uni_streams(VarInt::from_u32(0));
        self.parts.tunnels.enter(&tunnel).map_err(|full| match full {
            Full::Environment => {
                let message = "this environment has as many warpgates here as it may";
                refused(RefusalCode::Quota, message, Some(BUSY_RETRY_MS))
            }
            Full::Edge => {
                refused(RefusalCode::Busy, "this edge has no room for more tunnels", Some(BUSY_RETRY_MS))
            }
        })?;
        self.session.welcome(self.parts.edge, &self.parts.region, SessionLimits::default());
        self.relay_bundle();
        self.report.send_replace(Some(self.state(&tunnel, true)));
        let upstreams = tunnel.upstreams().len();
        tracing::info!(
            warpgate = %self.name.2, environment = %self.name.1, remote = %self.connection.remote_address(),
            agent = self.agent, upstreams, "Tunnel connected"
        );
        self.tunnel = Some(tunnel);
        Ok(())
    }

    fn declare(&mut self, change: impl FnOnce(&Tunnel)) {
        if let Some(tunnel) = &self.tunnel {
            change(tunnel);
            self.report.send_replace(Some(self.state(tunnel, true)));
        }
    }

    fn relay_bundle(&mut self) {
        let (project, environment, _) = self.name;
        if let Some(bundle) = self.parts.view.bundle(project, environment)
            && bundle.revision > self.bundle
        {
            self.bundle = bundle.revision;
            self.session.send_bundle(bundle);
        }
    }

    /// Tells the warpgate that no new exchanges come, and when the last must be done.
    fn leave(&mut self, grace: Duration) {
        if let Some(tunnel) = &self.tunnel {
            self.parts.tunnels.leave(tunnel);
        }
        self.session.drain(Instant::now(), grace.min(DRAIN_GRACE));
    }

    /// Whether the peer was evicted.
    fn is_denied(&self) -> bool {
        self.parts.view.platform().is_some_and(|platform| platform.denied.contains(&self.uri))
    }

    /// Until the next moment of the wall clock at which something is due.
    fn next_wall_time(&self) -> Duration {
        let now = self.parts.clock.now();
        let next = if now < self.leave_at { self.leave_at } else { self.ends_at };
        next.since(now).max(Duration::from_millis(1))
    }

    async fn last_words(&mut self, send: &mut quinn::SendStream, mut outgoing: VecDeque<Bytes>) {
        outgoing.extend(self.session.poll_transmit());
        let spoken = async {
            while !outgoing.is_empty() {
                write(send, &mut outgoing).await?;
            }
            drop(send.finish());
            // The connection's close may overtake what was not acknowledged.
            drop(send.stopped().await);
            Ok::<(), quinn::WriteError>(())
        };
        drop(tokio::time::timeout(LAST_WORDS_MAX, spoken).await);
    }

    fn state(&self, tunnel: &Tunnel, connected: bool) -> TunnelReport {
        TunnelReport {
            warpgate: self.uri.clone(),
            environment: self.name.1,
            edge: self.parts.edge,
            remote: self.connection.remote_address(),
            agent: self.agent.clone(),
            upstreams: tunnel.upstreams().iter().map(ToString::to_string).collect(),
            connected,
            at: if connected { self.since } else { self.parts.clock.now() },
        }
    }
}

/// Writes some of what waits. Cancel safe: what was written is gone from the queue, the rest stays.
async fn write(
    send: &mut quinn::SendStream,
    outgoing: &mut VecDeque<Bytes>,
) -> Result<(), quinn::WriteError> {
    let written = send.write_chunks(outgoing.make_contiguous()).await?;
    outgoing.drain(..written.chunks);
    Ok(())
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn finished(tunnel: Option<&Tunnel>) {
    if let Some(tunnel) = tunnel {
        tunnel.finished().await;
    }
}

async fn replaced(tunnel: Option<&Tunnel>) {
    match tunnel {
        Some(tunnel) => tunnel.replaced().await,
        None => std::future::pending().await,
    }
}

/// Sends a probe as an exchange of its own; the time until the answer.
async fn probe(connection: &quinn::Connection, nonce: u64) -> Option<Duration> {
    let begun = Instant::now();
    let answered = async {
        let (mut send, mut recv) = connection.open_bi().await.ok()?;
        let mut encoder = Encoder::new();
        encoder.probe(nonce);
        send.write_chunk(encoder.take()).await.ok()?;
        send.finish().ok()?;
        let reply = recv.read_to_end(PROBE_LEN_MAX).await.ok()?;
        let mut decoder = Decoder::responses();
        decoder.push(Bytes::from(reply));
        (decoder.poll() == Ok(Some(Event::ProbeReply { nonce }))).then(|| begun.elapsed())
    };
    tokio::time::timeout(PROBE_MAX, answered).await.ok()?
}
