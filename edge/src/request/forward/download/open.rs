//! How the body of a response begins: with what came with its head, or not at all where it is known to be broken
//! before the head was said.

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use tunnel_proto::codes::ResetCode;

use super::{Download, Next, Terms};
use crate::http::websocket::Frames;
use crate::request::forward::reader::Reader;
use crate::request::forward::traffic::Traffic;
use crate::request::forward::upload::Upload;
use crate::request::refusal::Refusal;
use crate::tunnel::Chosen;

impl Download {
    /// The body that `reader` brings, of `length` octets if the head said so.
    ///
    /// # Errors
    /// What the client is told instead of the head, if the body is known to break off before the head was said.
    pub(in crate::request::forward) fn new(
        reader: Box<Reader>,
        upload: Box<Upload>,
        length: Option<u64>,
        terms: Terms,
        chosen: Chosen,
    ) -> Result<Self, Refusal> {
        let traffic = Traffic::begin(upload, terms.guard.clone(), terms.is_websocket);
        let mut download = Self::begin(reader, traffic, Next::More, terms);
        download.left = length;
        download.chosen = Some(chosen);
        download.opened()
    }

    /// Raw octets, after a switch of protocols that was granted to `upload` too.
    ///
    /// # Errors
    /// As [`Download::new`]'s.
    pub(in crate::request::forward) fn raw(
        reader: Box<Reader>,
        upload: Box<Upload>,
        terms: Terms,
        chosen: Chosen,
    ) -> Result<Self, Refusal> {
        let traffic = Traffic::begin(upload, terms.guard.clone(), terms.is_websocket);
        let frames = terms.is_websocket.then(Frames::default);
        let mut download = Self::begin(reader, traffic, Next::More, terms);
        download.raw = true;
        download.frames = frames;
        download.chosen = Some(chosen);
        download.opened()
    }

    /// Looks at what came with the head. A small body's end is then known before anybody asks; a body that is broken
    /// already makes another answer.
    fn opened(mut self) -> Result<Self, Refusal> {
        self.gather();
        if self.has_room() {
            // The break may be right behind what came with the head. Nobody needs waking: the body's first poll looks again.
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(read) = self.reader.poll_more(&mut cx) {
                self.read(read);
                self.gather();
            }
        }
        match &self.next {
            Next::Breaking(why) => {
                tracing::debug!(%why, "A response broke off before its head was said");
                Err(why.refusal())
            }
            _ => Ok(self),
        }
    }

    /// A response without a body, whatever its head says of one (RFC 9110 §6.4.1). `end`: nothing follows the head.
    pub(in crate::request::forward) fn none(
        mut reader: Box<Reader>,
        upload: Box<Upload>,
        end: bool,
        terms: Terms,
    ) -> Self {
        if end {
            reader.end();
        } else {
            reader.stop(ResetCode::NotNeeded);
        }
        let traffic = Traffic::begin(upload, terms.guard.clone(), false);
        let mut download = Self::begin(reader, traffic, Next::End, terms);
        download.left = Some(0);
        download
    }

    fn begin(reader: Box<Reader>, traffic: Option<Traffic>, next: Next, terms: Terms) -> Self {
        Self {
            reader,
            left: None,
            piece: Bytes::new(),
            joined: BytesMut::new(),
            next,
            terms,
            moved: Instant::now(),
            timer: None,
            traffic,
            raw: false,
            frames: None,
            closing: None,
            chosen: None,
        }
    }
}
