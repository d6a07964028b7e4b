//! The two halves of an exchange's stream as frames. The only place here that knows the transport; another
//! one joins by giving these two types a second arm.

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{DecodeError, Decoder, Encoder, Event};

use crate::limits::READ_LEN;

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

/// What the edge sends.
pub(crate) struct FromEdge {
    stream: RecvStream,
    decoder: Decoder,
}

/// What we send.
pub(crate) struct ToEdge {
    stream: SendStream,
    /// Frames gather here until [`ToEdge::flush`].
    pub(crate) encoder: Encoder,
}

impl FromEdge {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, decoder: Decoder::requests() }
    }

    /// The next frame; `None` once the stream has ended after a whole message. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, StreamEnd> {
        loop {
            if let Some(event) = self.decoder.poll()? {
                return Ok(Some(event));
            }
            match self.stream.read_chunk(READ_LEN, true).await {
                Ok(Some(chunk)) => self.decoder.push(chunk.bytes),
                Ok(None) => return self.decoder.finish().map(|()| None).map_err(|_| StreamEnd::Truncated),
                Err(ReadError::Reset(code)) => return Err(StreamEnd::Stopped(reset_code(code))),
                Err(_) => return Err(StreamEnd::Lost),
            }
        }
    }

    /// Tells the edge that the rest is not wanted.
    pub(crate) fn stop(&mut self, code: ResetCode) {
        // It fails only if nothing more could have come anyway.
        drop(self.stream.stop(VarInt::from_u32(code.number())));
    }
}

impl ToEdge {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, encoder: Encoder::new() }
    }

    /// Sends what the encoder holds, then `piece`. Waits while the edge's window is full.
    ///
    /// Not cancel safe: reset the stream if it did not complete.
    pub(crate) async fn flush(&mut self, piece: Bytes) -> Result<(), StreamEnd> {
        self.stream
            .write_all_chunks(&mut [self.encoder.take(), piece])
            .await
            .map_err(|error| write_end(&error))
    }

    /// Sends what the encoder holds and ends the stream.
    pub(crate) async fn finish(&mut self) -> Result<(), StreamEnd> {
        if !self.encoder.is_empty() {
            self.stream.write_chunk(self.encoder.take()).await.map_err(|error| write_end(&error))?;
        }
        self.stream.finish().map_err(|_| StreamEnd::Lost)
    }

    /// Ends the stream so that what was sent cannot look complete.
    pub(crate) fn reset(&mut self, code: ResetCode) {
        // It fails only if the stream has ended already.
        drop(self.stream.reset(VarInt::from_u32(code.number())));
    }

    /// Resolves when the edge no longer wants the response, or has all of it. Owns what it needs.
    pub(crate) fn stopped(&self) -> impl Future<Output = StreamEnd> + Send + use<> {
        let stopped = self.stream.stopped();
        async move {
            match stopped.await {
                Ok(Some(code)) => StreamEnd::Stopped(reset_code(code)),
                Ok(None) | Err(_) => StreamEnd::Lost,
            }
        }
    }
}

fn reset_code(code: VarInt) -> ResetCode {
    ResetCode::from_number(code.into_inner())
}

fn write_end(error: &WriteError) -> StreamEnd {
    match error {
        WriteError::Stopped(code) => StreamEnd::Stopped(reset_code(*code)),
        WriteError::ConnectionLost(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            StreamEnd::Lost
        }
    }
}
