//! One QUIC stream, in each direction, as h3 sees it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ReadError, WriteError};

use super::super::gate::{FrameTooLong, Gate, Tally};
use super::{connection_error, varint};
use crate::http::flood::Flood;

/// A request stream.
pub(in crate::http::h3) struct BidiStream<B: Buf> {
    pub(super) send: SendStream<B>,
    pub(super) recv: RecvStream,
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
pub(in crate::http::h3) struct RecvStream {
    stream: quinn::RecvStream,
    connection: quinn::Connection,
    gate: Gate,
    flood: Arc<Flood>,
    is_over: bool,
}

impl RecvStream {
    pub(super) fn new(
        stream: quinn::RecvStream,
        gate: Gate,
        connection: &quinn::Connection,
        flood: &Arc<Flood>,
    ) -> Self {
        Self { stream, gate, connection: connection.clone(), flood: Arc::clone(flood), is_over: false }
    }

    /// The next permitted octets at hand.
    fn pop(&mut self) -> Result<Option<Bytes>, StreamErrorIncoming> {
        let popped = self.gate.pop().map_err(|error| self.too_long(error));
        let Tally { useful, idle } = self.gate.tally();
        self.flood.useful(useful);
        self.flood.idle(idle);
        if self.flood.is_over() {
            return Err(self.close(b"flood", "a flood of frames that carry nothing".to_owned()));
        }
        popped
    }

    fn too_long(&self, error: FrameTooLong) -> StreamErrorIncoming {
        self.close(b"frame too long", error.to_string())
    }

    fn close(&self, reason: &[u8], error: String) -> StreamErrorIncoming {
        self.connection.close(varint(Code::H3_EXCESSIVE_LOAD.value()), reason);
        let connection_error = ConnectionErrorIncoming::InternalError(error);
        StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if let Some(octets) = self.pop()? {
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
pub(in crate::http::h3) struct SendStream<B: Buf> {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<B>>,
    /// Whether dropping it unfinished is an error to tell; see [`super::Handle::guard`].
    is_guarded: Option<Arc<AtomicBool>>,
    is_over: bool,
}

impl<B: Buf> SendStream<B> {
    pub(super) fn new(stream: quinn::SendStream, is_guarded: Option<Arc<AtomicBool>>) -> Self {
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

fn stream_id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(u64::from(id)).expect("both count streams in 62 bits")
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
