//! Reads the frames of one direction of an exchange, however the bytes are cut.
//!
//! Holds at most one incomplete head (bounded by [`HEAD_LEN_MAX`]) and the chunk pushed last; the payload of
//! DATA is handed on as slices of it. What may follow what is checked here, so that an owner only handles
//! events in an order that makes sense.

use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;

use super::head::Event;
use super::{kind, payload};
use crate::limits::{
    DATA_LEN_MAX, DETAIL_LEN_MAX, HEAD_LEN_MAX, INFORMATIONAL_MAX, UNKNOWN_FRAME_LEN_MAX, UNKNOWN_FRAMES_MAX,
};
use crate::wire::{self, Reader};

/// Why a stream cannot be read any further. The peer is at fault; reset the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A frame's payload does not read as its type asks.
    #[error("a {0} frame is malformed")]
    Malformed(&'static str),
    /// A frame where it may not stand.
    #[error("a {0} frame came out of order")]
    OutOfOrder(&'static str),
    /// A frame longer than its type may be.
    #[error("a {0} frame is too long")]
    TooLong(&'static str),
    /// More informational heads or unknown frames than anybody needs.
    #[error("too many {0} frames")]
    TooMany(&'static str),
}

/// The stream ended before the message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream ended before the message was whole")]
pub struct Truncated;

/// Which direction is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Requests,
    Responses,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A head, or what stands in its place.
    Head,
    /// Data, trailers, an end; RAW only if the head allowed an upgrade.
    Body { raw: bool },
    /// Bytes without frames.
    Raw,
    /// Nothing.
    Done,
}

/// The frame that is being read.
#[derive(Clone, Copy, Debug)]
enum Frame {
    /// Its type and length are not known yet.
    Header,
    /// A head or the like, gathered until it is whole.
    Gather { kind: u64, len: usize },
    /// Data, handed on as it comes: this much is left.
    Data { left: usize },
    /// Something unknown: this much is left to skip.
    Skip { left: usize },
}

/// Reads one direction of an exchange.
///
/// Push a chunk, poll until `None`, push the next; at the stream's end ask [`Decoder::finish`].
#[derive(Debug)]
pub struct Decoder {
    side: Side,
    stage: Stage,
    frame: Frame,
    /// Not read yet.
    chunk: Bytes,
    /// The start of a frame header or of a head that the chunk did not hold whole.
    partial: BytesMut,
    informational: u32,
    unknown: u32,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// Reads what an edge sends: for a warpgate.
    pub fn requests() -> Self {
        Self::new(Side::Requests)
    }

    /// Reads what a warpgate sends: for an edge.
    pub fn responses() -> Self {
        Self::new(Side::Responses)
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            stage: Stage::Head,
            frame: Frame::Header,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            informational: 0,
            unknown: 0,
            failed: None,
        }
    }

    /// Gives it the stream's next bytes. Poll until `None` first: what is left of the chunk before is
    /// joined to this one by copying both.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else if !chunk.is_empty() {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// What the bytes so far say next; `None`: push more.
    ///
    /// # Errors
    /// [`DecodeError`], and the same one at every later call.
    pub fn poll(&mut self) -> Result<Option<Event>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let polled = self.advance();
        if let Err(error) = &polled {
            self.failed = Some(*error);
            self.chunk = Bytes::new();
            self.partial = BytesMut::new();
        }
        polled
    }

    /// Whether the message is whole; to be asked when the stream has ended and `poll` gave `None`.
    ///
    /// # Errors
    /// [`Truncated`]: treat the stream as reset. Raw bytes end where their stream ends.
    pub fn finish(&self) -> Result<(), Truncated> {
        let between_frames =
            matches!(self.frame, Frame::Header) && self.partial.is_empty() && self.chunk.is_empty();
        match self.stage {
            Stage::Done | Stage::Raw if self.failed.is_none() && between_frames => Ok(()),
            _ => Err(Truncated),
        }
    }

    fn advance(&mut self) -> Result<Option<Event>, DecodeError> {
        loop {
            if self.stage == Stage::Raw {
                let chunk = std::mem::take(&mut self.chunk);
                return Ok((!chunk.is_empty()).then_some(Event::Data(chunk)));
            }
            match self.frame {
                Frame::Header => {
                    let Some((kind, len)) = self.frame_header() else { return Ok(None) };
                    self.begin(kind, len)?;
                }
                Frame::Data { left } => {
                    if self.chunk.is_empty() {
                        return Ok(None);
                    }
                    let piece = self.chunk.split_to(left.min(self.chunk.len()));
                    let left = left.saturating_sub(piece.len());
                    self.frame = if left == 0 { Frame::Header } else { Frame::Data { left } };
                    return Ok(Some(Event::Data(piece)));
                }
                Frame::Skip { left } => {
                    let skipped = left.min(self.chunk.len());
                    self.chunk.advance(skipped);
                    let left = left.saturating_sub(skipped);
                    if left != 0 {
                        self.frame = Frame::Skip { left };
                        return Ok(None);
                    }
                    self.frame = Frame::Header;
                }
                Frame::Gather { kind, len } => {
                    let Some(payload) = self.gather(len) else { return Ok(None) };
                    self.frame = Frame::Header;
                    return self.event(kind, &payload).map(Some);
                }
            }
        }
    }

    /// The next frame's type and length, once the bytes hold both.
    fn frame_header(&mut self) -> Option<(u64, u64)> {
        // The usual case: the header lies in the chunk.
        if self.partial.is_empty()
            && let Some((kind, len, size)) = header(&self.chunk)
        {
            self.chunk.advance(size);
            return Some((kind, len));
        }
        // Otherwise it is put together octet by octet; it has 16 at most.
        while !self.chunk.is_empty() {
            self.partial.extend_from_slice(&self.chunk.split_to(1));
            if let Some((kind, len, _)) = header(&self.partial) {
                self.partial.clear();
                return Some((kind, len));
            }
        }
        None
    }

    /// Decides how the frame that begins is read, and whether it may stand here.
    fn begin(&mut self, kind: u64, len: u64) -> Result<(), DecodeError> {
        let name = name(kind);
        let (allowed, len_max) = match kind {
            kind::REQUEST => (self.may_begin(Side::Requests), HEAD_LEN_MAX),
            kind::PROBE => (self.may_begin(Side::Requests), SMALL_LEN_MAX),
            kind::RESPONSE | kind::INFORMATIONAL => (self.may_begin(Side::Responses), HEAD_LEN_MAX),
            kind::FAILURE => (self.may_begin(Side::Responses), FAILURE_LEN_MAX),
            kind::PROBE_REPLY => (self.may_begin(Side::Responses), SMALL_LEN_MAX),
            kind::DATA => (self.in_body(), DATA_LEN_MAX),
            kind::TRAILERS => (self.in_body(), HEAD_LEN_MAX),
            kind::END => (self.in_body(), SMALL_LEN_MAX),
            kind::RAW => (self.stage == Stage::Body { raw: true }, SMALL_LEN_MAX),
            _ => (true, UNKNOWN_FRAME_LEN_MAX),
        };
        if !allowed {
            return Err(DecodeError::OutOfOrder(name));
        }
        let len =
            usize::try_from(len).ok().filter(|len| *len <= len_max).ok_or(DecodeError::TooLong(name))?;
        self.frame = match kind {
            // An empty piece says nothing; a flood of them would cost us and not the sender's window.
            kind::DATA if len == 0 => return Err(DecodeError::Malformed(name)),
            kind::DATA => Frame::Data { left: len },
            kind::UNKNOWN.. => {
                self.unknown += 1;
                if self.unknown > UNKNOWN_FRAMES_MAX {
                    return Err(DecodeError::TooMany(name));
                }
                Frame::Skip { left: len }
            }
            _ => Frame::Gather { kind, len },
        };
        Ok(())
    }

    fn may_begin(&self, side: Side) -> bool {
        self.side == side && self.stage == Stage::Head
    }

    const fn in_body(&self) -> bool {
        matches!(self.stage, Stage::Body { .. })
    }

    /// The whole payload of `len` octets, as bytes of its own: slices of the chunk would keep alive the
    /// transport's buffer, which is many times as large, for as long as one header value lives.
    fn gather(&mut self, len: usize) -> Option<Bytes> {
        if self.partial.is_empty() && self.chunk.len() >= len {
            return Some(Bytes::copy_from_slice(&self.chunk.split_to(len)));
        }
        let missing = len.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&self.chunk.split_to(missing.min(self.chunk.len())));
        (self.partial.len() >= len).then(|| std::mem::take(&mut self.partial).freeze())
    }

    fn event(&mut self, kind: u64, bytes: &Bytes) -> Result<Event, DecodeError> {
        let malformed = |_| DecodeError::Malformed(name(kind));
        let mut reader = Reader::new(bytes);
        match kind {
            kind::REQUEST => {
                let (head, end) = payload::request(&mut reader, bytes).map_err(malformed)?;
                self.stage = if end { Stage::Done } else { Stage::Body { raw: head.upgrade.is_some() } };
                Ok(Event::Request { head: Box::new(head), end })
            }
            kind::RESPONSE => {
                let (head, end) = payload::response(&mut reader, bytes).map_err(malformed)?;
                let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
                if head.status.is_informational() && !switching {
                    return Err(DecodeError::Malformed(name(kind)));
                }
                self.stage = if end { Stage::Done } else { Stage::Body { raw: switching } };
                Ok(Event::Response { head, end })
            }
            kind::INFORMATIONAL => {
                let (head, end) = payload::response(&mut reader, bytes).map_err(malformed)?;
                self.informational += 1;
                if self.informational > INFORMATIONAL_MAX {
                    return Err(DecodeError::TooMany(name(kind)));
                }
                if end || !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Err(DecodeError::Malformed(name(kind)));
                }
                Ok(Event::Informational(head))
            }
            kind::FAILURE => {
                self.stage = Stage::Done;
                payload::failure(&mut reader).map(Event::Failure).map_err(malformed)
            }
            kind::TRAILERS => {
                self.stage = Stage::Done;
                payload::trailers(&mut reader, bytes).map(Event::Trailers).map_err(malformed)
            }
            kind::PROBE | kind::PROBE_REPLY => {
                self.stage = Stage::Done;
                let nonce = reader.array().map(u64::from_be_bytes).map_err(malformed)?;
                Ok(if kind == kind::PROBE { Event::Probe { nonce } } else { Event::ProbeReply { nonce } })
            }
            kind::RAW => {
                self.stage = Stage::Raw;
                Ok(Event::Raw)
            }
            _ => {
                self.stage = Stage::Done;
                Ok(Event::End)
            }
        }
    }
}

/// Largest payload of a failure: flags, code, detail and a few extension fields.
const FAILURE_LEN_MAX: usize = DETAIL_LEN_MAX + 128;

/// Largest payload of the frames that say little: a nonce and a few extension fields.
const SMALL_LEN_MAX: usize = 128;

/// The frame header at the front of `bytes`: type, length and its own size.
fn header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, kind_size) = wire::varint(bytes)?;
    let (len, len_size) = wire::varint(bytes.get(kind_size..)?)?;
    Some((kind, len, kind_size + len_size))
}

const fn name(kind: u64) -> &'static str {
    match kind {
        kind::DATA => "DATA",
        kind::REQUEST => "REQUEST",
        kind::RESPONSE => "RESPONSE",
        kind::INFORMATIONAL => "INFORMATIONAL",
        kind::FAILURE => "FAILURE",
        kind::TRAILERS => "TRAILERS",
        kind::END => "END",
        kind::RAW => "RAW",
        kind::PROBE => "PROBE",
        kind::PROBE_REPLY => "PROBE_REPLY",
        _ => "unknown",
    }
}
