//! A response's body on its way out of the tunnel: read when the client takes it, counted, and cut where it breaks.
//!
//! Reads straight from the connection's buffers when it is polled: no task and no queue stand between, so a client
//! that reads slowly slows its upstream. A body that breaks off ends with an error, never with a clean end.
//!
//! After a switch of protocols the same body carries raw octets, and the client's direction has a life of its own
//! (see [`crate::http::Upgrade`] for how the end of one of the two is told). When such an exchange must end and is a
//! WebSocket, its client is told why between two frames ([`close`]); everything else is cut.

mod close;
mod open;

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::Event;

use super::guard::{Guard, Over};
use super::reader::{Reader, ReaderError};
use super::traffic::{Traffic, UploadEnd};
use crate::http::BoxError;
use crate::http::websocket::Frames;
use crate::request::refusal::Refusal;
use crate::tunnel::Chosen;

/// Room for small pieces that are joined: with the header of an HTTP/2 frame they are one TLS record instead of a dozen.
const JOIN_LEN_MAX: usize = 16 * 1024 - 64;

/// No more is joined from this many octets on: another packet's worth might not fit, and what waits for a slow client would
/// take twice its size.
const JOINED_LEN_ENOUGH: usize = JOIN_LEN_MAX - 1500;

/// A piece of this many octets is handed on as it is: copying it would cost more than it saves.
const ALONE_LEN_MIN: usize = 8 * 1024;

/// How long nothing may move once one direction of two has ended, if the route does not say less. A peer that has ended
/// its own seldom has much to hear any more, and one that is gone looks the same.
const HALF_CLOSED_IDLE_MAX: Duration = Duration::from_secs(30);

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
    /// The whole exchange took too long.
    #[error("it took longer than the route allows")]
    Total,
    /// It may not go on.
    #[error(transparent)]
    Denied(#[from] Over),
    /// The other direction of a switched protocol was cut.
    #[error("the client's octets broke off")]
    ClientCut,
}

impl Broken {
    /// What is told of it while the response's head is still unsaid.
    fn refusal(&self) -> Refusal {
        match self {
            Self::Reader(error) => error.refusal(),
            // Warpgates see to it that a body is as long as its head says. Nothing else can be known so early.
            _ => Refusal::TunnelProtocol,
        }
    }
}

/// How long a body may take, and for whom it is.
pub(super) struct Terms {
    /// How long nothing may move in either direction.
    pub(super) idle: Duration,
    /// When it must have ended.
    pub(super) until: Option<Instant>,
    /// Says whether it may go on.
    pub(super) guard: Option<Guard>,
    /// Whether it asked for a WebSocket.
    pub(super) is_websocket: bool,
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
    terms: Terms,
    /// When the last octet was handed out.
    moved: Instant,
    /// Armed while the body stands still.
    timer: Option<Pin<Box<Sleep>>>,
    /// What is left of the request, or the client's direction of two.
    traffic: Option<Traffic>,
    /// Whether it carries raw octets, whose client may go on after their end.
    raw: bool,
    /// Where the frames of a WebSocket's upstream end.
    frames: Option<Frames>,
    /// A WebSocket that must end, and until when it may do so in order.
    closing: Option<(Over, Instant)>,
    /// Counts as outstanding until the body has ended.
    chosen: Option<Chosen>,
}

/// What a body gives after the octets at hand.
enum Next {
    /// What the reader brings.
    More,
    /// These trailers.
    Trailers(HeaderMap),
    /// Nothing until the client's direction has ended too.
    Client,
    /// Nothing: it is whole.
    End,
    /// An error, once what was handed out before it had a chance to leave.
    Breaking(Broken),
    /// An error, and then nothing.
    Broken(Broken),
}

impl Download {
    /// The reader has more to decode, or nothing more.
    fn read(&mut self, read: Result<(), ReaderError>) {
        match read {
            Ok(()) => {}
            // In the middle of a frame, if it must end: that is no end to show.
            Err(ReaderError::End) if self.closing.is_none() => self.end_raw(),
            Err(error) => self.fail(error.into()),
        }
    }

    /// Who watches over it, while there is more to come than is at hand.
    pub(super) fn guard(&self) -> Option<&Guard> {
        self.terms.guard.as_ref().filter(|_| self.is_running())
    }

    /// Whether there is room for more of what comes at once.
    fn has_room(&self) -> bool {
        matches!(self.next, Next::More)
            && self.joined.len() < JOINED_LEN_ENOUGH
            && self.piece.len() < ALONE_LEN_MIN
    }

    /// Takes what is here already: all of it, if there is room left then.
    fn gather(&mut self) {
        while self.has_room() {
            match self.reader.event() {
                Ok(Some(Event::Data(data))) => self.add(data),
                Ok(Some(Event::End)) => self.end(None),
                Ok(Some(Event::Trailers(trailers))) => self.end(Some(trailers)),
                // The decoder takes it only after a 101.
                Ok(Some(Event::Raw)) => {}
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

    /// The upstream has said its last raw octet.
    fn end_raw(&mut self) {
        self.next = Next::Trailers(HeaderMap::new());
    }

    fn fail(&mut self, why: Broken) {
        self.next = Next::Breaking(why);
        self.release();
    }

    /// Lets go of everything that was held for the exchange.
    fn release(&mut self) {
        self.terms.guard = None;
        self.timer = None;
        self.traffic = None;
        self.chosen = None;
    }

    /// Breaks off, and tells the warpgate why.
    fn cut(&mut self, code: ResetCode, why: Broken) {
        self.reader.stop(code);
        self.fail(why);
    }

    fn at_hand(&self) -> usize {
        self.piece.len() + self.joined.len()
    }

    /// How long nothing may move, and since when nothing has.
    fn idle(&self) -> (Duration, Instant) {
        let moved = self.traffic.as_ref().map_or(self.moved, |traffic| self.moved.max(traffic.moved()));
        let half_closed = self.raw && (matches!(self.next, Next::Client) || self.traffic.is_none());
        (if half_closed { self.terms.idle.min(HALF_CLOSED_IDLE_MAX) } else { self.terms.idle }, moved)
    }

    /// When to look at the clock and the guard again.
    fn next_look(&self) -> Instant {
        let (idle, moved) = self.idle();
        let look = self.terms.guard.as_ref().map(Guard::look_at);
        let close = self.closing.as_ref().map(|(_, until)| *until);
        [self.terms.until, look, close].into_iter().flatten().fold(moved + idle, Instant::min)
    }

    /// Waits with a clock running.
    fn poll_still(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut timer =
            self.timer.take().unwrap_or_else(|| Box::pin(tokio::time::sleep_until(self.next_look())));
        while timer.as_mut().poll(cx).is_ready() {
            let (idle, moved) = self.idle();
            if moved.elapsed() >= idle {
                self.cut(ResetCode::Timeout, Broken::Idle(idle));
                return Poll::Ready(());
            }
            if self.is_late() {
                return Poll::Ready(());
            }
            if self.is_closed_late() {
                return Poll::Ready(());
            }
            if let Some(Err(over)) = self.terms.guard.as_mut().map(|guard| guard.check(Instant::now())) {
                self.deny(over);
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.next_look());
        }
        self.timer = Some(timer);
        Poll::Pending
    }

    /// Whether the exchange has taken too long; then it is cut.
    fn is_late(&mut self) -> bool {
        let is_late = self.terms.until.is_some_and(|until| Instant::now() >= until);
        if is_late {
            self.cut(ResetCode::Timeout, Broken::Total);
        }
        is_late
    }

    /// Follows the client's direction of two: cut, it cuts this one; ended, it leaves this one to itself.
    fn poll_client(&mut self, cx: &mut Context<'_>) {
        let Some(traffic) = &self.traffic else { return };
        match traffic.poll_end(cx) {
            Poll::Pending => {}
            Poll::Ready(UploadEnd::Done) => {
                // The wait that runs may now be too long.
                self.timer = None;
                self.moved = self.moved.max(traffic.moved());
                self.traffic = None;
            }
            Poll::Ready(UploadEnd::Cut) => self.cut(ResetCode::ClientGone, Broken::ClientCut),
            // It waits until it is drained.
            Poll::Ready(UploadEnd::Denied(_)) if self.closing.is_some() => {}
            Poll::Ready(UploadEnd::Denied(over)) => self.deny(over),
        }
    }

    /// Whether there is still something that may end: the reader's part, or the client's.
    fn is_running(&self) -> bool {
        matches!(self.next, Next::More | Next::Client)
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
        if this.is_running() && !this.is_late() {
            if let Some(Err(over)) = this.terms.guard.as_mut().map(|guard| guard.check(Instant::now())) {
                this.deny(over);
            } else if this.raw {
                this.poll_client(cx);
            }
        }
        loop {
            if let Some(last) = this.close() {
                return Poll::Ready(Some(Ok(Frame::data(last))));
            }
            this.gather();
            if this.at_hand() > 0 {
                this.moved = Instant::now();
                return Poll::Ready(Some(Ok(Frame::data(this.take_data()))));
            }
            match &mut this.next {
                Next::More => match this.reader.poll_more(cx) {
                    Poll::Ready(read) => {
                        this.read(read);
                        continue;
                    }
                    Poll::Pending => {}
                },
                Next::Trailers(trailers) => {
                    let trailers = std::mem::take(trailers);
                    this.next = if this.raw { Next::Client } else { Next::End };
                    this.timer = None;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Next::Client if this.traffic.is_none() => {
                    this.next = Next::End;
                    this.release();
                    continue;
                }
                Next::Client => {}
                Next::End => return Poll::Ready(None),
                Next::Breaking(_) => {
                    // Connections are dropped, and streams reset, with what they had not written yet: it may go first.
                    if let Next::Breaking(why) = std::mem::replace(&mut this.next, Next::End) {
                        this.next = Next::Broken(why);
                    }
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Broken(why) => return Poll::Ready(Some(Err(why.to_string().into()))),
            }
            if this.poll_still(cx).is_pending() {
                return Poll::Pending;
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
