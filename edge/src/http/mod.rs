//! Where the differences between HTTP/1.1, HTTP/2 and HTTP/3 end.
//!
//! Owns what every protocol hands to [`crate::request`]: one request type, one body type, and what is known of
//! the connection a request came on. The framing rules of each protocol are enforced here; what a request
//! means (its host, its path, who may pass) is decided in [`crate::request`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

use crate::tls::CertificateNames;

/// What may go wrong with a body in transit; the text is for logs, never for clients.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way, in either direction. Frames are pulled one at a time, so a slow reader slows its writer.
///
/// Dropping it tells the sender to stop: a client that goes away drops the response body, and an edge that
/// answers early drops the request body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How a client speaks to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112) over TLS.
    H1,
    /// HTTP/2 (RFC 9113) over TLS.
    H2,
    /// HTTP/3 (RFC 9114) over QUIC.
    H3,
}

impl Protocol {
    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of the connection a request came on. The same for each of its requests.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client's address, from the socket and from nowhere else (R10). On a QUIC connection it is where the
    /// client was when the request came: a phone may move.
    pub client: SocketAddr,
    /// What the client speaks.
    pub protocol: Protocol,
    /// The name the TLS handshake was for, lower-case. A TLS connection without one is refused, so `None`
    /// means a connection that no TLS handshake began (tests).
    pub sni: Option<Arc<str>>,
    /// The names of the certificate the client was shown. An authority outside them was never proven to the
    /// client, so it is answered with 421 (RFC 9110 §15.5.20); one inside them is legal coalescing.
    pub certificate: Arc<CertificateNames>,
}
