//! What becomes of one TCP connection, from its first octet to its end: the ClientHello decides, a handshake proves, and
//! whoever speaks what was negotiated has it from there.
//!
//! ```text
//! arriving     nothing is known of it         one of a crowd; a ClientHello is read ([`super::arrival`])
//! waiting      its ClientHello is whole       still one of them, until it is its turn ([`super::turns`])
//! handshake    it has a place; keys are made  one of another crowd until the client has done its part
//! speaking     it is a client                 only its own limits
//! ```
//!
//! Whoever does not go on makes room for others ([`super::crowd`]), so that none of it can be kept full. The same for an
//! edge's port and for the front of a control node ([`crate::front`]): handshake, limits and refusals are alike wherever a
//! client meets us. Accepting and threads are the owner's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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

use super::admission::{Admission, Full, Place};
use super::arrival::{ARRIVING_LEN, ArrivalError, read_hello};
use super::counters::Counters;
use super::crowd::Crowd;
use super::decide::{ALPN_H1, ALPN_H2, Carrier, Destination, Refusal, Scope, Served, decide};
use super::hello::HelloError;
use super::paced::Paced;
use super::turns::{Turn, Turns};
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
    /// Connections whose handshake has not begun.
    pub(crate) arriving: Arc<Crowd>,
    /// Handshakes under way.
    pub(crate) handshakes: Arc<Crowd>,
    /// Connections from there on.
    pub(crate) admission: Arc<Admission>,
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
    /// Its place among the connections.
    pub(super) place: Place,
}

/// What a ClientHello led to.
pub(super) enum Opened<T> {
    Ready(Box<TlsStream<Paced<T>>>),
    Unopened(Paced<T>, Vec<u8>),
    Refused,
}

/// Why a connection has not come through the door.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    #[error("its handshake failed: {0}")]
    Handshake(#[from] io::Error),
    #[error("it took too long")]
    TooSlow,
    #[error("others needed its room before its handshake began")]
    LetGoArriving,
    #[error("others needed its room before its handshake ended")]
    LetGoHandshake,
    #[error(transparent)]
    Full(#[from] Full),
}

impl<H: Handle> Door<H> {
    /// Serves `client`'s connection until it ends. Only at a split edge some come back: those that belong to a control
    /// node.
    pub(crate) async fn serve<T>(&self, stream: T, client: SocketAddr) -> Option<Unopened<T>>
    where
        T: Duplex + 'static,
    {
        let begun = Instant::now();
        // Boxed, so that its room is given back when it is over.
        let opened = match Box::pin(self.open(stream, client, begun)).await {
            Ok(opened) => opened,
            Err(error) => {
                debug!(%error, %client, "A connection did not come through");
                self.failed(&error);
                return None;
            }
        };
        match opened {
            (Opened::Ready(stream), _place) => {
                self.counters.shaken(stream.get_ref().1.handshake_kind());
                // Boxed, so that nobody holds room for it who has not come so far.
                Box::pin(self.speak(*stream, client)).await;
                None
            }
            (Opened::Unopened(stream, hello), place) => Some(Unopened { stream, hello, place }),
            (Opened::Refused, _) => None,
        }
    }

    fn failed(&self, error: &DoorError) {
        let counter = match error {
            DoorError::Arrival(ArrivalError::Hello(HelloError::TooLong)) => &self.counters.hello_too_long,
            DoorError::Arrival(_) | DoorError::Handshake(_) | DoorError::TooSlow => &self.counters.tcp_failed,
            DoorError::LetGoArriving => &self.counters.arriving,
            DoorError::LetGoHandshake => &self.counters.handshakes,
            DoorError::Full(full) => return self.counters.full(*full),
        };
        counter.inc();
    }

    /// Waits for a ClientHello and a turn, and does the handshake.
    pub(super) async fn open<T: Duplex>(
        &self,
        stream: T,
        client: SocketAddr,
        begun: Instant,
    ) -> Result<(Opened<T>, Place), DoorError> {
        let (stream, turn) = self.arrive(stream, client, begun).await?;
        let place = self.admission.admit(client.ip())?;
        let (_member, mut leave) = self.handshakes.join(client.ip(), 1);
        // Boxed for the same reason.
        let handshake = leave.unless(turn.spend(Box::pin(self.handshake(stream))));
        let opened = within(begun, self.limits.handshake, handshake).await?;
        Ok((opened.ok_or(DoorError::LetGoHandshake)??, place))
    }

    /// Reads the ClientHello and waits for a turn, unless others need the room.
    async fn arrive<T: Duplex>(
        &self,
        mut stream: T,
        client: SocketAddr,
        begun: Instant,
    ) -> Result<(Paced<T>, Turn), DoorError> {
        let (member, mut leave) = self.arriving.join(client.ip(), ARRIVING_LEN);
        let stall = self.limits.stall;
        let hello = leave.unless(read_hello(&mut stream, &member));
        let hello = within(begun, self.limits.client_hello, hello).await?.ok_or(DoorError::LetGoArriving)?;
        let hello = match hello {
            Ok(hello) => hello,
            Err(error) => {
                let answer = self.not_a_hello(Paced::new(stream, stall), &error);
                // It is answered in one write, or not at all.
                drop(within(begun, self.limits.handshake, leave.unless(answer)).await);
                return Err(error.into());
            }
        };
        let turn = leave.unless(self.turns.wait(client.ip()));
        let turn = within(begun, self.limits.handshake, turn).await?.ok_or(DoorError::LetGoArriving)?;
        Ok((Paced::after_hello(stream, stall, hello), turn))
    }

    /// Chooses a configuration by the ClientHello, which is there, and does the handshake.
    async fn handshake<T: Duplex>(&self, stream: Paced<T>) -> io::Result<Opened<T>> {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = start.client_hello().server_name().map(canonical);
        let destination = self.decide(name.as_deref(), &start);
        let config = match destination {
            Destination::Site | Destination::Platform(_) => match self.certificate(name.as_deref()) {
                Some(certificate) => {
                    self.tls.public.showing(&certificate, start.client_hello().cipher_suites())
                }
                None => return self.refuse(start.io, Refusal::UnknownServerName).await,
            },
            Destination::Connect => match &self.tls.connect {
                Some(config) => Arc::clone(config),
                None => return self.refuse(start.io, Refusal::NoProtocol).await,
            },
            Destination::Splice => {
                let hello = start.io.take_hello();
                return Ok(Opened::Unopened(start.io, hello));
            }
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
        Ok(Opened::Ready(Box::new(start.into_stream(config).await?)))
    }

    fn certificate(&self, name: Option<&str>) -> Option<Arc<PublicCertificate>> {
        self.certificates.table().certificate(name?).cloned()
    }

    /// Ends a connection that did not begin with a ClientHello: a client of plain HTTP hears what to say instead.
    async fn not_a_hello<T: Duplex>(&self, mut stream: Paced<T>, error: &ArrivalError) -> io::Result<()> {
        match error {
            ArrivalError::Ended(_) => Ok(()),
            ArrivalError::Hello(error) => refuse(stream, error.alert()).await,
            ArrivalError::PlainHttp(head) => {
                stream.write_all(&wrong_scheme::answer(head, &self.platform)).await?;
                stream.shutdown().await
            }
        }
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

/// What `work` comes to if it is done in time.
async fn within<F: Future>(begun: Instant, time: Duration, work: F) -> Result<F::Output, DoorError> {
    timeout_at(begun + time, work).await.map_err(|_| DoorError::TooSlow)
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
