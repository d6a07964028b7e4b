//! Stripping or replacing the beginning of a path on its way to the upstream.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::RuleError;
use crate::path::{self, RequestPath};
use crate::pattern::{PATTERN_LEN_MAX, PathMatch};

/// What stands for itself in a path (RFC 3986 §3.3, `pchar`), and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// How the beginning of a path changes. Whole segments only: `/api` is the beginning of `/api` and `/api/v1`, not of `/apis`.
/// What follows it stays as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRule {
    /// `/api/v1` becomes `/v1`, and `/api` becomes `/`.
    Strip {
        /// As in a route's path: decoded, without a slash at its end.
        prefix: String,
    },
    /// `/old/v1` becomes `/new/v1`.
    Replace {
        /// As in a route's path: decoded, without a slash at its end.
        prefix: String,
        /// What stands in its place, likewise.
        with: String,
    },
}

impl PathRule {
    fn prefix(&self) -> &str {
        match self {
            Self::Strip { prefix } | Self::Replace { prefix, .. } => prefix,
        }
    }

    fn with(&self) -> &str {
        match self {
            Self::Strip { .. } => "",
            Self::Replace { with, .. } => with,
        }
    }

    /// Whether the rule can be carried out on every path of a route that matches `path`.
    pub(super) fn check(&self, path: &PathMatch) -> Result<(), RuleError> {
        written(self.prefix())?;
        if let Self::Replace { with, .. } = self {
            written(with)?;
        }
        let covers = |path: &str| {
            let rest = path.strip_prefix(self.prefix());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) if covers(path) => Ok(()),
            PathMatch::Exact(_) | PathMatch::Prefix(_) => Err(RuleError::Uncovered(self.prefix().to_owned())),
            PathMatch::Regex(_) => Err(RuleError::PrefixOfRegex),
        }
    }

    /// The path that the upstream is asked for; `raw` is the request's own, without its query. `None`: it must be refused.
    ///
    /// A policy is decided on what a path may be read as; here a new one is made. So a path that any server could read as climbing up
    /// (`..`, in whatever spelling) is refused: `/api/../api/x` stays below `/api`, but with `/v1` in the place of `/api` it would leave `/v1`.
    /// Several slashes after the prefix become one, so that no path turns into `//host/…`.
    pub fn apply<'p>(&self, raw: &'p str) -> Option<Cow<'p, str>> {
        if climbs(raw) {
            return None;
        }
        let rest = after(self.prefix(), raw)?;
        let with = self.with();
        let below = rest.trim_start_matches('/');
        let slash = rest.len() - below.len();
        if with.is_empty() {
            // The last of the slashes is the path's first.
            return Some(match rest.get(slash.saturating_sub(1)..) {
                Some("") | None => Cow::Borrowed("/"),
                Some(rest) => Cow::Borrowed(rest),
            });
        }
        let mut path = utf8_percent_encode(with, PATH).to_string();
        if slash > 0 {
            path.push('/');
        }
        path.push_str(below);
        Some(Cow::Owned(path))
    }
}

/// Whether `text` may stand in a rule: a path in canonical form that is not the root.
fn written(text: &str) -> Result<(), RuleError> {
    // No slash at the end: it stands before what follows.
    let good = path::written(text).is_ok() && !text.ends_with('/') && text.len() <= PATTERN_LEN_MAX;
    if good && !text.contains('*') { Ok(()) } else { Err(RuleError::Path(text.to_owned())) }
}

/// What follows `prefix`, which is decoded, in `raw`, however it is escaped there.
fn after<'p>(prefix: &str, raw: &'p str) -> Option<&'p str> {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with('/');
    if let Some(rest) = raw.strip_prefix(prefix).filter(|rest| ends(rest)) {
        return Some(rest);
    }
    // Segment by segment: an escaped slash ends none.
    let mut rest = raw;
    for wanted in prefix.split('/').skip(1) {
        let below = rest.strip_prefix('/')?;
        let end = below.find('/').unwrap_or(below.len());
        let (segment, after) = below.split_at_checked(end)?;
        if !percent_decode_str(segment).eq(wanted.bytes()) {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

/// Whether any server could read `raw` as a path with a segment `..`.
fn climbs(raw: &str) -> bool {
    if !raw.contains("..") && !raw.contains('%') {
        return false;
    }
    let Ok(path) = RequestPath::parse(raw) else { return true };
    let is_up = |text: &str| text.split('/').any(|segment| segment == "..");
    path.readings().iter().chain(path.lenient()).any(|reading| is_up(reading.as_str()))
}
