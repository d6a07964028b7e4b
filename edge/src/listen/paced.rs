//! What lies between a socket and TLS: a peer that reads nothing loses its connection, and a ClientHello that was read
//! already is read again, by TLS or by whoever the connection is passed on to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::Stall;

/// A connection that breaks when its peer has read nothing for too long. Sits below TLS, where every octet that
/// the peer takes shows.
pub(crate) struct Paced<T> {
    io: T,
    stall: Stall,
    /// What was read before, and comes first; empty once all of it has come and somebody asked for more.
    hello: Vec<u8>,
    /// How much of it has come.
    hello_read: usize,
}

impl<T> Paced<T> {
    /// Breaks when the peer of `io` has read nothing for `stall`.
    pub(super) fn new(io: T, stall: Duration) -> Self {
        Self::after_hello(io, stall, Vec::new())
    }

    /// The same for a peer that has said `hello` already, which is read first.
    pub(super) fn after_hello(io: T, stall: Duration, hello: Vec<u8>) -> Self {
        Self { io, stall: Stall::new(stall), hello, hello_read: 0 }
    }

    /// All that was read before, whatever of it has come since. Nothing of it comes any more.
    pub(super) fn take_hello(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.hello)
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
        if !self.hello.is_empty() {
            let rest = self.hello.get(self.hello_read..).unwrap_or_default();
            if !rest.is_empty() {
                let now = rest.get(..buf.remaining()).unwrap_or(rest);
                buf.put_slice(now);
                self.hello_read += now.len();
                return Poll::Ready(Ok(()));
            }
            self.hello = Vec::new();
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const STALL: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_leaves_nothing_behind() {
        let mut stream = Paced::after_hello(&b" world"[..], STALL, b"hello".to_vec());
        let mut part = [0; 3];
        stream.read_exact(&mut part).await.unwrap();
        assert_eq!(&part, b"hel");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "lo world");
        assert_eq!(stream.hello.capacity(), 0);
    }

    #[tokio::test]
    async fn whoever_takes_the_hello_has_all_of_it_and_it_comes_no_more() {
        let mut stream = Paced::after_hello(&b" world"[..], STALL, b"hello".to_vec());
        let mut part = [0; 5];
        stream.read_exact(&mut part).await.unwrap();
        assert_eq!(stream.take_hello(), b"hello");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, " world");
    }
}
