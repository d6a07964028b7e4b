//! The way to an edge over TCP: a connection, direct or through a proxy, and TLS on it. HTTP/2 begins in [`super::http2`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_pki::EDGE_DNS_NAME;
use mezusphere_pki::tls::tunnel_client_config;
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::failure::Failure;
use super::{Shared, proxied};
use crate::limits::{DIAL_MAX, DIAL_STAGGER, TCP_NOT_SENT_LEN_MAX, TCP_SILENCE_MAX, TUNNEL_IDLE_MAX};

/// TLS to an edge that has shown its certificate; ours it may not have judged yet.
pub(super) struct Opened {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) remote: SocketAddr,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// Connects to `edge`: at all of `addresses`, each a little after the one before, or through the proxy by its name.
pub(super) async fn open(
    shared: &Shared,
    edge: &EdgeAddress,
    addresses: &[SocketAddr],
) -> Result<Opened, Failure> {
    let trust = shared.gate.bundles.trust();
    let tls = tunnel_client_config(&shared.identity, trust, edge.id, &shared.clock, &[tunnel_proto::ALPN])
        .map_err(|why| Failure::setup(&why))?;
    let name = ServerName::try_from(EDGE_DNS_NAME).map_err(|why| Failure::setup(&why))?;
    let (stream, remote) = match shared.network.proxy.for_host(&edge.host, edge.port) {
        Some(proxy) => proxied::connect(proxy, &format!("{}:{}", edge.host, edge.port)).await?,
        None => connect_any(addresses).await.map_err(|why| Failure::no_tcp(edge, &why))?,
    };
    tune(&stream);
    let handshake = TlsConnector::from(Arc::new(tls)).connect(name, stream);
    let stream = timeout(DIAL_MAX, handshake)
        .await
        .map_err(|_| Failure::tls_timeout())?
        .map_err(|why| Failure::of_tls(&why))?;
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(tunnel_proto::ALPN) {
        return Err(Failure::no_tunnel_there());
    }
    let chain = session.peer_certificates().unwrap_or_default().to_vec();
    Ok(Opened { stream, remote, chain })
}

/// Connects to the first of `addresses` that answers, each tried a little after the one before.
pub(crate) async fn connect_any(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut attempts: FuturesUnordered<_> = (0_u32..)
        .zip(addresses)
        .map(|(nth, address)| async move {
            sleep(DIAL_STAGGER.saturating_mul(nth)).await;
            let connected = timeout(TCP_SILENCE_MAX, TcpStream::connect(*address)).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(|stream| (stream, *address))
        })
        .collect();
    let mut told = io::Error::from(io::ErrorKind::TimedOut);
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(connected) => return Ok(connected),
            // An answer tells more than silence.
            Err(why) if told.kind() == io::ErrorKind::TimedOut => told = why,
            Err(_) => {}
        }
    }
    Err(told)
}

/// What fails here costs speed, never the tunnel.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let tuned = stream.set_nodelay(true).and_then(|()| {
        #[cfg(target_os = "linux")]
        {
            // Streams take turns before the system's buffer, not in it, so a small answer waits for this much at most.
            socket.set_tcp_notsent_lowat(TCP_NOT_SENT_LEN_MAX)?;
            socket.set_tcp_user_timeout(Some(TUNNEL_IDLE_MAX))?;
        }
        socket.set_keepalive(true)
    });
    if let Err(error) = tuned {
        debug!(%error, "A socket could not be tuned");
    }
}
