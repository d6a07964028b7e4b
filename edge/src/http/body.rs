//! Request bodies as the request path sees them, whatever carried them.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::HeaderMap;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::answer::section_len;
use super::{Body, BoxError};
use crate::config::{REQUEST_FIELDS_MAX, REQUEST_HEAD_LEN_MAX};

/// Why a request body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client sent nothing for [`crate::Limits::stall`].
    #[error("the client stopped sending")]
    Stalled,
    /// The client went away or gave the request up.
    #[error("the client went away")]
    Gone,
    /// The body's framing or length is wrong.
    #[error("the body is malformed")]
    Malformed,
    /// It is longer than its route takes: so many octets.
    #[error("the body is longer than {0} octets")]
    TooLarge(u64),
    /// It stood still, and the edge needed its memory.
    #[error("the body stood still and was given up for its memory")]
    Shed,
}

/// A body without frames. Allocates nothing.
pub fn no_body() -> Body {
    Body::new(NoBody)
}

/// A zero-sized body, so that boxing it costs nothing.
struct NoBody;

impl http_body::Body for NoBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// A body hyper reads, with our errors.
pub(super) struct H1Body(pub(super) Incoming);

impl http_body::Body for H1Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let poll = Pin::new(&mut self.0).poll_frame(cx);
        poll.map(|frame| frame.map(|result| result.map_err(|error| h1_error(&error).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

fn h1_error(error: &hyper::Error) -> BodyError {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => BodyError::Stalled,
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => BodyError::Malformed,
        _ => BodyError::Gone,
    }
}

/// Whether trailers keep to the limits of a head, as those of h1 are made to while they are read.
pub(super) fn trailers_fit(trailers: &HeaderMap) -> bool {
    trailers.len() <= REQUEST_FIELDS_MAX && section_len(trailers) <= REQUEST_HEAD_LEN_MAX
}

/// One text as a body.
pub(super) fn text(text: String) -> Body {
    use http_body_util::BodyExt as _;
    Body::new(http_body_util::Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}))
}
