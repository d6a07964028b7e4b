//! The control stream's I/O around `tunnel_proto`'s session, which holds the conversation.

use bytes::{Buf as _, Bytes};
use quinn::{RecvStream, SendStream};
use tokio::time::{Instant, sleep_until};
use tunnel_proto::control::{Hello, WarpgateEvent, WarpgateSession};

use crate::limits::READ_LEN;

/// The control stream of one tunnel.
pub(super) struct Control {
    pub(super) session: WarpgateSession,
    send: SendStream,
    receive: RecvStream,
    /// Taken from the session, not written yet.
    outgoing: Bytes,
    ended: bool,
}

impl Control {
    pub(super) fn new(hello: Hello, send: SendStream, receive: RecvStream) -> Self {
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
            tokio::select! {
                biased;
                // Read first: a late wake-up must not count as the peer's silence.
                read = self.receive.read_chunk(READ_LEN, true), if !self.ended => {
                    if let Ok(Some(chunk)) = read {
                        self.session.handle_bytes(Instant::now().into_std(), chunk.bytes);
                    } else {
                        self.ended = true;
                        self.session.handle_end_of_stream();
                    }
                }
                written = self.send.write(&self.outgoing), if !self.outgoing.is_empty() => {
                    if let Ok(octets) = written {
                        self.outgoing.advance(octets);
                    } else {
                        self.outgoing.clear();
                        self.session.handle_end_of_stream();
                    }
                }
                () = sleep => self.session.handle_timeout(Instant::now().into_std()),
            }
        }
    }
}
