//! Matching as servers do it that take upper case for lower case and `/a/` for `/a`.
//!
//! [`crate::route::Site`] chooses a route to the letter and then asks here which one such a server would take the
//! path for. Nothing is decided to a caller's advantage here: a lenient match only refuses.

use regex::Regex;

use crate::path;
use crate::pattern::{self, Pattern, PatternError};

/// Memory a regular expression may take that matches without regard to case, in bytes: each letter becomes a choice of
/// two to four.
const REGEX_FOLDED_SIZE_MAX: usize = 8 * pattern::REGEX_SIZE_MAX;

/// A [`Pattern`] as lenient servers read it. Texts are folded, their segments' ends trimmed.
#[derive(Clone, Debug)]
pub(crate) enum Lenient {
    /// Without a slash at its end; the root is empty.
    Exact(String),
    /// Without a slash at its end; the root prefix is empty.
    Prefix(String),
    /// Without regard to case, unless the expression itself says `(?-i)`.
    Regex(Regex),
}

impl Lenient {
    pub(crate) fn of(literal: &Pattern) -> Result<Self, PatternError> {
        let text = |text: &str| {
            let trimmed = path::trimmed(text.to_owned());
            folded(trimmed.trim_end_matches('/')).collect()
        };
        Ok(match literal {
            Pattern::Exact(exact) => Self::Exact(text(exact)),
            Pattern::Prefix(prefix) => Self::Prefix(text(prefix)),
            Pattern::Regex(regex) => Self::Regex(
                pattern::regex(regex.as_str())
                    .case_insensitive(true)
                    .size_limit(REGEX_FOLDED_SIZE_MAX)
                    .build()
                    .map_err(|why| PatternError::Regex(why.to_string()))?,
            ),
        })
    }

    /// Whether a server that is lenient takes `reading`, a lenient reading, for this pattern. Allocates nothing.
    pub(crate) fn matches(&self, reading: &str) -> bool {
        let without_slash = || reading.trim_end_matches('/');
        match self {
            Self::Exact(exact) => after(exact, without_slash()) == Some(None),
            Self::Prefix(prefix) => matches!(after(prefix, reading), Some(None | Some('/'))),
            Self::Regex(regex) => regex.is_match(reading) || regex.is_match(without_slash()),
        }
    }

    /// Whether lenient servers cannot tell the two patterns apart. Expressions are never compared.
    pub(crate) fn is_twin(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(two)) | (Self::Prefix(one), Self::Prefix(two)) => one == two,
            _ => false,
        }
    }

    /// Whether it matches a [plain](path::RequestPath::is_plain) path if and only if `literal`, which it was made of, does.
    pub(crate) fn is_plain(&self, literal: &Pattern) -> bool {
        match (self, literal) {
            (Self::Exact(lenient), Pattern::Exact(exact)) => lenient == exact || exact == "/",
            (Self::Prefix(lenient), Pattern::Prefix(prefix)) => lenient == prefix,
            _ => false,
        }
    }

    /// Sorts as [`Pattern::rank`] does.
    pub(crate) fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (0, 0),
            Self::Prefix(prefix) => (1, usize::MAX - prefix.len()),
            Self::Regex(_) => (2, 0),
        }
    }
}

/// What follows `prefix`, which is folded, in `text`: a character or the end. `None` if it does not begin so.
fn after(prefix: &str, text: &str) -> Option<Option<char>> {
    let mut text = folded(text);
    prefix.chars().all(|character| text.next() == Some(character)).then(|| text.next())
}

/// `text` with the differences of case gone. Up and down again, so that the letters meet which share an upper case
/// (`ſ` and `s`) as well as those which share a lower one (`K` the unit and `k`).
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}
