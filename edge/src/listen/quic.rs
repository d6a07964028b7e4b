//! The UDP port: one QUIC endpoint for HTTP/3, tunnels and enrollment.
//!
//! What a connection is was chosen by its ClientHello ([`super::select`]); here only what was *negotiated* counts:
//! the ALPN says which code speaks, and that code looks at the peer's certificate itself.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use mezusphere_model::link::ControlLink;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig,
    TransportConfig, VarInt,
};
use tokio::time::timeout;
use tracing::debug;
use tunnel_proto::limits::STREAM_WINDOW;

use super::admission::{Admission, Full, Place};
use super::cid::PlacedCids;
use super::counters::Counters;
use super::crowd::{Crowd, Leave, Member};
use super::decide::ALPN_H3;
use super::drain::Drain;
use super::packets::Packets;
use super::select::SelectingServerConfig;
use super::socket::canonical;
use super::turns::Turns;
use crate::config::{Limits, PUBLIC_STREAMS_MAX, StartError};
use crate::http::{ConnectionInfo, Handle, Protocol, Service, h3};
use crate::tls::PublicCertificates;
use crate::tunnel;

/// A silent connection ends after this long. Tunnels are shorter: QUIC takes the smaller of both ends' wishes.
const IDLE: Duration = Duration::from_secs(30);

/// Octets on their way on all streams of a client's connection; a tunnel raises it when the warpgate is known. For one
/// stream it is [`STREAM_WINDOW`]: that cannot change later, so it serves tunnels and clients alike.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// Octets sent and not acknowledged that a client's connection may hold: what one slow reader costs. A tunnel
/// raises it.
const SEND_WINDOW: u64 = 768 * 1024;

/// Unidirectional streams of a connection: HTTP/3 needs three (RFC 9114 §6.2), and browsers open some for grease.
const UNI_STREAMS_MAX: u32 = 8;

/// Connection attempts that nothing was done for yet: those quinn has read, and [`WAITING_MAX`]. Beyond it quinn refuses
/// whoever comes, be they who they may.
const INCOMING_MAX: usize = 1024;

/// Connection attempts that wait for their turn: the rest is for those that quinn reads at once.
pub(super) const WAITING_MAX: usize = 768;

/// Octets kept of an attempt that was not looked at yet, each and all together: a large ClientHello fits.
const INCOMING_LEN_MAX: u64 = 32 * 1024;
const INCOMING_LEN_TOTAL_MAX: u64 = 8 * 1024 * 1024;

/// Attempts and handshakes under way from which on a client must first prove its address (RFC 9000 §8.1.2), as a share of
/// [`Limits::handshakes`]: spoofed addresses then cost us no cryptography. Some hundred of 2048.
const VALIDATE_FROM_PERCENT: usize = 6;

/// Closing code for a connection that HTTP/3 does not know yet: `H3_EXCESSIVE_LOAD`.
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);

/// Closing code at the end of a relayed connect message, and when the edge goes: no error.
const NO_ERROR: VarInt = VarInt::from_u32(0);

/// How long a closed endpoint keeps telling peers that it is.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Takes connections that negotiated the tunnel's ALPN.
pub(super) trait Tunnels: Send + Sync + 'static {
    /// Serves one until it ends; judges its certificate itself.
    fn accept(&self, connection: Connection) -> impl Future<Output = ()> + Send;
}

impl Tunnels for tunnel::Acceptor {
    async fn accept(&self, connection: Connection) {
        self.accept(connection).await;
    }
}

/// The UDP port, and what its connections are handed to.
pub(super) struct QuicPort<H, T> {
    pub(super) service: Arc<Service<H>>,
    pub(super) tunnels: T,
    pub(super) link: Arc<dyn ControlLink>,
    pub(super) certificates: PublicCertificates,
    pub(super) admission: Arc<Admission>,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
    pub(super) drain: Drain,
    /// Connection attempts that wait for their turn.
    pub(super) waiting: Arc<Crowd>,
    /// Handshakes under way.
    pub(super) handshakes: Arc<Crowd>,
    /// Whose turn it is on this thread.
    pub(super) turns: Arc<Turns>,
}

/// Opens the endpoint on `socket`; call it on the runtime that is to drive it.
pub(super) fn endpoint(
    socket: UdpSocket,
    config: SelectingServerConfig,
    reset_key: &[u8; 32],
    cids: impl Fn() -> PlacedCids + Send + Sync + 'static,
) -> Result<Endpoint, StartError> {
    let address = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key)));
    endpoint.cid_generator(move || Box::new(cids()));
    let mut server = ServerConfig::with_crypto(Arc::new(config));
    server
        .transport_config(Arc::new(transport()))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_LEN_MAX)
        .incoming_buffer_size_total(INCOMING_LEN_TOTAL_MAX)
        .migration(true);
    Packets::new(socket)
        .and_then(|packets| {
            let runtime = Arc::new(quinn::TokioRuntime);
            Endpoint::new_with_abstract_socket(endpoint, Some(server), Arc::new(packets), runtime)
        })
        .map_err(|source| StartError::Listen { protocol: "UDP", address, source })
}

/// Serves clients and tunnels alike. Cubic, path MTU discovery to 1452 and segmentation offload are the defaults.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(None)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(PUBLIC_STREAMS_MAX.into())
        .max_concurrent_uni_streams(UNI_STREAMS_MAX.into())
        .crypto_buffer_size(super::hello::HELLO_LEN_MAX)
        .datagram_receive_buffer_size(None);
    transport
}

impl<H: Handle, T: Tunnels> QuicPort<H, T> {
    /// Takes connections until draining begins.
    pub(super) async fn accept(self: Arc<Self>, endpoint: Endpoint) {
        let mut draining = self.drain.draining();
        loop {
            let incoming = tokio::select! {
                biased;
                () = &mut draining => break,
                incoming = endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            self.take(incoming);
        }
        // New attempts are refused from here on; connections that stand go on.
        endpoint.set_server_config(None);
    }

    /// Answers a connection attempt: with a handshake when it is its turn, a question, or a refusal.
    fn take(self: &Arc<Self>, incoming: Incoming) {
        if self.admission.total() >= self.limits.connections {
            self.counters.full(Full::Edge);
            return incoming.refuse();
        }
        let under_way = self.waiting.held() + self.handshakes.held();
        let is_pressed = under_way >= self.limits.handshakes * VALIDATE_FROM_PERCENT / 100;
        // So that who makes room for others is who holds most, and not whom somebody pretends to be.
        if is_pressed && !incoming.remote_address_validated() && incoming.may_retry() {
            return self.retry(incoming);
        }
        let client = canonical(incoming.remote_address()).ip();
        let waits = self.waiting.join(client, 1);
        let port = Arc::clone(self);
        self.drain.spawn(async move {
            // Dropping the handshake at the time-out closes the connection.
            let shaken = timeout(port.limits.handshake, port.shake(incoming, client, waits)).await;
            match shaken {
                Ok(Some(Ok(connection))) => port.serve(connection).await,
                Ok(Some(Err(error))) => {
                    port.counters.quic_failed.inc();
                    debug!(%error, "A QUIC handshake failed");
                }
                Ok(None) => {
                    port.counters.handshakes.inc();
                    debug!(%client, "Others needed the room of a QUIC handshake");
                }
                Err(_) => {
                    port.counters.quic_failed.inc();
                    debug!("A QUIC handshake took too long");
                }
            }
        });
    }

    /// Waits for a turn and does the handshake; `None` if others needed the room, which refuses the attempt.
    async fn shake(
        &self,
        incoming: Incoming,
        client: IpAddr,
        (waits, mut leave): (Member, Leave),
    ) -> Option<Result<Connection, ConnectionError>> {
        let turn = leave.unless(self.turns.wait(client)).await?;
        drop(waits);
        let (_member, mut leave) = self.handshakes.join(client, 1);
        // The first packets are read here, and answered: the hello with all the cryptography it asks for.
        leave.unless(turn.spend(async { incoming.accept()?.await })).await
    }

    /// Has the client prove its address before anything is done for it.
    fn retry(&self, incoming: Incoming) {
        self.counters.retried.inc();
        if let Err(error) = incoming.retry() {
            error.into_incoming().refuse();
        }
    }

    async fn serve(&self, connection: Connection) {
        let negotiated = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let Some(negotiated) = negotiated else { return };
        match negotiated.protocol.as_deref() {
            Some(tunnel_proto::ALPN) => {
                self.counters.tunnel.inc();
                self.tunnels.accept(connection).await;
            }
            Some(tunnel_proto::CONNECT_ALPN) => {
                self.counters.connect.inc();
                self.relay(&connection).await;
            }
            Some(ALPN_H3) => match self.admission.admit(connection.remote_address().ip()) {
                Ok(place) => self.public(connection, negotiated.server_name, place).await,
                Err(full) => {
                    self.counters.full(full);
                    debug!(%full, client = %connection.remote_address(), "A connection was refused");
                    connection.close(EXCESSIVE_LOAD, b"too many connections");
                }
            },
            // Each configuration has an ALPN list, and rustls refuses what is not on it.
            _ => connection.close(NO_ERROR, b""),
        }
    }

    async fn public(&self, connection: Connection, server_name: Option<String>, place: Place) {
        let sni: Option<Arc<str>> =
            server_name.map(|name| name.trim_end_matches('.').to_ascii_lowercase().into());
        let certificate = sni
            .as_deref()
            .and_then(|name| self.certificates.table().names(name).cloned())
            .unwrap_or_default();
        let info = ConnectionInfo {
            client: canonical(connection.remote_address()),
            protocol: Protocol::H3,
            sni,
            certificate,
        };
        self.counters.h3.inc();
        h3::serve(connection, Arc::clone(&self.service), info).await;
        drop(place);
    }

    async fn relay(&self, connection: &Connection) {
        let from = canonical(connection.remote_address());
        let Ok(Ok((send, recv))) = timeout(self.limits.request_head, connection.accept_bi()).await else {
            return;
        };
        match tunnel::connect::serve_stream(&*self.link, from, recv, send).await {
            // The client closes when it has read the reply.
            Ok(()) => drop(timeout(self.limits.request_head, connection.closed()).await),
            Err(error) => {
                debug!(%error, %from, "A connect message was not relayed");
                connection.close(NO_ERROR, b"not relayed");
            }
        }
    }
}

/// Tells all peers that the endpoint is gone.
pub(super) async fn close(endpoint: &Endpoint) {
    endpoint.close(NO_ERROR, b"the edge is shutting down");
    // Peers that are not told notice by themselves.
    drop(timeout(CLOSE_MAX, endpoint.wait_idle()).await);
}
