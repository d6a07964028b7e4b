//! What h3 needs of QUIC, on quinn. Takes the place of h3-quinn 0.0.10 for three reasons: a client's
//! `STOP_SENDING` must end a request that is still being worked on; a stream dropped half-way must be reset and
//! never look finished; and every stream passes a [`Gate`].

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::stream::{self, Stream};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::gate::{FrameTooLong, Gate};

type Streams<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>> + Send + Sync>>;

/// A connection, as h3 sees it.
pub(super) struct Connection {
    inner: quinn::Connection,
    bidirectional: Streams<(quinn::SendStream, quinn::RecvStream)>,
    unidirectional: Streams<quinn::RecvStream>,
    accepted: Accepted,
    opener: Opener,
}

/// Where the handle of the request stream accepted last is found.
#[derive(Clone, Default)]
pub(super) struct Accepted(Arc<Mutex<Option<Handle>>>);

impl Accepted {
    /// Takes it, once.
    pub(super) fn take(&self) -> Option<Handle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, handle: Handle) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }
}

/// What can be known of a request stream beside h3.
pub(super) struct Handle {
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    is_guarded: Arc<AtomicBool>,
}

impl Handle {
    /// From now on a response that is dropped before its end is reset. (What h3 says by itself, when it refuses a
    /// field section, it never finishes.)
    pub(super) fn guard(&self) {
        self.is_guarded.store(true, Ordering::Relaxed);
    }

    /// Ready when the client wants no response any more, has all of it, or is gone.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(stopped) = &mut self.stopped {
            ready!(stopped.as_mut().poll(cx));
            self.stopped = None;
        }
        Poll::Ready(())
    }
}

impl Connection {
    pub(super) fn new(connection: quinn::Connection) -> (Self, Accepted) {
        let bidirectional = stream::unfold(connection.clone(), |connection| async {
            Some((connection.accept_bi().await, connection))
        });
        let unidirectional = stream::unfold(connection.clone(), |connection| async {
            Some((connection.accept_uni().await, connection))
        });
        let accepted = Accepted::default();
        let this = Self {
            opener: Opener { connection: connection.clone(), opening: None },
            inner: connection,
            bidirectional: Box::pin(bidirectional),
            unidirectional: Box::pin(unidirectional),
            accepted: accepted.clone(),
        };
        (this, accepted)
    }
}

fn next<T>(streams: &mut Streams<T>, cx: &mut Context<'_>) -> Poll<Result<T, ConnectionErrorIncoming>> {
    // `unfold` without an end: `None` cannot come, and would be the end of the connection.
    let next = ready!(streams.as_mut().poll_next(cx)).unwrap_or(Err(ConnectionError::LocallyClosed));
    Poll::Ready(next.map_err(connection_error))
}

impl<B: Buf> quic::Connection<B> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        next(&mut self.unidirectional, cx)
            .map_ok(|stream| RecvStream::new(stream, Gate::unidirectional(), &self.inner))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        let (send, recv) = ready!(next(&mut self.bidirectional, cx))?;
        let stopped = send.stopped();
        let is_guarded = Arc::new(AtomicBool::new(false));
        self.accepted.put(Handle {
            stopped: Some(Box::pin(async move { drop(stopped.await) })),
            is_guarded: Arc::clone(&is_guarded),
        });
        Poll::Ready(Ok(BidiStream {
            send: SendStream::new(send, Some(is_guarded)),
            recv: RecvStream::new(recv, Gate::request(), &self.inner),
        }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.inner.clone(), opening: None }
    }
}

/// Opens the edge's own streams: control and QPACK. A server opens no others.
pub(super) struct Opener {
    connection: quinn::Connection,
    opening: Option<Streams<quinn::SendStream>>,
}

impl Opener {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<quinn::SendStream, StreamErrorIncoming>> {
        let opening = self.opening.get_or_insert_with(|| {
            Box::pin(stream::unfold(self.connection.clone(), |connection| async {
                Some((connection.open_uni().await, connection))
            }))
        });
        next(opening, cx)
            .map_err(|connection_error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error })
    }
}

impl<B: Buf> quic::OpenStreams<B> for Opener {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("an HTTP/3 server opens no requests".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        self.poll_open(cx).map_ok(|stream| SendStream::new(stream, None))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(varint(code.value()), reason);
    }
}

impl<B: Buf> quic::OpenStreams<B> for Connection {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}

/// A request stream.
pub(super) struct BidiStream<B: Buf> {
    send: SendStream<B>,
    recv: RecvStream,
}

impl<B: Buf> quic::BidiStream<B> for BidiStream<B> {
    type SendStream = SendStream<B>;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream<B>, RecvStream) {
        (self.send, self.recv)
    }
}

impl<B: Buf> quic::RecvStream for BidiStream<B> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl<B: Buf> quic::SendStream<B> for BidiStream<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// What a client sends on one stream.
pub(super) struct RecvStream {
    stream: quinn::RecvStream,
    connection: quinn::Connection,
    gate: Gate,
    is_over: bool,
}

impl RecvStream {
    fn new(stream: quinn::RecvStream, gate: Gate, connection: &quinn::Connection) -> Self {
        Self { stream, gate, connection: connection.clone(), is_over: false }
    }

    fn too_long(&self, error: FrameTooLong) -> StreamErrorIncoming {
        self.connection.close(varint(Code::H3_EXCESSIVE_LOAD.value()), b"frame too long");
        let connection_error = ConnectionErrorIncoming::InternalError(error.to_string());
        StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if let Some(octets) = self.gate.pop().map_err(|error| self.too_long(error))? {
                return Poll::Ready(Ok(Some(octets)));
            }
            // Cancel safe: nothing is lost with a future that is dropped while it waits.
            match ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx)) {
                Ok(Some(chunk)) => self.gate.push(chunk.bytes),
                Ok(None) => {
                    self.is_over = true;
                    return Poll::Ready(Ok(None));
                }
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Err(read_error(error)));
                }
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.is_over = true;
        // Fails on a stream that is over already.
        drop(self.stream.stop(varint(code)));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for RecvStream {
    /// Whoever drops the rest of a request has answered it: the client may stop without an error (RFC 9114 §4.1).
    fn drop(&mut self) {
        if !self.is_over {
            drop(self.stream.stop(varint(Code::H3_NO_ERROR.value())));
        }
    }
}

/// What the edge sends on one stream.
pub(super) struct SendStream<B: Buf> {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<B>>,
    /// Whether dropping it unfinished is an error to tell; see [`Handle::guard`].
    is_guarded: Option<Arc<AtomicBool>>,
    is_over: bool,
}

impl<B: Buf> SendStream<B> {
    fn new(stream: quinn::SendStream, is_guarded: Option<Arc<AtomicBool>>) -> Self {
        Self { stream, writing: None, is_guarded, is_over: false }
    }
}

impl<B: Buf> quic::SendStream<B> for SendStream<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let written =
                    ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk())).map_err(write_error)?;
                data.advance(written);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown(
                "a frame was sent before the last one was written".into(),
            ));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.is_over = true;
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        self.is_over = true;
        // Fails on a stream that is over already.
        drop(self.stream.reset(varint(code)));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl<B: Buf> Drop for SendStream<B> {
    /// quinn finishes a stream that is dropped, and a half-sent response would look complete.
    fn drop(&mut self) {
        let is_guarded = self.is_guarded.as_ref().is_some_and(|guarded| guarded.load(Ordering::Relaxed));
        if is_guarded && !self.is_over {
            drop(self.stream.reset(varint(Code::H3_REQUEST_CANCELLED.value())));
        }
    }
}

fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

fn stream_id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(u64::from(id)).expect("both count streams in 62 bits")
}

fn connection_error(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn read_error(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        ReadError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
        }
        other => StreamErrorIncoming::Unknown(other.into()),
    }
}

fn write_error(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
        }
        other => StreamErrorIncoming::Unknown(other.into()),
    }
}
