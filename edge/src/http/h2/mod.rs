//! HTTP/2 (RFC 9113), on the `h2` crate: connections, and the limits of one. Floods that `h2` does not count are seen
//! by `meter`.
//!
//! Each request of a connection runs inside the connection's own task, so what it writes leaves in the same
//! turn, and whatever is left of it ends with the connection. What one request does is `stream`'s.

mod meter;
mod stream;

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Request;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tracing::{debug, error};

use self::meter::Metered;
use super::flood::Flood;
use super::stall::Stall;
use super::{ConnectionInfo, Handle, Service};
use crate::config::{PUBLIC_STREAMS_MAX, REQUEST_HEAD_READ_MAX};

/// Octets a client may send on a stream before the request path has taken them: what one stalled upload holds.
/// At 50 ms round-trip it allows 5 MB/s per stream.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for a whole connection: what all its uploads together can hold.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Largest frame a client may send; the smallest the protocol allows, so that streams interleave.
const FRAME_LEN_MAX: u32 = 16 * 1024;

/// Octets of responses waiting in a stream for the socket.
const SEND_BUFFER_LEN_MAX: usize = 64 * 1024;

/// Streams the client opened and reset before they were looked at; more is the rapid-reset attack (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;

/// Streams reset for the client's own protocol errors; more is an attack (CVE-2025-8671).
const ERROR_RESETS_MAX: usize = 100;

/// How often a client with open streams must answer a PING. Behind many NATs silence kills a connection after 30 s.
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// What small pieces of bodies that wait to be taken may cost together beyond their octets, at 256 octets each less what
/// they carry: two thousand messages of a WebSocket or a gRPC stream whose upstream is slow for a while.
const SMALL_FRAME_BUDGET: usize = 512 * 1024;

/// Serves one connection until it ends; on drain, until its open requests are answered.
pub async fn serve<T, H>(io: T, service: Arc<Service<H>>, info: ConnectionInfo)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handle,
{
    let _client = service.drain.client();
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_LEN_MAX)
        .max_header_list_size(u32::try_from(REQUEST_HEAD_READ_MAX).unwrap_or(u32::MAX))
        .max_concurrent_streams(PUBLIC_STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .max_send_buffer_size(SEND_BUFFER_LEN_MAX)
        .data_frame_budget(SMALL_FRAME_BUDGET)
        .enable_connect_protocol();
    let flood = Arc::new(Flood::new());
    let io = Metered::new(io, Arc::clone(&flood));
    let connection = match timeout(service.limits.handshake, builder.handshake(io)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return debug!(%error, "An HTTP/2 connection did not begin"),
        Err(_) => return debug!("An HTTP/2 client sent no preface"),
    };
    if let Err(error) = drive(connection, &service, &info, &flood).await {
        debug!(%error, "An HTTP/2 connection broke");
    }
}

async fn drive<T, H>(
    mut connection: Connection<T, Bytes>,
    service: &Service<H>,
    info: &ConnectionInfo,
    flood: &Flood,
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
    H: Handle,
{
    let mut pinger = Pinger::new(connection.ping_pong());
    let mut idle = Stall::new(service.limits.idle);
    let mut draining = pin!(service.drain.draining());
    let (mut is_leaving, mut is_flooded) = (false, false);
    let begin = |(request, respond): (Request<RecvStream>, SendResponse<Bytes>)| {
        AssertUnwindSafe(stream::serve(request, respond, service, info)).catch_unwind()
    };
    let mut exchanges: FuturesUnordered<_> = std::iter::empty().map(&begin).collect();
    poll_fn(|cx| {
        loop {
            while let Poll::Ready(Some(end)) = exchanges.poll_next_unpin(cx) {
                if end.is_err() {
                    error!("A request's task panicked");
                }
            }
            // Also writes what the exchanges have just said.
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(accepted))) => exchanges.push(begin(accepted)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if flood.is_over() && !std::mem::replace(&mut is_flooded, true) {
            debug!("An HTTP/2 client floods");
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            cx.waker().wake_by_ref();
        }
        if !exchanges.is_empty() {
            idle.moved();
            if pinger.is_dead(cx) {
                return Poll::Ready(Ok(()));
            }
        } else if idle.is_over(cx) {
            if is_leaving {
                return Poll::Ready(Ok(()));
            }
            is_leaving = true;
            idle = Stall::new(service.limits.stall);
            connection.graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        if !is_leaving && draining.as_mut().poll(cx).is_ready() {
            is_leaving = true;
            connection.graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// Notices a client that is gone without a word while streams are open.
struct Pinger {
    ping_pong: Option<PingPong>,
    interval: Stall,
    is_waiting: bool,
}

impl Pinger {
    fn new(ping_pong: Option<PingPong>) -> Self {
        Self { ping_pong, interval: Stall::new(PING_INTERVAL), is_waiting: false }
    }

    /// Whether a PING was not answered within the interval; sends one when it is time.
    fn is_dead(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ping_pong) = &mut self.ping_pong else { return false };
        if self.is_waiting {
            match ping_pong.poll_pong(cx) {
                Poll::Ready(Ok(_)) => {
                    self.is_waiting = false;
                    self.interval.moved();
                }
                Poll::Ready(Err(_)) => return true,
                Poll::Pending => {}
            }
        }
        if !self.interval.is_over(cx) {
            return false;
        }
        if self.is_waiting {
            return true;
        }
        self.interval.moved();
        self.is_waiting = ping_pong.send_ping(Ping::opaque()).is_ok();
        // So that the PING is written and its answer and the next interval are waited for.
        cx.waker().wake_by_ref();
        false
    }
}
