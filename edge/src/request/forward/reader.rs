//! Reads a response out of a stream of a tunnel, straight from the connection's own buffers.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tunnel_proto::codes::{FailureCode, ResetCode};
use tunnel_proto::exchange::{Decoder, Event};

use crate::request::refusal::Refusal;
use crate::tunnel::{RecvEnd, RecvHalf};

/// Packets taken out of the connection at once; about 16 KiB of a bulk transfer.
const CHUNKS: usize = 12;

/// Why there is no next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReaderError {
    /// The warpgate broke the exchange off.
    #[error("the warpgate broke off: {0}")]
    Reset(ResetCode),
    /// The tunnel is gone.
    #[error("the tunnel was lost")]
    Lost,
    /// The stream ended where it may: after raw octets, which have no other end.
    #[error("the upstream ended")]
    End,
    /// The stream ended before the message did, or does not decode.
    #[error("the warpgate broke the protocol")]
    Protocol,
}

impl ReaderError {
    /// What the client is told of it, so long as no head was said to it.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Protocol | Self::End => Refusal::TunnelProtocol,
            Self::Reset(ResetCode::Rejected) => Refusal::TunnelBusy,
            Self::Reset(ResetCode::UpstreamCut) => Refusal::Warpgate(FailureCode::UpstreamClosed),
            Self::Reset(ResetCode::Timeout) => Refusal::Warpgate(FailureCode::UpstreamTimeout),
            Self::Reset(_) | Self::Lost => Refusal::TunnelLost,
        }
    }
}

/// A response being read. Dropped before its end, it tells the warpgate to stop.
pub(super) struct Reader {
    recv: RecvHalf,
    decoder: Decoder,
    chunks: [Bytes; CHUNKS],
    /// The chunks that were read and not decoded yet: from here…
    next: usize,
    /// …to here.
    filled: usize,
    /// Nothing more is wanted of the stream: its last event was seen, or it is broken.
    ended: bool,
    /// Whether anything came.
    heard: bool,
    /// What the warpgate is told if it is dropped unfinished.
    stop: ResetCode,
}

impl Reader {
    pub(super) fn new(recv: RecvHalf) -> Self {
        Self {
            recv,
            decoder: Decoder::responses(),
            chunks: Default::default(),
            next: 0,
            filled: 0,
            ended: false,
            heard: false,
            stop: ResetCode::ClientGone,
        }
    }

    /// The next event.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReaderError>> {
        loop {
            if let Some(event) = self.event()? {
                return Poll::Ready(Ok(event));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// The next event, if it is here already.
    pub(super) fn event(&mut self) -> Result<Option<Event>, ReaderError> {
        loop {
            match self.decoder.poll() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "A warpgate's response does not decode");
                    return Err(self.broken());
                }
            }
            match self.chunks.get_mut(self.next) {
                Some(chunk) if self.next < self.filled => {
                    self.decoder.push(std::mem::take(chunk));
                    self.next += 1;
                }
                _ => return Ok(None),
            }
        }
    }

    /// Whether anything came from the warpgate. Until then, it may be that nothing was done.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// The last event was seen.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The warpgate broke the protocol in a way that only the reader's owner sees.
    pub(super) fn broken(&mut self) -> ReaderError {
        self.stop(ResetCode::Protocol);
        ReaderError::Protocol
    }

    /// Wants no more, and says why.
    pub(super) fn stop(&mut self, code: ResetCode) {
        if !self.ended {
            self.ended = true;
            self.recv.stop(code);
        }
    }

    /// Waits for more to decode. To be called when [`Reader::event`] has nothing.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReaderError>> {
        let read = ready!(self.recv.poll_read_chunks(cx, &mut self.chunks));
        self.next = 0;
        self.filled = 0;
        Poll::Ready(match read {
            Ok(Some(filled)) => {
                self.filled = filled;
                self.heard = true;
                Ok(())
            }
            Ok(None) => {
                // Whoever asks for more has not seen the message's end, so the stream ended before it; unless it is raw.
                self.ended = true;
                Err(self.decoder.finish().map_or(ReaderError::Protocol, |()| ReaderError::End))
            }
            Err(end) => {
                self.ended = true;
                Err(match end {
                    RecvEnd::Reset(code) => ReaderError::Reset(code),
                    RecvEnd::Lost => ReaderError::Lost,
                })
            }
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let code = self.stop;
        self.stop(code);
    }
}
