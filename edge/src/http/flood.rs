//! Notices a client that makes the edge work for nothing (R23): frames that carry nothing, requests given up as fast as
//! they are made.
//!
//! A client runs into debt with what it asks for in vain, pays with what carries something in either direction, and is
//! forgiven a little each second. So a conversation of any length stays far from the bound, whatever its pattern, and a
//! flood of whatever kind reaches it within the time it takes to send.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Most debt, in idle frames. A hundred streams opened, read in small pieces and given up at once stay below it.
pub(crate) const DEBT_MAX: u32 = 10_000;

/// What a frame that carries something pays: a window update for each, a ping and some settings, and much is left.
const CREDIT: u32 = 8;

/// What a request costs that the client gives up. One that was just made has paid [`CREDIT`], so that the rest is what
/// a flood of them comes to: about eight hundred in one go, then eight a second.
const GIVEN_UP: u32 = 20;

/// What is forgiven in each second.
const FORGIVEN_PER_S: u64 = 100;

/// One connection's debt.
#[derive(Debug)]
pub(crate) struct Flood {
    debt: Mutex<(u32, Instant)>,
    is_over: AtomicBool,
}

impl Flood {
    pub(crate) fn new() -> Self {
        Self { debt: Mutex::new((0, Instant::now())), is_over: AtomicBool::new(false) }
    }

    /// The client sent `count` frames that carry nothing.
    pub(crate) fn idle(&self, count: u32) {
        self.owe(count);
    }

    /// The client gave a request up.
    pub(crate) fn given_up(&self) {
        self.owe(GIVEN_UP);
    }

    /// `count` frames carried something, in either direction.
    pub(crate) fn useful(&self, count: u32) {
        if count > 0 {
            let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
            debt.0 = debt.0.saturating_sub(count.saturating_mul(CREDIT));
        }
    }

    /// Whether it was too much. The connection is to be closed.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn owe(&self, amount: u32) {
        if amount == 0 {
            return;
        }
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        debt.0 = debt.0.saturating_add(amount);
        if debt.0 <= DEBT_MAX {
            return;
        }
        // The clock is read only here: what would have been forgiven meanwhile is forgiven now.
        let now = Instant::now();
        let since = now.duration_since(debt.1).as_secs().saturating_mul(FORGIVEN_PER_S);
        debt.0 = debt.0.saturating_sub(u32::try_from(since).unwrap_or(u32::MAX));
        debt.1 = now;
        if debt.0 > DEBT_MAX {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r23_a_flood_of_idle_frames_is_noticed_and_the_same_number_over_time_is_not() {
        let flood = Flood::new();
        flood.idle(DEBT_MAX);
        assert!(!flood.is_over());
        flood.idle(1);
        assert!(flood.is_over());

        let slow = Flood::new();
        for _ in 0..1000 {
            slow.idle(90);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(!slow.is_over(), "90 a second for a quarter of an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn r23_requests_made_and_given_up_at_once_are_noticed_within_a_thousand() {
        let flood = Flood::new();
        let mut count = 0;
        while !flood.is_over() {
            flood.useful(1);
            flood.given_up();
            count += 1;
            assert!(count < 1000);
        }
        assert!(count > 500, "a page full of pictures left early is no attack");
    }

    #[tokio::test(start_paused = true)]
    async fn what_carries_something_pays_for_what_goes_with_it() {
        let flood = Flood::new();
        for _ in 0..1_000_000 {
            // A piece of a body, its window updates, and a ping.
            flood.useful(1);
            flood.idle(4);
        }
        assert!(!flood.is_over());
    }
}
