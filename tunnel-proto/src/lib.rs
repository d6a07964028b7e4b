//! The wire between edge and warpgate, without I/O.

pub mod assertion;
pub mod bundle;
pub mod codes;
pub mod connect;
pub mod control;
pub mod exchange;
pub mod headers;
pub mod jws;
pub mod limits;
pub mod principals;
mod wire;

/// ALPN of a tunnel (RFC 7301 §3.1).
pub const ALPN: &[u8] = b"mezu-tunnel/1";

/// ALPN of the connect protocol.
pub const CONNECT_ALPN: &[u8] = b"mezu-enroll/1";
