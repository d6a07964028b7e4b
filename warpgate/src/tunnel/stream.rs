//! The two halves of one stream of a tunnel, whatever carries the tunnel.
//!
//! What is written and read here are octets of `tunnel_proto`'s messages; what they mean is the callers'. HTTP/2 has no
//! half-aborts: a reset there ends both directions, and a request of which the rest is not wanted is read and dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use quinn::{ReadError, VarInt, WriteError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::codes::ResetCode;

use super::turns::{Piece, Turns, Unsent};
use crate::limits::{BULK_AFTER_LEN, BULK_PAUSE_MIN, READ_LEN};

/// Priority of the control stream among those of a tunnel: its few octets decide whether the tunnel lives.
const CONTROL_PRIORITY: i32 = 1;

/// Priority of a stream that has sent [`BULK_AFTER_LEN`] in one go. All others have 0.
const BULK_PRIORITY: i32 = -1;

/// Why nothing more can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendEnd {
    /// The peer does not want the rest.
    Stopped(ResetCode),
    /// The tunnel is gone, or the stream has ended.
    Lost,
}

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvEnd {
    /// The peer broke it off.
    Reset(ResetCode),
    /// The tunnel is gone.
    Lost,
}

/// What we say on a stream.
pub(crate) enum SendHalf {
    /// On a QUIC connection.
    Quic(QuicSend),
    /// The body of our response on an HTTP/2 connection.
    Http2(Http2Send),
}

/// What the edge says on a stream.
pub(crate) enum RecvHalf {
    /// On a QUIC connection.
    Quic(quinn::RecvStream),
    /// The body of its request on an HTTP/2 connection.
    Http2(Http2Recv),
}

impl SendHalf {
    /// Writes all of `chunks`, waiting while the peer's window or the way there is full. On HTTP/2 they become one frame
    /// where they fit.
    ///
    /// Not cancel safe: reset the stream if it did not complete.
    pub(crate) async fn write_all(&mut self, mut chunks: [Bytes; 2]) -> Result<(), SendEnd> {
        match self {
            Self::Quic(send) => send.write_all(&mut chunks).await,
            Self::Http2(send) => send.write(chunks, false).await,
        }
    }

    /// Writes some of `bytes`, and takes off what was written. Cancel safe.
    pub(crate) async fn write(&mut self, bytes: &mut Bytes) -> Result<(), SendEnd> {
        match self {
            Self::Quic(send) => {
                let octets = send.stream.write(bytes).await.map_err(|error| write_end(&error))?;
                bytes.advance(octets);
                Ok(())
            }
            Self::Http2(send) => {
                let octets = send.capacity(bytes.len()).await?;
                send.put([bytes.split_to(octets), Bytes::new()], None, false)
            }
        }
    }

    /// Writes `last`, which may be empty, and nothing after it.
    pub(crate) async fn finish(&mut self, last: Bytes) -> Result<(), SendEnd> {
        match self {
            Self::Quic(send) => {
                if !last.is_empty() {
                    send.write_all(&mut [last, Bytes::new()]).await?;
                }
                send.stream.finish().map_err(|_| SendEnd::Lost)
            }
            Self::Http2(send) => send.write([last, Bytes::new()], true).await,
        }
    }

    /// What was written is not to be acted on. Without effect once the stream has ended.
    pub(crate) fn reset(&mut self, code: ResetCode) {
        match self {
            Self::Quic(send) => drop(send.stream.reset(VarInt::from_u32(code.number()))),
            Self::Http2(send) => send.stream().send_reset(code.http2().into()),
        }
    }

    /// Resolves when the peer no longer wants what is said; on QUIC also when it has all of it. Owns what it needs.
    pub(crate) fn stopped(&self) -> impl Future<Output = SendEnd> + Send + use<> {
        enum Watch<Q> {
            Quic(Q),
            Http2(Arc<Mutex<h2::SendStream<Piece>>>),
        }
        let watch = match self {
            Self::Quic(send) => Watch::Quic(send.stream.stopped()),
            Self::Http2(send) => Watch::Http2(Arc::clone(&send.stream)),
        };
        async move {
            match watch {
                Watch::Quic(stopped) => match stopped.await {
                    Ok(Some(code)) => SendEnd::Stopped(reset_code(code)),
                    Ok(None) | Err(_) => SendEnd::Lost,
                },
                Watch::Http2(stream) => std::future::poll_fn(move |cx| poll_reset(&stream, cx)).await,
            }
        }
    }

    /// Resolves when all that was written has left this process for good, or nobody wants it, or this time is over. To be
    /// asked after [`SendHalf::finish`], before the tunnel is closed.
    pub(crate) async fn delivered(&self, within: Duration) {
        match self {
            Self::Quic(_) => drop(timeout(within, self.stopped()).await),
            // What TCP has taken arrives before anything that is said after it.
            Self::Http2(send) => drop(timeout(within, send.unsent.none()).await),
        }
    }

    /// Goes before every exchange.
    pub(crate) fn prefer(&mut self) {
        // HTTP/2 sends one frame of each stream in turn.
        if let Self::Quic(send) = self {
            drop(send.stream.set_priority(CONTROL_PRIORITY));
        }
    }
}

impl RecvHalf {
    /// What comes next; `None` at the end. Cancel safe.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, RecvEnd> {
        match self {
            Self::Quic(receive) => match receive.read_chunk(READ_LEN, true).await {
                Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
                Err(ReadError::Reset(code)) => Err(RecvEnd::Reset(reset_code(code))),
                Err(_) => Err(RecvEnd::Lost),
            },
            Self::Http2(receive) => receive.read().await,
        }
    }

    /// Tells the peer that the rest is not wanted. On HTTP/2 a whole answer says so; until then the rest is dropped as it
    /// comes. Any other reason is said by [`SendHalf::reset`] there.
    pub(crate) fn stop(&mut self, code: ResetCode) {
        match self {
            Self::Quic(receive) => drop(receive.stop(VarInt::from_u32(code.number()))),
            Self::Http2(receive) => receive.discard(),
        }
    }
}

/// A QUIC stream that yields to others while it has much to say.
pub(crate) struct QuicSend {
    stream: quinn::SendStream,
    /// Octets since the last pause.
    in_one_go: usize,
    last: Option<Instant>,
    is_bulk: bool,
}

impl QuicSend {
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self { stream, in_one_go: 0, last: None, is_bulk: false }
    }

    async fn write_all(&mut self, chunks: &mut [Bytes; 2]) -> Result<(), SendEnd> {
        self.weigh(chunks.iter().map(Bytes::len).sum());
        self.stream.write_all_chunks(chunks).await.map_err(|error| write_end(&error))
    }

    /// A stream that moves much lets others go first, so that a small answer does not wait behind a download on a narrow
    /// link; one that has paused is like any other again. Those of one priority share the link evenly.
    fn weigh(&mut self, octets: usize) {
        self.in_one_go = self.in_one_go.saturating_add(octets);
        if self.in_one_go < BULK_AFTER_LEN && !self.is_bulk {
            return;
        }
        let now = Instant::now();
        let paused = self.last.replace(now).is_some_and(|last| now.duration_since(last) >= BULK_PAUSE_MIN);
        if paused {
            self.in_one_go = octets;
        }
        let is_bulk = self.in_one_go >= BULK_AFTER_LEN;
        if is_bulk != self.is_bulk {
            self.is_bulk = is_bulk;
            drop(self.stream.set_priority(if is_bulk { BULK_PRIORITY } else { 0 }));
        }
    }
}

/// The body of a response on HTTP/2.
pub(crate) struct Http2Send {
    /// Shared with [`SendHalf::stopped`]. Never locked across a wait, and all of a tunnel runs on one thread.
    stream: Arc<Mutex<h2::SendStream<Piece>>>,
    unsent: Arc<Unsent>,
    turns: Turns,
    finished: bool,
}

impl Http2Send {
    /// `turns`: those of the tunnel.
    pub(crate) fn new(stream: h2::SendStream<Piece>, turns: Turns) -> Self {
        Self { stream: Arc::new(Mutex::new(stream)), unsent: Arc::default(), turns, finished: false }
    }

    fn stream(&self) -> MutexGuard<'_, h2::SendStream<Piece>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&mut self, chunks: [Bytes; 2], end: bool) -> Result<(), SendEnd> {
        let [mut first, mut second] = chunks;
        loop {
            let left = first.len() + second.len();
            if left == 0 {
                return if end { self.put([first, second], None, true) } else { Ok(()) };
            }
            // First what the edge takes, then a turn: a stream whose reader stands still must not hold one.
            let octets = self.capacity(left.min(self.turns.len_max())).await?;
            let turn = self.turns.next(octets).await;
            let of_first = first.len().min(octets);
            let parts = [first.split_to(of_first), second.split_to(octets - of_first)];
            let is_last = end && octets == left;
            self.put(parts, turn, is_last)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// How much of `wanted` the edge's windows let through now, at least one octet.
    async fn capacity(&self, wanted: usize) -> Result<usize, SendEnd> {
        self.stream().reserve_capacity(wanted);
        std::future::poll_fn(|cx| {
            loop {
                let mut stream = self.stream();
                let octets = stream.capacity().min(wanted);
                if octets > 0 {
                    return Poll::Ready(Ok(octets));
                }
                match stream.poll_capacity(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => {
                        drop(stream);
                        return Poll::Ready(Err(self.why_ended()));
                    }
                }
            }
        })
        .await
    }

    fn put(
        &mut self,
        [first, second]: [Bytes; 2],
        turn: Option<OwnedSemaphorePermit>,
        end: bool,
    ) -> Result<(), SendEnd> {
        if std::mem::replace(&mut self.finished, end) {
            return Err(SendEnd::Lost);
        }
        let piece = Piece::new(first, second, turn, &self.unsent);
        let sent = self.stream().send_data(piece, end);
        sent.map_err(|_| self.why_ended())
    }

    fn why_ended(&self) -> SendEnd {
        match poll_reset(&self.stream, &mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(end) => end,
            Poll::Pending => SendEnd::Lost,
        }
    }
}

/// The body of a request on HTTP/2.
pub(crate) enum Http2Recv {
    /// It is read.
    Wanted(h2::RecvStream),
    /// It is dropped as it comes, by a task that ends with this.
    Discarded { _task: AbortOnDropHandle<()> },
    /// Between the two.
    Gone,
}

impl Http2Recv {
    async fn read(&mut self) -> Result<Option<Bytes>, RecvEnd> {
        let Self::Wanted(stream) = self else { return Err(RecvEnd::Lost) };
        match stream.data().await {
            None => Ok(None),
            Some(Ok(bytes)) => {
                stream.flow_control().release_capacity(bytes.len()).map_err(|_| RecvEnd::Lost)?;
                Ok(Some(bytes))
            }
            Some(Err(error)) if error.is_reset() => Err(RecvEnd::Reset(http2_code(error.reason()))),
            Some(Err(_)) => Err(RecvEnd::Lost),
        }
    }

    fn discard(&mut self) {
        let Self::Wanted(mut stream) = std::mem::replace(self, Self::Gone) else { return };
        let dropping = async move {
            while let Some(Ok(bytes)) = stream.data().await {
                if stream.flow_control().release_capacity(bytes.len()).is_err() {
                    return;
                }
            }
        };
        *self = Self::Discarded { _task: AbortOnDropHandle::new(tokio::spawn(dropping)) };
    }
}

fn poll_reset(stream: &Mutex<h2::SendStream<Piece>>, cx: &mut Context<'_>) -> Poll<SendEnd> {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    stream.poll_reset(cx).map(|reason| match reason {
        Ok(reason) => SendEnd::Stopped(http2_code(Some(reason))),
        Err(_) => SendEnd::Lost,
    })
}

fn http2_code(reason: Option<h2::Reason>) -> ResetCode {
    reason.map_or(ResetCode::Internal, |reason| ResetCode::from_http2(reason.into()))
}

fn reset_code(code: VarInt) -> ResetCode {
    ResetCode::from_number(code.into_inner())
}

fn write_end(error: &WriteError) -> SendEnd {
    match error {
        WriteError::Stopped(code) => SendEnd::Stopped(reset_code(*code)),
        WriteError::ConnectionLost(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            SendEnd::Lost
        }
    }
}
