//! Writes a request into a stream of a tunnel: head, body, trailers, end; as much at once as is at hand.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::Encoder;

use super::source::{Piece, Source, SourceError};
use crate::tunnel::{SendEnd, SendHalf};

/// Octets gathered before they are written, so that many small pieces leave together.
const GATHER_LEN_MAX: usize = 64 * 1024;

/// Why a request could not be written to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UploadError {
    /// The client's part broke.
    Source(SourceError),
    /// The warpgate does not want the rest. Its response may well come.
    Stopped(ResetCode),
    /// The tunnel is gone.
    Lost,
}

/// A request being written. Dropped before its end, it resets the stream: half a request never looks whole.
pub(super) struct Upload {
    send: SendHalf,
    source: Option<Box<Source>>,
    encoder: Encoder,
    pending: VecDeque<Bytes>,
    pending_len: usize,
    /// Whether anything was handed to the connection.
    began: bool,
    /// Nothing more is to be gathered.
    gathered: bool,
    /// Whether a switch of protocols was asked for, and how it ended.
    switch: Switch,
    finished: bool,
    /// What the stream is reset with if it is dropped unfinished.
    reset: ResetCode,
}

/// How far a switch of protocols has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Switch {
    /// There is none: a body follows the head.
    None,
    /// It was asked for: nothing may follow the head (R7).
    Asked,
    /// It was granted: octets without frames follow, and end where the stream does.
    Granted,
}

impl Upload {
    /// Writes `head`, and after it the body.
    pub(super) fn new(send: SendHalf, head: Bytes, source: Option<Box<Source>>) -> Self {
        let (pending_len, gathered) = (head.len(), source.is_none());
        Self {
            send,
            source,
            encoder: Encoder::new(),
            pending: VecDeque::from([head]),
            pending_len,
            began: false,
            gathered,
            switch: Switch::None,
            finished: false,
            reset: ResetCode::ClientGone,
        }
    }

    /// Writes what can be written. Ready when all of the request has been handed to the connection.
    ///
    /// `moved` is set if anything was written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Poll<Result<(), UploadError>> {
        loop {
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            let waiting = self.gather(cx)?;
            if self.pending.is_empty() {
                if waiting {
                    return Poll::Pending;
                }
                // The last octet is handed over; a stream that was stopped meanwhile says so to the reader.
                self.send.finish();
                self.finished = true;
                continue;
            }
            let written = self.send.poll_write_chunks(cx, self.pending.make_contiguous());
            let written = ready!(written).map_err(|end| self.failed(end))?;
            self.began = true;
            *moved = true;
            self.pending.drain(..written.chunks);
            self.pending_len = self.pending_len.saturating_sub(written.bytes);
        }
    }

    /// Lets nothing follow the head until the switch it asks for is granted or refused.
    pub(super) fn hold(&mut self) {
        self.switch = Switch::Asked;
        self.gathered = false;
    }

    /// The switch was granted: `source` follows, as it is.
    pub(super) fn grant(&mut self, source: Option<Box<Source>>) {
        self.switch = Switch::Granted;
        self.encoder.raw();
        self.push_encoded();
        self.gathered = source.is_none();
        self.source = source;
    }

    /// The switch was refused: there is nothing more to say. Nothing happens if none was asked for.
    pub(super) fn decline(&mut self) {
        if self.switch == Switch::Asked {
            self.switch = Switch::None;
            self.encoder.end();
            self.push_encoded();
            self.gathered = true;
        }
    }

    /// Tells a client that waits to send its body.
    pub(super) fn open(&mut self) {
        if let Some(source) = &mut self.source {
            source.open();
        }
    }

    /// Whether a byte of the request may have left. Until then, sending it elsewhere is safe.
    pub(super) fn has_begun(&self) -> bool {
        self.began
    }

    /// Whether all of the request was handed over.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the warpgate is what holds it up, rather than the client.
    pub(super) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Says what the stream is reset with, should it be dropped unfinished.
    pub(super) fn reset_with(&mut self, code: ResetCode) {
        self.reset = code;
    }

    /// Gives the attempt up and hands the body back for another.
    pub(super) fn abandon(mut self) -> Option<Box<Source>> {
        self.source.take()
    }

    /// Gives the request up, after it was written too: the upstream's work is not wanted any more.
    pub(super) fn cancel(&mut self, code: ResetCode) {
        self.reset = code;
        self.finished = true;
        // Fails if everything was acknowledged: then there is nothing to take back.
        self.send.reset(code);
    }

    /// Takes what the client still says and drops it, after [`Upload::cancel`]. Ready when it has ended.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pending.clear();
        while let Some(source) = self.source.as_mut().filter(|_| !self.gathered) {
            match ready!(source.poll_piece(cx)) {
                Ok(Piece::Data(_)) => {}
                Ok(Piece::End | Piece::Trailers(_)) | Err(_) => self.gathered = true,
            }
        }
        Poll::Ready(())
    }

    /// Gathers pieces while they are at hand. Whether more are to come.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, UploadError> {
        if self.switch == Switch::Asked {
            return Ok(true);
        }
        while !self.gathered && self.pending_len < GATHER_LEN_MAX {
            let Some(source) = &mut self.source else { break };
            let piece = match source.poll_piece(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Ok(piece)) => piece,
                Poll::Ready(Err(error)) => {
                    self.reset = ResetCode::ClientCut;
                    return Err(UploadError::Source(error));
                }
            };
            match piece {
                Piece::Data(data) => {
                    if self.switch == Switch::None {
                        self.encoder.data_header(data.len());
                        self.push_encoded();
                    }
                    self.pending_len += data.len();
                    self.pending.push_back(data);
                }
                Piece::End | Piece::Trailers(_) if self.switch == Switch::Granted => self.gathered = true,
                Piece::Trailers(trailers) => {
                    // Trailers that pass a limit of the tunnel are worth less than the body before them.
                    if self.encoder.trailers(&trailers).is_err() {
                        self.encoder.end();
                    }
                    self.gathered = true;
                }
                Piece::End => {
                    self.encoder.end();
                    self.gathered = true;
                }
            }
            self.push_encoded();
        }
        Ok(!self.gathered)
    }

    fn push_encoded(&mut self) {
        let encoded = self.encoder.take();
        if !encoded.is_empty() {
            self.pending_len += encoded.len();
            self.pending.push_back(encoded);
        }
    }

    fn failed(&mut self, end: SendEnd) -> UploadError {
        match end {
            SendEnd::Stopped(code) => {
                // The peer has let go of the stream; there is nothing left to reset.
                self.finished = true;
                UploadError::Stopped(code)
            }
            SendEnd::Lost => UploadError::Lost,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.finished {
            self.send.reset(self.reset);
        }
    }
}
