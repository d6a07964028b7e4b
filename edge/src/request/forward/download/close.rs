//! The end of an exchange that may not go on: a WebSocket is told why at the end of the frame at hand, and has a moment to
//! answer; everything else is cut at once.

use bytes::Bytes;
use tokio::time::Instant;
use tunnel_proto::codes::ResetCode;

use super::{Download, Next, Over};
use crate::http::websocket::close_frame;
use crate::request::forward::guard::CLOSE_WITHIN;

impl Download {
    /// What is at hand; of a WebSocket that must end, only the rest of its frame.
    pub(super) fn take_data(&mut self) -> Bytes {
        let mut data = if self.joined.is_empty() {
            std::mem::take(&mut self.piece)
        } else {
            self.joined.split().freeze()
        };
        let Some(frames) = &mut self.frames else { return data };
        if let Some(rest) = self.closing.as_ref().and_then(|_| frames.rest(&data)) {
            data.truncate(rest);
        }
        frames.advance(&data);
        data
    }

    /// The exchange may not go on: a WebSocket is closed, everything else is cut.
    pub(super) fn deny(&mut self, over: Over) {
        tracing::debug!(%over, "An exchange is ended");
        self.terms.guard = None;
        let may_close = self.frames.is_some_and(|frames| !frames.has_closed());
        if !may_close || !matches!(self.next, Next::More) {
            return self.cut(ResetCode::Denied, over.into());
        }
        if let Some(traffic) = &self.traffic {
            traffic.hold();
        }
        self.timer = None;
        self.closing = Some((over, Instant::now() + CLOSE_WITHIN));
    }

    /// A WebSocket's last word, if it must be said and no frame is in the way; after it only the client's own is waited
    /// for, and dropped.
    pub(super) fn close(&mut self) -> Option<Bytes> {
        if !matches!(self.next, Next::More) || !self.frames.is_some_and(|frames| frames.is_between()) {
            return None;
        }
        let (over, until) = self.closing.as_mut()?;
        let (code, reason) = over.close();
        *until = Instant::now() + CLOSE_WITHIN;
        self.piece.clear();
        self.joined.clear();
        self.reader.stop(ResetCode::Denied);
        if let Some(traffic) = &self.traffic {
            traffic.drain();
        }
        self.timer = None;
        self.end_raw();
        Some(close_frame(code, reason))
    }

    /// Whether a WebSocket that must end has had its time: one whose last word was not said is cut, any other has ended.
    pub(super) fn is_closed_late(&mut self) -> bool {
        let Some((over, _)) = self.closing.take_if(|(_, until)| Instant::now() >= *until) else {
            return false;
        };
        if matches!(self.next, Next::More) {
            self.cut(ResetCode::Denied, over.into());
        } else {
            self.next = Next::End;
            self.release();
        }
        true
    }
}
