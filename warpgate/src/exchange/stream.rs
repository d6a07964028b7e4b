//! The two halves of an exchange's stream as frames; what carries them is [`crate::tunnel`]'s.

use bytes::Bytes;
use tokio::time::Duration;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{DecodeError, Decoder, Encoder, Event};

use crate::tunnel::{RecvEnd, RecvHalf, SendEnd, SendHalf};

/// Why nothing more comes from the edge, or goes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamEnd {
    /// The edge reset the stream or asked us to stop: mostly because its client went away.
    #[error("the edge ended the exchange: {0}")]
    Stopped(ResetCode),
    /// The tunnel is gone.
    #[error("the tunnel is gone")]
    Lost,
    /// What the edge sent cannot be read.
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    /// The stream ended in the middle of a message.
    #[error("the edge ended the stream in the middle of a message")]
    Truncated,
}

impl From<SendEnd> for StreamEnd {
    fn from(end: SendEnd) -> Self {
        match end {
            SendEnd::Stopped(code) => Self::Stopped(code),
            SendEnd::Lost => Self::Lost,
        }
    }
}

impl From<RecvEnd> for StreamEnd {
    fn from(end: RecvEnd) -> Self {
        match end {
            RecvEnd::Reset(code) => Self::Stopped(code),
            RecvEnd::Lost => Self::Lost,
        }
    }
}

/// What the edge sends.
pub(crate) struct FromEdge {
    stream: RecvHalf,
    decoder: Decoder,
}

/// What we send.
pub(crate) struct ToEdge {
    stream: SendHalf,
    /// Frames gather here until [`ToEdge::flush`].
    pub(crate) encoder: Encoder,
}

impl FromEdge {
    pub(crate) fn new(stream: RecvHalf) -> Self {
        Self { stream, decoder: Decoder::requests() }
    }

    /// The next frame; `None` once the stream has ended after a whole message. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, StreamEnd> {
        loop {
            if let Some(event) = self.decoder.poll()? {
                return Ok(Some(event));
            }
            match self.stream.read().await? {
                Some(bytes) => self.decoder.push(bytes),
                None => return self.decoder.finish().map(|()| None).map_err(|_| StreamEnd::Truncated),
            }
        }
    }

    /// Tells the edge that the rest is not wanted.
    pub(crate) fn stop(&mut self, code: ResetCode) {
        self.stream.stop(code);
    }
}

impl ToEdge {
    pub(crate) fn new(stream: SendHalf) -> Self {
        Self { stream, encoder: Encoder::new() }
    }

    /// Sends what the encoder holds, then `piece`. Waits while the edge's window is full.
    ///
    /// Not cancel safe: reset the stream if it did not complete.
    pub(crate) async fn flush(&mut self, piece: Bytes) -> Result<(), StreamEnd> {
        Ok(self.stream.write_all([self.encoder.take(), piece]).await?)
    }

    /// Sends what the encoder holds and ends the stream.
    pub(crate) async fn finish(&mut self) -> Result<(), StreamEnd> {
        Ok(self.stream.finish(self.encoder.take()).await?)
    }

    /// Ends the stream so that what was sent cannot look complete.
    pub(crate) fn reset(&mut self, code: ResetCode) {
        self.stream.reset(code);
    }

    /// Resolves when the edge no longer wants the response; it may when it has all of it. Owns what it needs.
    pub(crate) fn stopped(&self) -> impl Future<Output = StreamEnd> + Send + use<> {
        let stopped = self.stream.stopped();
        async move { stopped.await.into() }
    }

    /// Resolves when the tunnel may be closed without throwing away what was sent, `within` this time.
    pub(crate) async fn delivered(&self, within: Duration) {
        self.stream.delivered(within).await;
    }
}
