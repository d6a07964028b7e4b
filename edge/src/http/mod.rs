//! Where the differences between HTTP/1.1, HTTP/2 and HTTP/3 end.
//!
//! Owns what every protocol hands to [`crate::request`]: one request type, one body type, and what is known of
//! the connection a request came on. The framing rules of each protocol are enforced here; what a request
//! means (its host, its path, who may pass) is decided in [`crate::request`].

pub mod h1;
pub mod h2;
pub mod h3;
pub mod websocket;

mod answer;
mod body;
mod flood;
mod interim;
mod leash;
mod stall;
mod upgrade;

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use mezusphere_model::Clock;

use crate::config::Limits;
use crate::listen::drain::Drain;
use crate::tls::CertificateNames;

pub(crate) use answer::METHODS;
pub use body::{BodyError, no_body};
#[cfg(test)]
pub(crate) use flood::DEBT_MAX;
pub use interim::{INTERIM_LEN_MAX, Interim, InterimHead, Interims};
pub(crate) use leash::{Hold, Leash};
pub(crate) use stall::Stall;
pub use upgrade::Upgrade;

/// What may go wrong with a body in transit; the text is for logs, never for clients. A request body's is a
/// [`BodyError`].
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
    /// The client's address, from the socket and from nowhere else (R10); at a front, from the socket of the edge that
    /// passed the connection on. On a QUIC connection it is where the client was when the handshake ended.
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

/// Answers requests: what every protocol hands its requests to.
pub trait Handle: Send + Sync + 'static {
    /// Answers one request of `connection`. Dropping the future gives the request up.
    fn handle(
        &self,
        request: Request<Body>,
        connection: &ConnectionInfo,
    ) -> impl Future<Output = Response<Body>> + Send;
}

impl Handle for crate::request::Server {
    async fn handle(&self, request: Request<Body>, connection: &ConnectionInfo) -> Response<Body> {
        self.handle(request, connection).await
    }
}

impl Handle for crate::request::PlatformServer {
    async fn handle(&self, request: Request<Body>, connection: &ConnectionInfo) -> Response<Body> {
        self.handle(request, connection).await
    }
}

/// What all connections of a worker share.
pub struct Service<H> {
    handler: H,
    limits: Limits,
    /// `h3=":<port>"; ma=86400`: where HTTP/3 is spoken (RFC 7838), told on h1 and h2; `None`: nowhere.
    alt_svc: Option<HeaderValue>,
    date: answer::Dates,
    drain: Drain,
    h1: hyper::server::conn::http1::Builder,
}

impl<H: Handle> Service<H> {
    /// A service that hands requests to `handler` and tells clients of HTTP/3 on `h3_port`, if it is spoken.
    pub fn new(handler: H, limits: Limits, h3_port: Option<u16>, clock: Clock, drain: Drain) -> Self {
        Self {
            alt_svc: h3_port.map(answer::alt_svc),
            date: answer::Dates::new(clock),
            h1: h1::builder(&limits),
            handler,
            limits,
            drain,
        }
    }
}

/// Polls `future` unless `is_given_up` is ready: a client that gave the request up ends all work for it at once.
async fn unless<F: Future>(
    future: F,
    mut is_given_up: impl FnMut(&mut Context<'_>) -> bool,
) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if is_given_up(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
