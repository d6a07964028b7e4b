//! The two halves of one stream of a tunnel, whatever carries the tunnel.
//!
//! What is written and read here are octets of `tunnel_proto`'s messages; what they mean is the callers'. Nothing is
//! copied and nothing buffered on the way: pieces are handed to the transport as they are, and come out of its own
//! buffers.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::{ReadError, VarInt, WriteError};
use tunnel_proto::codes::ResetCode;

use super::tcp::stream::{TcpRecv, TcpSend};

/// What went into a stream at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Octets.
    pub(crate) bytes: usize,
    /// Pieces of which nothing is left; the next one may have been shortened.
    pub(crate) chunks: usize,
}

/// Why nothing more can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendEnd {
    /// The peer does not want the rest.
    #[error("the peer does not want the rest: {0}")]
    Stopped(ResetCode),
    /// The tunnel is gone, or the stream was let go of.
    #[error("the tunnel was lost")]
    Lost,
}

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecvEnd {
    /// The peer broke it off.
    #[error("the peer broke off: {0}")]
    Reset(ResetCode),
    /// The tunnel is gone, or the stream was let go of.
    #[error("the tunnel was lost")]
    Lost,
}

/// What is said on a stream.
pub(crate) enum SendHalf {
    /// On a QUIC connection.
    Quic(quinn::SendStream),
    /// In an HTTP/2 request's body.
    Tcp(TcpSend),
}

impl SendHalf {
    /// Writes as much of `chunks` as fits now; what was written is gone from them.
    pub(crate) fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<Written, SendEnd>> {
        match self {
            Self::Quic(send) => pin!(send.write_chunks(chunks)).poll(cx).map(|written| match written {
                Ok(written) => Ok(Written { bytes: written.bytes, chunks: written.chunks }),
                Err(WriteError::Stopped(code)) => {
                    Err(SendEnd::Stopped(ResetCode::from_number(code.into_inner())))
                }
                Err(_) => Err(SendEnd::Lost),
            }),
            Self::Tcp(send) => send.poll_write_chunks(cx, chunks),
        }
    }

    /// Nothing follows what was written. A stream that ended before is left as it is: its reader knows.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Quic(send) => drop(send.finish()),
            Self::Tcp(send) => send.finish(),
        }
    }

    /// What was written is not to be acted on. Without effect once the peer has acknowledged the end.
    pub(crate) fn reset(&mut self, code: ResetCode) {
        match self {
            Self::Quic(send) => drop(send.reset(VarInt::from_u32(code.number()))),
            Self::Tcp(send) => send.reset(code),
        }
    }

    /// [`SendHalf::poll_write_chunks`] as a future. Cancel safe.
    pub(super) async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Written, SendEnd> {
        poll_fn(|cx| self.poll_write_chunks(cx, chunks)).await
    }
}

/// What is heard on a stream.
pub(crate) enum RecvHalf {
    /// On a QUIC connection.
    Quic(quinn::RecvStream),
    /// In an HTTP/2 response's body.
    Tcp(TcpRecv),
}

impl RecvHalf {
    /// Takes what is here, in order, into the first places of `chunks`; how many, or `None` at the end.
    pub(crate) fn poll_read_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<Option<usize>, RecvEnd>> {
        match self {
            Self::Quic(recv) => pin!(recv.read_chunks(chunks)).poll(cx).map_err(|error| match error {
                ReadError::Reset(code) => RecvEnd::Reset(ResetCode::from_number(code.into_inner())),
                _ => RecvEnd::Lost,
            }),
            Self::Tcp(recv) => recv.poll_read_chunks(cx, chunks),
        }
    }

    /// Wants no more, and says why. Without effect once the stream has ended.
    pub(crate) fn stop(&mut self, code: ResetCode) {
        match self {
            Self::Quic(recv) => drop(recv.stop(VarInt::from_u32(code.number()))),
            Self::Tcp(recv) => recv.stop(code),
        }
    }

    /// One piece of what is here, or `None` at the end. Cancel safe.
    pub(super) async fn read_chunk(&mut self) -> Result<Option<Bytes>, RecvEnd> {
        let mut chunk = [Bytes::new()];
        let read = poll_fn(|cx| self.poll_read_chunks(cx, &mut chunk)).await?;
        let [chunk] = chunk;
        Ok(read.map(|_| chunk))
    }
}

/// Resolves when the peer has taken everything that was written before [`SendHalf::finish`], so that the connection can be
/// closed without losing it; or when it never will. Over TCP nobody tells, so there it is when the peer is done too.
pub(super) async fn heard_out(send: &mut SendHalf, recv: &mut RecvHalf) {
    match send {
        SendHalf::Quic(send) => drop(send.stopped().await),
        SendHalf::Tcp(_) => while let Ok(Some(_)) = recv.read_chunk().await {},
    }
}
