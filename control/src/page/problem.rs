//! What is wrong with what somebody entered, beside the form in which to put it right.

use std::time::Duration;

use super::text::{Said, Texts, fill};

/// A problem with a form: what it is, and what to do.
#[derive(Clone)]
pub(crate) struct Problem {
    pub(crate) what: &'static str,
    pub(crate) next: String,
    /// The fields it lies in, by id, so that they are marked and the summary leads to the first.
    pub(crate) fields: &'static [&'static str],
}

impl Problem {
    /// One that lies in these fields.
    pub(crate) fn typed(said: &Said, fields: &'static [&'static str]) -> Self {
        Self { what: said.what, next: said.next.to_owned(), fields }
    }

    /// One that does not lie in what was typed.
    pub(crate) fn other(said: &Said) -> Self {
        Self::typed(said, &[])
    }

    /// Too many attempts.
    pub(crate) fn throttled(t: &Texts, retry_after: Duration) -> Self {
        let next = match retry_after.as_secs() {
            0 | 1 => t.problem.throttled_next_second.to_owned(),
            seconds @ 2..=90 => fill(t.problem.throttled_next_seconds, &seconds.to_string()),
            longer => fill(t.problem.throttled_next_minutes, &longer.div_ceil(60).to_string()),
        };
        Self { what: t.problem.throttled, next, fields: &[] }
    }

    /// Whether it lies in this field.
    pub(crate) fn marks(&self, field: &str) -> bool {
        self.fields.contains(&field)
    }

    /// The field to put the cursor in.
    pub(crate) fn first_field(&self) -> Option<&'static str> {
        self.fields.first().copied()
    }
}

/// The document's title, which says first that something has to be corrected: a screen reader begins with it.
pub(super) fn title(t: &Texts, title: &str, problem: Option<&Problem>) -> String {
    if problem.is_some() { fill(t.title_problem, title) } else { title.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::Chrome;
    use super::*;

    #[test]
    fn how_long_to_wait_is_told_in_a_sentence_of_its_number() {
        let told = |seconds| Problem::throttled(Chrome::english().t, Duration::from_secs(seconds)).next;
        for (seconds, words) in [(1, "Wait a second,"), (2, "Wait 2 seconds,"), (90, "Wait 90 seconds,")] {
            assert!(told(seconds).starts_with(words), "{}", told(seconds));
        }
        assert!(told(91).starts_with("Wait 2 minutes,"), "{}", told(91));
    }
}
