//! The body of an upstream's response, whatever it was spoken in.
//!
//! `hyper` takes a reset of an HTTP/2 stream for the clean end of a body when it says `CANCEL` or `NO_ERROR`; here nothing
//! that was cut looks whole, so HTTP/2 is read without it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A response's body.
pub(super) enum AnswerBody {
    H1(Incoming),
    H2(H2Body),
}

/// Why it is not whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("{0}")]
    H1(#[from] hyper::Error),
    #[error("{0}")]
    H2(#[from] h2::Error),
}

/// The body of an HTTP/2 response.
pub(super) struct H2Body {
    stream: RecvStream,
    /// Octets of the last piece: the upstream may send as many once it is passed on.
    passed: usize,
    /// What `content-length` says is still to come; `h2` sees to it that no more does.
    left: Option<u64>,
    /// The request had a body, which the upstream may refuse after a whole response.
    had_upload: bool,
    is_done: bool,
}

impl H2Body {
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap, had_upload: bool) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Self { stream, passed: 0, left: length, had_upload, is_done: false }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if self.passed > 0 {
            // It fails only if the stream is over, which the read below sees.
            drop(self.stream.flow_control().release_capacity(std::mem::take(&mut self.passed)));
        }
        match ready!(self.stream.poll_data(context)) {
            Some(Ok(piece)) => {
                self.passed = piece.len();
                let octets = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                self.left = self.left.map(|left| left.saturating_sub(octets));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            Some(Err(why)) => {
                self.is_done = true;
                // After a whole response a server may ask with this reset for the rest of the request not to be sent
                // (RFC 9113 §8.1); in any other place it cuts the response.
                let not_wanted = why.is_reset() && why.is_remote() && why.reason() == Some(Reason::NO_ERROR);
                let is_whole = not_wanted && self.had_upload && self.left.is_none_or(|left| left == 0);
                return Poll::Ready(if is_whole { None } else { Some(Err(why.into())) });
            }
            None => {}
        }
        self.is_done = true;
        match ready!(self.stream.poll_trailers(context)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(why) => Poll::Ready(Some(Err(why.into()))),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::H1(body) => Pin::new(body).poll_frame(context).map_err(BodyError::from),
            Self::H2(body) => body.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.is_done || body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(body) => body.size_hint(),
            Self::H2(body) if body.stream.is_end_stream() => SizeHint::with_exact(0),
            Self::H2(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
