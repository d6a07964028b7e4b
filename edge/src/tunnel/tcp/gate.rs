//! Watches the frames that a warpgate sends on a tunnel over TCP, between TLS and HTTP/2, and breaks the connection when
//! there are more than an honest one has reason to send (R23).
//!
//! HTTP/2's own library bounds what is kept for a stream that is read, and answers everything else at our cost. Reads
//! frame headers only (RFC 9113 §4.1); whether frames make sense is the library's to judge.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tunnel_proto::limits::SILENCE_MAX;

/// Octets of a frame's header.
const HEADER_LEN: usize = 9;

/// Most frames within [`SILENCE_MAX`] that carry nothing of an exchange: SETTINGS, PING and whatever is not known.
/// A warpgate has reason for a few in a tunnel's life.
const OTHER_MAX: u32 = 256;

/// Most `WINDOW_UPDATE` frames within [`SILENCE_MAX`]: one for each half window of 512 KiB makes this 10 GB/s.
const UPDATES_MAX: u32 = 100_000;

/// Most DATA frames without an octet within [`SILENCE_MAX`]; beyond those that end a stream, there is no reason for any.
const EMPTY_MAX: u32 = 256;

/// What both ends of a tunnel's connection know of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Streams opened so far, the control stream included; what the warpgate may answer is measured by it.
    pub(super) opened: AtomicU64,
    /// Octets that have come.
    pub(super) heard: AtomicU64,
}

/// What is read and written passes through; what is read is looked at.
pub(super) struct Gate<T> {
    io: T,
    watch: Watch,
}

impl<T> Gate<T> {
    /// Watches what comes out of `io`; `tally` counts each stream before it is opened.
    pub(super) fn new(io: T, tally: Arc<Tally>) -> Self {
        Self { io, watch: Watch::new(tally) }
    }
}

/// Counts frames.
struct Watch {
    tally: Arc<Tally>,
    /// The header that is being read, as far as it has come.
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// Octets of the frame's payload still to pass.
    payload: usize,
    heads: u64,
    resets: u64,
    ends: u64,
    since: Instant,
    other: u32,
    updates: u32,
    empty: u32,
}

impl Watch {
    fn new(tally: Arc<Tally>) -> Self {
        Self {
            tally,
            header: [0; HEADER_LEN],
            header_len: 0,
            payload: 0,
            heads: 0,
            resets: 0,
            ends: 0,
            since: Instant::now(),
            other: 0,
            updates: 0,
            empty: 0,
        }
    }

    /// Looks at the next octets.
    fn pass(&mut self, mut octets: &[u8]) -> Result<(), &'static str> {
        self.tally.heard.fetch_add(u64::try_from(octets.len()).unwrap_or(0), Ordering::Relaxed);
        while !octets.is_empty() {
            let skipped = self.payload.min(octets.len());
            self.payload -= skipped;
            octets = octets.get(skipped..).unwrap_or_default();
            let Some(room) = self.header.get_mut(self.header_len..) else { break };
            let taken = room.len().min(octets.len());
            let (header, rest) = octets.split_at(taken);
            if let Some(room) = room.get_mut(..taken) {
                room.copy_from_slice(header);
            }
            self.header_len += taken;
            octets = rest;
            if self.header_len == HEADER_LEN {
                self.header_len = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                let len = u32::from_be_bytes([0, high, middle, low]);
                self.payload = usize::try_from(len).unwrap_or(usize::MAX);
                self.count(kind, flags, len)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, kind: u8, flags: u8, len: u32) -> Result<(), &'static str> {
        const DATA: u8 = 0x0;
        const HEADERS: u8 = 0x1;
        const RST_STREAM: u8 = 0x3;
        const WINDOW_UPDATE: u8 = 0x8;
        const CONTINUATION: u8 = 0x9;
        const END_STREAM: u8 = 0x1;
        let opened = self.tally.opened.load(Ordering::Relaxed);
        match kind {
            DATA if len > 0 => return Ok(()),
            // Each stream has one head, one end and at most one reset.
            HEADERS => return once(&mut self.heads, opened, "more response heads than there are streams"),
            RST_STREAM => return once(&mut self.resets, opened, "more resets than there are streams"),
            DATA if flags & END_STREAM != 0 => {
                return once(&mut self.ends, opened, "more ends than there are streams");
            }
            // A head of one field never needs a second frame.
            CONTINUATION => return Err("a response head in pieces"),
            _ => {}
        }
        let (count, max, what) = match kind {
            DATA => (&mut self.empty, EMPTY_MAX, "a flood of empty frames"),
            WINDOW_UPDATE => (&mut self.updates, UPDATES_MAX, "a flood of window updates"),
            _ => (&mut self.other, OTHER_MAX, "a flood of frames that carry nothing"),
        };
        *count += 1;
        if *count <= max {
            return Ok(());
        }
        if self.since.elapsed() < SILENCE_MAX {
            return Err(what);
        }
        self.since = Instant::now();
        (self.other, self.updates, self.empty) = (0, 0, 0);
        Ok(())
    }
}

fn once(count: &mut u64, opened: u64, what: &'static str) -> Result<(), &'static str> {
    *count += 1;
    if *count <= opened { Ok(()) } else { Err(what) }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let read = buf.filled().get(before..).unwrap_or_default();
        match self.watch.pass(read) {
            Ok(()) => polled,
            Err(what) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what))),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
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

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn watch(opened: u64) -> Watch {
        Watch::new(Arc::new(Tally { opened: AtomicU64::new(opened), ..Tally::default() }))
    }

    #[test]
    fn what_an_honest_warpgate_sends_passes_however_it_is_cut() {
        let mut all = frame(4, 0, &[0; 12]);
        for _ in 0..1000 {
            all.extend(frame(1, 4, &[0x88]));
            all.extend(frame(0, 0, &[1; 300]));
            all.extend(frame(0, 1, &[]));
            all.extend(frame(3, 0, &[0, 0, 0, 8]));
        }
        for size in [1, 7, 9, 10, 4096] {
            let mut watch = watch(1000);
            assert!(all.chunks(size).all(|octets| watch.pass(octets).is_ok()), "{size}");
            assert_eq!((watch.heads, watch.ends, watch.resets), (1000, 1000, 1000), "{size}");
            assert_eq!(watch.tally.heard.load(Ordering::Relaxed), u64::try_from(all.len()).unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r23_floods_break_the_connection() {
        let rows = [
            (frame(1, 4, &[0x48]), 3, "more response heads than there are streams"),
            (frame(3, 0, &[0; 4]), 3, "more resets than there are streams"),
            (frame(0, 1, &[]), 3, "more ends than there are streams"),
            (frame(0, 0, &[]), u64::from(EMPTY_MAX), "a flood of empty frames"),
            (frame(6, 0, &[0; 8]), u64::from(OTHER_MAX), "a flood of frames that carry nothing"),
            (frame(4, 0, &[]), u64::from(OTHER_MAX), "a flood of frames that carry nothing"),
            (frame(0xfa, 0, &[1]), u64::from(OTHER_MAX), "a flood of frames that carry nothing"),
            (frame(8, 0, &[0, 0, 0, 1]), u64::from(UPDATES_MAX), "a flood of window updates"),
            (frame(9, 4, &[0x88]), 0, "a response head in pieces"),
        ];
        for (frame, fine, why) in rows {
            let mut watch = watch(3);
            for _ in 0..fine {
                assert_eq!(watch.pass(&frame), Ok(()), "{why}");
            }
            assert_eq!(watch.pass(&frame), Err(why));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_slowly_is_no_flood() {
        let mut watch = watch(1);
        for _ in 0..4 * OTHER_MAX {
            assert_eq!(watch.pass(&frame(6, 0, &[0; 8])), Ok(()));
            tokio::time::advance(SILENCE_MAX / OTHER_MAX).await;
        }
    }
}
