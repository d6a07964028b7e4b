//! Control messages from bytes, however they are cut: finds the frames, skips unknown ones, holds one at most.

use bytes::{Buf as _, Bytes, BytesMut};

use super::fields::read;
use super::message::Message;
use super::{kind, len_max};
use crate::wire::{self, Malformed, Reader};

/// Why the control stream cannot be read any further. The peer is at fault; close the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A message's fields do not read as its type asks.
    #[error("control message {0:#04x} is malformed")]
    Malformed(u64),
    /// A message longer than its type may be.
    #[error("control message {0:#04x} is too long")]
    TooLong(u64),
    /// A message only the other side may send.
    #[error("control message {0:#04x} came from the wrong side")]
    WrongSide(u64),
}

/// Which messages may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Warpgate,
    Edge,
}

/// Reads messages, however the bytes are cut. Push a chunk, poll until `None`, push the next.
///
/// Holds at most one incomplete message: 1 MiB for a bundle, [`CONTROL_MESSAGE_LEN_MAX`](crate::limits::CONTROL_MESSAGE_LEN_MAX) otherwise.
#[derive(Debug)]
pub struct Decoder {
    from: From,
    chunk: Bytes,
    /// The start of a message the chunks so far did not hold whole.
    partial: BytesMut,
    /// Octets of an unknown message still to skip.
    skip: u64,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// Reads what a warpgate says: for an edge.
    pub fn from_warpgate() -> Self {
        Self::new(From::Warpgate)
    }

    /// Reads what an edge says: for a warpgate.
    pub fn from_edge() -> Self {
        Self::new(From::Edge)
    }

    fn new(from: From) -> Self {
        Self { from, chunk: Bytes::new(), partial: BytesMut::new(), skip: 0, failed: None }
    }

    /// Gives it the stream's next bytes. Poll until `None` first: what is left of the chunk before is
    /// joined to this one by copying both.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else if !chunk.is_empty() {
            self.chunk = [self.chunk.as_ref(), chunk.as_ref()].concat().into();
        }
    }

    /// The next message; `None`: push more.
    ///
    /// # Errors
    /// [`DecodeError`], and the same one at every later call.
    pub fn poll(&mut self) -> Result<Option<Message>, DecodeError> {
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

    fn advance(&mut self) -> Result<Option<Message>, DecodeError> {
        loop {
            let here = usize::try_from(self.skip).unwrap_or(usize::MAX).min(self.chunk.len());
            self.chunk.advance(here);
            self.skip -= u64::try_from(here).unwrap_or(self.skip);
            if self.skip != 0 || (self.chunk.is_empty() && self.partial.is_empty()) {
                return Ok(None);
            }
            let Some((kind, len, size)) = self.header() else { return Ok(None) };
            if !known(kind) {
                self.partial.clear();
                self.chunk.advance(size);
                self.skip = len;
                continue;
            }
            if self.from != side(kind, self.from) {
                return Err(DecodeError::WrongSide(kind));
            }
            let len = usize::try_from(len).ok().filter(|len| *len <= len_max(kind));
            let whole = size + len.ok_or(DecodeError::TooLong(kind))?;
            let message = if self.partial.is_empty() && self.chunk.len() >= whole {
                self.chunk.split_to(whole)
            } else {
                let missing = whole.saturating_sub(self.partial.len()).min(self.chunk.len());
                self.partial.extend_from_slice(&self.chunk.split_to(missing));
                if self.partial.len() < whole {
                    return Ok(None);
                }
                std::mem::take(&mut self.partial).freeze()
            };
            let payload = message.get(size..).unwrap_or_default();
            return read(kind, Reader::new(payload))
                .map(Some)
                .map_err(|Malformed| DecodeError::Malformed(kind));
        }
    }

    /// Type, length and own size of the frame header at the front of `partial` and `chunk`. For an
    /// unknown type the size counts what of it lies in `chunk`.
    fn header(&mut self) -> Option<(u64, u64, usize)> {
        if self.partial.is_empty()
            && let Some(found) = header(&self.chunk)
        {
            return Some(found);
        }
        // Put together octet by octet; it has 16 at most.
        loop {
            if let Some((kind, len, size)) = header(&self.partial) {
                return Some((kind, len, if known(kind) { size } else { 0 }));
            }
            if self.chunk.is_empty() {
                return None;
            }
            self.partial.extend_from_slice(&self.chunk.split_to(1));
        }
    }
}

fn header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, kind_size) = wire::varint(bytes)?;
    let (len, len_size) = wire::varint(bytes.get(kind_size..)?)?;
    Some((kind, len, kind_size + len_size))
}

const fn known(kind: u64) -> bool {
    matches!(kind, kind::HELLO..=kind::CLOSE)
}

/// Who may send it; for what both may send, whoever did.
const fn side(kind: u64, either: From) -> From {
    match kind {
        kind::HELLO
        | kind::OFFER
        | kind::WITHDRAW
        | kind::PRINCIPAL_KNOWN
        | kind::PROBE_REQUEST
        | kind::UPSTREAM_HEALTH => From::Warpgate,
        kind::WELCOME | kind::REFUSED | kind::BUNDLE | kind::PROBE_DONE => From::Edge,
        _ => either,
    }
}
