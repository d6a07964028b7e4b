//! When an edge is dialled again after a failure, and what control is asked because of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mezusphere_model::Entropy;
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::limits::{
    DIAL_BACKOFF, DIAL_STABLE_AFTER, DO_NOT_RETRY_FOR, REPLACED_BACKOFF, REPLACED_CALM_AFTER,
    RETRY_AFTER_MAX, STOPPING_EDGE_WAIT_MAX,
};

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// After the back-off.
    Soon,
    /// Not before this, as the edge advises.
    After(Duration),
    /// The same of an edge that is about to stop, so that its successor is not waited for too long.
    AfterStop(Duration),
    /// After a long back-off: another warpgate has our identity.
    Replaced,
    /// Not until a person or control did something.
    NotUntilChange,
}

/// How long to leave an edge alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    /// At most this long.
    pub(super) time: Duration,
    /// A new bundle or certificate ends it.
    pub(super) until_change: bool,
}

impl Pause {
    /// Of this length, whatever changes.
    pub(super) const fn of(time: Duration) -> Self {
        Self { time, until_change: false }
    }
}

/// The back-offs of one edge.
pub(super) struct Waits {
    dial: Backoff,
    replaced: Backoff,
}

impl Waits {
    pub(super) fn new(entropy: &Entropy) -> Self {
        Self {
            dial: Backoff::new(DIAL_BACKOFF, entropy.clone()),
            replaced: Backoff::new(REPLACED_BACKOFF, entropy.clone()),
        }
    }

    /// How long to wait after one more failure.
    pub(super) fn after(&mut self, again: Again) -> Pause {
        if again == Again::Replaced {
            return Pause::of(self.replaced.long_wait());
        }
        let soon = self.dial.wait();
        match again {
            Again::Soon | Again::Replaced => Pause::of(soon),
            Again::After(least) => Pause::of(least.min(RETRY_AFTER_MAX).saturating_add(soon)),
            Again::AfterStop(least) => Pause::of(least.min(STOPPING_EDGE_WAIT_MAX).saturating_add(soon)),
            Again::NotUntilChange => {
                Pause { time: DO_NOT_RETRY_FOR.saturating_add(soon), until_change: true }
            }
        }
    }

    /// Starts over after a tunnel that was good for so long.
    pub(super) fn lasted(&mut self, time: Duration) {
        if time >= DIAL_STABLE_AFTER {
            self.dial.reset();
        }
        if time >= REPLACED_CALM_AFTER {
            self.replaced.reset();
        }
    }
}

/// What an edge's word makes doubtful. Only control can settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Whether the key still counts.
    Key,
    /// Whether this warpgate may still be who its certificate says.
    Identity,
}

/// The gravest doubt that is open.
#[derive(Debug, Default)]
pub struct Doubts {
    open: watch::Sender<Option<Doubt>>,
    settled: AtomicBool,
}

impl Doubts {
    pub(super) fn raise(&self, doubt: Doubt) {
        self.open.send_if_modified(|open| {
            let graver = *open < Some(doubt);
            if graver {
                *open = Some(doubt);
            }
            graver
        });
    }

    /// Wakes when a doubt is raised or settled.
    pub fn changes(&self) -> watch::Receiver<Option<Doubt>> {
        self.open.subscribe()
    }

    /// Control was asked about this.
    pub fn settle(&self, asked: Doubt) {
        self.settled.store(true, Ordering::Relaxed);
        self.open.send_if_modified(|open| {
            let covered = open.is_some_and(|open| open <= asked);
            if covered {
                *open = None;
            }
            covered
        });
    }

    /// Whether control has yet to be heard for the first time on anything that is doubted.
    pub fn is_unheard(&self) -> bool {
        self.open.borrow().is_some() && !self.settled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_graver_doubt_stands_until_it_was_asked_about() {
        let doubts = Doubts::default();
        assert!(!doubts.is_unheard());
        doubts.raise(Doubt::Identity);
        doubts.raise(Doubt::Key);
        assert!(doubts.is_unheard());
        doubts.settle(Doubt::Key);
        assert_eq!(*doubts.changes().borrow(), Some(Doubt::Identity));
        doubts.settle(Doubt::Identity);
        assert_eq!(*doubts.changes().borrow(), None);
        doubts.raise(Doubt::Key);
        assert!(!doubts.is_unheard(), "control was heard before");
    }

    #[test]
    fn a_replaced_tunnel_waits_long_and_longer_until_one_was_left_in_peace() {
        let mut waits = Waits::new(&Entropy::counting());
        let first = waits.after(Again::Replaced);
        assert!(first.time >= REPLACED_BACKOFF.0 / 2 && !first.until_change);
        for _ in 0..6 {
            waits.after(Again::Replaced);
        }
        waits.lasted(DIAL_STABLE_AFTER);
        assert!(waits.after(Again::Replaced).time >= REPLACED_BACKOFF.1 / 2, "a minute proves nothing");
        waits.lasted(REPLACED_CALM_AFTER);
        assert!(waits.after(Again::Replaced).time <= REPLACED_BACKOFF.0);
    }

    #[test]
    fn advice_is_obeyed_within_bounds_and_only_a_final_word_waits_for_a_change() {
        let mut waits = Waits::new(&Entropy::counting());
        assert!(waits.after(Again::Soon).time <= DIAL_BACKOFF.1);
        let advised = waits.after(Again::After(Duration::from_secs(20)));
        assert!(advised.time >= Duration::from_secs(20) && !advised.until_change);
        let endless = waits.after(Again::After(Duration::MAX));
        assert!(endless.time <= RETRY_AFTER_MAX + DIAL_BACKOFF.1);
        let stopping = waits.after(Again::AfterStop(Duration::from_secs(30)));
        assert!(stopping.time <= STOPPING_EDGE_WAIT_MAX + DIAL_BACKOFF.1);
        let refused = waits.after(Again::NotUntilChange);
        assert!(refused.time >= DO_NOT_RETRY_FOR && refused.until_change);
    }
}
