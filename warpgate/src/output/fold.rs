//! Folds repeated failures: the first is reported, the rest are counted until enough time has passed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::limits::{FOLD_FOR, FOLD_KINDS_MAX};

/// What was reported lately.
#[derive(Default)]
pub(super) struct Fold {
    kinds: Mutex<HashMap<String, Folded>>,
}

struct Folded {
    reported: Instant,
    since: u32,
}

impl Fold {
    /// Notes one more failure; `Some(n)` if it is to be reported, after `n` that were not.
    pub(super) fn failed(&self, what: &str, now: Instant) -> Option<u32> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folded) = kinds.get_mut(what) {
            if now.duration_since(folded.reported) < FOLD_FOR {
                folded.since = folded.since.saturating_add(1);
                return None;
            }
            folded.reported = now;
            return Some(std::mem::take(&mut folded.since));
        }
        if kinds.len() >= FOLD_KINDS_MAX {
            kinds.retain(|_, folded| now.duration_since(folded.reported) < FOLD_FOR);
        }
        if kinds.len() < FOLD_KINDS_MAX {
            kinds.insert(what.to_owned(), Folded { reported: now, since: 0 });
        }
        Some(0)
    }

    /// Forgets every kind that starts with `what`.
    pub(super) fn works(&self, what: &str) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.retain(|kind, _| !kind.starts_with(what));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failure_is_reported_once_then_counted_until_it_is_told_again() {
        let fold = Fold::default();
        let start = Instant::now();
        assert_eq!(fold.failed("edge a: refused", start), Some(0));
        for second in 1..=12 {
            assert_eq!(fold.failed("edge a: refused", start + Duration::from_secs(second)), None);
        }
        assert_eq!(fold.failed("edge b: refused", start), Some(0), "another one is another matter");
        assert_eq!(fold.failed("edge a: refused", start + FOLD_FOR), Some(12));
        fold.works("edge a");
        assert_eq!(fold.failed("edge a: refused", start + FOLD_FOR), Some(0));
    }

    #[test]
    fn the_table_of_failures_is_bounded() {
        let fold = Fold::default();
        let start = Instant::now();
        for n in 0..FOLD_KINDS_MAX * 2 {
            assert_eq!(fold.failed(&n.to_string(), start), Some(0));
        }
        assert_eq!(fold.kinds.lock().unwrap().len(), FOLD_KINDS_MAX);
    }
}
