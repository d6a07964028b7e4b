//! One tunnel's control stream: drives `tunnel_proto`'s session, relays bundles, answers probes, and decides when
//! the tunnel is over.
//!
//! Everything of a tunnel that is not an exchange runs in this one future, so that dropping it ends all of it.

mod events;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mezusphere_model::Timestamp;
use mezusphere_model::id::{EnvironmentId, ProjectId, WarpgateId};
use mezusphere_pki::{Peer, Role};
use rustls_pki_types::CertificateDer;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::EdgeSession;
use tunnel_proto::limits::HANDSHAKE_MAX;

use crate::tunnel::held::Tunnel;
use crate::tunnel::liveness::Liveness;
use crate::tunnel::probe::probe;
use crate::tunnel::refusal;
use crate::tunnel::reports::Serial;
use crate::tunnel::standing::{Lost, Standing};
use crate::tunnel::stream::{RecvHalf, SendEnd, SendHalf, heard_out};
use crate::tunnel::transport::Transport;
use crate::tunnel::{AcceptorParts, TunnelLimits};

/// Probes under way at once; one is due after each connect.
const PROBES_MAX: usize = 4;

/// Longest wait for one event: certificates end by the wall clock, which may be set.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// A timer that fires this much too late says that this thread stood still, perhaps with the machine: what the warpgate
/// has said meanwhile lies unread, and is not to count as its silence.
const STOOD_STILL: Duration = Duration::from_millis(250);

/// For how long what lies unread is then waited for.
const CATCH_UP: Duration = Duration::from_millis(100);

/// How long the last words on a control stream may take to leave.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// The state of one tunnel while it is served.
struct Control<'a> {
    parts: &'a AcceptorParts,
    limits: TunnelLimits,
    transport: &'a Transport,
    session: EdgeSession,
    name: (ProjectId, EnvironmentId, WarpgateId),
    /// The peer's SPIFFE URI.
    uri: String,
    standing: Standing,
    tunnel: Option<(Arc<Tunnel>, Serial)>,
    /// Revision of the newest bundle the warpgate has.
    bundle: u64,
    agent: String,
    since: Timestamp,
    probes: Vec<u64>,
}

/// Serves the tunnel of a warpgate that showed `chain`, until it ends; the answer is what to close the connection with,
/// if it is not closed by then.
pub(super) async fn serve(
    parts: &AcceptorParts,
    limits: TunnelLimits,
    transport: &Transport,
    chain: Vec<CertificateDer<'static>>,
    peer: &Peer,
) -> CloseCode {
    let Role::Warpgate { project, environment, id } = peer.name.role else { return CloseCode::Refused };
    let mut control = Control {
        parts,
        limits,
        transport,
        session: EdgeSession::new(Instant::now()),
        name: (project, environment, id),
        uri: peer.name.to_string(),
        standing: Standing::new(chain, peer, &parts.identity.get(), parts.trust.get(), limits.drain_grace),
        tunnel: None,
        bundle: 0,
        agent: String::new(),
        since: parts.clock.now(),
        probes: Vec::new(),
    };
    let code = control.run().await;
    if let Some((tunnel, serial)) = control.tunnel.take() {
        parts.tunnels.leave(&tunnel);
        transport.close(code);
        tracing::info!(
            warpgate = %id, %environment, transport = transport.kind().name(), why = code.name(), "Tunnel ended"
        );
        parts.tunnels.reports().went(serial, control.state(&tunnel, false));
        if parts.drain.is_draining() {
            // This edge is about to end, and nobody would tell it later.
            parts.tunnels.reports().told().await;
        }
    }
    code
}

/// How a tunnel ends.
enum Over {
    /// The connection is gone, or nobody listens: there is nothing to be said.
    Gone(CloseCode),
    /// At once, with nothing but the reason.
    Cut(CloseCode),
    /// With what is still to be said.
    Told(CloseCode),
}

impl Control<'_> {
    /// Serves the tunnel from its control stream to its last word.
    async fn run(&mut self) -> CloseCode {
        let opened = tokio::time::timeout(HANDSHAKE_MAX, self.transport.control()).await;
        let (mut send, mut recv) = match opened {
            Ok(Ok(streams)) => streams,
            Ok(Err(_)) => return CloseCode::Done,
            Err(_) => return CloseCode::HandshakeTimeout,
        };
        let mut outgoing = VecDeque::new();
        let over = self.converse(&mut send, &mut recv, &mut outgoing).await;
        if let Some((tunnel, _)) = &self.tunnel {
            // Nobody is to wait for what is said last.
            self.parts.tunnels.leave(tunnel);
        }
        let (code, is_told) = match over {
            Over::Gone(code) => return code,
            Over::Cut(code) => (code, false),
            Over::Told(code) => (code, true),
        };
        if !self.transport.tells_why() {
            self.session.close(code);
        }
        if is_told || !self.transport.tells_why() {
            self.last_words(&mut send, &mut recv, outgoing).await;
        }
        code
    }

    async fn converse(
        &mut self,
        send: &mut SendHalf,
        recv: &mut RecvHalf,
        outgoing: &mut VecDeque<Bytes>,
    ) -> Over {
        let mut trust = self.parts.view.trust_changes();
        let mut bundles = self.parts.view.bundle_changes(self.name.1);
        let mut probing = FuturesUnordered::new();
        // Set once a newer connection has taken this one's place. What runs here finishes, however long it takes: only
        // the end of a certificate cuts it.
        let mut is_replaced = false;
        let mut has_caught_up = false;
        let mut liveness = Liveness::new(tokio::time::Instant::now());
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(over) = self.handle(event) {
                    return over;
                }
            }
            if outgoing.is_empty() {
                outgoing.extend(self.session.poll_transmit());
            }
            let now = self.parts.clock.now();
            if let Err(lost) = self.standing.judge(self.parts.view.trust(), now) {
                return self.lose(lost);
            }
            for nonce in self.probes.drain(..) {
                if probing.len() < PROBES_MAX {
                    let transport = self.transport.clone();
                    probing.push(async move { (nonce, probe(&transport, nonce).await) });
                }
            }
            let timeout = self.session.poll_timeout().map(tokio::time::Instant::from_std);
            let draining = self.session.is_draining();
            // A stranger has to speak.
            let listen = liveness.next_look().filter(|_| self.tunnel.is_some());
            if self.standing.is_leaving(now) && !draining {
                self.leave(self.standing.left(now));
                continue;
            }
            let tunnel = self.tunnel.as_ref().map(|(tunnel, _)| Arc::clone(tunnel));
            tokio::select! {
                biased;
                // Read first: a late wake-up must not count as the peer's silence.
                read = recv.read_chunk() => match read {
                    Ok(Some(chunk)) => {
                        has_caught_up = false;
                        liveness.spoke(tokio::time::Instant::now());
                        self.session.handle_bytes(Instant::now(), chunk);
                        if let Some(tunnel) = tunnel.as_deref() {
                            tunnel.was_heard();
                        }
                    }
                    Ok(None) => self.session.handle_end_of_stream(),
                    Err(_) => return Over::Gone(CloseCode::Done),
                },
                written = write(send, outgoing), if !outgoing.is_empty() => if written.is_err() {
                    return Over::Gone(CloseCode::Done);
                },
                () = sleep_until(listen), if listen.is_some() => {
                    if liveness.look(self.transport.heard(), tokio::time::Instant::now()) {
                        self.session.handle_alive(Instant::now());
                    }
                }
                () = sleep_until(timeout) => {
                    let late = timeout.map_or(Duration::ZERO, |timeout| timeout.elapsed());
                    if late > STOOD_STILL && !std::mem::replace(&mut has_caught_up, true) {
                        tokio::time::sleep(CATCH_UP).await;
                    } else {
                        self.session.handle_timeout(Instant::now());
                    }
                }
                () = tokio::time::sleep(LOOK_AT_CLOCK.min(self.standing.next_look(now))) => {}
                Some((nonce, rtt)) = probing.next(), if !probing.is_empty() => if let Some(rtt) = rtt {
                    self.session.probe_done(nonce, rtt);
                },
                Ok(()) = bundles.changed() => self.relay_bundle(),
                Ok(()) = trust.changed() => {}
                () = self.parts.drain.deserted(), if !draining => self.leave(self.limits.drain_grace),
                // Not before the warpgate was told.
                () = finished(tunnel.as_deref()), if (draining || is_replaced) && outgoing.is_empty() => {
                    return Over::Told(if is_replaced { CloseCode::Replaced } else { CloseCode::Done });
                }
                () = replaced(tunnel.as_deref()), if !is_replaced => is_replaced = true,
                () = crowded_out(tunnel.as_deref()) => return Over::Cut(CloseCode::Replaced),
                // What nobody accepts, nobody reads: each could hold a stream's window in memory.
                () = self.transport.uninvited() => {
                    tracing::warn!(warpgate = self.uri, "A warpgate opened a stream that only an edge opens");
                    return Over::Cut(CloseCode::Protocol);
                }
            }
        }
    }

    /// Ends a tunnel that may not go on.
    fn lose(&mut self, lost: Lost) -> Over {
        // Whoever dials again has renewed by then.
        let Some((refused, code)) = refusal::of_lost(lost) else {
            return Over::Cut(CloseCode::CertificateEnded);
        };
        if self.tunnel.is_none() {
            tracing::warn!(warpgate = self.uri, why = refused.message, "A tunnel was refused");
        }
        self.session.refuse(refused);
        Over::Told(code)
    }

    /// Tells the warpgate that no new exchanges come, and when the last must be done.
    fn leave(&mut self, grace: Duration) {
        if let Some((tunnel, _)) = &self.tunnel {
            self.parts.tunnels.leave(tunnel);
        }
        self.session.drain(Instant::now(), grace.min(self.limits.drain_grace));
    }

    /// Says what is left, and waits a moment for the warpgate to take it: the connection's close may overtake it.
    async fn last_words(&mut self, send: &mut SendHalf, recv: &mut RecvHalf, mut outgoing: VecDeque<Bytes>) {
        outgoing.extend(self.session.poll_transmit());
        let spoken = async {
            while !outgoing.is_empty() {
                write(send, &mut outgoing).await?;
            }
            send.finish();
            heard_out(send, recv).await;
            Ok::<(), SendEnd>(())
        };
        drop(tokio::time::timeout(LAST_WORDS_MAX, spoken).await);
    }
}

/// Writes some of what waits. Cancel safe: what was written is gone from the queue, the rest stays.
async fn write(send: &mut SendHalf, outgoing: &mut VecDeque<Bytes>) -> Result<(), SendEnd> {
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

async fn crowded_out(tunnel: Option<&Tunnel>) {
    match tunnel {
        Some(tunnel) => tunnel.crowded_out().await,
        None => std::future::pending().await,
    }
}
