//! A request's body on its way into the tunnel: pulled a piece at a time, counted, and replayable while it is small.
//!
//! Nothing is buffered ahead. What was sent is only *kept* (shared, not copied) up to [`REPLAY_LEN_MAX`], so that a small
//! request can be sent once more when a warpgate provably did nothing with it. The body of a client that waits for
//! 100 is not asked for before [`Source::open`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::HeaderMap;
use bytes::Bytes;
use http_body::Body as _;

use crate::http::{Body, BodyError, BoxError, Interim};

/// Octets kept of a body for sending it again. Forms and API calls fit; uploads are sent once.
pub(super) const REPLAY_LEN_MAX: usize = 64 * 1024;

/// Pieces kept for sending again, so that a body of tiny pieces stays small too.
const REPLAY_PIECES_MAX: usize = 64;

/// A piece of a body.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Octets.
    Data(Bytes),
    /// The trailers, stripped; nothing follows.
    Trailers(HeaderMap),
    /// The end; nothing follows.
    End,
}

/// Why a body has no next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SourceError {
    /// The client went away, or broke the framing.
    #[error("the client's body broke off")]
    Cut,
    /// The client stopped sending.
    #[error("the client stopped sending")]
    Stalled,
    /// The body is longer than its route takes: so many octets.
    #[error("the client's body is longer than {0} octets")]
    TooLarge(u64),
    /// It was given up for its memory.
    #[error("the client's body was given up for its memory")]
    Shed,
    /// The body is not as long as its head said.
    #[error("the client's body has another length than its head said")]
    Length,
}

/// The body of one request.
pub(super) struct Source {
    body: Body,
    /// Octets still to come, if the head said how many.
    left: Option<u64>,
    /// What was pulled so far; `None` once it was too much.
    kept: Option<Vec<Piece>>,
    kept_len: usize,
    /// How many of the kept pieces this attempt has sent.
    replayed: usize,
    done: bool,
    /// The client waits for this before it sends.
    waits: Option<Interim>,
}

impl Source {
    /// The body of a request whose head announced `length`.
    pub(super) fn new(body: Body, length: Option<u64>) -> Self {
        Self {
            body,
            left: length,
            kept: Some(Vec::new()),
            kept_len: 0,
            replayed: 0,
            done: false,
            waits: None,
        }
    }

    /// The same from a client that waits for a 100 on `interim` before it sends.
    pub(super) fn waiting(self, interim: Interim) -> Self {
        Self { waits: Some(interim), ..self }
    }

    /// What a client sends once it has switched protocols: octets without a known end, which are never sent again.
    pub(super) fn raw(body: Body) -> Self {
        Self { kept: None, ..Self::new(body, None) }
    }

    /// Tells a client that waits to send.
    pub(super) fn open(&mut self) {
        if let Some(interim) = self.waits.take() {
            interim.go_on();
        }
    }

    /// Whether all of it is sure to be small enough to be sent again.
    pub(super) fn is_small(&self) -> bool {
        self.left.is_some_and(|left| usize::try_from(left).is_ok_and(|left| left <= REPLAY_LEN_MAX))
    }

    /// Begins anew, for another attempt. `false` if too much has gone by.
    pub(super) fn rewind(&mut self) -> bool {
        self.replayed = 0;
        self.kept.is_some()
    }

    /// The next piece; not to be called after the last. Pending, without a wake-up, until a client that waits was told.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, SourceError>> {
        if self.waits.is_some() {
            return Poll::Pending;
        }
        if let Some(piece) = self.kept.as_ref().and_then(|kept| kept.get(self.replayed)) {
            let piece = piece.clone();
            self.replayed += 1;
            return Poll::Ready(Ok(piece));
        }
        let piece = ready!(self.poll_body(cx))?;
        self.keep(&piece);
        Poll::Ready(Ok(piece))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, SourceError>> {
        loop {
            // A body that knows its end is not asked for it: the answer might take another turn.
            if self.done || self.body.is_end_stream() {
                self.done = true;
                return Poll::Ready(self.whole().map(|()| Piece::End));
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                self.done = true;
                return Poll::Ready(self.whole().map(|()| Piece::End));
            };
            let frame = match frame.map_err(|error| broken(&error))?.into_data() {
                Ok(data) if data.is_empty() => continue,
                Ok(data) => return Poll::Ready(self.count(&data).map(|()| Piece::Data(data))),
                Err(frame) => frame,
            };
            if let Ok(mut trailers) = frame.into_trailers() {
                self.done = true;
                self.whole()?;
                tunnel_proto::headers::strip_request_trailers(&mut trailers);
                let end = if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) };
                return Poll::Ready(Ok(end));
            }
        }
    }

    fn count(&mut self, data: &Bytes) -> Result<(), SourceError> {
        let Some(left) = &mut self.left else { return Ok(()) };
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        *left = left.checked_sub(len).ok_or(SourceError::Length)?;
        Ok(())
    }

    fn whole(&self) -> Result<(), SourceError> {
        if self.left.is_none_or(|left| left == 0) { Ok(()) } else { Err(SourceError::Length) }
    }

    fn keep(&mut self, piece: &Piece) {
        let Some(kept) = &mut self.kept else { return };
        self.kept_len += match piece {
            Piece::Data(data) => data.len(),
            Piece::Trailers(_) | Piece::End => 0,
        };
        if self.kept_len > REPLAY_LEN_MAX || kept.len() >= REPLAY_PIECES_MAX {
            self.kept = None;
        } else {
            kept.push(piece.clone());
            self.replayed += 1;
        }
    }
}

fn broken(error: &BoxError) -> SourceError {
    match error.downcast_ref() {
        Some(BodyError::Stalled) => SourceError::Stalled,
        Some(BodyError::TooLarge(max)) => SourceError::TooLarge(*max),
        Some(BodyError::Shed) => SourceError::Shed,
        _ => SourceError::Cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, Full};
    use std::future::poll_fn;

    fn source(text: &'static str, length: Option<u64>) -> Source {
        Source::new(
            Body::new(Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {})),
            length,
        )
    }

    fn drain(source: &mut Source) -> Result<Vec<u8>, SourceError> {
        let mut all = Vec::new();
        loop {
            match poll_fn(|cx| source.poll_piece(cx)).now_or_never().unwrap()? {
                Piece::Data(data) => all.extend_from_slice(&data),
                Piece::Trailers(_) | Piece::End => return Ok(all),
            }
        }
    }

    #[test]
    fn a_small_body_can_be_sent_again_and_is_the_same() {
        let mut source = source("hello", Some(5));
        assert!(source.is_small());
        assert_eq!(drain(&mut source).unwrap(), b"hello");
        assert!(source.rewind());
        assert_eq!(drain(&mut source).unwrap(), b"hello");
    }

    #[test]
    fn a_large_body_is_sent_once() {
        let large: &'static str = "x".repeat(REPLAY_LEN_MAX + 1).leak();
        let mut source = source(large, None);
        assert!(!source.is_small());
        assert_eq!(drain(&mut source).unwrap().len(), REPLAY_LEN_MAX + 1);
        assert!(!source.rewind());
    }

    #[test]
    fn a_client_that_waits_is_told_once_and_before_its_body_is_asked_for() {
        let (interim, mut interims) = Interim::pair(true);
        let mut source = source("hello", Some(5)).waiting(interim);
        assert!(poll_fn(|cx| source.poll_piece(cx)).now_or_never().is_none());
        assert!(poll_fn(|cx| interims.poll_next(cx)).now_or_never().is_none(), "nobody has said so yet");
        source.open();
        source.open();
        assert_eq!(poll_fn(|cx| interims.poll_next(cx)).now_or_never().unwrap().status, 100);
        assert!(poll_fn(|cx| interims.poll_next(cx)).now_or_never().is_none());
        assert_eq!(drain(&mut source).unwrap(), b"hello");
    }

    #[test]
    fn r08_a_body_that_is_not_as_long_as_announced_is_an_error() {
        assert_eq!(drain(&mut source("hello", Some(6))), Err(SourceError::Length));
        assert_eq!(drain(&mut source("hello", Some(4))), Err(SourceError::Length));
        assert!(drain(&mut source("hello", None)).is_ok());
    }
}
