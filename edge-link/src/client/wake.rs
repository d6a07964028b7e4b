//! The wake as an edge hears it: lines of JSON, each of which is also a sign of life.

use bytes::BytesMut;
use h2::RecvStream;

use crate::body::{BodyError, decode};
use crate::limits::WAKE_LINE_LEN_MAX;
use crate::wire::WakeLine;

/// The open answer to the wake.
pub(super) struct WakeStream {
    body: RecvStream,
    /// What has come of the next line.
    begun: BytesMut,
}

impl WakeStream {
    pub(super) fn new(body: RecvStream) -> Self {
        Self { body, begun: BytesMut::new() }
    }

    /// The next line; `None`: the control node ended it. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<WakeLine>, BodyError> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let line = self.begun.split_to(end + 1);
                return decode(&line).map(Some);
            }
            if self.begun.len() > WAKE_LINE_LEN_MAX {
                return Err(BodyError::TooLong(WAKE_LINE_LEN_MAX));
            }
            let Some(chunk) = self.body.data().await else { return Ok(None) };
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
            self.begun.extend_from_slice(&chunk);
        }
    }
}
