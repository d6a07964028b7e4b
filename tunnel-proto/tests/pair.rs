//! An edge half and a warpgate half against each other, under manual time and without sockets.
//!
//! [`Wire`] carries the control stream with a delay and can be cut; nothing sleeps.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mezusphere_model::bundle::SignedBundle;
use mezusphere_model::id::{EdgeId, EnvironmentId, WarpgateId};
use mezusphere_model::slug::Slug;
use tunnel_proto::codes::{CloseCode, RefusalCode};
use tunnel_proto::control::{
    EdgeEvent, EdgeSession, HealthState, Hello, Refused, SessionEnd, SessionLimits, UpstreamHealth, VERSIONS,
    VersionRange, WarpgateEvent, WarpgateSession,
};
use tunnel_proto::limits::{BUNDLE_LEN_MAX, HANDSHAKE_MAX, PINGS_MAX, SILENCE_MAX};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn hello() -> Hello {
    Hello {
        versions: VERSIONS,
        agent: "warpgate/0.1.0".to_owned(),
        instance: WarpgateId::from_bits(7),
        index: 0,
        count: 1,
        upstreams: vec![slug("default")],
        bundle_revision: 0,
        features: 0,
    }
}

fn bundle(revision: u64) -> SignedBundle {
    SignedBundle { environment: EnvironmentId::from_bits(1), revision, jws: "a.b.c".to_owned() }
}

/// One direction: what is under way, each with the time it arrives.
type Lane = VecDeque<(Instant, Bytes)>;

/// Both halves and the wire between them.
struct Wire {
    start: Instant,
    now: Instant,
    delay: Duration,
    /// What is sent from now on never arrives.
    cut: bool,
    edge: EdgeSession,
    gate: WarpgateSession,
    to_edge: Lane,
    to_gate: Lane,
    /// What happened, with the time since the start.
    edge_events: Vec<(Duration, EdgeEvent)>,
    gate_events: Vec<(Duration, WarpgateEvent)>,
}

impl Wire {
    fn new(hello: Hello, delay: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            delay,
            cut: false,
            edge: EdgeSession::new(start),
            gate: WarpgateSession::new(start, hello),
            to_edge: Lane::new(),
            to_gate: Lane::new(),
            edge_events: Vec::new(),
            gate_events: Vec::new(),
        }
    }

    /// A tunnel that is open, 10 ms each way.
    fn open() -> Self {
        let mut wire = Self::new(hello(), ms(10));
        wire.run(ms(100));
        wire.edge.welcome(EdgeId::from_bits(9), "here", SessionLimits::default());
        wire.run(ms(100));
        assert!(wire.edge.is_open());
        assert!(matches!(wire.gate_events.last(), Some((_, WarpgateEvent::Welcomed(_)))));
        wire
    }

    /// Lets `time` pass: delivers, wakes, gathers events.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        // A half that asks to be woken and then does nothing would hold the test for ever.
        for step in 0.. {
            assert!(step < 1_000_000, "time stands still");
            self.exchange();
            let arrivals =
                [&self.to_edge, &self.to_gate].into_iter().filter_map(|lane| lane.front().map(|(at, _)| *at));
            let timeouts = [self.edge.poll_timeout(), self.gate.poll_timeout()].into_iter().flatten();
            let Some(next) = arrivals.chain(timeouts).min().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            while let Some((_, bytes)) = self.to_edge.pop_front_if(|(at, _)| *at <= self.now) {
                self.edge.handle_bytes(self.now, bytes);
            }
            while let Some((_, bytes)) = self.to_gate.pop_front_if(|(at, _)| *at <= self.now) {
                self.gate.handle_bytes(self.now, bytes);
            }
            self.exchange();
            self.edge.handle_timeout(self.now);
            self.gate.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn exchange(&mut self) {
        let at = self.now - self.start;
        while let Some(event) = self.edge.poll_event() {
            self.edge_events.push((at, event));
        }
        while let Some(event) = self.gate.poll_event() {
            self.gate_events.push((at, event));
        }
        let arrives = self.now + self.delay;
        if let Some(bytes) = self.gate.poll_transmit().filter(|_| !self.cut) {
            self.to_edge.push_back((arrives, bytes));
        }
        if let Some(bytes) = self.edge.poll_transmit().filter(|_| !self.cut) {
            self.to_gate.push_back((arrives, bytes));
        }
    }

    fn edge_end(&self) -> Option<(Duration, SessionEnd)> {
        match self.edge_events.last() {
            Some((at, EdgeEvent::Ended(why))) => Some((*at, why.clone())),
            _ => None,
        }
    }

    fn gate_end(&self) -> Option<(Duration, SessionEnd)> {
        match self.gate_events.last() {
            Some((at, WarpgateEvent::Ended(why))) => Some((*at, why.clone())),
            _ => None,
        }
    }
}

#[test]
fn a_tunnel_is_open_once_the_warpgate_was_welcomed() {
    let mut wire = Wire::new(hello(), ms(10));
    wire.run(ms(100));
    assert_eq!(wire.edge_events, [(ms(10), EdgeEvent::Hello(hello()))]);
    assert!(!wire.edge.is_open());
    assert_eq!(wire.gate_events, []);
    wire.edge.welcome(EdgeId::from_bits(9), "here", SessionLimits::default());
    wire.run(ms(100));
    assert!(wire.edge.is_open());
    let [(at, WarpgateEvent::Welcomed(welcome))] = wire.gate_events.as_slice() else { panic!("one welcome") };
    assert_eq!((*at, welcome.version, welcome.edge), (ms(110), 1, EdgeId::from_bits(9)));
}

#[test]
fn an_idle_tunnel_lives_for_ever() {
    let mut wire = Wire::open();
    wire.run(secs(3600));
    assert_eq!((wire.edge.ended(), wire.gate.ended()), (None, None));
    assert_eq!(wire.gate.rtt(), Some(ms(20)));
}

#[test]
fn both_sides_notice_a_dead_peer_within_six_seconds() {
    // Cut at every phase of the ping's rhythm.
    for phase in (0..3000).step_by(130) {
        let mut wire = Wire::open();
        wire.run(secs(5) + ms(phase));
        wire.cut = true;
        let cut_at = wire.now - wire.start;
        wire.run(secs(10));
        for (at, why) in [wire.edge_end().unwrap(), wire.gate_end().unwrap()] {
            assert_eq!(why, SessionEnd::Silent);
            assert_eq!(why.close_code(), CloseCode::Silent);
            assert!(at <= cut_at + secs(6), "cut at {cut_at:?}, noticed at {at:?}");
            assert!(at >= cut_at + secs(3), "two lost pings are no death");
        }
        assert_eq!((wire.edge.poll_timeout(), wire.gate.poll_timeout()), (None, None));
    }
}

#[test]
fn a_round_trip_that_grows_to_three_seconds_kills_nothing() {
    let mut wire = Wire::open();
    wire.delay = ms(1500);
    wire.run(secs(60));
    wire.delay = ms(10);
    wire.run(secs(60));
    assert_eq!((wire.edge.ended(), wire.gate.ended()), (None, None));
}

#[test]
fn r23_a_peer_that_says_nothing_is_given_ten_seconds() {
    let mut wire = Wire::new(hello(), ms(10));
    wire.cut = true;
    wire.run(secs(20));
    assert_eq!(wire.edge_end(), Some((HANDSHAKE_MAX, SessionEnd::HandshakeTimeout)));
    assert_eq!(wire.gate_end(), Some((HANDSHAKE_MAX, SessionEnd::HandshakeTimeout)));
}

#[test]
fn r23_a_hello_that_comes_octet_by_octet_is_given_ten_seconds() {
    let start = Instant::now();
    let (mut edge, mut gate) = (EdgeSession::new(start), WarpgateSession::new(start, hello()));
    let mut bytes = gate.poll_transmit().unwrap();
    for second in 0..9 {
        edge.handle_bytes(start + secs(second), bytes.split_to(1));
        assert_eq!(edge.poll_event(), None);
    }
    assert_eq!(edge.poll_timeout(), Some(start + HANDSHAKE_MAX), "a drop of bytes buys no time");
    edge.handle_timeout(start + HANDSHAKE_MAX);
    assert_eq!(edge.poll_event(), Some(EdgeEvent::Ended(SessionEnd::HandshakeTimeout)));
}

#[test]
fn peers_without_a_common_version_part_with_a_sentence() {
    let newer = Hello { versions: VersionRange { min: 2, max: 3 }, ..hello() };
    let mut wire = Wire::new(newer, ms(10));
    wire.run(secs(1));
    let (_, SessionEnd::Refused(told)) = wire.gate_end().unwrap() else { panic!("a refusal") };
    assert_eq!((told.code, told.do_not_retry), (RefusalCode::Version, true));
    assert!(told.message.contains("update the older one"));
    assert_eq!(wire.edge_end().unwrap().1, SessionEnd::Refused(told));
    assert!(!wire.edge_events.iter().any(|(_, event)| matches!(event, EdgeEvent::Hello(_))));
}

#[test]
fn a_newer_warpgate_is_welcomed_in_the_version_both_speak() {
    let newer = Hello { versions: VersionRange { min: 1, max: 9 }, features: u64::from(u32::MAX), ..hello() };
    let mut wire = Wire::new(newer, ms(10));
    wire.run(ms(20));
    wire.edge.welcome(EdgeId::from_bits(9), "here", SessionLimits::default());
    wire.run(ms(20));
    let [(_, WarpgateEvent::Welcomed(welcome))] = wire.gate_events.as_slice() else { panic!("a welcome") };
    assert_eq!((welcome.version, welcome.features), (1, 0), "features the edge has not are not in force");
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let mut wire = Wire::new(hello(), ms(10));
    wire.run(ms(20));
    let busy = Refused {
        code: RefusalCode::Busy,
        message: "this edge has as many tunnels as it takes".to_owned(),
        retry_after_ms: Some(2500),
        do_not_retry: false,
    };
    wire.edge.refuse(busy.clone());
    wire.run(ms(20));
    assert_eq!(wire.gate_end().unwrap().1, SessionEnd::Refused(busy));
}

#[test]
fn a_key_revoked_later_ends_an_open_tunnel_with_its_reason() {
    let mut wire = Wire::open();
    let revoked = Refused {
        code: RefusalCode::KeyRevoked,
        message: "the key was revoked".to_owned(),
        retry_after_ms: None,
        do_not_retry: true,
    };
    wire.edge.refuse(revoked.clone());
    wire.run(ms(20));
    assert_eq!(wire.gate_end().unwrap().1, SessionEnd::Refused(revoked));
    assert!(!wire.edge.is_open());
}

#[test]
fn offers_acknowledgements_and_probes_reach_the_other_side() {
    let mut wire = Wire::open();
    wire.edge_events.clear();
    wire.gate_events.clear();
    wire.gate.offer(vec![slug("web")]);
    wire.gate.withdraw(vec![slug("default")]);
    wire.gate.principal_known(42);
    wire.gate.request_probe(u64::MAX);
    let health =
        UpstreamHealth { upstream: slug("web"), state: HealthState::Bad, reason: "check_failed".to_owned() };
    wire.gate.upstream_health(health.clone());
    wire.run(ms(10));
    let heard: Vec<EdgeEvent> = wire.edge_events.drain(..).map(|(_, event)| event).collect();
    assert_eq!(
        heard,
        [
            EdgeEvent::Offered(vec![slug("web")]),
            EdgeEvent::Withdrawn(vec![slug("default")]),
            EdgeEvent::PrincipalKnown { slot: 42 },
            EdgeEvent::ProbeRequested { nonce: u64::MAX },
            EdgeEvent::UpstreamHealth(health),
        ]
    );
    wire.edge.probe_done(u64::MAX, ms(20));
    wire.run(ms(10));
    assert_eq!(
        wire.gate_events.last().map(|(_, event)| event),
        Some(&WarpgateEvent::ProbeDone { nonce: u64::MAX, rtt: ms(20) })
    );
}

#[test]
fn a_slow_warpgate_gets_the_newest_bundle_only() {
    let mut wire = Wire::open();
    wire.gate_events.clear();
    for revision in 1..=100 {
        wire.edge.send_bundle(bundle(revision));
    }
    wire.run(ms(10));
    let got: Vec<&WarpgateEvent> = wire.gate_events.iter().map(|(_, event)| event).collect();
    assert_eq!(got, [&WarpgateEvent::Bundle(bundle(100))]);
}

#[test]
fn the_largest_bundle_goes_through() {
    let mut wire = Wire::open();
    let largest = SignedBundle { jws: "x".repeat(BUNDLE_LEN_MAX), ..bundle(1) };
    wire.edge.send_bundle(largest.clone());
    wire.run(ms(10));
    assert_eq!(wire.gate_events.last().map(|(_, event)| event), Some(&WarpgateEvent::Bundle(largest)));
    wire.run(secs(60));
    assert_eq!(wire.gate.ended(), None);
}

#[test]
fn nothing_is_relayed_before_the_welcome() {
    let mut wire = Wire::new(hello(), ms(10));
    wire.edge.welcome(EdgeId::from_bits(9), "too early", SessionLimits::default());
    wire.edge.send_bundle(bundle(1));
    wire.edge.probe_done(1, ms(1));
    wire.run(ms(100));
    assert_eq!(wire.gate_events, []);
    assert_eq!(wire.gate.ended(), None);
}

#[test]
fn a_warpgate_is_welcomed_once() {
    let mut wire = Wire::open();
    wire.edge.welcome(EdgeId::from_bits(9), "again", SessionLimits::default());
    assert_eq!(wire.edge.poll_transmit(), None);
    // A peer that does say it twice is cut off.
    let mut second = EdgeSession::new(wire.now);
    second.handle_bytes(wire.now, WarpgateSession::new(wire.now, hello()).poll_transmit().unwrap());
    assert!(matches!(second.poll_event(), Some(EdgeEvent::Hello(_))));
    second.welcome(EdgeId::from_bits(9), "again", SessionLimits::default());
    wire.gate.handle_bytes(wire.now, second.poll_transmit().unwrap());
    wire.run(ms(1));
    assert_eq!(wire.gate_end().unwrap().1, SessionEnd::Protocol("welcomed twice"));
}

#[test]
fn a_drain_is_told_and_ends_when_its_grace_is_over() {
    let mut wire = Wire::open();
    let at = wire.now;
    wire.gate.drain(at, secs(30));
    wire.gate.drain(at, secs(300));
    wire.run(secs(29));
    assert!(wire.gate.is_draining());
    assert_eq!(
        wire.edge_events.last().map(|(_, event)| event),
        Some(&EdgeEvent::Draining { until: at + ms(10) + secs(30) })
    );
    assert_eq!((wire.edge.ended(), wire.gate.ended()), (None, None), "exchanges may finish");
    wire.run(secs(2));
    let (ended, why) = wire.gate_end().unwrap();
    assert_eq!((wire.start + ended, why.clone()), (at + secs(30), SessionEnd::GraceOver));
    assert_eq!(why.close_code(), CloseCode::Done);
}

#[test]
fn an_edge_drains_the_same_way() {
    let mut wire = Wire::open();
    let at = wire.now;
    wire.edge.drain(at, secs(5));
    wire.run(secs(6));
    assert!(
        wire.gate_events
            .iter()
            .any(|(_, event)| *event == WarpgateEvent::Draining { until: at + ms(10) + secs(5) })
    );
    assert_eq!(wire.edge_end().unwrap().1, SessionEnd::GraceOver);
}

#[test]
fn whoever_closes_says_why_after_everything_else() {
    let mut wire = Wire::open();
    wire.edge.drain(wire.now, secs(1));
    wire.edge.close(CloseCode::Replaced);
    wire.edge.close(CloseCode::Internal);
    wire.edge.probe_done(1, ms(1));
    wire.run(ms(100));
    assert!(wire.gate_events.iter().any(|(_, event)| matches!(event, WarpgateEvent::Draining { .. })));
    let end = wire.gate_end().unwrap().1;
    assert_eq!((end.close_code(), &end), (CloseCode::Done, &SessionEnd::Closed(CloseCode::Replaced)));
    let mut wire = Wire::open();
    wire.gate.close(CloseCode::CertificateEnded);
    wire.run(ms(100));
    assert_eq!(wire.edge_end().unwrap().1, SessionEnd::Closed(CloseCode::CertificateEnded));
}

#[test]
fn why_it_is_closed_is_told_even_after_the_session_has_ended() {
    let mut wire = Wire::open();
    wire.edge.handle_bytes(wire.now, Bytes::from_static(&[0x04, 0]));
    wire.run(ms(1));
    let end = wire.edge_end().unwrap().1;
    wire.edge.close(end.close_code());
    wire.run(ms(100));
    assert_eq!(wire.gate_end().unwrap().1, SessionEnd::Closed(CloseCode::Protocol));
}

#[test]
fn the_end_of_the_control_stream_is_the_end_of_the_tunnel() {
    let mut wire = Wire::open();
    wire.edge.handle_end_of_stream();
    wire.gate.handle_end_of_stream();
    wire.run(ms(1));
    assert_eq!(wire.edge_end().unwrap().1, SessionEnd::Left);
    assert_eq!(wire.gate_end().unwrap().1, SessionEnd::Left);
    assert_eq!((wire.edge.poll_event(), wire.gate.poll_event()), (None, None), "the end is told once");
}

#[test]
fn r24_a_peer_that_speaks_out_of_turn_is_cut_off() {
    let now = Instant::now();
    // Message type, length, fields: before Hello or Welcome none of them may come.
    let to_edge: [&[u8]; 3] = [&[0x0a, 3, 1, 1, 7], &[0x06, 0], &[0x05, 3, 1, 1, 7]];
    for bytes in to_edge {
        let mut edge = EdgeSession::new(now);
        edge.handle_bytes(now, Bytes::from_static(bytes));
        assert!(matches!(edge.poll_event(), Some(EdgeEvent::Ended(SessionEnd::Protocol(_)))), "{bytes:?}");
    }
    let to_gate: [&[u8]; 2] = [&[0x0c, 13, 1, 8, 0, 0, 0, 0, 0, 0, 0, 7, 2, 1, 1], &[0x05, 3, 1, 1, 7]];
    for bytes in to_gate {
        let mut gate = WarpgateSession::new(now, hello());
        gate.handle_bytes(now, Bytes::from_static(bytes));
        assert!(
            matches!(gate.poll_event(), Some(WarpgateEvent::Ended(SessionEnd::Protocol(_)))),
            "{bytes:?}"
        );
    }
    let mut wire = Wire::open();
    let again = WarpgateSession::new(wire.now, hello()).poll_transmit().unwrap();
    wire.edge.handle_bytes(wire.now, again);
    wire.run(ms(1));
    assert_eq!(wire.edge_end().unwrap().1, SessionEnd::Protocol("said Hello twice"));
}

#[test]
fn r24_bytes_that_are_no_messages_end_the_session_and_nothing_else() {
    let mut wire = Wire::open();
    wire.edge.handle_bytes(wire.now, Bytes::from_static(&[0x04, 1, 0]));
    wire.run(ms(1));
    let (_, why) = wire.edge_end().unwrap();
    assert!(matches!(why, SessionEnd::Malformed(_)));
    assert_eq!(why.close_code(), CloseCode::Protocol);
}

#[test]
fn r23_a_flood_of_pings_or_of_anything_is_cut_off() {
    let ping = |n: u8| Bytes::from(vec![0x04, 3, 1, 1, n]);
    let mut wire = Wire::open();
    for n in 0..u8::try_from(PINGS_MAX).unwrap() - 8 {
        wire.edge.handle_bytes(wire.now, ping(n));
        assert_eq!(wire.edge.poll_event(), None);
    }
    wire.run(SILENCE_MAX);
    assert_eq!(wire.edge.ended(), None, "a bunch of late pings is no flood");
    for n in 0..=u8::try_from(PINGS_MAX).unwrap() {
        wire.edge.handle_bytes(wire.now, ping(n));
        wire.exchange();
    }
    assert_eq!(wire.edge_end().unwrap().1, SessionEnd::Flood);

    let mut wire = Wire::open();
    for _ in 0..1100 {
        // 1 KiB of a message type nobody knows.
        wire.edge.handle_bytes(wire.now, [&[0x3f, 0x43, 0xfd][..], &[0; 1021]].concat().into());
        wire.exchange();
    }
    assert_eq!(wire.edge_end().unwrap().1, SessionEnd::Flood);
}

#[test]
fn r23_a_peer_that_reads_nothing_is_cut_off() {
    let mut wire = Wire::open();
    let mut n = 0;
    while wire.gate.ended().is_none() {
        // What the owner cannot write stays in the session.
        wire.gate.principal_known(n);
        n += 1;
        assert!(n < 100_000, "what waits to be written has a bound");
    }
    assert_eq!(wire.gate.ended(), Some(&SessionEnd::Backlog));
}
