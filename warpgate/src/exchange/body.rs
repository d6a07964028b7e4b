//! The request body as the upstream's connection reads it.
//!
//! Its sender says [`Part::End`]; if it goes away without, the body has failed, and the connection breaks
//! off instead of pretending that the body was whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use crate::limits::UPLOAD_QUEUE_MAX;

/// A piece of a request body.
#[derive(Debug)]
pub(super) enum Part {
    Data(Bytes),
    Trailers(Box<HeaderMap>),
    End,
}

/// The client's body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client's body broke off")]
pub(super) struct Cut;

/// A request body.
#[derive(Debug)]
pub(super) enum RequestBody {
    Empty,
    Streaming(mpsc::Receiver<Part>),
}

impl RequestBody {
    /// A body and where its parts go in.
    pub(super) fn streaming() -> (mpsc::Sender<Part>, Self) {
        let (parts, body) = mpsc::channel(UPLOAD_QUEUE_MAX);
        (parts, Self::Streaming(body))
    }

    /// Whether it can be sent again, because there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Self::Streaming(parts) = &mut *self else {
            return Poll::Ready(None);
        };
        match ready!(parts.poll_recv(context)) {
            Some(Part::Data(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some(Part::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(*trailers)))),
            Some(Part::End) => {
                *self = Self::Empty;
                Poll::Ready(None)
            }
            None => {
                *self = Self::Empty;
                Poll::Ready(Some(Err(Cut)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }
}
