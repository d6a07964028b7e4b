//! What both halves of a control session share: bytes in and out, silence, the drain, the end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mezusphere_model::bundle::SignedBundle;

use super::decode::{DecodeError, Decoder};
use super::encode::Encoder;
use super::message::{Message, Refused};
use crate::codes::CloseCode;
use crate::limits::{CONTROL_BACKLOG_LEN_MAX, GRACE_MAX, HANDSHAKE_MAX, SILENCE_MAX};

/// Why a control session is over. The tunnel's connection is to be closed with [`SessionEnd::close_code`]
/// once what `poll_transmit` still gives has been written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The edge refused the warpgate.
    #[error("refused: {0}")]
    Refused(Refused),
    /// The peer did not do its part of the handshake within [`HANDSHAKE_MAX`].
    #[error("the handshake took longer than {} s", HANDSHAKE_MAX.as_secs())]
    HandshakeTimeout,
    /// Nothing was heard from the peer for [`SILENCE_MAX`].
    #[error("the peer was silent for {} ms", SILENCE_MAX.as_millis())]
    Silent,
    /// The peer ended the control stream.
    #[error("the peer ended the control stream")]
    Left,
    /// The peer closed the tunnel and said why.
    #[error("the peer closed the tunnel: {0}")]
    Closed(CloseCode),
    /// The peer sent what does not decode.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The peer sent a message where it may not stand.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// The peer sends more than a control stream is for.
    #[error("the peer flooded the control stream")]
    Flood,
    /// The peer reads nothing, and what is to be told to it has piled up.
    #[error("the peer does not read the control stream")]
    Backlog,
    /// The grace given with our own Drain is over.
    #[error("the time to finish is over")]
    GraceOver,
}

impl SessionEnd {
    /// The code to close the connection with.
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::Refused(_) => CloseCode::Refused,
            Self::HandshakeTimeout => CloseCode::HandshakeTimeout,
            Self::Silent => CloseCode::Silent,
            Self::Closed(_) | Self::Left | Self::GraceOver => CloseCode::Done,
            Self::Malformed(_) | Self::Protocol(_) | Self::Flood | Self::Backlog => CloseCode::Protocol,
        }
    }
}

/// One half's stream, without its meaning.
#[derive(Debug)]
pub(super) struct Link {
    decoder: Decoder,
    encoder: Encoder,
    /// The time of the latest input.
    now: Instant,
    /// When the peer was last heard.
    heard: Instant,
    /// When our own drain ends.
    grace_until: Option<Instant>,
    window: Window,
    window_len_max: usize,
    ended: Option<SessionEnd>,
    told: bool,
    /// Close was said.
    closed: bool,
}

/// What the peer sent within the current stretch of [`SILENCE_MAX`].
#[derive(Debug)]
struct Window {
    since: Instant,
    octets: usize,
    pings: u32,
}

impl Link {
    /// `window_len_max`: octets taken within [`SILENCE_MAX`].
    pub(super) fn new(decoder: Decoder, window_len_max: usize, now: Instant) -> Self {
        Self {
            decoder,
            encoder: Encoder::new(),
            now,
            heard: now,
            grace_until: None,
            window: Window { since: now, octets: 0, pings: 0 },
            window_len_max,
            ended: None,
            told: false,
            closed: false,
        }
    }

    pub(super) fn receive(&mut self, now: Instant, bytes: Bytes) {
        if self.ended.is_some() || bytes.is_empty() {
            return;
        }
        self.now = self.now.max(now);
        self.heard = self.now;
        if self.now.duration_since(self.window.since) >= SILENCE_MAX {
            self.window = Window { since: self.now, octets: 0, pings: 0 };
        }
        self.window.octets = self.window.octets.saturating_add(bytes.len());
        if self.window.octets > self.window_len_max {
            self.end(SessionEnd::Flood);
            return;
        }
        self.decoder.push(bytes);
    }

    /// The peer is there, whatever it has to say.
    pub(super) fn alive(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.heard = self.now;
    }

    /// The peer's next message. What does not decode ends the session.
    pub(super) fn next(&mut self) -> Option<Message> {
        if self.ended.is_some() {
            return None;
        }
        match self.decoder.poll() {
            Ok(message) => message,
            Err(why) => {
                self.end(why.into());
                None
            }
        }
    }

    pub(super) fn send(&mut self, message: &Message) {
        if self.ended.is_none() && self.write(message) && self.encoder.len() > CONTROL_BACKLOG_LEN_MAX {
            self.end(SessionEnd::Backlog);
        }
    }

    /// Writes a bundle just before the owner takes what is written, so that it never counts as backlog.
    pub(super) fn send_bundle(&mut self, bundle: SignedBundle) {
        if self.ended.is_none() {
            self.write(&Message::Bundle(bundle));
        }
    }

    fn write(&mut self, message: &Message) -> bool {
        let written = self.encoder.message(message).is_ok();
        if !written {
            // Only a bundle over its limit and over-long lists get here, both refused where they are made.
            self.end(SessionEnd::Protocol("we were asked to send what passes a limit"));
        }
        written
    }

    /// Answers a ping, unless there are more than anybody needs.
    pub(super) fn pong(&mut self, n: u64) {
        self.window.pings = self.window.pings.saturating_add(1);
        if self.window.pings > crate::limits::PINGS_MAX {
            self.end(SessionEnd::Flood);
        } else {
            self.send(&Message::Pong { n });
        }
    }

    pub(super) fn end(&mut self, why: SessionEnd) {
        self.ended.get_or_insert(why);
    }

    /// Says why the tunnel is closed, after everything else, and ends.
    pub(super) fn close(&mut self, code: CloseCode) {
        if !std::mem::replace(&mut self.closed, true) && self.write(&Message::Close { code }) {
            self.end(SessionEnd::Left);
        }
    }

    /// Why it is over, if it is.
    pub(super) const fn ended(&self) -> Option<&SessionEnd> {
        self.ended.as_ref()
    }

    /// Why it is over, once.
    pub(super) fn tell_end(&mut self) -> Option<SessionEnd> {
        if self.told {
            return None;
        }
        self.told = self.ended.is_some();
        self.ended.clone()
    }

    pub(super) fn transmit(&mut self) -> Option<Bytes> {
        (!self.encoder.is_empty()).then(|| self.encoder.take())
    }

    /// The time of the latest input.
    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    /// Says Drain, and ends after `grace`.
    pub(super) fn drain(&mut self, now: Instant, grace: Duration) {
        if self.grace_until.is_some() {
            return;
        }
        self.now = self.now.max(now);
        let grace = grace.min(GRACE_MAX);
        self.grace_until = Some(self.now + grace);
        self.send(&Message::Drain { grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) });
    }

    /// When the peer's Drain ends, by our clock.
    pub(super) fn peer_grace(&self, grace_ms: u64) -> Instant {
        self.now + Duration::from_millis(grace_ms).min(GRACE_MAX)
    }

    /// When something is due even if nothing comes in.
    pub(super) fn timeout(&self, greeted: bool, started: Instant) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let due = if greeted { self.heard + SILENCE_MAX } else { started + HANDSHAKE_MAX };
        Some(self.grace_until.map_or(due, |grace| grace.min(due)))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, greeted: bool, started: Instant) {
        self.now = self.now.max(now);
        if self.grace_until.is_some_and(|until| self.now >= until) {
            self.end(SessionEnd::GraceOver);
        } else if !greeted && self.now >= started + HANDSHAKE_MAX {
            self.end(SessionEnd::HandshakeTimeout);
        } else if greeted && self.now >= self.heard + SILENCE_MAX {
            self.end(SessionEnd::Silent);
        }
    }

    /// Whether we have said Drain.
    pub(super) const fn is_draining(&self) -> bool {
        self.grace_until.is_some()
    }
}
