//! When the whole way from the edge and back is to be proven again, and when it counts as broken. Sends nothing itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{PROBE_EVERY, PROBE_FAILURES_MAX, PROBE_OVERDUE_AFTER, ROUND_TRIP_MAX};

/// The probes of one tunnel.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// Asked for and not answered; all of one round, because an answer to any of them proves the same.
    waiting: Vec<u64>,
    asked_at: Option<Instant>,
    /// When the last one came back.
    proven_at: Option<Instant>,
    gave_up: bool,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    /// Ask for a probe.
    Ask,
    /// The one before is overdue; ask for another.
    AskAgain,
    /// Too many are overdue. Said once.
    GiveUp,
}

impl Probe {
    /// What is to be done at `now`, over a way that takes `rtt`.
    pub(super) fn look(&mut self, now: Instant, rtt: Duration) -> Verdict {
        if self.gave_up || now < self.due(now, rtt) {
            return Verdict::Wait;
        }
        if self.waiting.is_empty() {
            return Verdict::Ask;
        }
        if self.proven_at.is_some() && self.waiting.len() >= PROBE_FAILURES_MAX {
            self.gave_up = true;
            return Verdict::GiveUp;
        }
        Verdict::AskAgain
    }

    /// How long until [`Probe::look`] may say something else.
    pub(super) fn next_look(&self, now: Instant, rtt: Duration) -> Duration {
        if self.gave_up { PROBE_EVERY } else { self.due(now, rtt).saturating_duration_since(now) }
    }

    /// A probe was asked for.
    pub(super) fn asked(&mut self, nonce: u64, now: Instant) {
        if self.waiting.len() >= PROBE_FAILURES_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push(nonce);
        self.asked_at = Some(now);
    }

    /// A probe came back; whether it is one that was asked for.
    pub(super) fn done(&mut self, nonce: u64, now: Instant) -> bool {
        let is_ours = self.waiting.contains(&nonce);
        if is_ours {
            self.waiting.clear();
            self.proven_at = Some(now);
        }
        is_ours
    }

    fn due(&self, now: Instant, rtt: Duration) -> Instant {
        match (self.asked_at, self.proven_at) {
            (None, _) => now,
            (Some(_), Some(proven)) if self.waiting.is_empty() => proven + PROBE_EVERY,
            // Until the first one is back somebody waits for it, so it is asked for again soon.
            (Some(asked), None) => asked + ROUND_TRIP_MAX.max(rtt * 4),
            (Some(asked), Some(_)) => asked + PROBE_OVERDUE_AFTER.max(rtt * 6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    #[test]
    fn a_probe_is_repeated_and_two_that_are_overdue_are_the_end() {
        let start = Instant::now();
        let mut probe = Probe::default();
        assert_eq!(probe.look(start, RTT), Verdict::Ask);
        probe.asked(1, start);
        assert_eq!(probe.look(start, RTT), Verdict::Wait);
        assert!(!probe.done(9, start), "nobody asked for that one");
        assert!(probe.done(1, start));
        assert!(!probe.done(1, start), "it comes back once");
        let mut now = start + PROBE_EVERY;
        assert_eq!(probe.next_look(start, RTT), PROBE_EVERY);
        assert_eq!(probe.look(now, RTT), Verdict::Ask);
        probe.asked(2, now);
        now += PROBE_OVERDUE_AFTER;
        assert_eq!(probe.look(now, RTT), Verdict::AskAgain);
        probe.asked(3, now);
        assert!(probe.done(2, now), "late is not lost");
        now += PROBE_EVERY;
        for nonce in [4, 5] {
            assert_ne!(probe.look(now, RTT), Verdict::Wait);
            probe.asked(nonce, now);
            now += PROBE_OVERDUE_AFTER;
        }
        assert_eq!(probe.look(now, RTT), Verdict::GiveUp);
        assert_eq!(probe.look(now, RTT), Verdict::Wait, "it is said once");
    }

    #[test]
    fn the_first_probe_is_asked_for_until_somebody_loses_patience() {
        let mut now = Instant::now();
        let mut probe = Probe::default();
        probe.look(now, RTT);
        probe.asked(0, now);
        for nonce in 1..9 {
            now += ROUND_TRIP_MAX;
            assert_eq!(probe.look(now, RTT), Verdict::AskAgain);
            probe.asked(nonce, now);
        }
        assert!(probe.done(8, now));
    }

    #[test]
    fn a_long_way_is_given_its_time() {
        let now = Instant::now();
        let (mut probe, rtt) = (Probe::default(), Duration::from_secs(2));
        probe.asked(1, now);
        assert_eq!(probe.look(now + ROUND_TRIP_MAX, rtt), Verdict::Wait);
        assert_eq!(probe.look(now + rtt * 4, rtt), Verdict::AskAgain);
    }
}
