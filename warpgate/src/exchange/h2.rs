//! HTTP/2 to one upstream: connections that many exchanges share, and one exchange on one of them.
//!
//! An exchange that stalls holds no more than its own window: the connection's never binds. A connection that says
//! GOAWAY takes no new exchanges and ends with its last one; the next exchange makes another connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::exchange::{Failure, FailureCode, ResponseHead};

use super::body::RequestBody;
use super::informational::Informational;
use crate::limits::{
    H2_CONNECTION_WINDOW, H2_CONNECTIONS_MAX, H2_SEND_BUFFER_LEN, H2_SETTINGS_MAX, H2_STREAM_WINDOW,
    H2_STREAMS_MAX, POOL_IDLE_FOR, UPSTREAM_HEAD_LEN_MAX,
};

/// A connection that exchanges share.
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    streams: AtomicUsize,
    /// It takes no new exchanges.
    is_over: AtomicBool,
    idle_since: Mutex<Instant>,
    /// Answered once: what the upstream's settings say.
    settled: tokio::sync::OnceCell<()>,
    ping: Mutex<Option<h2::PingPong>>,
    /// Ends with the last who holds the connection.
    driver: AbortOnDropHandle<()>,
}

/// A place on a connection, and the task that sends the exchange's upload. Dropped, what is not complete is reset.
pub(super) struct Lease {
    connection: Arc<Connection>,
    /// Declared last: the stream is reset while the connection is still held.
    upload: Option<AbortOnDropHandle<()>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.abort();
        }
        if self.connection.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.connection.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

/// Why a request got no response.
pub(super) enum SendError {
    /// The upstream did not see it, or says that it did nothing with it: it may be sent again.
    Unprocessed(h2::Error),
    /// Anything else.
    Failed(h2::Error),
}

impl Connection {
    /// Begins HTTP/2 on `io`, as the side that asks.
    pub(super) async fn start<IO>(io: IO) -> Result<Arc<Self>, Failure>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let head_len_max = u32::try_from(UPSTREAM_HEAD_LEN_MAX).unwrap_or(u32::MAX);
        let begun = h2::client::Builder::new()
            .initial_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_header_list_size(head_len_max)
            .max_send_buffer_size(H2_SEND_BUFFER_LEN)
            .enable_push(false)
            .handshake(io)
            .await;
        let (requests, mut connection) = begun.map_err(|why| Failure {
            code: FailureCode::UpstreamClosed,
            detail: why.to_string(),
            started: false,
        })?;
        let ping = connection.ping_pong();
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "Upstream connection ended");
            }
        });
        Ok(Arc::new(Self {
            requests,
            streams: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            settled: tokio::sync::OnceCell::new(),
            ping: Mutex::new(ping),
            driver: AbortOnDropHandle::new(driver),
        }))
    }

    fn is_usable(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed) && !self.driver.is_finished()
    }

    /// A place for one more exchange, if there is one.
    fn lease(self: &Arc<Self>) -> Option<Lease> {
        let places = self.requests.current_max_send_streams().min(H2_STREAMS_MAX);
        if !self.is_usable() || self.streams.load(Ordering::Relaxed) >= places {
            return None;
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        Some(Lease { connection: Arc::clone(self), upload: None })
    }

    fn is_stale(&self) -> bool {
        let idle_since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.streams.load(Ordering::Relaxed) == 0 && idle_since.elapsed() >= POOL_IDLE_FOR
    }
}

impl Lease {
    /// Whether the upstream lets a request switch to another protocol (RFC 8441 §3). Waits for its settings, which
    /// come before the answer to a ping.
    pub(super) async fn allows_upgrades(&self) -> bool {
        let connection = &self.connection;
        let settle = connection.settled.get_or_init(async || {
            let ping = connection.ping.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut ping) = ping {
                drop(timeout(H2_SETTINGS_MAX, ping.ping(h2::Ping::opaque())).await);
            }
        });
        settle.await;
        connection.requests.is_extended_connect_protocol_enabled()
    }

    /// Sends a request and waits for the head of the final response. Cancel safe: the stream is reset.
    pub(super) async fn send(
        &mut self,
        request: Request<()>,
        body: RequestBody,
        informational: &Informational,
    ) -> Result<Response<RecvStream>, SendError> {
        let is_empty = body.is_empty();
        let (response, stream) = self.begin(request, is_empty).await?;
        if !is_empty {
            self.upload = Some(AbortOnDropHandle::new(tokio::spawn(upload(stream, body))));
        }
        answered(response, informational).await
    }

    /// Sends the head of a request that stays open in both directions.
    pub(super) async fn send_open(
        &mut self,
        request: Request<()>,
        informational: &Informational,
    ) -> Result<(Response<RecvStream>, SendStream<Bytes>), SendError> {
        let (response, stream) = self.begin(request, false).await?;
        Ok((answered(response, informational).await?, stream))
    }

    async fn begin(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), SendError> {
        let connection = &self.connection;
        let over = |why: h2::Error| {
            connection.is_over.store(true, Ordering::Relaxed);
            SendError::Unprocessed(why)
        };
        let mut requests = connection.requests.clone().ready().await.map_err(over)?;
        requests.send_request(request, end).map_err(over)
    }
}

async fn answered(
    mut response: ResponseFuture,
    informational: &Informational,
) -> Result<Response<RecvStream>, SendError> {
    let answer = poll_fn(|context| {
        while let Poll::Ready(Some(interim)) = response.poll_informational(context) {
            match interim {
                Ok(head) => {
                    let (parts, ()) = head.into_parts();
                    informational.push(ResponseHead { status: parts.status, headers: parts.headers });
                }
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
        Pin::new(&mut response).poll(context)
    });
    answer.await.map_err(|why| {
        // The two ways to say that nothing was done (RFC 9113 §8.7).
        let refused = why.is_reset() && why.is_remote() && why.reason() == Some(Reason::REFUSED_STREAM);
        let beyond_the_last = why.is_go_away() && why.is_remote() && why.reason() == Some(Reason::NO_ERROR);
        if refused || beyond_the_last { SendError::Unprocessed(why) } else { SendError::Failed(why) }
    })
}

/// Sends a body at the upstream's pace. Ends early when the upstream no longer wants it; the body's sender sees that.
async fn upload(mut stream: SendStream<Bytes>, mut body: RequestBody) {
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = poll_fn(|context| stream.poll_reset(context)) => return,
        };
        let sent = match frame {
            None => {
                drop(stream.send_data(Bytes::new(), true));
                return;
            }
            // Whoever cut it ends the exchange too; this only makes sure that it never looks whole.
            Some(Err(_)) => return stream.send_reset(Reason::CANCEL),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => send_all(&mut stream, piece).await,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    drop(stream.send_trailers(trailers));
                    return;
                }
            },
        };
        if !sent {
            return;
        }
    }
}

/// Sends `piece` as the windows open. Whether the stream still takes anything.
pub(super) async fn send_all(stream: &mut SendStream<Bytes>, mut piece: Bytes) -> bool {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let Some(Ok(capacity)) = poll_fn(|context| stream.poll_capacity(context)).await else { return false };
        let part = piece.split_to(capacity.min(piece.len()));
        if !part.is_empty() && stream.send_data(part, false).is_err() {
            return false;
        }
    }
    true
}

/// The connections to one upstream.
#[derive(Default)]
pub(super) struct Shared {
    /// One thread uses it, so the lock is never waited for. The oldest first: those that are too many become idle.
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Held while one is made, so that a burst of exchanges does not make one each.
    pub(super) making: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// A place on one of the connections.
    pub(super) fn take(&self) -> Option<Lease> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.iter().any(|connection| !connection.is_usable()) {
            connections.retain(|connection| connection.is_usable());
        }
        connections.iter().find_map(Connection::lease)
    }

    /// A place on a new connection, which others share from now on.
    pub(super) fn add(&self, connection: &Arc<Connection>) -> Result<Lease, Failure> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |code, detail: &str| Failure { code, detail: detail.to_owned(), started: false };
        if connections.len() >= H2_CONNECTIONS_MAX {
            return Err(failed(FailureCode::Overloaded, "the upstream has as many connections as it gets"));
        }
        connections.push(Arc::clone(connection));
        connection
            .lease()
            .ok_or_else(|| failed(FailureCode::UpstreamClosed, "the connection takes no requests"))
    }

    /// Closes what was idle for too long, or is over.
    pub(super) fn sweep(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| connection.is_usable() && !connection.is_stale());
    }
}
