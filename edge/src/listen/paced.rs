//! What lies between a socket and TLS: a peer that reads nothing loses its connection, the octets of a ClientHello are
//! kept where somebody else may have to read them again, and a peer that does not begin with TLS at all is found out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wrong_scheme;
use crate::http::Stall;

/// Most octets kept while a ClientHello is read: the largest that rustls takes, its record headers, and what came in
/// the same read.
const TAPE_LEN_MAX: usize = 96 * 1024;

/// A connection that breaks when its peer has read nothing for too long. Sits below TLS, where every octet that
/// the peer takes shows.
pub(crate) struct Paced<T> {
    io: T,
    stall: Stall,
    /// What was read, while it is kept.
    tape: Option<Vec<u8>>,
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
        Self { io, stall: Stall::new(stall), tape: None, first: First::Awaited }
    }

    /// Keeps what is read from here on, until [`Paced::take_tape`]; reading more than [`TAPE_LEN_MAX`] is an error.
    pub(super) fn taped(self) -> Self {
        Self { tape: Some(Vec::new()), ..self }
    }

    /// What was read since [`Paced::taped`]; nothing is kept any more.
    pub(super) fn take_tape(&mut self) -> Vec<u8> {
        self.tape.take().unwrap_or_default()
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
        if let Some(tape) = &mut self.tape {
            tape.extend_from_slice(buf.filled().get(before..).unwrap_or_default());
            if tape.len() > TAPE_LEN_MAX {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a hello without end")));
            }
        }
        if poll.is_ready() {
            self.judge(buf.filled().get(before..).unwrap_or_default())?;
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
