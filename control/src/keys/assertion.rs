//! The life of a key that signs assertions, as a plain state machine: from the keys there are, what of them is known
//! everywhere and the time, the next step. No I/O; [`super::run`] performs the steps.
//!
//! ```text
//!  next ──known everywhere, and due──▶ current ──another one is──▶ retiring ──overlap──▶ gone
//! ```
//!
//! A key is published before it signs: in the platform document, from which edges answer applications, and in every bundle,
//! by which warpgates verify. It goes on being published after it signs no more, for longer than any assertion lives. So
//! whoever verifies has the key an assertion was signed with, as long as it hears of control within
//! [`AssertionRotation::known_after`].

use std::collections::BTreeMap;
use std::time::Duration;

use mezusphere_model::Timestamp;
use mezusphere_store::primary::secret::SecretState;
use serde::{Deserialize, Serialize};

use crate::ca::machine::Mark;
use crate::config::ASSERTION_TTL;

/// How long a key signs unless the operator says otherwise.
const LIFE: Duration = Duration::from_hours(30 * 24);

/// Longest time that two keys are published side by side.
const OVERLAP_MAX: Duration = Duration::from_hours(7 * 24);

/// Shortest life of a key: below it, keys would be published faster than they are known.
pub(crate) const LIFE_MIN: Duration = Duration::from_hours(1);

/// Longest life of a key.
pub(crate) const LIFE_MAX: Duration = Duration::from_hours(366 * 24);

/// After everything was published and every edge that is here has applied it: until a key counts as known. Longer than
/// applications may keep the key set (5 min) and warpgates go without asking for a bundle (a minute or so).
const KNOWN_AFTER: Duration = Duration::from_mins(15);

/// How long a key is published at least after it signs no more: twice as long as what it signed last lives.
const GONE_AFTER_MIN: Duration = Duration::from_secs(2 * ASSERTION_TTL.as_secs());

/// Most keys that sign no more and are still published: rotations by hand add one each, and the set is sent to everybody.
pub(crate) const RETIRING_MAX: usize = 8;

/// When the keys that sign assertions follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssertionRotation {
    /// How long a key signs.
    pub life: Duration,
    /// How long it is published before, and after.
    pub overlap: Duration,
    /// How long after it was published everywhere it counts as known.
    pub known_after: Duration,
}

impl AssertionRotation {
    /// A key signs for `life`, and is published for a quarter of it, a week at most, before and after.
    pub fn every(life: Duration) -> Self {
        Self { life, overlap: OVERLAP_MAX.min(life / 4), known_after: KNOWN_AFTER }
    }

    /// Whether a life is too short or too long.
    pub(crate) fn is_out_of_bounds(&self) -> bool {
        !(LIFE_MIN..=LIFE_MAX).contains(&self.life)
    }
}

impl Default for AssertionRotation {
    fn default() -> Self {
        Self::every(LIFE)
    }
}

/// What is kept beside the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Since when each version is what it is; what is missing is so since it was made.
    pub(crate) since: BTreeMap<u32, Timestamp>,
    /// The next key, once it was published.
    pub(crate) announced: Option<Announced>,
    /// Whether the next key is to sign as soon as it is known, whatever the age of the one in use.
    #[serde(default)]
    pub(crate) by_hand: bool,
}

/// That the next key was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announced {
    /// Which version.
    pub(crate) version: u32,
    /// When it was seen to be published everywhere.
    pub(crate) at: Timestamp,
    /// What an edge must have applied to know it.
    pub(crate) mark: Mark,
}

/// A key, as far as its turn depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) version: u32,
    pub(crate) state: SecretState,
    pub(crate) since: Timestamp,
}

/// What of the next key is known, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// What is published does not have it yet.
    Unpublished,
    /// It is published, and not every edge that is here has applied it.
    Published,
    /// Every edge that is here has applied it.
    Everywhere,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// A next key is made.
    Make,
    /// It is noted that the next key is published.
    Note(u32),
    /// This version signs from now on.
    Sign(u32),
    /// This version is forgotten.
    Forget(u32),
}

/// The next step.
pub(crate) fn next(
    keys: &[Key],
    kept: &Kept,
    known: Known,
    rotation: &AssertionRotation,
    now: Timestamp,
) -> Step {
    let gone_after = rotation.overlap.max(GONE_AFTER_MIN);
    let of = |state| keys.iter().filter(move |key| key.state == state);
    if let Some(over) = of(SecretState::Retiring).find(|key| now >= key.since.after(gone_after)) {
        return Step::Forget(over.version);
    }
    let Some(current) = of(SecretState::Current).max_by_key(|key| key.version) else { return Step::Wait };
    let ends = current.since.after(rotation.life);
    let Some(next) = of(SecretState::Next).max_by_key(|key| key.version) else {
        let is_due = kept.by_hand || now >= ends.before(rotation.overlap);
        return if is_due { Step::Make } else { Step::Wait };
    };
    match kept.announced.as_ref().filter(|announced| announced.version == next.version) {
        None if known == Known::Unpublished => Step::Wait,
        None => Step::Note(next.version),
        Some(announced) => {
            let is_known = known == Known::Everywhere && now >= announced.at.after(rotation.known_after);
            if is_known && (kept.by_hand || now >= ends) { Step::Sign(next.version) } else { Step::Wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const HOUR: Duration = Duration::from_hours(1);

    fn key(version: u32, state: SecretState, since: Timestamp) -> Key {
        Key { version, state, since }
    }

    fn announced(version: u32, at: Timestamp) -> Kept {
        let mark = Mark { epoch: String::new(), revision: 1 };
        Kept { announced: Some(Announced { version, at, mark }), ..Kept::default() }
    }

    #[test]
    fn a_key_signs_for_thirty_days_and_is_published_a_week_before_and_after() {
        let rotation = AssertionRotation::default();
        let (life, week) = (30 * 24 * HOUR, 7 * 24 * HOUR);
        assert_eq!((rotation.life, rotation.overlap), (life, week));
        let current = key(1, SecretState::Current, BEGIN);
        let at = |keys: &[Key], kept: &Kept, known, now| next(keys, kept, known, &rotation, now);
        let none = Kept::default();
        assert_eq!(
            at(&[current], &none, Known::Unpublished, BEGIN.after(life).before(week).before(HOUR)),
            Step::Wait
        );
        assert_eq!(at(&[current], &none, Known::Unpublished, BEGIN.after(life).before(week)), Step::Make);
        let both = [current, key(2, SecretState::Next, BEGIN.after(life).before(week))];
        let early = BEGIN.after(life).before(HOUR);
        assert_eq!(at(&both, &announced(2, BEGIN), Known::Everywhere, early), Step::Wait);
        assert_eq!(at(&both, &announced(2, BEGIN), Known::Everywhere, BEGIN.after(life)), Step::Sign(2));
        let turned = [key(1, SecretState::Retiring, BEGIN), key(2, SecretState::Current, BEGIN)];
        assert_eq!(at(&turned, &none, Known::Everywhere, BEGIN.after(week).before(HOUR)), Step::Wait);
        assert_eq!(at(&turned, &none, Known::Everywhere, BEGIN.after(week)), Step::Forget(1));
    }

    #[test]
    fn r20_no_key_signs_before_it_is_known_everywhere_however_long_that_takes() {
        let rotation = AssertionRotation::default();
        let keys = [key(1, SecretState::Current, BEGIN), key(2, SecretState::Next, BEGIN)];
        let late = BEGIN.after(100 * rotation.life);
        for by_hand in [false, true] {
            let none = Kept { by_hand, ..Kept::default() };
            assert_eq!(next(&keys, &none, Known::Unpublished, &rotation, late), Step::Wait);
            assert_eq!(next(&keys, &none, Known::Published, &rotation, late), Step::Note(2));
            let noted = Kept { by_hand, ..announced(2, late) };
            assert_eq!(
                next(&keys, &noted, Known::Published, &rotation, late.after(rotation.life)),
                Step::Wait
            );
            let soon = late.after(rotation.known_after);
            assert_eq!(next(&keys, &noted, Known::Everywhere, &rotation, soon.before(HOUR / 60)), Step::Wait);
            assert_eq!(next(&keys, &noted, Known::Everywhere, &rotation, soon), Step::Sign(2));
            // What was noted of an earlier key says nothing about this one.
            let other = Kept { by_hand, ..announced(1, BEGIN) };
            assert_eq!(next(&keys, &other, Known::Unpublished, &rotation, late), Step::Wait);
        }
    }

    #[test]
    fn a_rotation_by_hand_waits_for_no_date() {
        let rotation = AssertionRotation::default();
        let by_hand = Kept { by_hand: true, ..Kept::default() };
        let current = [key(1, SecretState::Current, BEGIN)];
        assert_eq!(next(&current, &by_hand, Known::Unpublished, &rotation, BEGIN), Step::Make);
        let both = [current[0], key(2, SecretState::Next, BEGIN)];
        let noted = Kept { by_hand: true, ..announced(2, BEGIN) };
        let now = BEGIN.after(rotation.known_after);
        assert_eq!(next(&both, &noted, Known::Everywhere, &rotation, now), Step::Sign(2));
    }

    #[test]
    fn r20_a_key_is_published_for_longer_than_what_it_signed_last_lives() {
        let rotation = AssertionRotation::every(LIFE_MIN);
        assert!(rotation.overlap < ASSERTION_TTL);
        let keys = [key(1, SecretState::Retiring, BEGIN), key(2, SecretState::Current, BEGIN)];
        let at = |now| next(&keys, &Kept::default(), Known::Everywhere, &rotation, now);
        assert_eq!(at(BEGIN.after(ASSERTION_TTL)), Step::Wait);
        assert_eq!(at(BEGIN.after(2 * ASSERTION_TTL)), Step::Forget(1));
    }

    #[test]
    fn a_clock_that_was_set_back_only_delays() {
        let rotation = AssertionRotation::default();
        let keys = [key(1, SecretState::Retiring, BEGIN), key(2, SecretState::Current, BEGIN)];
        let long_ago = BEGIN.before(100 * rotation.life);
        assert_eq!(next(&keys, &Kept::default(), Known::Everywhere, &rotation, long_ago), Step::Wait);
    }
}
