//! A tunnel over TCP: TLS with HTTP/2 on it, in which this warpgate is the server, because the edge opens streams
//! ("Tunnels over TCP" in `tunnel_proto`).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use h2::Reason;
use h2::server::SendResponse;
use http::{Method, Request, Response, StatusCode};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::limits::{EXCHANGES_MAX, STREAM_WINDOW, TCP_HEADER_LIST_LEN_MAX, TCP_WARPGATE_WINDOW};

use super::failure::Failure;
use super::stream::{Http2Recv, Http2Send, RecvHalf, SendHalf};
use super::turns::{Piece, Turns};
use crate::limits::{HTTP2_HANDSHAKE_MAX, HTTP2_LAST_WORDS_MAX, HTTP2_RESETS_MAX};

/// Where the edge opens the control stream, and where exchanges.
const CONTROL: &str = "/control";
const EXCHANGE: &str = "/exchange";

/// One tunnel's HTTP/2 connection. It ends when the last clone is dropped. Cheap to clone.
#[derive(Clone)]
pub(super) struct Http2(Arc<Inner>);

struct Inner {
    remote: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    streams: Mutex<mpsc::Receiver<(SendHalf, RecvHalf)>>,
    /// Set when nothing new is to be taken and what is written is to leave.
    leaving: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    progress: Arc<AtomicU64>,
    _driver: AbortOnDropHandle<()>,
}

impl Http2 {
    /// Begins HTTP/2 on `io`, with whoever showed `chain`.
    pub(super) async fn start<S>(
        io: S,
        remote: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(TCP_WARPGATE_WINDOW)
            .max_concurrent_streams(EXCHANGES_MAX + 1)
            .max_header_list_size(TCP_HEADER_LIST_LEN_MAX)
            .max_pending_accept_reset_streams(HTTP2_RESETS_MAX);
        let progress = Arc::new(AtomicU64::new(0));
        let said = Arc::new(OnceLock::new());
        let io = Watched { io, progress: Arc::clone(&progress), said: Arc::clone(&said), was_full: false };
        let handshake = timeout(HTTP2_HANDSHAKE_MAX, builder.handshake::<_, Piece>(io));
        let turns = Turns::new();
        let begun = handshake.await.unwrap_or_else(|_| Err(Reason::SETTINGS_TIMEOUT.into()));
        let connection = begun.map_err(|why| Failure::of_http2(&why, said.get()))?;
        let places = usize::try_from(EXCHANGES_MAX).unwrap_or(usize::MAX);
        let (taken, streams) = mpsc::channel(places);
        let (leaving, left) = watch::channel(false);
        let (ending, ended) = watch::channel(false);
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            drive(connection, &taken, &turns, left).await;
            ending.send_replace(true);
        }));
        let streams = Mutex::new(streams);
        Ok(Self(Arc::new(Inner { remote, chain, streams, leaving, ended, progress, _driver: driver })))
    }

    /// The other end of the TCP connection: the edge, or the proxy that leads there.
    pub(super) fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// What the edge showed.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// The next stream that the edge opens, the control stream first; `None` at the end. Cancel safe.
    pub(super) async fn accept(&self) -> Option<(SendHalf, RecvHalf)> {
        self.0.streams.lock().await.recv().await
    }

    /// Resolves when the connection is over. Cancel safe.
    pub(super) async fn ended(&self) {
        // The sender gone means the same.
        drop(self.0.ended.clone().wait_for(|ended| *ended).await);
    }

    /// Grows while the other side is there: with octets that came, and with those that it made room for.
    pub(super) fn progress(&self) -> u64 {
        self.0.progress.load(Ordering::Relaxed)
    }

    /// Whether it is over.
    pub(super) fn has_ended(&self) -> bool {
        *self.0.ended.borrow()
    }

    /// Takes nothing new, lets what was written leave, and ends within [`HTTP2_LAST_WORDS_MAX`].
    pub(super) async fn leave(&self) {
        self.0.leaving.send_replace(true);
        self.ended().await;
    }
}

/// Moves octets and takes streams until the connection is over.
async fn drive<S>(
    mut connection: h2::server::Connection<S, Piece>,
    taken: &mpsc::Sender<(SendHalf, RecvHalf)>,
    turns: &Turns,
    mut left: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut has_control = false;
    let mut until: Option<Instant> = None;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => take(request, respond, (taken, turns), &mut has_control),
                Some(Err(error)) => return debug!(%error, "A tunnel over TCP broke"),
                None => return,
            },
            _ = left.wait_for(|left| *left), if until.is_none() => {
                connection.graceful_shutdown();
                until = Some(Instant::now() + HTTP2_LAST_WORDS_MAX);
            }
            () = at(until) => return,
        }
    }
}

/// Answers at once, and hands the two halves on.
fn take(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Piece>,
    (taken, turns): (&mpsc::Sender<(SendHalf, RecvHalf)>, &Turns),
    has_control: &mut bool,
) {
    let is_due = match request.uri().path() {
        CONTROL => !*has_control,
        EXCHANGE => *has_control,
        _ => false,
    };
    if !is_due || request.method() != Method::POST {
        return respond.send_reset(ResetCode::Protocol.http2().into());
    }
    let Ok(place) = taken.try_reserve() else { return respond.send_reset(Reason::REFUSED_STREAM) };
    *has_control = true;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    // It fails only for a stream that is gone already.
    if let Ok(stream) = respond.send_response(response, false) {
        place.send((
            SendHalf::Http2(Http2Send::new(stream, turns.clone())),
            RecvHalf::Http2(Http2Recv::Wanted(request.into_body())),
        ));
    }
}

/// Notes what shows that the other side is there. On a narrow link a ping of ours may wait longer behind what was written
/// before it than an edge may be silent; but then what was written keeps leaving.
struct Watched<S> {
    io: S,
    progress: Arc<AtomicU64>,
    /// What TLS said when it broke: HTTP/2 passes on only the text of an error, and an alert is worth more.
    said: Arc<OnceLock<rustls::Error>>,
    /// The system had no room: the next write that goes through means that the other side took something.
    was_full: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        if let Poll::Ready(Err(error)) = &poll
            && let Some(said) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            // The first word is the one.
            drop(self.said.set(said.clone()));
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn note<T>(&mut self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &poll {
            Poll::Pending => self.was_full = true,
            Poll::Ready(Ok(_)) => {
                if std::mem::take(&mut self.was_full) {
                    self.progress.fetch_add(1, Ordering::Relaxed);
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, octets);
        self.note(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.note(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.note(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Resolves then; never, without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
