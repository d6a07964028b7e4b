//! What becomes of one TCP connection, from its first octet to its end: the ClientHello decides, a handshake proves, and
//! whoever speaks what was negotiated has it from there.
//!
//! The same for an edge's port and for the front of a control node ([`crate::front`]): handshake, limits and refusals are
//! alike wherever a client meets us. Accepting, places and threads are the owner's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mezusphere_model::link::ControlLink;
use mezusphere_model::{Clock, Entropy, Platform};
use mezusphere_pki::acme::ACME_TLS_ALPN;
use mezusphere_pki::public::PublicTls;
use mezusphere_pki::tls::connect_server_config;
use mezusphere_pki::{CurrentIdentity, CurrentTrust, PublicCertificate};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::debug;

use super::admission::Full;
use super::counters::Counters;
use super::decide::{ALPN_H1, ALPN_H2, Carrier, Destination, Refusal, Scope, Served, decide};
use super::handshakes::{Handshake, Handshakes, Turns};
use super::hello::HelloError;
use super::paced::Paced;
use super::wrong_scheme;
use crate::config::{Duplex, Limits, StartError};
use crate::http::{ConnectionInfo, Handle, Protocol, Service, h1, h2};
use crate::tls::{Challenges, PublicCertificates};
use crate::tunnel;

/// What every connection through the door is served with.
pub(crate) struct Door<H> {
    pub(crate) service: Arc<Service<H>>,
    /// How much of the installation ends behind it.
    pub(crate) scope: Scope,
    pub(crate) link: Arc<dyn ControlLink>,
    pub(crate) certificates: PublicCertificates,
    pub(crate) challenges: Challenges,
    pub(crate) platform: Platform,
    pub(crate) tls: DoorTls,
    /// Takes tunnels; `None` where there are none.
    pub(crate) tunnels: Option<tunnel::Acceptor>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// Room for handshakes.
    pub(crate) handshakes: Arc<Handshakes>,
    /// Whose turn it is on this thread.
    pub(crate) turns: Arc<Turns>,
}

/// The TLS configurations, each with its own ALPN and certificates, and nothing of the other's.
#[derive(Clone)]
pub(crate) struct DoorTls {
    /// For clients.
    pub(crate) public: PublicTls,
    /// For warpgates that enrol; `None` where a control node ends their TLS.
    pub(crate) connect: Option<Arc<ServerConfig>>,
    /// For tunnels; `None` where there are none.
    pub(crate) tunnel: Option<Arc<ServerConfig>>,
}

impl DoorTls {
    /// For clients, and with `enroll`, a control node's, for warpgates that enrol. No tunnels.
    pub(crate) fn new(
        enroll: Option<&CurrentIdentity>,
        trust: &CurrentTrust,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<Self, StartError> {
        let public = PublicTls::new(clock, entropy, &[ALPN_H2, ALPN_H1])
            .map_err(|error| StartError::tls("public", &error))?;
        let connect = enroll
            .map(|identity| connect_server_config(identity, trust, clock, &[tunnel_proto::CONNECT_ALPN]))
            .transpose()
            .map_err(|error| StartError::tls("connect", &error))?;
        Ok(Self { public, connect: connect.map(Arc::new), tunnel: None })
    }
}

/// A connection that is not for us: what it is has been read, nothing was answered.
pub(crate) struct Unopened<T> {
    /// The connection, after its hello.
    pub(super) stream: Paced<T>,
    /// The octets of the hello, and what came with them.
    pub(super) hello: Vec<u8>,
}

/// What a ClientHello led to.
enum Opened<T> {
    Ready(Box<TlsStream<Paced<T>>>),
    Unopened(Unopened<T>),
    Refused,
}

impl<H: Handle> Door<H> {
    /// Serves `client`'s connection until it ends. Only at a split edge some come back: those that belong to a control
    /// node.
    pub(crate) async fn serve<T>(&self, stream: T, client: SocketAddr) -> Option<Unopened<T>>
    where
        T: Duplex + 'static,
    {
        let begun = Instant::now();
        let mut stream = Paced::new(stream, self.limits.stall).awaiting_hello();
        if self.scope == Scope::Sites {
            stream = stream.taped();
        }
        // Boxed, so that its room is given back when it is over.
        let handshake = Box::pin(self.handshake(stream, client, begun));
        match timeout_at(begun + self.limits.handshake, handshake).await {
            Ok(Ok(Opened::Ready(stream))) => {
                self.counters.shaken(stream.get_ref().1.handshake_kind());
                self.speak(*stream, client).await;
            }
            Ok(Ok(Opened::Unopened(unopened))) => return Some(unopened),
            Ok(Ok(Opened::Refused)) => {}
            Ok(Err(error)) => {
                self.counters.tcp_failed.inc();
                debug!(%error, %client, "A TLS handshake failed");
            }
            Err(_) => {
                self.counters.tcp_failed.inc();
                debug!(%client, "A TLS handshake took too long");
            }
        }
        None
    }

    /// Waits for room, reads the ClientHello, chooses a configuration, and does the handshake.
    async fn handshake<T: Duplex>(
        &self,
        stream: Paced<T>,
        client: SocketAddr,
        begun: Instant,
    ) -> io::Result<Opened<T>> {
        let _room = match self.room(client, begun).await {
            Ok(room) => room,
            Err(full) => {
                self.counters.crowded(full);
                debug!(%full, %client, "No room for a handshake");
                return Ok(Opened::Refused);
            }
        };
        let mut hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let mut start = match timeout_at(begun + self.limits.client_hello, &mut hello).await? {
            Ok(start) => start,
            Err(error) => return self.not_tls(hello.take_io(), error).await,
        };
        let name = start.client_hello().server_name().map(canonical);
        let destination = self.decide(name.as_deref(), &start);
        let hello = start.io.hello_is_whole();
        let config = match destination {
            Destination::Site | Destination::Platform(_) => match self.certificate(name.as_deref()) {
                Some(certificate) => self.tls.public.showing(&certificate),
                None => return self.refuse(start.io, Refusal::UnknownServerName).await,
            },
            Destination::Connect => match &self.tls.connect {
                Some(config) => Arc::clone(config),
                None => return self.refuse(start.io, Refusal::NoProtocol).await,
            },
            Destination::Splice => return Ok(Opened::Unopened(Unopened { stream: start.io, hello })),
            Destination::Challenge(host) => match self.challenges.table().config(&host, self.clock.now()) {
                Some(config) => config,
                None => return Ok(Opened::Refused),
            },
            Destination::Tunnel => match &self.tls.tunnel {
                Some(config) => Arc::clone(config),
                None => return self.refuse(start.io, Refusal::NoProtocol).await,
            },
            Destination::Refuse(refusal) => return self.refuse(start.io, refusal).await,
        };
        Ok(Opened::Ready(Box::new(self.turns.take(start.into_stream(config)).await?)))
    }

    /// Room for a handshake, as soon as there is some.
    async fn room(&self, client: SocketAddr, begun: Instant) -> Result<Handshake, Full> {
        if let Ok(room) = self.handshakes.try_begin(client.ip()) {
            return Ok(room);
        }
        self.counters.waited.inc();
        let room = self.handshakes.begin(client.ip());
        timeout_at(begun + self.limits.handshake, room).await.unwrap_or(Err(Full::Edge))
    }

    fn certificate(&self, name: Option<&str>) -> Option<Arc<PublicCertificate>> {
        self.certificates.table().certificate(name?).cloned()
    }

    /// Ends a connection that did not begin with a ClientHello: a client of plain HTTP hears what to say instead.
    async fn not_tls<T: Duplex>(&self, stream: Option<Paced<T>>, error: io::Error) -> io::Result<Opened<T>> {
        let Some(mut stream) = stream else { return Err(error) };
        if stream.is_hello_too_long() {
            self.counters.hello_too_long.inc();
            refuse(stream, HelloError::TooLong.alert()).await?;
            return Ok(Opened::Refused);
        }
        let Some(head) = stream.plain_http() else { return Err(error) };
        let answer = wrong_scheme::answer(head, &self.platform);
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        Err(error)
    }

    async fn refuse<T: Duplex>(&self, stream: Paced<T>, refusal: Refusal) -> io::Result<Opened<T>> {
        self.counters.refused(refusal);
        debug!(%refusal, "A TLS handshake was refused");
        refuse(stream, refusal.alert()).await?;
        Ok(Opened::Refused)
    }

    fn decide<T: Duplex>(&self, name: Option<&str>, start: &StartHandshake<Paced<T>>) -> Destination {
        let served = Served {
            scope: self.scope,
            certificates: &self.certificates.table(),
            platform: &self.platform,
            is_challenged: &|host| self.challenges.table().asks_for(host, self.clock.now()),
        };
        decide(Carrier::Tcp, name, start.client_hello().alpn().into_iter().flatten(), &served)
    }

    /// Hands the stream to whoever speaks what was negotiated. The decision was a hint; this counts.
    async fn speak<T>(&self, mut stream: TlsStream<Paced<T>>, client: SocketAddr)
    where
        T: Duplex + 'static,
    {
        let (_, session) = stream.get_ref();
        match session.alpn_protocol() {
            Some(tunnel_proto::CONNECT_ALPN) => {
                self.counters.connect.inc();
                self.relay(stream, client).await;
            }
            Some(tunnel_proto::ALPN) => {
                self.counters.tunnel.inc();
                if let Some(tunnels) = &self.tunnels {
                    // Boxed, so that clients' connections need no room for it.
                    Box::pin(tunnels.accept_tcp(stream, client)).await;
                }
            }
            Some(ACME_TLS_ALPN) => {
                self.counters.challenge.inc();
                // The handshake was the answer (RFC 8737 §3).
                if let Err(error) = stream.shutdown().await {
                    debug!(%error, %client, "A challenged connection broke");
                }
            }
            Some(ALPN_H2) => {
                self.counters.h2.inc();
                let info = self.info(&stream, client, Protocol::H2);
                h2::serve(stream, Arc::clone(&self.service), info).await;
            }
            _ => {
                self.counters.h1.inc();
                let info = self.info(&stream, client, Protocol::H1);
                h1::serve(stream, Arc::clone(&self.service), info).await;
            }
        }
    }

    fn info<T>(
        &self,
        stream: &TlsStream<Paced<T>>,
        client: SocketAddr,
        protocol: Protocol,
    ) -> ConnectionInfo {
        let sni: Option<Arc<str>> = stream.get_ref().1.server_name().map(|name| canonical(name).into());
        let certificate = sni
            .as_deref()
            .and_then(|name| self.certificates.table().names(name).cloned())
            .unwrap_or_default();
        ConnectionInfo { client, protocol, sni, certificate }
    }

    async fn relay<T: Duplex>(&self, stream: TlsStream<Paced<T>>, from: SocketAddr) {
        let (recv, send) = tokio::io::split(stream);
        if let Err(error) = tunnel::connect::serve_stream(&*self.link, from, recv, send).await {
            debug!(%error, %from, "A connect message was not relayed");
        }
    }
}

/// A name as certificates are looked up by it.
fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Says why before closing: a fatal alert in the clear, as TLS has it before keys exist (RFC 8446 §6).
pub(super) async fn refuse<T: AsyncRead + AsyncWrite + Unpin>(
    mut stream: Paced<T>,
    alert: u8,
) -> io::Result<()> {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    stream.write_all(&[ALERT, 3, 3, 0, 2, FATAL, alert]).await?;
    stream.shutdown().await
}
