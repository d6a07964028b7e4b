//! A moment as people read it.

use std::fmt;

use mezusphere_model::Timestamp;
use time::OffsetDateTime;

use super::text::Texts;

/// A moment on a page: RFC 3339 for machines, a date and a time of day in UTC for people.
#[derive(Clone, Copy)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl Moment {
    /// `21 November 2026, 20:59 UTC`.
    pub(crate) fn for_people(self, t: &Texts) -> String {
        let Ok(at) = OffsetDateTime::from_unix_timestamp(self.0.as_seconds()) else {
            return self.to_string();
        };
        let month =
            t.months.get(usize::from(u8::from(at.month())).saturating_sub(1)).copied().unwrap_or_default();
        format!("{} {month} {}, {:02}:{:02} UTC", at.day(), at.year(), at.hour(), at.minute())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_a_date_and_a_time_of_day() {
        let at = Moment(Timestamp::from_seconds(1_795_294_748));
        assert_eq!(at.for_people(&crate::page::text::ENGLISH), "21 November 2026, 20:59 UTC");
        assert_eq!(at.to_string(), "2026-11-21T20:59:08Z");
    }
}
