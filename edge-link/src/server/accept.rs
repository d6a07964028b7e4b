//! From the listener to what a connection is for: admission, hello, handshake, dispatch; and the end of it all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mezusphere_model::clock::Timestamp;
use mezusphere_model::id::EdgeId;
use mezusphere_model::link::LinkError;
use mezusphere_pki::{CurrentIdentity, Peer, Role};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::admission::{Admission, Place};
use super::live::{Kind, Register};
use super::{BACK_OFF_MAX, BACK_OFF_MIN, Edges, Joins, NodeCounts, Splices, join, link, splice};
use crate::limits::NodeLimits;
use crate::{ALPN_JOIN, ALPN_LINK, ALPN_REJOIN, ALPN_SPLICE};

/// Everything connections of the port share.
pub(super) struct Accept {
    /// For edges.
    pub(super) mutual: Arc<ServerConfig>,
    /// For whoever joins.
    pub(super) open: Arc<ServerConfig>,
    pub(super) identity: CurrentIdentity,
    pub(super) register: Arc<Register>,
    pub(super) admission: Arc<Admission>,
    /// Questions being answered; [`NodeLimits::questions`].
    pub(super) questions: Semaphore,
    /// Joins under way; [`NodeLimits::joins`].
    pub(super) joining: Semaphore,
    pub(super) edges: Arc<dyn Edges>,
    pub(super) joins: Arc<dyn Joins>,
    pub(super) splices: Arc<dyn Splices>,
    pub(super) limits: NodeLimits,
    pub(super) tally: Tally,
}

/// What is counted beside register and admission.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) handshakes_failed: AtomicU64,
    pub(super) stalled: AtomicU64,
    pub(super) busy: AtomicU64,
}

/// What was negotiated, and with whom.
enum Negotiated {
    Link(EdgeId, Peer),
    Splice(EdgeId, Peer),
    Join,
    Rejoin,
}

impl Accept {
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        // Owns every connection: dropping it, at the end or early, ends them.
        let mut connections = JoinSet::new();
        let mut look = interval(self.limits.look);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut back_off = BACK_OFF_MIN;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => self.register.look(),
                Some(end) = connections.join_next() => note(end),
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => {
                        back_off = BACK_OFF_MIN;
                        if connections.len() >= self.limits.connections {
                            self.admission.turn_away();
                            continue;
                        }
                        let Some(place) = self.admission.enter(remote.ip()) else {
                            debug!(%remote, "A stranger on the node port was turned away: there are too many");
                            continue;
                        };
                        let (port, stop) = (Arc::clone(&self), stop.clone());
                        connections.spawn(async move { port.connection(stream, remote, place, stop).await });
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        // Out of descriptors or memory: nothing can be taken until some connection ends.
                        warn!(%error, wait_ms = back_off.as_millis(), "The node port can take no connection");
                        sleep(back_off).await;
                        back_off = (back_off * 2).min(BACK_OFF_MAX);
                    }
                },
            }
        }
        drop(listener);
        let deadline = Instant::now() + self.limits.grace;
        loop {
            tokio::select! {
                end = connections.join_next() => match end {
                    Some(end) => note(end),
                    None => return,
                },
                _ = look.tick() => self.register.look(),
                () = sleep_until(deadline) => {
                    return info!(left = connections.len(), "The node port closes what has not ended in time");
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, remote: SocketAddr, place: Place, stop: CancellationToken) {
        let failed = |why: &dyn std::fmt::Display| {
            self.tally.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            debug!(%why, %remote, "A handshake on the node port failed");
        };
        // The certificate our side shows is read during the handshake; a renewal in between only ends this earlier.
        let own_end = self.identity.get().not_after();
        let handshake = timeout(self.limits.handshake, self.handshake(stream));
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            stream = handshake => match stream {
                Ok(Ok(stream)) => stream,
                Ok(Err(why)) => return failed(&why),
                Err(_) => return failed(&"it took too long"),
            },
        };
        match negotiated(&stream) {
            Some(Negotiated::Link(edge, peer)) => match self.admit(&stream, edge).await {
                Ok(()) => {
                    drop(place);
                    self.link(stream, edge, peer, own_end, remote, stop).await;
                }
                // A stranger as before: it takes nothing from the edge it names.
                Err(why) => {
                    debug!(%edge, %remote, %why, "A link is not let in");
                    link::refuse(self, stream, edge, why).await;
                }
            },
            Some(Negotiated::Splice(edge, peer)) => {
                drop(place);
                self.splice(stream, edge, peer, own_end, remote).await;
            }
            // Still a stranger: the place is kept.
            Some(Negotiated::Join) => join::new(self, stream, remote).await,
            Some(Negotiated::Rejoin) => join::again(self, stream, remote).await,
            None => failed(&"no protocol of ours was negotiated"),
        }
    }

    /// Whether the edge may come with the certificate it showed.
    async fn admit(&self, stream: &TlsStream<TcpStream>, edge: EdgeId) -> Result<(), LinkError> {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let Some(leaf) = shown else { return Err(LinkError::Away) };
        timeout(self.limits.answer, self.edges.admit(edge, leaf)).await.unwrap_or(Err(LinkError::Away))
    }

    async fn link(
        &self,
        stream: TlsStream<TcpStream>,
        edge: EdgeId,
        peer: Peer,
        own_end: Timestamp,
        remote: SocketAddr,
        stop: CancellationToken,
    ) {
        let max = self.limits.links_per_edge;
        let Some(entry) = self.register.enter(edge, peer, own_end, Kind::Link, remote, max) else { return };
        info!(%edge, %remote, "An edge is connected");
        tokio::select! {
            () = entry.dead.cancelled() => {}
            () = link::serve(self, stream, edge, stop) => {}
        }
        info!(%edge, %remote, "An edge's link has ended");
    }

    async fn splice(
        &self,
        stream: TlsStream<TcpStream>,
        edge: EdgeId,
        peer: Peer,
        own_end: Timestamp,
        remote: SocketAddr,
    ) {
        let max = self.limits.splices_per_edge;
        let Some(entry) = self.register.enter(edge, peer, own_end, Kind::Splice, remote, max) else {
            self.admission.turn_away();
            return debug!(%edge, "A splice was turned away: the edge has too many");
        };
        tokio::select! {
            () = entry.dead.cancelled() => {}
            () = splice::serve(self, stream, remote) => {}
        }
    }

    /// Reads the hello, chooses a configuration by it, and does the handshake.
    async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        stream.set_nodelay(true)?;
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let is_joining = start.client_hello().alpn().is_some_and(|mut offered| offered.any(is_of_joining));
        let config = if is_joining { &self.open } else { &self.mutual };
        start.into_stream(Arc::clone(config)).await
    }

    pub(super) fn counts(&self) -> NodeCounts {
        NodeCounts {
            links: self.register.count(Kind::Link),
            splices: self.register.count(Kind::Splice),
            turned_away: self.admission.turned_away(),
            handshakes_failed: self.tally.handshakes_failed.load(Ordering::Relaxed),
            closed: self.register.closed(),
            stalled: self.tally.stalled.load(Ordering::Relaxed),
            busy: self.tally.busy.load(Ordering::Relaxed),
        }
    }
}

/// Whether nobody has a certificate to show for this protocol.
fn is_of_joining(alpn: &[u8]) -> bool {
    alpn == ALPN_JOIN || alpn == ALPN_REJOIN
}

/// What a finished handshake means. A certificate that is no edge's opens nothing, whatever was negotiated.
fn negotiated(stream: &TlsStream<TcpStream>) -> Option<Negotiated> {
    let session = stream.get_ref().1;
    let alpn = session.alpn_protocol()?;
    if alpn == ALPN_JOIN {
        return Some(Negotiated::Join);
    }
    if alpn == ALPN_REJOIN {
        return Some(Negotiated::Rejoin);
    }
    let peer = Peer::read(session.peer_certificates()?).ok()?;
    let Role::Edge(edge) = peer.name.role else { return None };
    if alpn == ALPN_LINK {
        Some(Negotiated::Link(edge, peer))
    } else if alpn == ALPN_SPLICE {
        Some(Negotiated::Splice(edge, peer))
    } else {
        None
    }
}

/// A panic ends one connection and is told; everything else was told where it happened.
fn note(end: Result<(), JoinError>) {
    if let Err(why) = end
        && why.is_panic()
    {
        error!(%why, "A connection's task on the node port panicked");
    }
}

/// Whether accepting failed because of the connection and not for want of resources.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
