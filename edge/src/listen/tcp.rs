//! The TCP port: HTTP/1.1, HTTP/2 and enrollment over TLS, one listener per worker.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mezusphere_model::Platform;
use mezusphere_model::link::ControlLink;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::{debug, warn};

use super::admission::{Admission, Place};
use super::counters::Counters;
use super::decide::{ALPN_H2, Carrier, Destination, decide};
use super::drain::Drain;
use super::socket;
use crate::config::Limits;
use crate::http::{ConnectionInfo, Handle, Protocol, Service, Stall, h1, h2};
use crate::tls::PublicCertificates;
use crate::tunnel;

/// First wait after the system had no file descriptor or memory for a connection; doubled up to [`BACK_OFF_MAX`].
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// One worker's side of the TCP port, and what its connections are handed to.
pub(super) struct TcpPort<H> {
    pub(super) service: Arc<Service<H>>,
    pub(super) link: Arc<dyn ControlLink>,
    pub(super) certificates: PublicCertificates,
    pub(super) platform: Platform,
    /// For clients.
    pub(super) public: Arc<ServerConfig>,
    /// For warpgates that enrol.
    pub(super) connect: Arc<ServerConfig>,
    pub(super) admission: Arc<Admission>,
    pub(super) counters: Arc<Counters>,
    pub(super) limits: Limits,
    pub(super) drain: Drain,
    /// Handshakes under way; [`Limits::handshakes`].
    pub(super) handshakes: Semaphore,
}

impl<H: Handle> TcpPort<H> {
    /// Takes connections until draining begins.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return warn!(%error, "A listener could not be used"),
        };
        let mut draining = self.drain.draining();
        let mut back_off = BACK_OFF_MIN;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut draining => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => {
                    back_off = BACK_OFF_MIN;
                    self.take(stream, socket::canonical(client));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors or memory: nothing can be taken until some connection ends.
                    warn!(%error, wait_ms = back_off.as_millis(), "No connection can be taken");
                    tokio::select! {
                        () = &mut draining => return,
                        () = sleep(back_off) => {}
                    }
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, client: SocketAddr) {
        match self.admission.admit(client.ip()) {
            Ok(place) => {
                let port = Arc::clone(self);
                self.drain.spawn(async move { port.serve(stream, client, place).await });
            }
            Err(full) => {
                self.counters.full(full);
                debug!(%full, %client, "A connection was refused");
            }
        }
    }

    async fn serve(&self, stream: TcpStream, client: SocketAddr, place: Place) {
        if let Err(error) = socket::tune(&stream, self.limits.stall) {
            return debug!(%error, %client, "A connection could not be readied");
        }
        let begun = Instant::now();
        let stream = Paced { io: stream, stall: Stall::new(self.limits.stall) };
        let stream = match timeout_at(begun + self.limits.handshake, self.handshake(stream, begun)).await {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                self.counters.tcp_failed.inc();
                return debug!(%error, %client, "A TLS handshake failed");
            }
            Err(_) => {
                self.counters.tcp_failed.inc();
                return debug!(%client, "A TLS handshake took too long");
            }
        };
        // The decision was a hint; what was negotiated counts.
        let (_, session) = stream.get_ref();
        match session.alpn_protocol() {
            Some(tunnel_proto::CONNECT_ALPN) => {
                self.counters.connect.inc();
                self.relay(stream, client).await;
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
        drop(place);
    }

    /// Reads the ClientHello, chooses a configuration, and does the handshake; `None` for a refused client.
    async fn handshake(
        &self,
        stream: Paced<TcpStream>,
        begun: Instant,
    ) -> io::Result<Option<TlsStream<Paced<TcpStream>>>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let start = timeout_at(begun + self.limits.client_hello, hello).await??;
        let config = match self.decide(&start) {
            Destination::Site | Destination::Platform(_) => &self.public,
            Destination::Connect => &self.connect,
            // `decide` never says tunnel on TCP; a refusal is the safe answer if it did.
            Destination::Tunnel => return Ok(None),
            Destination::Refuse(refusal) => {
                self.counters.refused(refusal);
                debug!(%refusal, "A TLS handshake was refused");
                refuse(start.io, refusal.alert()).await?;
                return Ok(None);
            }
        };
        let Ok(_turn) = self.handshakes.acquire().await else { return Ok(None) };
        start.into_stream(Arc::clone(config)).await.map(Some)
    }

    fn decide(&self, start: &StartHandshake<Paced<TcpStream>>) -> Destination {
        let hello = start.client_hello();
        let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let alpn = hello.alpn().into_iter().flatten();
        decide(Carrier::Tcp, name.as_deref(), alpn, &self.certificates.table(), &self.platform)
    }

    fn info(
        &self,
        stream: &TlsStream<Paced<TcpStream>>,
        client: SocketAddr,
        protocol: Protocol,
    ) -> ConnectionInfo {
        let name = stream.get_ref().1.server_name();
        let sni: Option<Arc<str>> = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase().into());
        let certificate = sni
            .as_deref()
            .and_then(|name| self.certificates.table().names(name).cloned())
            .unwrap_or_default();
        ConnectionInfo { client, protocol, sni, certificate }
    }

    async fn relay(&self, stream: TlsStream<Paced<TcpStream>>, from: SocketAddr) {
        let (recv, send) = tokio::io::split(stream);
        if let Err(error) = tunnel::connect::serve_stream(&*self.link, from, recv, send).await {
            debug!(%error, %from, "A connect message was not relayed");
        }
    }
}

/// Whether accepting failed because of the connection and not for want of resources.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Says why before closing: a fatal alert in the clear, as TLS has it before keys exist (RFC 8446 §6).
async fn refuse(mut stream: Paced<TcpStream>, alert: u8) -> io::Result<()> {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    stream.write_all(&[ALERT, 3, 3, 0, 2, FATAL, alert]).await?;
    stream.shutdown().await
}

/// A connection that breaks when its peer has read nothing for too long. Sits below TLS, where every octet that
/// the peer takes shows.
pub(super) struct Paced<T> {
    io: T,
    stall: Stall,
}

impl<T> Paced<T> {
    fn watch<V>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        self.stall.watch(cx, poll).map(|result| {
            result
                .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_write(cx, buf);
        this.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_flush(cx);
        this.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_shutdown(cx);
        this.watch(cx, poll)
    }
}
