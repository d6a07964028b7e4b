//! A response's body on its way out of the tunnel: read when the client takes it, counted, and cut where it breaks.
//!
//! Reads straight from the connection's buffers when it is polled: no task and no queue stand between, so a client
//! that reads slowly slows its upstream. A body that breaks off ends with an error, never with a clean end.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::Event;

use super::guard::{Guard, LOOK_EVERY};
use super::reader::{Reader, ReaderError};
use super::upload::Upload;
use crate::http::BoxError;
use crate::tunnel::Chosen;

/// Small pieces are joined up to this many octets: one TLS record and one HTTP/2 frame instead of a dozen.
const JOIN_LEN_MAX: usize = 16 * 1024;

/// A piece of this many octets is handed on as it is: copying it would cost more than it saves.
const ALONE_LEN_MIN: usize = 8 * 1024;

/// Why a body broke off. For logs; the client only sees the cut.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// The tunnel, or the warpgate.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// More or less than the head said.
    #[error("the upstream's body has another length than its head said")]
    Length,
    /// Nothing came for too long.
    #[error("no octet came for {} s", .0.as_secs())]
    Idle(Duration),
    /// The caller may not have it any more.
    #[error("the session was ended")]
    Denied,
}

/// The body of a response.
pub(crate) struct Download {
    reader: Box<Reader>,
    /// Octets still to come out of the reader, if the head said how many.
    left: Option<u64>,
    /// Octets to be handed out: the first piece as it came…
    piece: Bytes,
    /// …or several, joined.
    joined: BytesMut,
    next: Next,
    idle: Duration,
    /// When the last octet was handed out.
    moved: Instant,
    /// Armed while the body stands still.
    timer: Option<Pin<Box<Sleep>>>,
    guard: Option<Guard>,
    /// Writes what is left of the request.
    upload: Option<AbortOnDropHandle<()>>,
    /// Counts as outstanding until the body has ended.
    chosen: Option<Chosen>,
}

/// What a body gives after the octets at hand.
enum Next {
    /// What the reader brings.
    More,
    /// These trailers.
    Trailers(HeaderMap),
    /// Nothing: it is whole.
    End,
    /// An error, and then nothing.
    Broken(Broken),
}

impl Download {
    /// The body that `reader` brings, of `length` octets if the head said so.
    pub(super) fn new(
        reader: Box<Reader>,
        upload: Box<Upload>,
        length: Option<u64>,
        idle: Duration,
        guard: Option<Guard>,
        chosen: Chosen,
    ) -> Self {
        let mut download = Self {
            reader,
            left: length,
            piece: Bytes::new(),
            joined: BytesMut::new(),
            next: Next::More,
            idle,
            moved: Instant::now(),
            timer: None,
            guard,
            upload: detach(upload, idle),
            chosen: Some(chosen),
        };
        // A small body came with its head; its end is then known before anybody asks.
        download.gather();
        download
    }

    /// A response without a body, whatever its head says of one (RFC 9110 §6.4.1). `end`: nothing follows the head.
    pub(super) fn none(mut reader: Box<Reader>, upload: Box<Upload>, end: bool, idle: Duration) -> Self {
        if end {
            reader.end();
        } else {
            reader.stop(ResetCode::NotNeeded);
        }
        Self {
            reader,
            left: Some(0),
            piece: Bytes::new(),
            joined: BytesMut::new(),
            next: Next::End,
            idle,
            moved: Instant::now(),
            timer: None,
            guard: None,
            upload: detach(upload, idle),
            chosen: None,
        }
    }

    /// Takes what is here already.
    fn gather(&mut self) {
        while matches!(self.next, Next::More)
            && self.joined.len() < JOIN_LEN_MAX
            && self.piece.len() < ALONE_LEN_MIN
        {
            match self.reader.event() {
                Ok(Some(Event::Data(data))) => self.add(data),
                Ok(Some(Event::End)) => self.end(None),
                Ok(Some(Event::Trailers(trailers))) => self.end(Some(trailers)),
                Ok(Some(_)) => {
                    let error = self.reader.broken();
                    self.fail(error.into());
                }
                Ok(None) => return,
                Err(error) => self.fail(error.into()),
            }
        }
    }

    fn add(&mut self, data: Bytes) {
        if let Some(left) = &mut self.left {
            let Some(rest) = left.checked_sub(u64::try_from(data.len()).unwrap_or(u64::MAX)) else {
                self.reader.stop(ResetCode::Protocol);
                return self.fail(Broken::Length);
            };
            *left = rest;
        }
        if self.piece.is_empty() && self.joined.is_empty() {
            self.piece = data;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(JOIN_LEN_MAX);
            self.joined.extend_from_slice(&std::mem::take(&mut self.piece));
        }
        self.joined.extend_from_slice(&data);
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.reader.end();
        if self.left.is_some_and(|left| left > 0) {
            return self.fail(Broken::Length);
        }
        let trailers = trailers.and_then(|mut trailers| {
            tunnel_proto::headers::strip_response_trailers(&mut trailers);
            (!trailers.is_empty()).then_some(trailers)
        });
        self.next = trailers.map_or(Next::End, Next::Trailers);
        self.release();
    }

    fn fail(&mut self, why: Broken) {
        self.next = Next::Broken(why);
        self.release();
    }

    /// Lets go of everything that was held for the exchange.
    fn release(&mut self) {
        self.guard = None;
        self.timer = None;
        self.upload = None;
        self.chosen = None;
    }

    fn at_hand(&self) -> usize {
        self.piece.len() + self.joined.len()
    }

    fn take_data(&mut self) -> Bytes {
        if self.joined.is_empty() { std::mem::take(&mut self.piece) } else { self.joined.split().freeze() }
    }

    /// Waits with a clock running.
    fn poll_still(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let look = |moved: Instant, idle, guarded: bool| {
            let deadline = moved + idle;
            if guarded { deadline.min(Instant::now() + LOOK_EVERY) } else { deadline }
        };
        let (idle, guarded) = (self.idle, self.guard.is_some());
        let at = look(self.moved, idle, guarded);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        while timer.as_mut().poll(cx).is_ready() {
            if self.moved.elapsed() >= idle {
                self.reader.stop(ResetCode::Timeout);
                self.fail(Broken::Idle(idle));
                return Poll::Ready(());
            }
            if let Some(guard) = &mut self.guard
                && !guard.holds_now()
            {
                self.reader.stop(ResetCode::Denied);
                self.fail(Broken::Denied);
                return Poll::Ready(());
            }
            timer.as_mut().reset(look(self.moved, idle, guarded));
        }
        Poll::Pending
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(guard) = &mut this.guard
            && !guard.holds()
        {
            this.reader.stop(ResetCode::Denied);
            this.fail(Broken::Denied);
        }
        loop {
            this.gather();
            if this.at_hand() > 0 {
                this.moved = Instant::now();
                return Poll::Ready(Some(Ok(Frame::data(this.take_data()))));
            }
            match &mut this.next {
                Next::More => {}
                Next::Trailers(trailers) => {
                    let trailers = std::mem::take(trailers);
                    this.next = Next::End;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Next::End => return Poll::Ready(None),
                Next::Broken(why) => return Poll::Ready(Some(Err(why.to_string().into()))),
            }
            match this.reader.poll_more(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => this.fail(error.into()),
                Poll::Pending => match this.poll_still(cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.next, Next::End) && self.at_hand() == 0
    }

    fn size_hint(&self) -> SizeHint {
        let at_hand = u64::try_from(self.at_hand()).unwrap_or(0);
        match (&self.next, self.left) {
            (Next::End, _) => SizeHint::with_exact(at_hand),
            (_, Some(left)) => SizeHint::with_exact(left.saturating_add(at_hand)),
            (_, None) => SizeHint::default(),
        }
    }
}

/// Lets the rest of a request be written while its response is read. Ends with the response.
///
/// A task of its own, because a client may well send all of its request before it reads.
fn detach(mut upload: Box<Upload>, idle: Duration) -> Option<AbortOnDropHandle<()>> {
    if upload.is_finished() {
        return None;
    }
    upload.reset_with(ResetCode::NotNeeded);
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut timer = pin!(tokio::time::sleep(idle));
        poll_fn(|cx| {
            let mut moved = false;
            if upload.poll(cx, &mut moved).is_ready() {
                return Poll::Ready(());
            }
            if moved {
                timer.as_mut().reset(Instant::now() + idle);
            }
            if timer.as_mut().poll(cx).is_ready() {
                upload.reset_with(ResetCode::Timeout);
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    })))
}
