//! Connections to an upstream, up to the first octet of HTTP: TCP, TLS on it, or a socket in the file system.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tunnel_proto::exchange::{Failure, FailureCode};

use crate::limits::{SOCKET_BUSY_PAUSE, UPSTREAM_KEEP_ALIVE, UPSTREAM_KEEP_ALIVE_PROBES};
use crate::resolve::{ResolveError, resolve};
use crate::upstream::{ALPN_H2, Declaration, Place};

/// What is offered to an upstream that lets the two sides agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// What its settings say.
    Usual,
    /// HTTP/1.1, because the connection is to be upgraded.
    H1,
}

/// A connection.
pub(super) enum Dialled {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Dialled {
    /// Whether the two sides agreed on HTTP/2 while the connection was made.
    pub(super) fn agreed_on_h2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(ALPN_H2))
    }
}

/// The system, or this process, has no file descriptor left (errno(3)).
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{0}")]
    Connect(io::Error),
    #[error("{0}")]
    Tls(io::Error),
}

/// Connects, with all that belongs to it, `within` this time.
///
/// # Errors
/// A [`Failure`] in which nothing was started.
pub(super) async fn dial(to: &Declaration, offer: Offer, within: Duration) -> Result<Dialled, Failure> {
    let (code, detail) = match timeout(within, attempt(to, offer)).await {
        Ok(Ok(dialled)) => return Ok(dialled),
        Ok(Err(DialError::Resolve(why))) => (FailureCode::UpstreamUnresolved, why.to_string()),
        // This process has as many connections as the system gives it.
        Ok(Err(DialError::Connect(why))) if matches!(why.raw_os_error(), Some(ENFILE | EMFILE)) => {
            (FailureCode::Overloaded, why.to_string())
        }
        Ok(Err(DialError::Connect(why))) => (FailureCode::UpstreamRefused, format!("{}: {why}", to.target())),
        Ok(Err(DialError::Tls(why))) => (FailureCode::UpstreamTls, format!("{}: {why}", to.target())),
        Err(_) => {
            let detail = format!("{}: no connection within {} ms", to.target(), within.as_millis());
            (FailureCode::UpstreamConnectTimeout, detail)
        }
    };
    Err(Failure { code, detail, started: false })
}

async fn attempt(to: &Declaration, offer: Offer) -> Result<Dialled, DialError> {
    let (host, port) = match to.target().place() {
        Place::Tcp { host, port } => (host, *port),
        Place::Unix(path) => return socket(path).await.map(Dialled::Unix).map_err(DialError::Connect),
    };
    let stream = tcp(host, port).await?;
    let Some(tls) = to.tls() else { return Ok(Dialled::Tcp(stream)) };
    let config = match offer {
        Offer::Usual => &tls.usual,
        Offer::H1 => tls.h1.as_ref().unwrap_or(&tls.usual),
    };
    let connector = TlsConnector::from(std::sync::Arc::clone(config));
    let stream = connector.connect(tls.name.clone(), stream).await.map_err(DialError::Tls)?;
    Ok(Dialled::Tls(Box::new(stream)))
}

/// Connects to the first of the host's addresses that answers.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let mut last = None;
    for address in resolve(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Heads and small bodies go out at once; bulk fills segments anyway.
                let set = stream.set_nodelay(true);
                // An upstream that vanished without a word must not hold a WebSocket, or a shared connection, for ever.
                let keep_alive = TcpKeepalive::new()
                    .with_time(UPSTREAM_KEEP_ALIVE)
                    .with_interval(UPSTREAM_KEEP_ALIVE)
                    .with_retries(UPSTREAM_KEEP_ALIVE_PROBES);
                let set = set.and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keep_alive));
                if let Err(error) = set {
                    tracing::debug!(%error, "The upstream's socket keeps its defaults");
                }
                return Ok(stream);
            }
            Err(why) => last = last.or(Some(why)),
        }
    }
    Err(DialError::Connect(last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
}

/// Connects to a socket in the file system. While its queue is full the system says "try again" instead of letting
/// one wait; the caller's time-out ends that.
async fn socket(path: &std::path::Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => sleep(SOCKET_BUSY_PAUSE).await,
            done => return done,
        }
    }
}
