//! A tunnel over TCP: HTTP/2 on a connection that the warpgate has dialled, with the edge as the client, because it is the
//! edge that opens streams ("Tunnels over TCP" in `tunnel_proto`).
//!
//! [`begin`] makes the two ends of it: [`TcpTransport`] opens streams, a future moves octets and ends with the
//! connection. [`stream`] is one stream; [`gate`] watches what the warpgate sends below HTTP/2.

mod gate;
pub(super) mod stream;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{Method, Request, Uri, Version};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio_util::sync::CancellationToken;
use tunnel_proto::limits::{EXCHANGES_MAX, STREAM_WINDOW, TCP_EDGE_WINDOW, TCP_HEADER_LIST_LEN_MAX};

use self::gate::{Gate, Tally};
use super::stream::{RecvHalf, SendEnd, SendHalf};
use crate::config::Duplex;

/// How long frames of a stream that this edge has reset may still be on their way, and how many such streams are
/// remembered: what comes for one that is forgotten would count as the warpgate's fault.
const RESET_REMEMBERED: Duration = Duration::from_secs(10);

/// Octets of one stream that wait to be written to the socket: what one fast upload may take in memory beyond the pieces
/// it is made of.
const SEND_BUFFER_LEN: usize = 256 * 1024;

/// Octets in one frame: TLS records are smaller, and a large frame holds up the others behind it.
const FRAME_LEN: u32 = 16 * 1024;

/// Opens the streams of one tunnel. Clones are the same tunnel.
#[derive(Clone)]
pub(crate) struct TcpTransport(Arc<Inner>);

struct Inner {
    requests: SendRequest<Bytes>,
    remote: SocketAddr,
    /// Ends the driver.
    closed: CancellationToken,
    tally: Arc<Tally>,
    control: Uri,
    exchange: Uri,
}

/// Begins HTTP/2 on `io`, whose other end is `remote`.
///
/// The connection lives as long as the future is polled; what it resolves to is why it ended.
pub(super) async fn begin<T: Duplex + 'static>(
    io: T,
    remote: SocketAddr,
) -> Result<(TcpTransport, impl Future<Output = Result<(), h2::Error>> + Send + 'static), h2::Error> {
    let tally = Arc::new(Tally::default());
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TCP_EDGE_WINDOW)
        .max_frame_size(FRAME_LEN)
        .max_header_list_size(TCP_HEADER_LIST_LEN_MAX)
        .max_send_buffer_size(SEND_BUFFER_LEN)
        .max_concurrent_reset_streams(usize::try_from(EXCHANGES_MAX).unwrap_or(usize::MAX))
        .reset_stream_duration(RESET_REMEMBERED)
        // Counted over a tunnel's whole life, it would end every long one; the gate counts by what is due.
        .max_local_error_reset_streams(None)
        .enable_push(false);
    let (requests, connection) = builder.handshake(Gate::new(io, Arc::clone(&tally))).await?;
    let closed = CancellationToken::new();
    let inner = Inner {
        requests,
        remote,
        closed: closed.clone(),
        tally,
        control: uri("/control"),
        exchange: uri("/exchange"),
    };
    let driver = async move {
        tokio::select! {
            ended = connection => ended,
            // Dropping the connection ends its streams.
            () = closed.cancelled() => Ok(()),
        }
    };
    Ok((TcpTransport(Arc::new(inner)), driver))
}

/// `https://tunnel` and one of the two paths.
fn uri(path: &'static str) -> Uri {
    let mut parts = ::http::uri::Parts::default();
    parts.scheme = Some(::http::uri::Scheme::HTTPS);
    parts.authority = Some(::http::uri::Authority::from_static("tunnel"));
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    // All three parts are there, which is all that can be wrong.
    Uri::from_parts(parts).unwrap_or_default()
}

impl TcpTransport {
    pub(super) fn remote_address(&self) -> SocketAddr {
        self.0.remote
    }

    /// Octets that have come.
    pub(super) fn heard(&self) -> u64 {
        self.0.tally.heard.load(Ordering::Relaxed)
    }

    /// The control stream.
    pub(super) async fn control(&self) -> Result<(SendHalf, RecvHalf), SendEnd> {
        self.request(&self.0.control).await
    }

    /// A stream for an exchange; waits while the warpgate takes no more.
    pub(super) async fn open(&self) -> Result<(SendHalf, RecvHalf), SendEnd> {
        self.request(&self.0.exchange).await
    }

    async fn request(&self, uri: &Uri) -> Result<(SendHalf, RecvHalf), SendEnd> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.version_mut() = Version::HTTP_2;
        let mut requests = self.0.requests.clone();
        self.0.tally.opened.fetch_add(1, Ordering::Relaxed);
        let (response, send) = requests.send_request(request, false).map_err(|error| self.failed(&error))?;
        // The stream waits for its turn as long as this handle is not ready.
        poll_fn(|cx| requests.poll_ready(cx)).await.map_err(|error| self.failed(&error))?;
        let (send, recv) = stream::halves(response, send);
        Ok((SendHalf::Tcp(send), RecvHalf::Tcp(recv)))
    }

    /// A connection on which no stream can be opened (the peer is leaving it, or its numbers are used up) is of no use.
    fn failed(&self, error: &h2::Error) -> SendEnd {
        tracing::debug!(%error, remote = %self.0.remote, "A tunnel over TCP takes no streams any more");
        self.close();
        SendEnd::Lost
    }

    /// Ends the connection without a word.
    pub(super) fn close(&self) {
        self.0.closed.cancel();
    }
}

/// Whether a connection ended because its peer broke a rule, rather than because it went away.
pub(super) fn is_fault(error: &h2::Error) -> bool {
    if error.is_io() {
        return error.get_io().is_some_and(|io| io.kind() == io::ErrorKind::InvalidData);
    }
    error.is_go_away() && error.is_library()
}
