//! Counts the frames of an HTTP/2 connection by what they carry, on their way between TLS and the `h2` crate.
//!
//! `h2` answers pings, acknowledges settings and drops what it does not know without counting; [`Flood`] is told of
//! each here. Only frame headers are looked at, nothing is kept or changed, and what is malformed is `h2`'s to refuse.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::flood::Flood;

/// Octets a client sends before its first frame (RFC 9113 §3.4).
const PREFACE_LEN: usize = 24;

/// Octets of a frame's header (RFC 9113 §4.1).
const HEADER_LEN: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const END_STREAM: u8 = 0x1;

/// What some frames were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Heads, and pieces of bodies.
    useful: u32,
    /// Resets of streams.
    resets: u32,
    /// Everything else.
    idle: u32,
}

/// Follows the frames of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    /// Octets of the preface or of a payload still to pass.
    skip: usize,
    header: [u8; HEADER_LEN],
    /// How much of the header is there.
    filled: usize,
}

impl Frames {
    /// What a client sends.
    pub(super) const fn of_client() -> Self {
        Self { skip: PREFACE_LEN, header: [0; HEADER_LEN], filled: 0 }
    }

    /// What a server sends.
    pub(super) const fn of_server() -> Self {
        Self { skip: 0, ..Self::of_client() }
    }

    /// Follows `bytes`, and says which frames began in them.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Tally {
        let mut tally = Tally::default();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = HEADER_LEN - self.filled;
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            if let Some(place) = self.header.get_mut(self.filled..self.filled + part.len()) {
                place.copy_from_slice(part);
            }
            self.filled += part.len();
            bytes = rest;
            if self.filled == HEADER_LEN {
                self.filled = 0;
                let [a, b, c, kind, flags, ..] = self.header;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                match kind {
                    HEADERS => tally.useful += 1,
                    // An empty piece that ends a body says something; a stream has one of them.
                    DATA if self.skip > 0 || flags & END_STREAM != 0 => tally.useful += 1,
                    RST_STREAM => tally.resets += 1,
                    _ => tally.idle += 1,
                }
            }
        }
        tally
    }
}

/// A connection whose frames are counted.
pub(super) struct Metered<T> {
    io: T,
    flood: Arc<Flood>,
    from_client: Frames,
    to_client: Frames,
}

impl<T> Metered<T> {
    pub(super) fn new(io: T, flood: Arc<Flood>) -> Self {
        Self { io, flood, from_client: Frames::of_client(), to_client: Frames::of_server() }
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.flood.useful(self.to_client.follow(bytes).useful);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.flood.is_over() {
            // Nothing more is read; whoever drives the connection closes it in the same turn.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let tally = this.from_client.follow(buf.filled().get(before..).unwrap_or_default());
        this.flood.useful(tally.useful);
        this.flood.idle(tally.idle);
        for _ in 0..tally.resets {
            this.flood.given_up();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.sent(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let len = left.min(buf.len());
            self.sent(buf.get(..len).unwrap_or_default());
            left -= len;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: u8, kind: u8, flags: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, len, kind, flags, 0, 0, 0, 1];
        // A payload that looks like frames.
        frame.resize(HEADER_LEN + usize::from(len), 6);
        frame
    }

    #[test]
    fn r23_frames_are_told_apart_however_they_are_cut() {
        let frames = [
            vec![b'x'; PREFACE_LEN],
            frame(20, HEADERS, 4),
            frame(5, DATA, 0),
            frame(0, DATA, 0),
            frame(0, DATA, END_STREAM),
            frame(4, RST_STREAM, 0),
            frame(8, 6, 0),
            frame(0, 4, 0),
            frame(4, 8, 0),
            frame(5, 2, 0),
            frame(30, 0xbe, 0),
            frame(7, 9, 4),
        ]
        .concat();
        let expected = Tally { useful: 3, resets: 1, idle: 7 };
        for piece in 1..frames.len() {
            let mut scan = Frames::of_client();
            let mut all = Tally::default();
            for bytes in frames.chunks(piece) {
                let tally = scan.follow(bytes);
                all.useful += tally.useful;
                all.resets += tally.resets;
                all.idle += tally.idle;
            }
            assert_eq!(all, expected, "in pieces of {piece}");
        }
        assert_eq!(Frames::of_server().follow(&frame(4, DATA, 0)), Tally { useful: 1, ..Tally::default() });
    }
}
