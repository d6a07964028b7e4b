//! Every bound of the protocol, with its unit and the reason for its value.
//!
//! A decoder refuses what passes a bound; an encoder refuses to write it. Bounds of the public side
//! (fields, head and URI of a client's request) are the edge's; those here are as wide or wider, so that
//! what an edge lets in always fits the wire.

use std::time::Duration;

pub use mezusphere_model::bundle::BUNDLE_LEN_MAX;
pub use mezusphere_model::link::CONNECT_MESSAGE_LEN_MAX;
pub use mezusphere_model::path::URI_LEN_MAX;

/// Largest payload of a head or trailers frame, in octets: 32 KiB of fields, 8 KiB of target and 8 KiB of
/// assertion, with room for the forwarding fields an edge adds.
pub const HEAD_LEN_MAX: usize = 64 * 1024;

/// Most fields in one head or trailers: 100 of a client (design §10) and what an edge adds.
pub const FIELDS_MAX: usize = 128;

/// Longest authority, in octets: a host name of 253 (RFC 1035 §2.3.4), a colon and a port.
pub const AUTHORITY_LEN_MAX: usize = 259;

/// Longest method, in octets; the longest registered one, `UPDATEREDIRECTREF`, has 17.
pub const METHOD_LEN_MAX: usize = 32;

/// Longest protocol name in an upgrade, in octets: `websocket` has 9.
pub const UPGRADE_LEN_MAX: usize = 64;

/// Longest assertion, in octets. It becomes one header field, and common upstreams refuse a field over 8 KiB.
pub const ASSERTION_LEN_MAX: usize = 8 * 1024;

/// Longest detail of a failure or a refusal, in octets: a sentence or two for a log.
pub const DETAIL_LEN_MAX: usize = 512;

/// Most payload in one DATA frame, in octets. A decoder hands data on as it comes and stores none of
/// it, so the value only keeps lengths inside 32 bits.
pub const DATA_LEN_MAX: usize = u32::MAX as usize;

/// Most informational heads (1xx) before a final one; a peer that sends more is feeding us nothing for ever.
pub const INFORMATIONAL_MAX: u32 = 16;

/// Most frames of unknown type on one exchange: room for a newer peer's hints, none for a flood.
pub const UNKNOWN_FRAMES_MAX: u32 = 64;

/// Largest payload of a frame of unknown type, in octets; it is skipped, never stored.
pub const UNKNOWN_FRAME_LEN_MAX: usize = 64 * 1024;

/// Largest payload of a control message other than a bundle, in octets: 256 upstream names of 40 fit.
pub const CONTROL_MESSAGE_LEN_MAX: usize = 16 * 1024;

/// Largest payload of a Bundle message, in octets: the JWS, its environment and revision.
pub const BUNDLE_MESSAGE_LEN_MAX: usize = BUNDLE_LEN_MAX + 64;

/// Most upstream names a warpgate declares.
pub const UPSTREAMS_MAX: usize = 256;

/// Longest agent version or region name, in octets.
pub const LABEL_LEN_MAX: usize = 64;

/// Longest reason with an upstream's health, in octets: the name of a code.
pub const HEALTH_REASON_LEN_MAX: usize = 128;

/// Window of each stream of a tunnel, over QUIC and TCP alike, in octets: what one exchange may have under way, and what one
/// that nobody reads holds. 512 KiB is 100 MB/s at 5 ms and 5 MB/s at 100 ms for each exchange; of 50 slow readers of
/// long bodies it is 25 MiB (design §10 has 64 MiB for all of what they cost).
pub const STREAM_WINDOW: u32 = 512 * 1024;

/// Window of a whole tunnel over TCP towards the warpgate, in octets. Like [`TCP_EDGE_WINDOW`] it must never bind, or one
/// stalled exchange would hold up the others; what bounds memory is each stream's own window and the stall limits.
pub const TCP_WARPGATE_WINDOW: u32 = 256 * 1024 * 1024;

/// Window of a whole tunnel over TCP towards the edge, in octets.
pub const TCP_EDGE_WINDOW: u32 = 1024 * 1024 * 1024;

/// Largest header list on a tunnel over TCP, in octets: its requests and responses carry next to none.
pub const TCP_HEADER_LIST_LEN_MAX: u32 = 4 * 1024;

/// Most control octets waiting to be written, a bundle aside. A peer that lets more pile up does not read.
pub const CONTROL_BACKLOG_LEN_MAX: usize = 256 * 1024;

/// Most control octets an edge takes from a warpgate within [`SILENCE_MAX`]. Acknowledgements at 10 000
/// exchanges a second take a third of it; what a warpgate can make an edge do is bounded by it.
pub const WARPGATE_SAYS_LEN_MAX: usize = 1024 * 1024;

/// Most control octets a warpgate takes from an edge within [`SILENCE_MAX`]: ten full bundles a second, more
/// often than anybody changes routes.
pub const EDGE_SAYS_LEN_MAX: usize = 64 * BUNDLE_MESSAGE_LEN_MAX;

/// How long either side waits for the other's part of the handshake.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How often a warpgate pings. Two may be lost before [`SILENCE_MAX`].
pub const PING_EVERY: Duration = Duration::from_millis(1_500);

/// How long a peer may be silent on the control stream before the tunnel counts as dead; below the 6 s
/// of design §10 by the time it takes to act on it.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Most pings within [`SILENCE_MAX`] that an edge answers: four are due, the rest is for pings that
/// were held up and come in one bunch.
pub const PINGS_MAX: u32 = 32;

/// How long exchanges may still run after Drain (design §5).
pub const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// Longest grace that is given or believed: as long as a certificate lives at most, because no tunnel outlives its
/// certificate. A tunnel that another has replaced may take that long for what it runs.
pub const GRACE_MAX: Duration = Duration::from_hours(24);

/// Most identities a connection remembers, at either end. An edge must not hold more than a warpgate.
pub const PRINCIPALS_MAX: usize = 4096;

/// Exchanges a warpgate takes at once on a tunnel at first.
pub const EXCHANGES_FIRST: u32 = 1024;

/// Exchanges a tunnel may grow to (design §10).
pub const EXCHANGES_MAX: u32 = 10_000;

/// How far an assertion may lie in the future, at most: a warpgate's clock may be this far behind (design §9).
pub const CLOCK_SKEW_MAX: Duration = Duration::from_mins(5);

/// How long an assertion lives (design §6).
pub const ASSERTION_TTL: Duration = Duration::from_mins(30);

/// Most certificates in the `x5c` of a bundle: leaf, issuing CA and one cross-signed root.
pub const X5C_MAX: usize = 4;

/// Largest certificate in an `x5c`, in octets (DER).
pub const CERTIFICATE_LEN_MAX: usize = 8 * 1024;
