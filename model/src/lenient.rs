//! Matching as servers do it that take upper case for lower case and `/a/` for `/a`.
//!
//! [`crate::route::Site`] chooses a route to the letter and then asks here which one such a server would take the
//! path for. Nothing is decided to a caller's advantage here: a lenient match only refuses.

use crate::path;
use crate::pattern::{self, Pattern, PatternError};

/// Memory a regular expression may take that matches without regard to case, in bytes: each letter becomes a choice of
/// two to four.
const REGEX_FOLDED_SIZE_MAX: usize = 8 * pattern::REGEX_SIZE_MAX;

/// A [`Pattern`] as lenient servers read it: texts folded, nothing left at the end of a segment, no slash at the end; expressions
/// without regard to case, unless they themselves say `(?-i)`.
#[derive(Clone, Debug)]
pub(crate) struct Lenient(Pattern);

impl Lenient {
    pub(crate) fn of(literal: &Pattern) -> Result<Self, PatternError> {
        let text = |text: &str| {
            let trimmed = path::trimmed(text.to_owned());
            folded(trimmed.trim_end_matches('/')).collect()
        };
        Ok(Self(match literal {
            Pattern::Exact(exact) => Pattern::Exact(text(exact)),
            Pattern::Prefix(prefix) => Pattern::Prefix(text(prefix)),
            Pattern::Regex(regex) => {
                let mut builder = pattern::regex(regex.as_str());
                let built = builder.case_insensitive(true).size_limit(REGEX_FOLDED_SIZE_MAX).build();
                Pattern::Regex(built.map_err(|why| PatternError::Regex(why.to_string()))?)
            }
        }))
    }

    /// Whether a lenient server takes `reading`, a lenient reading, for this pattern. Allocates nothing.
    pub(crate) fn matches(&self, reading: &str) -> bool {
        let without_slash = || reading.trim_end_matches('/');
        match &self.0 {
            Pattern::Exact(exact) => {
                after(exact, without_slash()).is_some_and(|mut rest| rest.next().is_none())
            }
            Pattern::Prefix(prefix) => {
                after(prefix, reading).is_some_and(|mut rest| matches!(rest.next(), None | Some('/')))
            }
            Pattern::Regex(regex) => regex.is_match(reading) || regex.is_match(without_slash()),
        }
    }

    /// Whether lenient servers cannot tell the two patterns apart. Expressions are never compared.
    pub(crate) fn is_twin(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Pattern::Exact(one), Pattern::Exact(two)) | (Pattern::Prefix(one), Pattern::Prefix(two)) => {
                one == two
            }
            _ => false,
        }
    }

    /// Whether it matches a [plain](path::RequestPath::is_plain) path if and only if `literal` does, of which it was made.
    pub(crate) fn is_plain(&self, literal: &Pattern) -> bool {
        match (&self.0, literal) {
            (Pattern::Exact(lenient), Pattern::Exact(exact)) => lenient == exact || exact == "/",
            (Pattern::Prefix(lenient), Pattern::Prefix(prefix)) => lenient == prefix,
            _ => false,
        }
    }

    /// Sorts into matching order, as [`Pattern::rank`] does.
    pub(crate) fn rank(&self) -> (u8, usize) {
        self.0.rank()
    }
}

/// What follows `prefix`, which is folded, in `text`, if it begins so.
fn after(prefix: &str, text: &str) -> Option<impl Iterator<Item = char>> {
    let mut text = folded(text);
    prefix.chars().all(|character| text.next() == Some(character)).then_some(text)
}

/// `text` with the differences of case gone. Up and down again, so that the letters meet which share an upper case
/// (`ſ` and `s`) as well as those which share a lower one (`K` the unit and `k`).
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}
