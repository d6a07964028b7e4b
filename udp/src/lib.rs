//! A UDP socket as a QUIC endpoint sees it: every packet comes up in a buffer of its own.
//!
//! Owns nothing but that; edges and warpgates both have one. Which packets are whose is QUIC's business.
//!
//! The kernel joins packets that arrive together (GRO), up to 64 KiB of them, and that is kept: it saves most of the cost of
//! receiving. But quinn turns each such batch into one shared buffer, which lives until the last piece of it is read, and a
//! batch of a busy tunnel holds pieces of many streams. One that stands still then keeps what the others have long read:
//! a slow reader was measured to hold three times its stream's window. So batches are taken apart here.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};

/// Octets of the largest batch the kernel hands over: what the length in a UDP header can say.
const BATCH_LEN_MAX: usize = 64 * 1024;

/// A socket that takes batches apart.
pub struct Packets {
    inner: Arc<dyn AsyncUdpSocket>,
    /// Locked by the endpoint's driver alone, which is one task.
    received: Mutex<Received>,
}

/// Batches of one call to the system, and how far they were handed on.
struct Received {
    batches: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
    /// Batches that are filled.
    filled: usize,
    /// The one that is being taken apart, and the octets of it that were handed on.
    at: (usize, usize),
}

impl Packets {
    /// Registers the socket with the Tokio runtime this is called on.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self::over(TokioRuntime.wrap_udp_socket(socket)?))
    }

    fn over(inner: Arc<dyn AsyncUdpSocket>) -> Self {
        let received = Received {
            batches: vec![0; BATCH_LEN_MAX * BATCH_SIZE].into(),
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
            at: (0, 0),
        };
        Self { inner, received: Mutex::new(received) }
    }
}

impl Received {
    /// Asks the system for more.
    fn fill(&mut self, inner: &dyn AsyncUdpSocket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunks = self.batches.chunks_mut(BATCH_LEN_MAX);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.filled = ready!(inner.poll_recv(cx, &mut buffers, &mut self.metas))?;
        self.at = (0, 0);
        Poll::Ready(Ok(()))
    }

    /// Copies packets into `buffers`, one each; how many.
    fn hand_on(&mut self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut handed = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Some(packet) = self.next() else { break };
            let (from, batch) = packet;
            // A packet larger than what QUIC was told to expect is cut here as it would be by the system.
            let len = from.len().min(buffer.len());
            let Some((place, from)) = buffer.get_mut(..len).zip(from.get(..len)) else { break };
            place.copy_from_slice(from);
            *meta = RecvMeta { len, stride: len, ..batch };
            handed += 1;
        }
        handed
    }

    /// The next packet, and what is known of its batch.
    fn next(&mut self) -> Option<(&[u8], RecvMeta)> {
        loop {
            let (nth, from) = self.at;
            if nth >= self.filled {
                return None;
            }
            let meta = *self.metas.get(nth)?;
            if from >= meta.len {
                self.at = (nth + 1, 0);
                continue;
            }
            let to = meta.len.min(from + meta.stride.max(1));
            self.at = (nth, to);
            let begin = nth * BATCH_LEN_MAX;
            return Some((self.batches.get(begin + from..begin + to)?, meta));
        }
    }
}

impl AsyncUdpSocket for Packets {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let handed = received.hand_on(bufs, meta);
            if handed > 0 {
                return Poll::Ready(Ok(handed));
            }
            ready!(received.fill(&*self.inner, cx))?;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packets").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use futures_util::FutureExt as _;

    /// A socket on which batches have arrived: of packets of this stride, each octet the packet's number.
    #[derive(Debug)]
    struct Arrived(Mutex<VecDeque<Vec<Batch>>>);

    type Batch = (usize, Vec<u8>);

    impl AsyncUdpSocket for Arrived {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            unreachable!("nothing is sent")
        }

        fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            bufs: &mut [IoSliceMut<'_>],
            meta: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            let Some(batches) = self.0.lock().unwrap().pop_front() else { return Poll::Pending };
            for (nth, (stride, octets)) in batches.iter().enumerate() {
                bufs[nth][..octets.len()].copy_from_slice(octets);
                let addr = SocketAddr::from(([192, 0, 2, 1], 1000 + u16::try_from(nth).unwrap()));
                meta[nth] = RecvMeta { addr, len: octets.len(), stride: *stride, ecn: None, dst_ip: None };
            }
            Poll::Ready(Ok(batches.len()))
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 443).into())
        }
    }

    fn batch(stride: usize, len: usize) -> Batch {
        (stride, (0..len).map(|octet| u8::try_from(octet / stride.max(1) % 251).unwrap()).collect())
    }

    /// What one call hands on, with room for so many packets of QUIC's size: from which port, how long, and its octets.
    fn received(packets: &Packets, room: usize) -> Option<Vec<(u16, usize, Vec<u8>)>> {
        let mut space = vec![0; room * 1472];
        let mut bufs: Vec<_> = space.chunks_mut(1472).map(IoSliceMut::new).collect();
        let mut metas = vec![RecvMeta::default(); room];
        let count = poll_fn(|cx| packets.poll_recv(cx, &mut bufs, &mut metas)).now_or_never()?.unwrap();
        let each = metas.iter().zip(&bufs).take(count);
        Some(each.map(|(meta, buf)| (meta.addr.port(), meta.stride, buf[..meta.len].to_vec())).collect())
    }

    fn packets(calls: &[&[Batch]]) -> Packets {
        let calls = calls.iter().map(|batches| batches.to_vec()).collect();
        Packets::over(Arc::new(Arrived(Mutex::new(calls))))
    }

    #[test]
    fn every_packet_of_a_batch_comes_up_in_a_buffer_of_its_own() {
        let packets = packets(&[&[batch(1452, 3 * 1452 + 40), batch(1200, 1200)], &[batch(80, 80)]]);
        let first = received(&packets, 32).unwrap();
        let seen: Vec<_> =
            first.iter().map(|(port, stride, octets)| (*port, *stride, octets.len())).collect();
        let whole = (1000, 1452, 1452);
        assert_eq!(seen, [whole, whole, whole, (1000, 40, 40), (1001, 1200, 1200)]);
        for (nth, (_, _, octets)) in first.iter().take(4).enumerate() {
            assert!(octets.iter().all(|octet| usize::from(*octet) == nth), "packet {nth} is not its own");
        }
        assert_eq!(received(&packets, 32).unwrap().len(), 1);
        assert_eq!(received(&packets, 32), None, "the system is asked again, and wakes when there is more");
        assert_eq!(packets.max_receive_segments(), 1, "what QUIC makes room for");
    }

    #[test]
    fn what_found_no_room_comes_with_the_next_call() {
        let packets = packets(&[&[batch(100, 250), batch(1452, 45 * 1452)]]);
        let mut lengths = Vec::new();
        while let Some(some) = received(&packets, 2) {
            assert!(!some.is_empty(), "a call that gives nothing would be repeated for ever");
            lengths.extend(some.into_iter().map(|(_, _, octets)| octets.len()));
        }
        let expected: Vec<_> = [100, 100, 50].into_iter().chain(std::iter::repeat_n(1452, 45)).collect();
        assert_eq!(lengths, expected);
    }

    #[test]
    fn a_packet_larger_than_quic_expects_is_cut_like_the_system_would() {
        let packets = packets(&[&[batch(9000, 9000), batch(0, 0), batch(60, 60)]]);
        let lengths: Vec<_> =
            received(&packets, 32).unwrap().iter().map(|(_, _, octets)| octets.len()).collect();
        assert_eq!(lengths, [1472, 60]);
    }
}
