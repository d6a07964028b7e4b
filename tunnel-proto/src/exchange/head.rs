//! What an exchange's frames mean, once decoded: heads, identity, failures.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mezusphere_model::id::{RequestId, RouteId};

pub use crate::codes::FailureCode;

/// How the client reached the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Whose request it is. The warpgate believes none of it before it verified the assertion.
#[derive(Clone, PartialEq, Eq)]
pub enum IdentityRef {
    /// Nobody's.
    None,
    /// Theirs whose assertion this connection carried as this slot, and the warpgate acknowledged.
    Known(u64),
    /// Theirs whom the assertion names; to be remembered as this slot.
    Full {
        /// Never used for anybody else on this connection, because streams arrive in any order.
        slot: u64,
        /// The JWS, compact serialization.
        assertion: Bytes,
    },
}

impl fmt::Debug for IdentityRef {
    /// Without the assertion: it is a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Known(slot) => write!(f, "Known({slot})"),
            Self::Full { slot, assertion } => write!(f, "Full({slot}, {} octets)", assertion.len()),
        }
    }
}

/// The head of a request as an edge hands it to a warpgate.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHead {
    /// In every log line and on every error page of this request.
    pub request: RequestId,
    /// The route the edge chose; the warpgate chooses again and compares.
    pub route: RouteId,
    /// Revision of the site the edge chose it from.
    pub revision: u64,
    /// The client's address.
    pub client: IpAddr,
    /// How the client reached the edge.
    pub scheme: Scheme,
    /// Host and, unless it is the scheme's own, port, as the client meant it.
    pub authority: String,
    /// The method.
    pub method: Method,
    /// Path and query exactly as the client sent them.
    pub target: String,
    /// End-to-end fields, already stripped; never `host`.
    pub headers: HeaderMap,
    /// Whose.
    pub identity: IdentityRef,
    /// The protocol to switch to, `websocket`, if the client asked for an upgrade. Only then may
    /// RAW follow.
    pub upgrade: Option<String>,
}

/// The head of a response, informational or final.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// End-to-end fields, already stripped.
    pub headers: HeaderMap,
}

/// Why there is no response; sent in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Failure {
    /// What happened.
    pub code: FailureCode,
    /// For the log, never for the client: an address, an operating system error.
    pub detail: String,
    /// Whether a byte of the request reached the upstream. If not, sending it elsewhere is safe.
    pub started: bool,
}

/// What [`super::Decoder`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request begins.
    Request {
        /// Its head.
        head: Box<RequestHead>,
        /// Nothing follows it.
        end: bool,
    },
    /// A 1xx head; a final one follows.
    Informational(ResponseHead),
    /// The final head, or 101, which makes sense only to an owner that asked for an upgrade.
    Response {
        /// Its head.
        head: ResponseHead,
        /// Nothing follows it.
        end: bool,
    },
    /// There is no response. Nothing follows.
    Failure(Failure),
    /// A piece of the body, or of the raw bytes after [`Event::Raw`].
    Data(Bytes),
    /// The trailers, which end the body. Nothing follows.
    Trailers(HeaderMap),
    /// The body is whole. Nothing follows.
    End,
    /// From here on the stream carries the upgraded protocol's own bytes, until its end.
    Raw,
    /// Are you there? The stream's only frame.
    Probe {
        /// To be sent back.
        nonce: u64,
    },
    /// I am. The stream's only frame.
    ProbeReply {
        /// The probe's.
        nonce: u64,
    },
}
