//! The control stream's I/O around `tunnel_proto`'s session, which holds the conversation.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};
use tunnel_proto::codes::CloseCode;
use tunnel_proto::control::{Hello, WarpgateEvent, WarpgateSession};

use super::stream::{RecvHalf, SendHalf};

/// The control stream of one tunnel.
pub(super) struct Control {
    pub(super) session: WarpgateSession,
    send: SendHalf,
    receive: RecvHalf,
    /// Taken from the session, not written yet.
    outgoing: Bytes,
    ended: bool,
}

impl Control {
    pub(super) fn new(hello: Hello, send: SendHalf, receive: RecvHalf) -> Self {
        let session = WarpgateSession::new(Instant::now().into_std(), hello);
        Self { session, send, receive, outgoing: Bytes::new(), ended: false }
    }

    /// What the edge says next; after [`WarpgateEvent::Ended`] nothing more comes. Cancel safe.
    pub(super) async fn next(&mut self) -> WarpgateEvent {
        loop {
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            if self.outgoing.is_empty() {
                self.outgoing = self.session.poll_transmit().unwrap_or_default();
            }
            let due = self.session.poll_timeout();
            let sleep = async {
                match due {
                    Some(due) => sleep_until(Instant::from_std(due)).await,
                    None => std::future::pending().await,
                }
            };
            let has_outgoing = !self.outgoing.is_empty();
            tokio::select! {
                biased;
                // Read first: a late wake-up must not count as the peer's silence.
                read = self.receive.read(), if !self.ended => {
                    if let Ok(Some(bytes)) = read {
                        self.session.handle_bytes(Instant::now().into_std(), bytes);
                    } else {
                        self.ended = true;
                        self.session.handle_end_of_stream();
                    }
                }
                written = self.send.write(&mut self.outgoing), if has_outgoing => {
                    if written.is_err() {
                        self.outgoing.clear();
                        self.session.handle_end_of_stream();
                    }
                }
                () = sleep => self.session.handle_timeout(Instant::now().into_std()),
            }
        }
    }

    /// Writes what is left and why the tunnel is closed, `within` this time: where the transport's own close has no room
    /// for a reason.
    pub(super) async fn say_close(&mut self, code: CloseCode, within: Duration) {
        self.session.close(code);
        let saying = async {
            while !self.outgoing.is_empty() {
                self.send.write(&mut self.outgoing).await?;
            }
            self.send.finish(self.session.poll_transmit().unwrap_or_default()).await
        };
        // An edge that does not read learns it from the end of the connection.
        drop(timeout(within, saying).await);
    }
}
