//! What is wrong with what somebody entered, beside the form in which to put it right.

use std::time::Duration;

use super::text::{Texts, fill};

/// A problem with a form: what it is, and what to do.
#[derive(Clone)]
pub(crate) struct Problem {
    pub(crate) what: &'static str,
    pub(crate) next: String,
    /// Whether it lies in the fields, so that they are marked.
    pub(crate) in_fields: bool,
}

impl Problem {
    /// One that lies in what was typed.
    pub(crate) fn typed(what: &'static str, next: &str) -> Self {
        Self { what, next: next.to_owned(), in_fields: true }
    }

    /// One that does not.
    pub(crate) fn other(what: &'static str, next: &str) -> Self {
        Self { what, next: next.to_owned(), in_fields: false }
    }

    /// Too many attempts.
    pub(crate) fn throttled(t: &Texts, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs();
        let next = if seconds <= 90 {
            fill(t.throttled_next_seconds, &seconds.to_string())
        } else {
            fill(t.throttled_next_minutes, &seconds.div_ceil(60).to_string())
        };
        Self { what: t.throttled, next, in_fields: false }
    }
}

/// The document's title, which says first that something has to be corrected: a screen reader begins with it.
pub(super) fn title(t: &Texts, title: &str, problem: Option<&Problem>) -> String {
    if problem.is_some() { fill(t.title_problem, title) } else { title.to_owned() }
}
