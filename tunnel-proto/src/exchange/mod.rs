//! Exchanges: one bidirectional stream each, opened by the edge; a request one way, its response the other.
//!
//! [`Encoder`] writes the frames of one direction, [`Decoder`] reads them. The format is in the crate's docs.

mod decode;
mod encode;
mod fields;
mod head;
mod payload;

pub use decode::{DecodeError, Decoder, Truncated};
pub use encode::{EncodeError, Encoder};
pub use head::{Event, Failure, FailureCode, IdentityRef, RequestHead, ResponseHead, Scheme};

/// Frame types. Never given a second meaning.
mod kind {
    pub(super) const DATA: u64 = 0x00;
    pub(super) const REQUEST: u64 = 0x01;
    pub(super) const RESPONSE: u64 = 0x02;
    pub(super) const INFORMATIONAL: u64 = 0x03;
    pub(super) const FAILURE: u64 = 0x04;
    pub(super) const TRAILERS: u64 = 0x05;
    pub(super) const END: u64 = 0x06;
    pub(super) const RAW: u64 = 0x07;
    pub(super) const PROBE: u64 = 0x08;
    pub(super) const PROBE_REPLY: u64 = 0x09;
    /// The first type without a meaning yet.
    pub(super) const UNKNOWN: u64 = 0x0a;
}

/// Bit 0 of a head's flags: nothing follows.
const FLAG_END: u8 = 1;

/// Bit 0 of a failure's flags: a byte of the request reached the upstream.
const FLAG_STARTED: u8 = 1;

/// Extension field of a request head: the protocol to switch to.
const FIELD_UPGRADE: u64 = 1;
