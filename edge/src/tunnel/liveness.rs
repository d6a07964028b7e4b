//! Whether a warpgate that says nothing on its control stream is there all the same: what else comes from it tells.
//!
//! On a narrow or lossy link its pings may wait behind what was sent before them, longer than anybody may be silent. But
//! packets (or octets, over TCP) alone prove no more than that its transport lives, so they count for a while only.

use std::time::Duration;

use tokio::time::Instant;

/// From when on packets are looked at: pings come oftener, so it costs nothing while all is well.
const LISTEN_AFTER: Duration = Duration::from_secs(2);

/// How often, from then on; a dead warpgate is noticed that much later.
const LISTEN_EVERY: Duration = Duration::from_millis(500);

/// For how long packets stand in for words.
const PACKETS_COUNT_FOR: Duration = Duration::from_secs(15);

/// What was heard of one warpgate.
pub(super) struct Liveness {
    /// When it last said something.
    spoke: Instant,
    /// When packets were last counted since then, and how many there were.
    counted: Option<(Instant, u64)>,
}

impl Liveness {
    /// It is heard now.
    pub(super) fn new(now: Instant) -> Self {
        Self { spoke: now, counted: None }
    }

    /// It said something.
    pub(super) fn spoke(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// When to count next; `None`: not until it has spoken.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let next = self.counted.map_or(self.spoke + LISTEN_AFTER, |(at, _)| at + LISTEN_EVERY);
        (next < self.spoke + PACKETS_COUNT_FOR).then_some(next)
    }

    /// Counts; whether packets have come since the last time. The first count has nothing to compare with.
    pub(super) fn look(&mut self, packets: u64, now: Instant) -> bool {
        let before = self.counted.replace((now, packets));
        before.is_some_and(|(_, before)| packets > before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn packets_stand_in_for_words_for_a_while_and_only_those_that_come_in_it() {
        let begun = Instant::now();
        let mut liveness = Liveness::new(begun);
        let mut alive = Vec::new();
        let mut packets = 100;
        while let Some(at) = liveness.next_look() {
            // After six seconds nothing comes any more.
            packets += u64::from(at < begun + Duration::from_secs(6));
            if liveness.look(packets, at) {
                alive.push((at - begun).as_millis());
            }
        }
        assert_eq!(alive.first(), Some(&2500), "what came before it fell silent does not count");
        assert_eq!(alive.last(), Some(&5500));
        let at = begun + Duration::from_secs(20);
        liveness.spoke(at);
        assert_eq!(liveness.next_look(), Some(at + LISTEN_AFTER));
        assert!(!liveness.look(packets + 9, at + LISTEN_AFTER));
    }
}
