//! One connection to one control node: who answers, until when, and the task that drives it.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use mezusphere_model::clock::{Clock, Timestamp};
use mezusphere_model::document::NodeAddress;
use mezusphere_pki::{CurrentTrust, NodeIdentity, Peer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::LinkProblem;
use crate::limits::LinkLimits;

/// Answers in a row that make no sense, or say that control is away, before another control node is tried.
const COMPLAINTS_MAX: u32 = 3;

/// Longest time before the end of a control node's certificate at which a new connection is made: enough to dial it and
/// every other control node many times.
const REPLACE_AHEAD_MAX: Duration = Duration::from_mins(10);

/// A task that ends with its owner.
pub(super) struct Owned(pub(super) JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection. Questions that are under way keep it alive after another one has taken its place.
pub(super) struct Line {
    pub(super) control: NodeAddress,
    /// What we showed; another one since then means that a new connection is due.
    pub(super) identity: Arc<NodeIdentity>,
    /// When a new connection is due because the control node's certificate is about to end before ours.
    pub(super) replace_at: Option<Timestamp>,
    /// The CA behind the control node's certificate.
    issuer: Option<[u8; 32]>,
    pub(super) send: SendRequest<Bytes>,
    /// Why it ended.
    end: Arc<End>,
    complaints: AtomicU32,
    /// Ends with the line.
    _driver: Owned,
}

/// How a line ended.
#[derive(Default)]
struct End {
    told: CancellationToken,
    why: OnceLock<String>,
    /// What TLS said, if it was TLS.
    heard: Heard,
}

impl End {
    fn tell(&self, why: impl Into<String>) {
        // The first reason is the one.
        drop(self.why.set(why.into()));
        self.told.cancel();
    }
}

/// Until when a line is good.
pub(super) struct Good {
    pub(super) clock: Clock,
    pub(super) trust: CurrentTrust,
    /// The control node, in case it is evicted or its certificate's CA retired.
    pub(super) control: Peer,
    /// The end of its certificate or ours, whichever is first.
    pub(super) ends_at: Timestamp,
}

impl Line {
    pub(super) fn new<T>(
        control: NodeAddress,
        identity: Arc<NodeIdentity>,
        send: SendRequest<Bytes>,
        connection: Connection<T, Bytes>,
        heard: Heard,
        good: Good,
        limits: &LinkLimits,
    ) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let end = Arc::new(End { heard, ..End::default() });
        let replace_at = replace_at(good.clock.now(), good.control.not_after, identity.not_after());
        let issuer = good.control.issuer;
        let told = Arc::clone(&end);
        let (every, wait, look) = (limits.ping, limits.pong, limits.look);
        let driver = tokio::spawn(async move {
            let mut connection = connection;
            let mut alive = pin!(alive(connection.ping_pong(), every, wait));
            let mut good = pin!(while_good(good, look));
            let mut connection = pin!(connection);
            tokio::select! {
                end = &mut connection => told.tell(match end {
                    Ok(()) => "the control node closed it".to_owned(),
                    Err(why) => why.to_string(),
                }),
                () = &mut alive => told.tell("the control node does not answer any more"),
                why = &mut good => told.tell(why),
            }
        });
        let complaints = AtomicU32::new(0);
        Self { control, identity, replace_at, issuer, send, end, complaints, _driver: Owned(driver) }
    }

    /// Whether the control node's certificate is of another CA than this one of ours: one of them is being replaced, and the
    /// connection would end with the one that is retired.
    pub(super) fn is_of_another_ca(&self, own: &NodeIdentity) -> bool {
        self.issuer != own.leaf().issuer
    }

    /// Whether it has ended or is not to be used any more.
    pub(super) fn has_ended(&self) -> bool {
        self.end.told.is_cancelled()
    }

    /// Waits for that.
    pub(super) async fn ended(&self) {
        self.end.told.cancelled().await;
    }

    /// It is not to be used any more.
    pub(super) fn retire(&self, why: &str) {
        self.end.tell(why);
    }

    /// An answer made no sense, or control says it is away. Too many in a row, and another control node is tried.
    pub(super) fn complain(&self, what: &str) {
        if self.complaints.fetch_add(1, Ordering::Relaxed) + 1 >= COMPLAINTS_MAX {
            self.retire(what);
        }
    }

    /// An answer made sense.
    pub(super) fn praise(&self) {
        self.complaints.store(0, Ordering::Relaxed);
    }

    /// Why it ended, or `otherwise` if it has not.
    pub(super) fn problem(&self, otherwise: &str, now: Timestamp) -> LinkProblem {
        if let Some(error) = self.end.heard.get() {
            return LinkProblem::from_tls(error, self.control.clone(), now);
        }
        let why = self.end.why.get().map_or(otherwise, String::as_str);
        LinkProblem::left(why, self.control.clone(), now)
    }
}

/// When to make a new connection so that the end of the control node's certificate cuts no question: with a quarter of what
/// is left, ten minutes at most, still to go. A new one does not help if ours ends first, and is due in any case once ours is
/// renewed.
fn replace_at(now: Timestamp, control_end: Timestamp, own_end: Timestamp) -> Option<Timestamp> {
    let ahead = (control_end.since(now) / 4).min(REPLACE_AHEAD_MAX);
    (control_end < own_end).then(|| control_end.before(ahead))
}

/// Ends when a PING is not answered in time.
async fn alive(ping_pong: Option<PingPong>, every: Duration, wait: Duration) {
    let Some(mut ping_pong) = ping_pong else { return std::future::pending().await };
    loop {
        sleep(every).await;
        match timeout(wait, ping_pong.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection's own end says why.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// Ends when a certificate has ended, the control node was evicted or its certificate's CA was retired; says why.
async fn while_good(good: Good, look: Duration) -> String {
    loop {
        if good.clock.now() > good.ends_at {
            return "a certificate it was made with has ended".to_owned();
        }
        if let Some(why) = good.trust.get().refuses(&good.control) {
            return why.to_string();
        }
        sleep(look).await;
    }
}

/// What TLS said when a stream broke. HTTP/2 passes on only the text of an error, and an alert is worth more.
pub(super) type Heard = Arc<OnceLock<rustls::Error>>;

/// A stream that remembers what TLS said.
pub(super) struct Listening<S> {
    stream: S,
    heard: Heard,
}

impl<S> Listening<S> {
    pub(super) fn new(stream: S) -> (Self, Heard) {
        let heard = Heard::default();
        (Self { stream, heard: Arc::clone(&heard) }, heard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read
            && let Some(said) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            drop(self.heard.set(said.clone()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
