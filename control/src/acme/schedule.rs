//! When something is done about a certificate next: after a failure, before its end, by the authority's wish.
//!
//! Pure: times and randomness come in, times go out. Whoever calls writes them down, so that they survive restarts.

use std::time::Duration;

use mezusphere_model::{Entropy, Timestamp};
use mezusphere_store::primary::acme::RenewalWindow;

/// Waits after 1, 2, 3… failures in a row; the last one from then on. Short first, because most first failures are a DNS
/// record or a port that somebody is about to mend.
const BACK_OFF: [Duration; 9] = [
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(5),
    Duration::from_mins(10),
    Duration::from_mins(20),
    Duration::from_mins(40),
    Duration::from_mins(90),
    Duration::from_hours(3),
    Duration::from_hours(6),
];

/// The longest wait an authority is granted: looking again once a day harms nobody, and a nonsensical answer must not put
/// a certificate off for ever.
const WISH_MAX: Duration = Duration::from_hours(24);

/// Certificates that live shorter are renewed at half of their life, others at one third left.
const SHORT_LIFE: Duration = Duration::from_hours(10 * 24);

/// A certificate that has just come is not renewed for so long, or for a tenth of what it is good for if that is less.
const SETTLED_FOR: Duration = Duration::from_hours(1);

/// What is left of a certificate at its renewal at least, or a quarter of what it is good for if that is less; in any
/// case a tenth.
const LEFT_MIN: Duration = Duration::from_hours(1);

/// Bounds of the time between two questions for a renewal window (RFC 9773 §4.3.2).
const ASK_MIN: Duration = Duration::from_hours(1);
const ASK_MAX: Duration = Duration::from_hours(24);

/// When to try again after `failures` in a row.
///
/// `wish` is what the authority asked for (`Retry-After`): it is never tried sooner, unless the wish is longer than a day.
/// `ends_at` is when the certificate in use ends: the nearer that is, the sooner it is tried again.
pub(crate) fn next_try(
    failures: u32,
    wish: Option<Duration>,
    ends_at: Option<Timestamp>,
    now: Timestamp,
    entropy: &Entropy,
) -> Timestamp {
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(BACK_OFF.len() - 1);
    let mut wait = BACK_OFF.get(step).copied().unwrap_or(Duration::from_hours(6));
    if let Some(ends_at) = ends_at.filter(|ends_at| *ends_at > now) {
        let [least, ..] = BACK_OFF;
        wait = wait.min((ends_at.since(now) / 4).max(least));
    }
    // A tenth later at most, so that certificates that failed together do not all come back together.
    let tenth = u64::try_from(wait.as_micros() / 10).unwrap_or(0);
    wait += Duration::from_micros(entropy.below(tenth + 1));
    let wish = wish.unwrap_or_default().min(WISH_MAX);
    now.after(wait.max(wish))
}

/// When a certificate is renewed by its life alone: one third left, or half if it is short.
pub(crate) fn due_by_life(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = not_after.since(not_before);
    let left = if life < SHORT_LIFE { life / 2 } else { life / 3 };
    not_after.before(left)
}

/// A certificate's times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// From when it is good.
    pub(crate) not_before: Timestamp,
    /// Until when.
    pub(crate) not_after: Timestamp,
    /// When it came.
    pub(crate) issued_at: Timestamp,
}

impl Life {
    /// Between which moments it is renewed, whatever anybody wishes: long enough after it came that an authority whose
    /// window is always over is not asked without end, and long enough before it ends that a try may fail a few times.
    fn bounds(self) -> (Timestamp, Timestamp) {
        let good_for = self.not_after.since(self.issued_at);
        let first = self.issued_at.after(SETTLED_FOR.min(good_for / 10));
        let last = self.not_after.before((good_for / 10).max(LEFT_MIN.min(good_for / 4)));
        (first, last)
    }
}

/// When a certificate is renewed: at a moment drawn from the authority's window, or by its life if there is none that
/// makes sense. A window that is over means soon.
pub(crate) fn renew_at(life: Life, window: Option<&RenewalWindow>, entropy: &Entropy) -> Timestamp {
    let wished = match window.filter(|window| is_sensible(window, life.not_after)) {
        None => due_by_life(life.not_before, life.not_after),
        Some(window) => {
            let width = u64::try_from(window.end.since(window.start).as_micros()).unwrap_or(0);
            window.start.after(Duration::from_micros(entropy.below(width.saturating_add(1))))
        }
    };
    let (first, last) = life.bounds();
    wished.max(first).min(last)
}

/// Whether a window can be followed: it has a beginning before its end, and lets the certificate be renewed while it is
/// good.
pub(crate) fn is_sensible(window: &RenewalWindow, not_after: Timestamp) -> bool {
    window.start < window.end && window.end <= not_after
}

/// When the authority is asked for the window again, by its own wish.
pub(crate) fn ask_again_at(wish: Duration, now: Timestamp) -> Timestamp {
    now.after(wish.clamp(ASK_MIN, ASK_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn zero() -> Entropy {
        Entropy::new(|buffer| buffer.fill(0))
    }

    fn minutes(failures: u32) -> u64 {
        next_try(failures, None, None, NOW, &zero()).since(NOW).as_secs() / 60
    }

    #[test]
    fn waits_grow_from_a_minute_to_six_hours() {
        let waits: Vec<_> = (1..=11).map(minutes).collect();
        assert_eq!(waits, [1, 2, 5, 10, 20, 40, 90, 180, 360, 360, 360]);
    }

    #[test]
    fn an_authoritys_wish_is_obeyed_up_to_a_day() {
        let wait =
            |wish: u64| next_try(1, Some(Duration::from_secs(wish)), None, NOW, &zero()).since(NOW).as_secs();
        assert_eq!(wait(3), 60);
        assert_eq!(wait(7200), 7200);
        assert_eq!(wait(u64::MAX), 86_400);
    }

    #[test]
    fn the_nearer_its_end_the_sooner_a_certificate_is_tried_again() {
        let wait = |left: u64| {
            let ends_at = Some(NOW.after(Duration::from_secs(left)));
            next_try(9, None, ends_at, NOW, &zero()).since(NOW).as_secs()
        };
        assert_eq!(wait(30 * 86_400), 6 * 3600);
        assert_eq!(wait(4 * 3600), 3600);
        assert_eq!(wait(10), 60);
        let ended = next_try(9, None, Some(NOW), NOW, &zero());
        assert_eq!(ended.since(NOW).as_secs(), 6 * 3600, "nothing is gained by hurrying after the end");
    }

    #[test]
    fn a_third_is_left_at_renewal_and_half_of_a_short_one() {
        let day = 86_400;
        for (life, left) in [(90 * day, 30 * day), (10 * day, 10 * day / 3), (6 * day, 3 * day), (600, 300)] {
            let end = NOW.after(Duration::from_secs(life));
            assert_eq!(end.since(due_by_life(NOW, end)).as_secs(), left, "{life}");
        }
    }

    #[test]
    fn a_window_that_makes_no_sense_is_not_followed() {
        let end = NOW.after(Duration::from_hours(90 * 24));
        let window = |from: u64, to: u64| RenewalWindow {
            start: NOW.after(Duration::from_secs(from)),
            end: NOW.after(Duration::from_secs(to)),
            explanation: None,
        };
        let life = Life { not_before: NOW, not_after: end, issued_at: NOW };
        let at = |from, to| renew_at(life, Some(&window(from, to)), &zero());
        let by_life = due_by_life(NOW, end);
        assert_eq!(at(5000, 5000), by_life);
        assert_eq!(at(6000, 5000), by_life);
        assert_eq!(at(5000, 91 * 86_400), by_life);
        assert_eq!(at(5000, 6000), NOW.after(Duration::from_secs(5000)));
    }

    #[test]
    fn no_wish_renews_a_certificate_at_once_nor_in_its_last_hours() {
        let (hour, day) = (3600, 86_400);
        // Good for so long, a window in its first or its last seconds: when it is renewed, and what is left then.
        for (good_for, first, left) in
            [(90 * day, hour, 9 * day), (day, hour, day / 10), (2 * hour, hour / 5, hour / 2), (100, 10, 25)]
        {
            let end = NOW.after(Duration::from_secs(good_for));
            // Dated back, as authorities do.
            let life =
                Life { not_before: NOW.before(Duration::from_hours(1)), not_after: end, issued_at: NOW };
            let window = |start, end| RenewalWindow { start, end, explanation: None };
            let early = window(Timestamp::from_seconds(0), NOW);
            let at = renew_at(life, Some(&early), &zero());
            assert_eq!(at.since(NOW).as_secs(), first, "of {good_for}");
            let late = window(end.before(Duration::from_secs(1)), end);
            let at = renew_at(life, Some(&late), &zero());
            assert_eq!(end.since(at).as_secs(), left, "of {good_for}");
        }
        // A clock of the authority's that is wrong: what comes is at its end already.
        let stale = Life {
            not_before: NOW.before(Duration::from_hours(90 * 24)),
            not_after: NOW.after(Duration::from_hours(1)),
            issued_at: NOW,
        };
        assert_eq!(renew_at(stale, None, &zero()), NOW.after(Duration::from_mins(6)));
    }

    #[test]
    fn the_window_is_asked_for_hourly_to_daily() {
        let hours = |wish| ask_again_at(Duration::from_secs(wish), NOW).since(NOW).as_secs() / 3600;
        assert_eq!([hours(0), hours(6 * 3600), hours(u64::MAX)], [1, 6, 24]);
    }

    proptest! {
        #[test]
        fn a_try_is_never_sooner_than_a_minute_nor_later_than_a_day(
            failures in any::<u32>(), wish in proptest::option::of(any::<u64>()), left in any::<u32>(), seed in any::<u8>(),
        ) {
            let entropy = Entropy::new(move |buffer| buffer.fill(seed));
            let ends_at = Some(NOW.after(Duration::from_secs(left.into())));
            let next = next_try(failures, wish.map(Duration::from_secs), ends_at, NOW, &entropy);
            prop_assert!(next >= NOW.after(Duration::from_mins(1)));
            prop_assert!(next <= NOW.after(WISH_MAX));
            // Never sooner than asked, up to a day.
            let wish = Duration::from_secs(wish.unwrap_or(0)).min(WISH_MAX);
            prop_assert!(next >= NOW.after(wish));
        }

        #[test]
        fn a_certificate_is_renewed_while_it_is_good(
            life in 2_u32.., from in any::<u32>(), width in any::<u32>(), seed in any::<u8>(),
        ) {
            let entropy = Entropy::new(move |buffer| buffer.fill(seed));
            let end = NOW.after(Duration::from_secs(life.into()));
            let start = NOW.after(Duration::from_secs(from.into()));
            let window = RenewalWindow { start, end: start.after(Duration::from_secs(width.into())), explanation: None };
            let life = Life { not_before: NOW, not_after: end, issued_at: NOW };
            for window in [None, Some(&window)] {
                let at = renew_at(life, window, &entropy);
                prop_assert!(at >= NOW && at <= end, "{at} of {end}");
            }
        }

        #[test]
        fn waits_never_shrink_as_failures_go_on(failures in 1_u32..100) {
            prop_assert!(minutes(failures + 1) >= minutes(failures));
        }
    }
}
