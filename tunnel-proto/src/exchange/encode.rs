//! Writes the frames of one direction of an exchange.
//!
//! Frames gather in one buffer, so that a head and a small body leave in one write; the payload of bulk data
//! never enters it. Which frame may follow which is the caller's to know; the peer's decoder checks.

use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method};

use super::head::{Failure, IdentityRef, RequestHead, ResponseHead, Scheme};
use super::{FIELD_UPGRADE, FLAG_END, FLAG_STARTED, fields, kind};
use crate::limits::{
    ASSERTION_LEN_MAX, AUTHORITY_LEN_MAX, DATA_LEN_MAX, DETAIL_LEN_MAX, FIELDS_MAX, HEAD_LEN_MAX,
    METHOD_LEN_MAX, UPGRADE_LEN_MAX, URI_LEN_MAX,
};
use crate::wire;

/// Why a frame cannot be written. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More than [`FIELDS_MAX`] fields.
    #[error("more than {FIELDS_MAX} header fields")]
    TooManyFields,
    /// A part of the head, or all of it, is longer than the protocol allows.
    #[error("the head is too large for the tunnel")]
    TooLong,
}

/// Gathers frames until [`Encoder::take`].
#[derive(Debug, Default)]
pub struct Encoder {
    out: BytesMut,
}

impl Encoder {
    /// An encoder with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything written since the last call. Empty if nothing was.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Octets waiting for [`Encoder::take`].
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing waits for [`Encoder::take`].
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes a request head; `end` if nothing follows it.
    pub fn request(&mut self, head: &RequestHead, end: bool) -> Result<(), EncodeError> {
        let fits = head.authority.len() <= AUTHORITY_LEN_MAX
            && head.target.len() <= URI_LEN_MAX
            && head.method.as_str().len() <= METHOD_LEN_MAX
            && head.upgrade.as_ref().is_none_or(|protocol| protocol.len() <= UPGRADE_LEN_MAX)
            && !matches!(&head.identity, IdentityRef::Full { assertion, .. } if assertion.len() > ASSERTION_LEN_MAX);
        if !fits {
            return Err(EncodeError::TooLong);
        }
        self.frame(kind::REQUEST, |out| {
            out.put_u8(if end { FLAG_END } else { 0 });
            out.put_u128(head.request.bits());
            out.put_u128(head.route.bits());
            wire::put_varint(out, head.revision);
            match head.client {
                IpAddr::V4(address) => {
                    out.put_u8(4);
                    out.put_slice(&address.octets());
                }
                IpAddr::V6(address) => {
                    out.put_u8(6);
                    out.put_slice(&address.octets());
                }
            }
            out.put_u8(match head.scheme {
                Scheme::Http => 0,
                Scheme::Https => 1,
            });
            put_method(out, &head.method);
            wire::put_bytes(out, head.authority.as_bytes());
            wire::put_bytes(out, head.target.as_bytes());
            match &head.identity {
                IdentityRef::None => out.put_u8(0),
                IdentityRef::Known(slot) => {
                    out.put_u8(1);
                    wire::put_varint(out, *slot);
                }
                IdentityRef::Full { slot, assertion } => {
                    out.put_u8(2);
                    wire::put_varint(out, *slot);
                    wire::put_bytes(out, assertion);
                }
            }
            fields::put(out, &head.headers)?;
            if let Some(protocol) = &head.upgrade {
                wire::put_field(out, FIELD_UPGRADE, protocol.as_bytes());
            }
            Ok(())
        })
    }

    /// Writes an informational head (1xx other than 101).
    pub fn informational(&mut self, head: &ResponseHead) -> Result<(), EncodeError> {
        self.response_head(kind::INFORMATIONAL, head, false)
    }

    /// Writes the final head, or 101; `end` if nothing follows it.
    pub fn response(&mut self, head: &ResponseHead, end: bool) -> Result<(), EncodeError> {
        self.response_head(kind::RESPONSE, head, end)
    }

    /// Writes a failure in place of a head; nothing follows it. A detail that is too long is cut.
    pub fn failure(&mut self, failure: &Failure) {
        let mut detail = failure.detail.as_str();
        if detail.len() > DETAIL_LEN_MAX {
            detail = detail.get(..detail.floor_char_boundary(DETAIL_LEN_MAX)).unwrap_or_default();
        }
        wire::put_varint(&mut self.out, kind::FAILURE);
        let number = failure.code.number();
        // Flags, code, the detail's length in two octets (it is under 16384), the detail.
        wire::put_len(&mut self.out, 1 + 2 + 2 + detail.len());
        self.out.put_u8(if failure.started { FLAG_STARTED } else { 0 });
        self.out.put_u16(number);
        self.out.put_u16(0x4000 | u16::try_from(detail.len()).unwrap_or(0));
        self.out.put_slice(detail.as_bytes());
    }

    /// Writes a piece of the body by copying it: for pieces too small to be worth a write of their own.
    pub fn data(&mut self, piece: &[u8]) {
        for piece in piece.chunks(DATA_LEN_MAX) {
            self.data_header(piece.len());
            self.out.put_slice(piece);
        }
    }

    /// Writes the header of a piece of `len` octets, at most [`DATA_LEN_MAX`]; the caller writes
    /// [`Encoder::take`] and right after it the piece itself. An empty piece has no frame.
    pub fn data_header(&mut self, len: usize) {
        if len != 0 {
            wire::put_varint(&mut self.out, kind::DATA);
            wire::put_len(&mut self.out, len);
        }
    }

    /// Writes the trailers, which end the body.
    pub fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), EncodeError> {
        self.frame(kind::TRAILERS, |out| fields::put(out, trailers))
    }

    /// Writes the end of a body without trailers.
    pub fn end(&mut self) {
        self.empty(kind::END);
    }

    /// Writes the switch to raw bytes; from here on only the upgraded protocol's own bytes are written.
    pub fn raw(&mut self) {
        self.empty(kind::RAW);
    }

    /// Writes a probe, alone on its stream.
    pub fn probe(&mut self, nonce: u64) {
        self.nonce(kind::PROBE, nonce);
    }

    /// Writes the answer to a probe.
    pub fn probe_reply(&mut self, nonce: u64) {
        self.nonce(kind::PROBE_REPLY, nonce);
    }

    fn response_head(&mut self, kind: u64, head: &ResponseHead, end: bool) -> Result<(), EncodeError> {
        self.frame(kind, |out| {
            out.put_u8(if end { FLAG_END } else { 0 });
            out.put_u16(head.status.as_u16());
            fields::put(out, &head.headers)
        })
    }

    fn empty(&mut self, kind: u64) {
        wire::put_varint(&mut self.out, kind);
        self.out.put_u8(0);
    }

    fn nonce(&mut self, kind: u64, nonce: u64) {
        wire::put_varint(&mut self.out, kind);
        self.out.put_u8(8);
        self.out.put_u64(nonce);
    }

    /// Writes one frame, or nothing at all if `write` fails or the payload passes [`HEAD_LEN_MAX`].
    fn frame(
        &mut self,
        kind: u64,
        write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let before = self.out.len();
        self.out.reserve(HEAD_LEN_USUAL);
        let start = wire::begin_frame(&mut self.out, kind);
        let written = write(&mut self.out).and_then(|()| {
            wire::end_frame(&mut self.out, start, HEAD_LEN_MAX).map_err(|_| EncodeError::TooLong)
        });
        if written.is_err() {
            self.out.truncate(before);
        }
        written
    }
}

/// What most heads fit, in octets, so that the buffer grows once.
const HEAD_LEN_USUAL: usize = 1024;

/// Methods with a code of their own; a code is the place here plus one, 0 says that the text follows.
pub(super) const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
    Method::PATCH,
    Method::CONNECT,
    Method::TRACE,
];

fn put_method(out: &mut BytesMut, method: &Method) {
    if let Some((code, _)) = (1_u8..).zip(&METHODS).find(|(_, known)| *known == method) {
        out.put_u8(code);
    } else {
        out.put_u8(0);
        wire::put_bytes(out, method.as_str().as_bytes());
    }
}
