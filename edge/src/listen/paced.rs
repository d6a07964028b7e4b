//! What lies between a socket and TLS: a peer that reads nothing loses its connection, the octets of a ClientHello are
//! kept where somebody else may have to read them again, and a peer that does not begin with TLS at all is found out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::hello::HELLO_LEN_MAX;
use super::wrong_scheme;
use crate::http::Stall;

/// Most octets read while a ClientHello is awaited: the longest that is looked at, the headers of a few records, and what
/// came in the same read (rustls asks for 4 KiB at a time).
const HELLO_READ_MAX: usize = HELLO_LEN_MAX + 5 * 1024;

/// A connection that breaks when its peer has read nothing for too long. Sits below TLS, where every octet that
/// the peer takes shows.
pub(crate) struct Paced<T> {
    io: T,
    stall: Stall,
    /// What was read, while it is kept.
    tape: Option<Vec<u8>>,
    /// Octets that may still be read before the ClientHello is whole; `None` once it is.
    hello_left: Option<usize>,
    first: First,
}

/// What came first.
enum First {
    Awaited,
    Other,
    /// A request in the clear, as much of it as came with the first octets.
    PlainHttp(Vec<u8>),
}

impl<T> Paced<T> {
    /// Breaks when the peer of `io` has read nothing for `stall`.
    pub(super) fn new(io: T, stall: Duration) -> Self {
        Self { io, stall: Stall::new(stall), tape: None, hello_left: None, first: First::Awaited }
    }

    /// A ClientHello is awaited: until [`Paced::hello_is_whole`], reading more than [`HELLO_READ_MAX`] is an error.
    pub(super) fn awaiting_hello(self) -> Self {
        Self { hello_left: Some(HELLO_READ_MAX), ..self }
    }

    /// Keeps what is read from here on, until [`Paced::hello_is_whole`].
    pub(super) fn taped(self) -> Self {
        Self { tape: Some(Vec::new()), ..self }
    }

    /// From here on anything may come. What was read since [`Paced::taped`]; nothing is kept any more.
    pub(super) fn hello_is_whole(&mut self) -> Vec<u8> {
        self.hello_left = None;
        self.tape.take().unwrap_or_default()
    }

    /// Whether reading failed because the ClientHello does not end.
    pub(super) fn is_hello_too_long(&self) -> bool {
        self.hello_left == Some(0)
    }

    /// The request in the clear that the peer began with, if that is why reading failed.
    pub(super) fn plain_http(&self) -> Option<&[u8]> {
        match &self.first {
            First::PlainHttp(head) => Some(head),
            First::Awaited | First::Other => None,
        }
    }

    /// Looks at what was read if it is the first; an error if TLS has nothing to do with it, so that no alert is sent.
    fn judge(&mut self, read: &[u8]) -> io::Result<()> {
        if read.is_empty() || !matches!(self.first, First::Awaited) {
            return Ok(());
        }
        if !wrong_scheme::is_plain_http(read) {
            self.first = First::Other;
            return Ok(());
        }
        self.first = First::PlainHttp(read.get(..wrong_scheme::HEAD_LEN_MAX).unwrap_or(read).to_vec());
        Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on the TLS port"))
    }

    /// The stream below.
    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }

    fn watch<V>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        self.stall.watch(cx, poll).map(|result| {
            result
                .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.io).poll_read(cx, buf);
        let read = buf.filled().get(before..).unwrap_or_default();
        if let Some(tape) = &mut self.tape {
            tape.extend_from_slice(read);
        }
        if let Some(left) = &mut self.hello_left {
            *left = left.saturating_sub(read.len());
            if *left == 0 {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a hello without end")));
            }
        }
        if poll.is_ready() {
            self.judge(read)?;
        }
        poll
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_write(cx, buf);
        this.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_flush(cx);
        this.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.io).poll_shutdown(cx);
        this.watch(cx, poll)
    }
}
