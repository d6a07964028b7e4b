//! The warpgate's half of the control stream: says Hello, waits for Welcome, pings, answers, drains.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::slug::Slug;

use super::decode::Decoder;
use super::link::{Link, SessionEnd};
use super::message::{Hello, Message, UpstreamHealth, VersionRange, Welcome};
use crate::codes::CloseCode;
use crate::limits::{EDGE_SAYS_LEN_MAX, PING_EVERY};

/// What the edge said, for the session's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarpgateEvent {
    /// The tunnel is up. The owner compares the edge's id with the certificate's.
    Welcomed(Welcome),
    /// A newer bundle; not verified yet.
    Bundle(SignedBundle),
    /// The probe asked for went through.
    ProbeDone {
        /// The request's.
        nonce: u64,
        /// Time from the edge to here and back.
        rtt: Duration,
    },
    /// The edge opens no more exchanges and closes at this time at the latest: be connected elsewhere by then.
    Draining {
        /// By our clock.
        until: Instant,
    },
    /// It is over; the last event.
    Ended(SessionEnd),
}

/// The warpgate's half of a control session.
#[derive(Debug)]
pub struct WarpgateSession {
    link: Link,
    versions: VersionRange,
    started: Instant,
    welcomed: bool,
    next_ping: Instant,
    /// The ping that waits for its answer.
    ping: Option<(u64, Instant)>,
    pings: u64,
    rtt: Option<Duration>,
}

impl WarpgateSession {
    /// Begins the conversation at `now`; the Hello is ready to be written.
    pub fn new(now: Instant, hello: Hello) -> Self {
        let mut link = Link::new(Decoder::from_edge(), EDGE_SAYS_LEN_MAX, now);
        let versions = hello.versions;
        link.send(&Message::Hello(hello));
        Self {
            link,
            versions,
            started: now,
            welcomed: false,
            next_ping: now,
            ping: None,
            pings: 0,
            rtt: None,
        }
    }

    /// Takes what was read from the control stream.
    pub fn handle_bytes(&mut self, now: Instant, bytes: Bytes) {
        self.link.receive(now, bytes);
    }

    /// Takes that the transport has just heard the peer, proven to be it. On a lossy path an answer on the control stream may
    /// take longer than [`SILENCE_MAX`](crate::limits::SILENCE_MAX) while other packets keep coming.
    pub fn handle_alive(&mut self, now: Instant) {
        self.link.alive(now);
    }

    /// Takes that the control stream has ended.
    pub fn handle_end_of_stream(&mut self) {
        self.link.end(SessionEnd::Left);
    }

    /// What happened next; `None`: nothing more.
    pub fn poll_event(&mut self) -> Option<WarpgateEvent> {
        while let Some(message) = self.link.next() {
            if let Some(event) = self.handle_message(message) {
                return Some(event);
            }
        }
        self.link.tell_end().map(WarpgateEvent::Ended)
    }

    /// What is to be written to the control stream.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.link.transmit()
    }

    /// When to call [`Self::handle_timeout`]; `None` once it is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.link.timeout(self.welcomed, self.started)?;
        Some(if self.welcomed { due.min(self.next_ping) } else { due })
    }

    /// Does what is due at `now`: pings, notices silence, ends.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.link.handle_timeout(now, self.welcomed, self.started);
        if self.welcomed && now >= self.next_ping {
            self.pings += 1;
            self.ping = Some((self.pings, now));
            self.next_ping = now + PING_EVERY;
            self.link.send(&Message::Ping { n: self.pings });
        }
    }

    /// Declares more upstreams.
    pub fn offer(&mut self, upstreams: Vec<Slug>) {
        self.link.send(&Message::Offer { upstreams });
    }

    /// Takes upstreams back.
    pub fn withdraw(&mut self, upstreams: Vec<Slug>) {
        self.link.send(&Message::Withdraw { upstreams });
    }

    /// Says how an upstream does. To be called when that has changed, and for each upstream that was checked when a
    /// tunnel begins.
    pub fn upstream_health(&mut self, health: UpstreamHealth) {
        self.link.send(&Message::UpstreamHealth(health));
    }

    /// Says that the assertion sent as `slot` is verified and remembered.
    pub fn principal_known(&mut self, slot: u64) {
        self.link.send(&Message::PrincipalKnown { slot });
    }

    /// Asks for a probe; [`WarpgateEvent::ProbeDone`] answers.
    pub fn request_probe(&mut self, nonce: u64) {
        self.link.send(&Message::ProbeRequest { nonce });
    }

    /// Asks for no new exchanges; ends with [`SessionEnd::GraceOver`] after `grace`, unless the owner
    /// closes earlier because all exchanges are done. A second call changes nothing.
    pub fn drain(&mut self, now: Instant, grace: Duration) {
        self.link.drain(now, grace);
    }

    /// Says why the tunnel is closed, after everything else: for a transport whose own close cannot. The session is
    /// over once this is written.
    pub fn close(&mut self, code: CloseCode) {
        self.link.close(code);
    }

    /// Time from here to the edge and back, by the latest ping that was answered.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<&SessionEnd> {
        self.link.ended()
    }

    /// Whether [`Self::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.link.is_draining()
    }

    fn handle_message(&mut self, message: Message) -> Option<WarpgateEvent> {
        let now = self.link.now();
        match message {
            Message::Welcome(welcome) if !self.welcomed => {
                if welcome.version < self.versions.min || welcome.version > self.versions.max {
                    self.link.end(SessionEnd::Protocol("welcomed with a version that was not offered"));
                    return None;
                }
                self.welcomed = true;
                self.next_ping = now + PING_EVERY;
                return Some(WarpgateEvent::Welcomed(welcome));
            }
            Message::Refused(refused) => self.link.end(SessionEnd::Refused(refused)),
            Message::Ping { n } => self.link.pong(n),
            Message::Drain { grace_ms } => {
                return Some(WarpgateEvent::Draining { until: self.link.peer_grace(grace_ms) });
            }
            Message::Close { code } => self.link.end(SessionEnd::Closed(code)),
            _ if !self.welcomed => self.link.end(SessionEnd::Protocol("spoke before Welcome")),
            Message::Pong { n } => {
                // One that was overtaken by a newer ping says nothing about the time.
                if let Some((_, sent)) = self.ping.take_if(|(waiting, _)| *waiting == n) {
                    self.rtt = Some(now.duration_since(sent));
                }
            }
            Message::Bundle(bundle) => return Some(WarpgateEvent::Bundle(bundle)),
            Message::ProbeDone { nonce, rtt_us } => {
                return Some(WarpgateEvent::ProbeDone { nonce, rtt: Duration::from_micros(rtt_us) });
            }
            Message::Welcome(_) => self.link.end(SessionEnd::Protocol("welcomed twice")),
            // The decoder lets no other message of a warpgate's own through.
            _ => self.link.end(SessionEnd::Protocol("sent what only a warpgate sends")),
        }
        None
    }
}
