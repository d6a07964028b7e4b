//! A request body that arrives on an HTTP/3 stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::StreamError;
use h3::server::RequestStream;
use http_body::{Frame, SizeHint};

use super::quic::RecvStream;
use crate::http::body::{BodyError, trailers_fit};
use crate::http::stall::Stall;
use crate::http::{Body, BoxError, no_body};

/// The receiving half of a request stream.
pub(super) type Recv = RequestStream<RecvStream, Bytes>;

/// A request body. Dropping it before its end tells the client to stop.
pub(super) struct H3Body {
    stream: Recv,
    /// Octets still to come, if the client said how many.
    left: Option<u64>,
    /// What was found when the request was begun.
    first: Option<Frame<Bytes>>,
    state: State,
    stall: Stall,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    End,
}

impl H3Body {
    /// Looks at what is there. Most requests end with their head, and then there is no body to carry along.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] for a request that ended and had promised a body.
    pub(super) fn begin(
        cx: &mut Context<'_>,
        stream: Recv,
        length: Option<u64>,
        stall: Stall,
    ) -> Result<Body, BodyError> {
        let mut body = Self { stream, left: length, first: None, state: State::Data, stall };
        match body.poll(cx) {
            Poll::Ready(None) => return Ok(no_body()),
            Poll::Ready(Some(Ok(frame))) => body.first = Some(frame),
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Pending => {}
        }
        Ok(Body::new(body))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.state == State::Data {
            match ready!(self.stream.poll_recv_data(cx)) {
                Ok(Some(mut data)) => {
                    // One chunk of what quinn received: no copy is made.
                    let data = data.copy_to_bytes(data.remaining());
                    return Poll::Ready(Some(self.count(data.len()).map(|()| Frame::data(data))));
                }
                Ok(None) => self.state = State::Trailers,
                Err(error) => return Poll::Ready(Some(Err(self.failed(&error)))),
            }
        }
        if self.state == State::Trailers {
            let trailers = ready!(self.stream.poll_recv_trailers(cx));
            self.state = State::End;
            if self.left.is_some_and(|left| left > 0) {
                return Poll::Ready(Some(Err(BodyError::Malformed)));
            }
            return match trailers {
                // They have the limits of a head.
                Ok(Some(trailers)) if !trailers_fit(&trailers) => {
                    Poll::Ready(Some(Err(BodyError::Malformed)))
                }
                Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(None) => Poll::Ready(None),
                Err(error) => Poll::Ready(Some(Err(self.failed(&error)))),
            };
        }
        Poll::Ready(None)
    }

    /// A body agrees with its `content-length` (RFC 9114 §4.1.2).
    fn count(&mut self, len: usize) -> Result<(), BodyError> {
        let Some(left) = &mut self.left else { return Ok(()) };
        let rest = left.checked_sub(len as u64);
        *left = rest.unwrap_or(0);
        if rest.is_none() {
            self.state = State::End;
            return Err(BodyError::Malformed);
        }
        Ok(())
    }

    fn failed(&mut self, error: &StreamError) -> BodyError {
        self.state = State::End;
        if let StreamError::StreamError { .. } | StreamError::HeaderTooBig { .. } = error {
            BodyError::Malformed
        } else {
            BodyError::Gone
        }
    }
}

impl http_body::Body for H3Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.first.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let this = &mut *self;
        let poll = this.poll(cx);
        this.stall.watch(cx, poll).map(|frame| {
            let frame = frame.unwrap_or_else(|| {
                this.state = State::End;
                Some(Err(BodyError::Stalled))
            });
            frame.map(|frame| frame.map_err(BoxError::from))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::End && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left.saturating_add(first)))
    }
}
