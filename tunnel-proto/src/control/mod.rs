//! The control stream: the first stream of a tunnel, opened by the warpgate, alive as long as the tunnel.
//!
//! [`Message`] is what is said, [`Encoder`] and [`Decoder`] are how. [`WarpgateSession`] and [`EdgeSession`] hold the
//! conversation without I/O or clock: handshake, liveness, drain. Their owner reads and writes the stream:
//!
//! 1. after every read: `handle_bytes(now, bytes)`, at the stream's end `handle_end_of_stream()`;
//! 2. after every call of any kind: `poll_event()` until `None`, then write what `poll_transmit()` gives;
//! 3. sleep until `poll_timeout()` or the next read, whichever is first; then `handle_timeout(now)`. Bytes that have
//!    arrived are handled before the timeout, so that a late wake-up does not count as the peer's silence.

mod codec;
mod edge;
mod link;
mod message;
mod warpgate;

pub use codec::{DecodeError, Decoder, EncodeError, Encoder};
pub use edge::{EdgeEvent, EdgeSession};
pub use link::SessionEnd;
pub use message::{Hello, Message, RefusalCode, Refused, SessionLimits, VERSIONS, VersionRange, Welcome};
pub use warpgate::{WarpgateEvent, WarpgateSession};
