//! An HTTP/1.1 connection after its 101: raw octets both ways.
//!
//! What the client sends is the request's body ([`AfterSwitch`]), read straight from the connection when it is asked
//! for; what the upstream sends is the response's, written by [`pump`] inside the connection's own task. So each
//! direction waits for its reader, and no octet of the client's is read as its own protocol's before the 101 is out.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::http::body::BodyError;
use crate::http::leash::{self, Leash};
use crate::http::{Body, BoxError, unless};

/// Octets read at once: one TLS record.
const READ_LEN: usize = 16 * 1024;

/// What the client sends once the protocol has been switched: what came ahead of the 101, and the connection's reading
/// half.
type Client = (Bytes, Box<dyn AsyncRead + Send + Unpin>);

/// A switch that was granted: to be carried out once the 101 is written.
pub(super) struct Switch {
    /// What the upstream sends.
    body: Body,
    /// Who waits for what the client sends.
    client: oneshot::Sender<Client>,
    /// Whether it must end.
    leash: Option<Leash>,
}

/// Hands the client's octets on, should there be a switch.
pub(super) struct Lead(oneshot::Sender<Client>);

/// What the client sends after the switch. Nothing until then; an error if there is none.
pub(super) struct AfterSwitch(State);

enum State {
    Waiting(oneshot::Receiver<Client>),
    Reading(Client),
    Ended,
}

/// A request's body that begins with the switch.
pub(super) fn after_switch() -> (Lead, Body) {
    let (lead, client) = oneshot::channel();
    (Lead(lead), Body::new(AfterSwitch(State::Waiting(client))))
}

impl Lead {
    /// The upstream switches; `body` is what it sends, until `leash` says that it must end.
    pub(super) fn grant(self, body: Body, leash: Option<Leash>) -> Switch {
        Switch { body, client: self.0, leash }
    }
}

impl Switch {
    /// Carries the octets of both directions until both have ended, or one is cut. `ahead` is what the client sent
    /// before the 101 was out; a client that reads nothing for `stall` is let go of.
    pub(super) async fn run<T>(self, io: T, ahead: Bytes, stall: Duration)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write): (ReadHalf<T>, WriteHalf<T>) = tokio::io::split(io);
        // Fails if the upstream wants nothing of the client any more; then its body says so.
        drop(self.client.send((ahead, Box::new(read))));
        pump(self.body, write, stall, self.leash.as_ref()).await;
    }
}

/// Writes what the upstream sends. A cut ends the connection without TLS's word of farewell, so that it does not look
/// like an end.
async fn pump(mut body: Body, mut io: impl AsyncWrite + Unpin, stall: Duration, leash: Option<&Leash>) {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let data = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => data,
            // The upstream's last octet; the client may go on.
            Some(Ok(Err(_))) => Bytes::new(),
            None => return drop(timeout(stall, io.shutdown()).await),
            Some(Err(_)) => return,
        };
        let written = async {
            if data.is_empty() {
                return io.shutdown().await;
            }
            io.write_all(&data).await?;
            io.flush().await
        };
        // Also a client that is gone, whom nobody can tell anything.
        let written = unless(written, |cx| leash::is_over(leash, cx));
        let Ok(Some(Ok(()))) = timeout(stall, written).await else { return };
    }
}

impl AfterSwitch {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match &mut self.0 {
                State::Waiting(client) => {
                    let client = ready!(Pin::new(client).poll(cx)).map_err(|_| BodyError::Gone);
                    self.0 = client.map_or(State::Ended, State::Reading);
                    if matches!(self.0, State::Ended) {
                        return Poll::Ready(Some(Err(BodyError::Gone)));
                    }
                }
                State::Reading((ahead, _)) if !ahead.is_empty() => {
                    return Poll::Ready(Some(Ok(std::mem::take(ahead))));
                }
                State::Reading((_, io)) => {
                    // On the stack, so that a connection that says nothing holds no buffer.
                    let mut space = [0; READ_LEN];
                    let mut buf = ReadBuf::new(&mut space);
                    let read = ready!(Pin::new(io).poll_read(cx, &mut buf));
                    let octets = Bytes::copy_from_slice(buf.filled());
                    if read.is_err() || octets.is_empty() {
                        self.0 = State::Ended;
                    }
                    return Poll::Ready(match read {
                        Err(_) => Some(Err(BodyError::Gone)),
                        Ok(()) => (!octets.is_empty()).then_some(Ok(octets)),
                    });
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl http_body::Body for AfterSwitch {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll(cx).map(|octets| octets.map(|octets| octets.map(Frame::data).map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, State::Ended)
    }
}
