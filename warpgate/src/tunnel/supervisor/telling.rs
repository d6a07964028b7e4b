//! What a supervisor tells of its edge: events for people, and the state that `warpgate status` shows.

use std::net::SocketAddr;
use std::time::Duration;

use super::Supervisor;
use crate::output::Event;
use crate::tunnel::EdgeState;
use crate::tunnel::again::Pause;
use crate::tunnel::edges::Order;
use crate::tunnel::failure::Failure;
use crate::tunnel::live::Live;
use crate::tunnel::status::Connected;

impl Supervisor {
    /// A new tunnel is up.
    pub(super) fn tell_connected(&self, live: &Live, round_trip: Duration, replaced: bool) {
        let now = self.shared.clock.now();
        self.shared.tell(Event::EdgeConnected {
            edge: self.edge.id.to_string(),
            name: self.edge.name.clone(),
            transport: live.transport.as_str(),
            remote: shown(live.remote),
            rtt_us: u64::try_from(live.rtt.as_micros()).unwrap_or(u64::MAX),
            lasts_s: live.replace_at.since(now).as_secs(),
            replaced,
        });
        self.set_state(EdgeState::Connected(Connected {
            transport: live.transport,
            remote: live.remote,
            since: now,
            round_trip,
            proven_at: now,
            doubtful: false,
        }));
    }

    /// A probe came back.
    pub(super) fn proven(&self, round_trip: Duration) {
        let now = self.shared.clock.now();
        self.note(|tunnel| (tunnel.round_trip, tunnel.proven_at, tunnel.doubtful) = (round_trip, now, false));
    }

    /// A probe is overdue.
    pub(super) fn doubtful(&self) {
        self.note(|tunnel| tunnel.doubtful = true);
    }

    /// Once dismissed, the edge may have another supervisor whose word counts.
    pub(super) fn set_state(&self, state: EdgeState) {
        if matches!(*self.orders.borrow(), Order::Keep(_)) {
            self.shared.set_state(self.edge.id, state);
        }
    }

    pub(super) fn set_failed(&self, failure: &Failure) {
        let (code, message) = (failure.code.clone(), failure.message.clone());
        self.set_state(EdgeState::Failed { code, message });
    }

    /// Changes what is told of the tunnel, if there is one.
    pub(super) fn note(&self, change: impl FnOnce(&mut Connected)) {
        if matches!(*self.orders.borrow(), Order::Keep(_)) {
            self.shared.note(self.edge.id, change);
        }
    }

    pub(super) fn kind(&self) -> String {
        format!("edge {} ", self.edge.id)
    }

    pub(super) fn left(&self, message: String) -> Event {
        Event::EdgeLeft { edge: self.edge.id.to_string(), name: self.edge.name.clone(), message }
    }

    pub(super) fn tell_failure(&self, failure: &Failure, pause: Pause) {
        if let Some(doubt) = failure.doubt {
            self.shared.doubts.raise(doubt);
        }
        // Every edge meets a copy of us at the same time; one of them tells.
        let whose = if failure.is_replaced() { String::new() } else { self.kind() };
        self.shared.reporter.tell_failure(&format!("{whose}{}", failure.code), |repeats| Event::EdgeFailed {
            edge: self.edge.id.to_string(),
            name: self.edge.name.clone(),
            code: failure.code.clone(),
            message: failure.message.clone(),
            next: failure.next.clone(),
            retry_ms: (!pause.until_change)
                .then(|| u64::try_from(pause.time.as_millis()).unwrap_or(u64::MAX)),
            repeats,
        });
    }
}

/// An address as people write it: the socket speaks IPv4 in IPv6 form.
fn shown(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}
