//! Stands between TLS and hyper on an HTTP/1.1 connection and lets only strict requests through (R7).
//!
//! Whole heads that pass [`super::head`] reach hyper, untouched and usually where they were read to. A refused
//! one never does: in its place hyper reads [`PLACEHOLDER`], whose answer ([`Wire`] tells which) is the last
//! on the connection, and nothing behind it is read. So answers keep their order under pipelining, and a
//! refusal is a response like any other.
//!
//! What follows a request that asks to switch protocols is kept back: it is the new protocol's if there is a 101
//! ([`Guard::into_raw`]), and nobody's otherwise.
//!
//! Also bounds how long a head may take, and how long a body may stand still before it is answered; and writes
//! interim heads, which hyper's server cannot, at moments when hyper has nothing to write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::BodyScan;
use super::head::{HeadScan, HeadStep, Violation};
use super::wire::Wire;
use crate::config::Limits;
use crate::http::BodyError;
use crate::http::stall::Stall;

/// What hyper reads in place of a refused request. A client that sends the same gets the answer of any other
/// unknown method, or, if a request behind it is refused, that refusal early: it only shortens its own connection.
pub(super) const PLACEHOLDER: &[u8] = b"REFUSED / HTTP/1.1\r\n\r\n";

/// The placeholder's method.
pub(super) const PLACEHOLDER_METHOD: &str = "REFUSED";

/// Most octets read and thrown away after the last response, so that a client still sending reads the response
/// before it meets a reset (RFC 9112 §9.6).
const LINGER_LEN_MAX: usize = 256 * 1024;

/// Longest time the same may take.
const LINGER: Duration = Duration::from_secs(2);

/// What is read at once while a head is incomplete or input is thrown away: one TLS record.
const READ_LEN: usize = 16 * 1024;

/// Most octets kept of what a client sends behind a request to switch protocols: a client that does not wait for the
/// answer sends a first message at most.
const HELD_LEN_MAX: usize = READ_LEN;

/// The guarded connection.
pub(super) struct Guard<T> {
    io: T,
    state: State,
    wire: Wire,
    /// A head that has not ended yet, at most one head long; or what is kept back behind the last one.
    partial: Vec<u8>,
    /// Heads that went through.
    heads: u64,
    /// An interim head being written.
    saying: Bytes,
    /// Octets for hyper that could not stay where they were read to.
    ready: Bytes,
    head_timer: Stall,
    body_timer: Stall,
    /// Whether no request has come yet.
    is_fresh: bool,
    /// Octets that may still be thrown away before the connection closes, and the time for it.
    linger: (usize, Stall),
}

#[derive(Clone, Copy)]
enum State {
    Head(HeadScan),
    Body(BodyScan),
    /// The last request asks to switch protocols; what follows is kept back.
    Held,
    /// Nothing more is read for hyper.
    Ended,
    /// Nothing more is read for hyper, and the body it reads is wrong.
    Broken,
}

impl<T> Guard<T> {
    pub(super) fn new(io: T, limits: &Limits) -> Self {
        Self {
            io,
            state: State::HEAD,
            wire: Wire::default(),
            partial: Vec::new(),
            heads: 0,
            saying: Bytes::new(),
            ready: Bytes::new(),
            head_timer: Stall::new(limits.request_head),
            body_timer: Stall::new(limits.stall),
            is_fresh: true,
            linger: (LINGER_LEN_MAX, Stall::new(LINGER)),
        }
    }

    pub(super) fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// The connection under it, for the protocol that was switched to, and what the client sent ahead of the 101.
    pub(super) fn into_raw(self) -> (T, Bytes) {
        (self.io, self.partial.into())
    }

    /// Follows `bytes` and says how many at the front are for hyper. Behind them may be an incomplete head, which
    /// is moved to `partial`, or a refused one, after which hyper gets the placeholder and nothing else.
    fn filter(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match &mut self.state {
                State::Head(scan) => match scan.advance(rest) {
                    Ok(HeadStep::Done { len, framing, upgrade }) => {
                        at += len;
                        self.heads += 1;
                        self.is_fresh = false;
                        self.head_timer.moved();
                        self.state = if upgrade {
                            self.wire.hold(self.heads);
                            State::Held
                        } else {
                            BodyScan::new(framing).map_or(State::HEAD, State::Body)
                        };
                    }
                    Ok(HeadStep::More) => {
                        self.partial.extend_from_slice(rest);
                        break;
                    }
                    Err(violation) => {
                        self.refuse(violation);
                        break;
                    }
                },
                State::Body(scan) => match scan.advance(rest) {
                    Ok(step) => {
                        at += step.len;
                        if step.is_end {
                            self.state = State::HEAD;
                        }
                    }
                    Err(in_order) => {
                        // NUL has no place in chunked framing, so hyper fails the body exactly here.
                        if let Some(byte) = rest.get_mut(in_order) {
                            *byte = 0;
                        }
                        self.state = State::Broken;
                        return at + in_order + 1;
                    }
                },
                State::Held => {
                    self.partial.extend_from_slice(rest);
                    break;
                }
                State::Ended | State::Broken => break,
            }
        }
        at
    }

    fn refuse(&mut self, violation: Violation) {
        self.wire.refuse(violation);
        self.state = State::Ended;
        self.ready = Bytes::from_static(PLACEHOLDER);
    }

    /// Gives hyper what is ready; whether there was something.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let len = self.ready.len().min(buf.remaining());
        buf.put_slice(&self.ready.split_to(len));
        true
    }
}

impl State {
    const HEAD: Self = Self::Head(HeadScan::START);
}

impl<T: AsyncRead + Unpin> Guard<T> {
    /// Reads straight to where hyper wants it; `Ready(true)` if that gave hyper something or the end.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(result) => result?,
            Poll::Pending => return self.waited(cx),
        }
        self.body_timer.moved();
        let Some(bytes) = buf.filled_mut().get_mut(before..).filter(|bytes| !bytes.is_empty()) else {
            return Poll::Ready(Ok(true));
        };
        let keep = self.filter(bytes);
        buf.set_filled(before + keep);
        Poll::Ready(Ok(keep > 0))
    }

    /// Reads on while a head is incomplete; `Ready(true)` at the end of input.
    fn poll_partial(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [0; READ_LEN];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
            Poll::Ready(result) => result?,
            Poll::Pending => return self.waited(cx),
        }
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(true));
        }
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(buf.filled());
        let keep = self.filter(&mut bytes);
        bytes.truncate(keep);
        // A refusal is already in `ready`: it comes after what was in order.
        bytes.extend_from_slice(&self.ready);
        self.ready = bytes.into();
        Poll::Ready(Ok(false))
    }

    /// Nothing has come. Whether that has lasted too long depends on what is waited for.
    fn waited(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self.state {
            // Once it is answered, a body is half of a conversation, whose pauses are the route's to bound.
            State::Body(_) if self.wire.answers() < self.heads && self.body_timer.is_over(cx) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, BodyError::Stalled)))
            }
            State::Head(_) if !self.partial.is_empty() && self.head_timer.is_over(cx) => {
                self.partial.clear();
                self.refuse(Violation::TooSlow);
                Poll::Ready(Ok(false))
            }
            // A connection that never asked for anything is closed without a word.
            State::Head(_) if self.is_fresh && self.head_timer.is_over(cx) => {
                self.state = State::Ended;
                Poll::Ready(Ok(true))
            }
            _ => Poll::Pending,
        }
    }

    /// Keeps back what comes behind a request to switch protocols; `Ready(true)` at the end of input. A client that
    /// sends more than is kept is not read any further, and so not noticed should it go away.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.partial.len() >= HELD_LEN_MAX {
            return Poll::Pending;
        }
        let mut space = [0; READ_LEN];
        let mut buf = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        self.partial.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().is_empty()))
    }

    /// Throws input away until its end.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; READ_LEN];
        let mut buf = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Throws away what a client still sends after the last response, within bounds.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let poll = self.poll_discard(cx);
            let (left, timer) = &mut self.linger;
            match poll {
                Poll::Pending if timer.is_over(cx) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(len)) if len > 0 && *left > len => *left -= len,
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            let is_done = match this.state {
                // hyper takes the end of input for a client that went away, so it hears of the real one only.
                State::Ended if this.wire.violation().is_some() => ready!(this.poll_discard(cx))? == 0,
                State::Ended => true,
                State::Broken => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        BodyError::Malformed,
                    )));
                }
                State::Held => ready!(this.poll_held(cx))?,
                State::Head(_) if !this.partial.is_empty() => ready!(this.poll_partial(cx))?,
                State::Head(_) | State::Body(_) => ready!(this.poll_direct(cx, buf))?,
            };
            if is_done {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> Guard<T> {
    /// What a write gave, or an error if it waits for a client and the response must end.
    fn unless_over(&self, cx: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if poll.is_pending() && self.wire.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        poll
    }

    /// Writes the interim heads that were said.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.saying.is_empty() {
                let Some(said) = self.wire.take_said() else { return Poll::Ready(Ok(())) };
                self.saying = said;
            }
            while !self.saying.is_empty() {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.saying))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.saying.advance(written);
            }
            self.wire.written();
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, buf);
        self.unless_over(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.unless_over(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper asks for it only when all it had to write is written: so never between two octets of one response.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_say(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        if !matches!(self.state, State::Head(_)) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
