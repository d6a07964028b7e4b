//! Passes connections on to a control node, unopened: what a split edge does for the hosts of the platform and for
//! warpgates that enrol (design §2).
//!
//! The client's TLS begins and ends at control; the edge moves ciphertext, and says no more than from where it came. The
//! hello that told the edge so is replayed first. Bounded in number, in memory (two buffers each; a slow reader slows its
//! writer) and in time; on drain it goes on until the grace ends, because nothing can be said on it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::admission::Admission;
use super::counters::Counters;
use super::door::{self, Unopened};
use super::paced::Paced;
use crate::config::{Duplex, Limits, Splice, SpliceStream};
use crate::http::Stall;

/// Octets on their way in each direction, beside the sockets' own buffers: a TLS record fits.
const BUFFER_LEN: usize = 16 * 1024;

/// What a client is told when nobody can take its connection (RFC 8446 §6.2).
const INTERNAL_ERROR: u8 = 80;

/// The way on, for all workers of an edge.
pub(super) struct Splicer {
    splice: Arc<dyn Splice>,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    limits: Limits,
    /// Whether the last attempt found no control node: said once and not per connection.
    is_away: AtomicBool,
}

impl Splicer {
    /// A way on through `splice`.
    pub(super) fn new(splice: Arc<dyn Splice>, counters: Arc<Counters>, limits: Limits) -> Self {
        let admission = Admission::of_splices(&limits);
        Self { splice, admission, counters, limits, is_away: AtomicBool::new(false) }
    }

    /// Passes `client`'s connection, which arrived at `local`, on until it ends.
    pub(super) async fn pass_on<T: Duplex>(
        &self,
        unopened: Unopened<T>,
        client: SocketAddr,
        local: io::Result<SocketAddr>,
    ) {
        // It keeps its place among the connections, and has another among those that are passed on.
        let Unopened { stream, hello, place: _connection } = unopened;
        let place = match self.admission.admit(client.ip()) {
            Ok(place) => place,
            Err(full) => {
                self.counters.full(full);
                debug!(%full, %client, "A connection was not passed on");
                return tell(stream).await;
            }
        };
        let control = match local {
            Ok(local) => self.open(client, local).await,
            Err(error) => Err(error),
        };
        let Ok(control) = control else { return tell(stream).await };
        self.counters.spliced.inc();
        let control = Paced::new(control, self.limits.stall);
        match pump(stream, hello, control, &self.limits).await {
            Ok(end) => debug!(?end, %client, "A connection that was passed on ended"),
            Err(error) => debug!(%error, %client, "A connection that was passed on broke"),
        }
        drop(place);
    }

    async fn open(&self, client: SocketAddr, local: SocketAddr) -> io::Result<SpliceStream> {
        let opened = timeout(self.limits.splice_open, self.splice.open(client, local)).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match &opened {
            Ok(_) if self.is_away.swap(false, Ordering::Relaxed) => {
                info!("A control node takes connections again");
            }
            Ok(_) => {}
            Err(error) => {
                self.counters.no_control.inc();
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    warn!(%error, "No control node takes connections for the platform's hosts");
                }
            }
        }
        opened
    }
}

/// Tells a client that its connection goes nowhere; it may be gone.
async fn tell<T: AsyncRead + AsyncWrite + Unpin>(stream: Paced<T>) {
    if let Err(error) = door::refuse(stream, INTERNAL_ERROR).await {
        debug!(%error, "A client that was refused went first");
    }
}

/// How a spliced connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both ends have said all.
    Done,
    /// Nothing moved for too long.
    Idle,
}

/// Moves octets both ways, after `hello` to `control`, until both have ended or nothing has moved for too long. When one
/// end has said all, the other hears so and may go on.
async fn pump<A, B>(mut client: A, hello: Vec<u8>, mut control: B, limits: &Limits) -> io::Result<End>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Flow::beginning_with(hello);
    let mut down = Flow::beginning_with(Vec::new());
    let mut stall = Stall::new(limits.splice_idle);
    let mut is_left = false;
    poll_fn(|cx| {
        let is_up_over = up.poll(cx, &mut client, &mut control)?.is_ready();
        let is_down_over = down.poll(cx, &mut control, &mut client)?.is_ready();
        if is_up_over && is_down_over {
            return Poll::Ready(Ok(End::Done));
        }
        // Where control has said all, a client has little to add.
        if is_down_over && !std::mem::replace(&mut is_left, true) {
            stall = Stall::new(limits.stall);
        }
        if std::mem::take(&mut up.has_moved) | std::mem::take(&mut down.has_moved) {
            stall.moved();
        }
        if stall.is_over(cx) { Poll::Ready(Ok(End::Idle)) } else { Poll::Pending }
    })
    .await
}

/// One direction.
struct Flow {
    /// What was read and is to be written from `at` on.
    buffer: Vec<u8>,
    at: usize,
    is_unflushed: bool,
    has_moved: bool,
    said: Said,
}

/// How much one end has said to the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// There may be more.
    Part,
    /// That was all; the other end is to hear so.
    All,
    /// It has.
    Told,
}

impl Flow {
    fn beginning_with(buffer: Vec<u8>) -> Self {
        Self { buffer, at: 0, is_unflushed: false, has_moved: false, said: Said::Part }
    }

    /// Moves what can be moved; ready when all was said.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.said != Said::Told {
            if let Some(rest) = self.buffer.get(self.at..).filter(|rest| !rest.is_empty()) {
                let len = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
                if len == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.at += len;
                self.is_unflushed = true;
                self.has_moved = true;
            } else if self.said == Said::All {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.said = Said::Told;
            } else {
                match self.poll_fill(cx, from) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => {
                        if self.is_unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx))?;
                            self.is_unflushed = false;
                        }
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<()>> {
        self.at = 0;
        self.buffer.resize(BUFFER_LEN, 0);
        let mut space = ReadBuf::new(&mut self.buffer);
        let poll = Pin::new(from).poll_read(cx, &mut space);
        let len = if poll.is_ready() { space.filled().len() } else { 0 };
        self.buffer.truncate(len);
        ready!(poll)?;
        if len == 0 {
            self.said = Said::All;
        }
        self.has_moved = true;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const IDLE: Duration = Duration::from_mins(1);
    const STALL: Duration = Duration::from_secs(10);

    /// A pump between two pipes of `len` octets, and the far ends of them: the client's, control's.
    fn pipes(hello: &[u8], len: usize) -> (DuplexStream, DuplexStream, JoinHandle<io::Result<End>>) {
        let ((client, near), (far, control)) = (duplex(len), duplex(len));
        let limits = Limits { splice_idle: IDLE, stall: STALL, ..Limits::default() };
        let hello = hello.to_vec();
        (client, control, tokio::spawn(async move { pump(near, hello, far, &limits).await }))
    }

    #[tokio::test]
    async fn the_hello_comes_first_and_octets_go_both_ways() {
        let (mut client, mut control, pump) = pipes(b"hello ", 1024);
        client.write_all(b"world").await.unwrap();
        let mut said = [0; 11];
        control.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello world");
        control.write_all(b"yes").await.unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"yes");
        drop((client, control));
        assert!(matches!(pump.await.unwrap(), Ok(End::Done) | Err(_)));
    }

    #[tokio::test]
    async fn when_one_end_has_said_all_the_other_may_go_on() {
        let (mut client, mut control, pump) = pipes(b"", 1024);
        client.write_all(b"that is all").await.unwrap();
        client.shutdown().await.unwrap();
        let mut said = String::new();
        control.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "that is all");
        control.write_all(b"and yet").await.unwrap();
        control.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "and yet");
        assert_eq!(pump.await.unwrap().unwrap(), End::Done);
    }

    #[tokio::test(start_paused = true)]
    async fn r23_a_reader_that_does_not_read_stops_its_writer_and_nothing_piles_up() {
        let (mut client, mut control, _pump) = pipes(b"", 1024);
        let mut sent = 0;
        while timeout(Duration::from_secs(1), client.write_all(&[7; 512])).await.is_ok() {
            sent += 512;
        }
        assert!(sent <= BUFFER_LEN + 3 * 1024, "{sent} octets were taken");
        let mut received = vec![0; sent];
        control.read_exact(&mut received).await.unwrap();
        assert!(received.iter().all(|octet| *octet == 7), "and none was lost");
    }

    #[tokio::test(start_paused = true)]
    async fn r23_a_connection_on_which_nothing_moves_is_ended() {
        let begun = Instant::now();
        let (mut client, _control, pump) = pipes(b"", 1024);
        tokio::time::sleep(IDLE / 2).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(pump.await.unwrap().unwrap(), End::Idle);
        assert_eq!(begun.elapsed(), IDLE + IDLE / 2, "counted from what moved last");
    }

    #[tokio::test(start_paused = true)]
    async fn r23_a_client_does_not_keep_what_control_has_left() {
        let begun = Instant::now();
        let (mut client, mut control, pump) = pipes(b"", 1024);
        control.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(pump.await.unwrap().unwrap(), End::Idle);
        assert_eq!(begun.elapsed(), STALL);
    }

    #[tokio::test]
    async fn when_one_end_breaks_the_other_is_let_go() {
        let (mut client, control, pump) = pipes(b"hello", 1024);
        drop(control);
        assert!(pump.await.unwrap().is_err(), "the hello cannot be told to anybody");
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_octet_arrives_once_and_in_order_however_it_is_cut(
            hello in proptest::collection::vec(any::<u8>(), 0..3000),
            up in proptest::collection::vec(1_usize..5000, 0..12),
            down in proptest::collection::vec(1_usize..5000, 0..12),
            len in 1_usize..4096,
        ) {
            let cut = |sizes: &[usize]| -> Vec<Vec<u8>> {
                let octet = |at: usize| u8::try_from(at % 251).unwrap();
                sizes.iter().map(|size| (0..*size).map(|at| octet(at + size)).collect()).collect()
            };
            let (up, down) = (cut(&up), cut(&down));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let (client, control, pump) = pipes(&hello, len);
                let (got_down, got_up) = tokio::join!(talk(client, &up), talk(control, &down));
                assert_eq!(got_up, [hello, up.concat()].concat());
                assert_eq!(got_down, down.concat());
                assert_eq!(pump.await.unwrap().unwrap(), End::Done);
            });
        }
    }

    /// Says all of `parts`, hears all that is said.
    async fn talk(end: DuplexStream, parts: &[Vec<u8>]) -> Vec<u8> {
        let (mut hear, mut say) = tokio::io::split(end);
        let saying = async {
            for part in parts {
                say.write_all(part).await.unwrap();
            }
            say.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        tokio::join!(saying, async { hear.read_to_end(&mut heard).await.unwrap() });
        heard
    }
}
