//! The edge's half of the control stream: waits for Hello, welcomes or refuses, answers pings, relays bundles.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::EdgeId;
use mezusphere_model::slug::Slug;

use super::decode::Decoder;
use super::link::{Link, SessionEnd};
use super::message::{
    Hello, Message, RefusalCode, Refused, SessionLimits, UpstreamHealth, VERSIONS, Welcome,
};
use crate::codes::CloseCode;
use crate::limits::WARPGATE_SAYS_LEN_MAX;

/// What the warpgate said, for the session's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeEvent {
    /// Asks to be welcomed; answer with [`EdgeSession::welcome`] or [`EdgeSession::refuse`]. The owner
    /// compares the instance with the certificate's.
    Hello(Hello),
    /// These upstreams can be reached as well.
    Offered(Vec<Slug>),
    /// These cannot any more.
    Withdrawn(Vec<Slug>),
    /// The assertion sent as this slot is remembered: tell [`crate::principals::Sent::acknowledge`].
    PrincipalKnown {
        /// Which.
        slot: u64,
    },
    /// Open an exchange with a Probe, then call [`EdgeSession::probe_done`].
    ProbeRequested {
        /// For the Probe.
        nonce: u64,
    },
    /// How an upstream does, by the warpgate's own checks.
    UpstreamHealth(UpstreamHealth),
    /// The warpgate wants no new exchanges and closes at this time at the latest.
    Draining {
        /// By our clock.
        until: Instant,
    },
    /// It is over; the last event.
    Ended(SessionEnd),
}

/// The edge's half of a control session.
#[derive(Debug)]
pub struct EdgeSession {
    link: Link,
    started: Instant,
    /// The chosen version and the features of the Hello, once it came.
    hello: Option<(u16, u64)>,
    welcomed: bool,
    /// The newest bundle, until it is written: one that is overtaken while the warpgate is slow is not sent at all.
    bundle: Option<SignedBundle>,
}

/// Optional parts of the protocol this code has.
const FEATURES: u64 = 0;

impl EdgeSession {
    /// Begins to wait for a Hello at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            link: Link::new(Decoder::from_warpgate(), WARPGATE_SAYS_LEN_MAX, now),
            started: now,
            hello: None,
            welcomed: false,
            bundle: None,
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
    pub fn poll_event(&mut self) -> Option<EdgeEvent> {
        while let Some(message) = self.link.next() {
            if let Some(event) = self.handle_message(message) {
                return Some(event);
            }
        }
        self.link.tell_end().map(EdgeEvent::Ended)
    }

    /// What is to be written to the control stream.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if let Some(bundle) = self.bundle.take() {
            self.link.send_bundle(bundle);
        }
        self.link.transmit()
    }

    /// When to call [`Self::handle_timeout`]; `None` once it is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.link.timeout(self.hello.is_some(), self.started)
    }

    /// Does what is due at `now`: notices silence, ends.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.link.handle_timeout(now, self.hello.is_some(), self.started);
    }

    /// Opens the tunnel, after [`EdgeEvent::Hello`]. Before it, or a second time, nothing happens.
    pub fn welcome(&mut self, edge: EdgeId, region: &str, limits: SessionLimits) {
        let Some((version, features)) = self.hello.filter(|_| !self.welcomed) else { return };
        self.welcomed = true;
        let features = features & FEATURES;
        self.link.send(&Message::Welcome(Welcome {
            version,
            edge,
            region: region.to_owned(),
            limits,
            features,
        }));
    }

    /// Sends the warpgate away, at any time; the session is over once this is written.
    pub fn refuse(&mut self, refused: Refused) {
        self.link.send(&Message::Refused(refused.clone()));
        self.link.end(SessionEnd::Refused(refused));
    }

    /// Relays a bundle, in place of one that still waits to be written. Only after [`Self::welcome`].
    pub fn send_bundle(&mut self, bundle: SignedBundle) {
        if self.welcomed {
            self.bundle = Some(bundle);
        }
    }

    /// Says that the probe asked for went through.
    pub fn probe_done(&mut self, nonce: u64, rtt: Duration) {
        if self.welcomed {
            let rtt_us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
            self.link.send(&Message::ProbeDone { nonce, rtt_us });
        }
    }

    /// Says that no new exchanges will come; ends with [`SessionEnd::GraceOver`] after `grace`, unless
    /// the owner closes earlier because all exchanges are done. A second call changes nothing.
    pub fn drain(&mut self, now: Instant, grace: Duration) {
        self.link.drain(now, grace);
    }

    /// Says why the tunnel is closed, after everything else: for a transport whose own close cannot. The session is
    /// over once this is written.
    pub fn close(&mut self, code: CloseCode) {
        self.link.close(code);
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<&SessionEnd> {
        self.link.ended()
    }

    /// Whether the tunnel is open: welcomed and not over.
    pub fn is_open(&self) -> bool {
        self.welcomed && self.link.ended().is_none()
    }

    /// Whether [`Self::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.link.is_draining()
    }

    fn handle_message(&mut self, message: Message) -> Option<EdgeEvent> {
        match message {
            Message::Hello(hello) if self.hello.is_none() => {
                let Some(version) = VERSIONS.choose(hello.versions) else {
                    self.refuse(Refused {
                        code: RefusalCode::Version,
                        message: format!(
                            "this edge speaks tunnel versions {} to {}, the warpgate {} to {}; update the older one",
                            VERSIONS.min, VERSIONS.max, hello.versions.min, hello.versions.max
                        ),
                        retry_after_ms: None,
                        do_not_retry: true,
                    });
                    return None;
                };
                self.hello = Some((version, hello.features));
                return Some(EdgeEvent::Hello(hello));
            }
            Message::Ping { n } => self.link.pong(n),
            Message::Drain { grace_ms } => {
                return Some(EdgeEvent::Draining { until: self.link.peer_grace(grace_ms) });
            }
            Message::Close { code } => self.link.end(SessionEnd::Closed(code)),
            _ if self.hello.is_none() => self.link.end(SessionEnd::Protocol("spoke before Hello")),
            // We send no pings: the warpgate's tell us as much.
            Message::Pong { .. } => {}
            Message::Offer { upstreams } => return Some(EdgeEvent::Offered(upstreams)),
            Message::Withdraw { upstreams } => return Some(EdgeEvent::Withdrawn(upstreams)),
            Message::PrincipalKnown { slot } => return Some(EdgeEvent::PrincipalKnown { slot }),
            Message::ProbeRequest { nonce } => return Some(EdgeEvent::ProbeRequested { nonce }),
            Message::UpstreamHealth(health) => return Some(EdgeEvent::UpstreamHealth(health)),
            Message::Hello(_) => self.link.end(SessionEnd::Protocol("said Hello twice")),
            // The decoder lets no other message of an edge's own through.
            _ => self.link.end(SessionEnd::Protocol("sent what only an edge sends")),
        }
        None
    }
}
