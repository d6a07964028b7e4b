//! The control stream: the first stream of a tunnel, opened by the warpgate, alive as long as the tunnel.
//!
//! [`Message`] is what is said, [`Encoder`] and [`Decoder`] are how. [`WarpgateSession`] and [`EdgeSession`] hold the
//! conversation without I/O or clock: handshake, liveness, drain. Their owner reads and writes the stream:
//!
//! 1. after every read: `handle_bytes(now, bytes)`, at the stream's end `handle_end_of_stream()`;
//! 2. after every call of any kind: `poll_event()` until `None`, then write what `poll_transmit()` gives;
//! 3. sleep until `poll_timeout()` or the next read, whichever is first; then `handle_timeout(now)`. Bytes that have
//!    arrived are handled before the timeout, so that a late wake-up does not count as the peer's silence.

mod decode;
mod edge;
mod encode;
mod fields;
mod link;
mod message;
mod warpgate;

pub use decode::{DecodeError, Decoder};
pub use edge::{EdgeEvent, EdgeSession};
pub use encode::{EncodeError, Encoder};
pub use link::SessionEnd;
pub use message::{
    HealthState, Hello, Message, RefusalCode, Refused, SessionLimits, UpstreamHealth, VERSIONS, VersionRange,
    Welcome,
};
pub use warpgate::{WarpgateEvent, WarpgateSession};

use crate::limits::{BUNDLE_MESSAGE_LEN_MAX, CONTROL_MESSAGE_LEN_MAX};

/// Message types. Never given a second meaning.
mod kind {
    pub(super) const HELLO: u64 = 0x01;
    pub(super) const WELCOME: u64 = 0x02;
    pub(super) const REFUSED: u64 = 0x03;
    pub(super) const PING: u64 = 0x04;
    pub(super) const PONG: u64 = 0x05;
    pub(super) const OFFER: u64 = 0x06;
    pub(super) const WITHDRAW: u64 = 0x07;
    pub(super) const BUNDLE: u64 = 0x08;
    pub(super) const DRAIN: u64 = 0x09;
    pub(super) const PRINCIPAL_KNOWN: u64 = 0x0a;
    pub(super) const PROBE_REQUEST: u64 = 0x0b;
    pub(super) const PROBE_DONE: u64 = 0x0c;
    pub(super) const UPSTREAM_HEALTH: u64 = 0x0d;
    pub(super) const CLOSE: u64 = 0x0e;
}

/// Field number of an upstream's name, in every message that names some.
const UPSTREAM: u64 = 7;

/// Largest payload of a message of type `kind`, in octets.
const fn len_max(kind: u64) -> usize {
    if kind == kind::BUNDLE { BUNDLE_MESSAGE_LEN_MAX } else { CONTROL_MESSAGE_LEN_MAX }
}
