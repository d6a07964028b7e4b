//! A response on its way to the client, whoever made it, with the line of the log that is written when it has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::Response;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::forward::{Download, Forwarded};
use super::record::{End, Line};
use super::respond::Own;
use crate::fair::memory::{Ledger, Metered, RESPONSE_HELD_MAX};
use crate::http::{Body, BoxError};

/// What answers a request.
pub(crate) enum Answer {
    /// The upstream, through a warpgate.
    Forwarded(Box<Forwarded>, Arc<Ledger>),
    /// Control, for a host of the platform.
    Platform(Response<Body>),
    /// The edge itself.
    Own(Own),
    /// The edge itself, whether a page of another origin may ask.
    Preflight(Own),
}

impl Answer {
    /// The response as the connection writes it. `line` is written when its body has ended.
    pub(crate) fn into_response(self, mut line: Line) -> Response<Body> {
        let (parts, source) = match self {
            Self::Forwarded(forwarded, ledger) => {
                let Forwarded { status, headers, body, warpgate, leash } = *forwarded;
                line.warpgate(warpgate);
                let mut response = Response::new(());
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                if let Some(leash) = leash {
                    response.extensions_mut().insert(leash);
                }
                let body = Metered::new(body, RESPONSE_HELD_MAX, &ledger);
                (response.into_parts().0, Source::Upstream(Box::new(body)))
            }
            Self::Platform(response) => {
                let (parts, body) = response.into_parts();
                (parts, Source::Platform(body))
            }
            Self::Own(response) | Self::Preflight(response) => {
                let (parts, body) = response.into_parts();
                (parts, Source::Own(body))
            }
        };
        line.status(parts.status);
        if source.is_end_stream() {
            line.ended(End::Whole);
        }
        Response::from_parts(parts, Body::new(Recorded { source, line }))
    }
}

/// Where a body comes from.
enum Source {
    Upstream(Box<Metered<Download>>),
    Platform(Body),
    Own(Bytes),
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Upstream(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Platform(body) => Pin::new(body).poll_frame(cx),
            Self::Own(body) if body.is_empty() => Poll::Ready(None),
            Self::Own(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(body) => body.is_end_stream(),
            Self::Platform(body) => body.is_end_stream(),
            Self::Own(body) => body.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(body) => body.size_hint(),
            Self::Platform(body) => body.size_hint(),
            Self::Own(body) => SizeHint::with_exact(u64::try_from(body.len()).unwrap_or(0)),
        }
    }
}

/// A body whose octets are counted. Dropped before its end, its line says that the client went away.
struct Recorded {
    source: Source,
    line: Line,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(this.source.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                this.line.sent(frame.data_ref().map_or(0, Bytes::len));
                if this.source.is_end_stream() {
                    this.line.ended(End::Whole);
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "A response broke off");
                this.line.ended(End::Cut);
            }
            None => this.line.ended(End::Whole),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
