//! Path patterns: what a route matches, as people write it and ready to be used.
//!
//! Knows one pattern at a time; [`crate::route::Site`] orders them and asks.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::id::RouteId;
use crate::lenient::Lenient;
use crate::path::{self, WrittenError};
use crate::route::{METHODS_MAX, ROUTES_MAX};

/// Longest path pattern, in characters.
pub const PATTERN_LEN_MAX: usize = 512;

/// Memory a compiled regular expression may take, in bytes; matching is linear in the path's length whatever it says.
pub const REGEX_SIZE_MAX: usize = 64 * 1024;

/// Memory a regular expression may take for its cache while it matches, in bytes per thread; beyond it
/// matching goes on without.
pub const REGEX_CACHE_MAX: usize = 256 * 1024;

/// How a route matches a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// This path and no other: `/a` does not match `/a/`.
    Exact(String),
    /// This path and all below it, whole segments only: `/api` matches `/api` and `/api/v1`, not `/apis`.
    Prefix(String),
    /// The whole path matches this regular expression.
    Regex(String),
}

/// Why a route cannot be used as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than [`PATTERN_LEN_MAX`].
    #[error("a path pattern has at most {PATTERN_LEN_MAX} characters")]
    TooLong,
    /// An exact path or prefix that does not start with `/`.
    #[error("a path starts with /")]
    NotAbsolute,
    /// An exact path or prefix that is not in canonical form, so that no request could ever match it.
    #[error("write the path in canonical form: {0}")]
    NotCanonical(String),
    /// More than [`ROUTES_MAX`] routes, or more than [`METHODS_MAX`] methods on one.
    #[error(
        "an environment has at most {ROUTES_MAX} routes, and a route lists at most {METHODS_MAX} methods"
    )]
    TooMany,
    /// Two routes with one id.
    #[error("two routes have the id {0}")]
    DuplicateId(RouteId),
    /// A regular expression that does not compile, or grows too large.
    #[error("the regular expression cannot be used: {0}")]
    Regex(String),
}

impl PathMatch {
    /// Reads the short form people type: `/a` exact, `/a/*` prefix, `~REGEX` regular expression.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let pattern = if let Some(regex) = text.strip_prefix('~') {
            Self::Regex(regex.to_owned())
        } else if text == "/*" {
            Self::Prefix("/".to_owned())
        } else if let Some(prefix) = text.strip_suffix("/*") {
            Self::Prefix(prefix.to_owned())
        } else {
            Self::Exact(text.to_owned())
        };
        Lenient::of(&Pattern::compile(&pattern)?)?;
        Ok(pattern)
    }

    /// Whether it matches `path`, to the letter. Compiled anew each time: a [`crate::route::Site`] keeps its patterns ready.
    pub fn matches(&self, path: &str) -> bool {
        Pattern::compile(self).is_ok_and(|pattern| pattern.matches(path))
    }

    /// Whether servers that are lenient about case, about dots and blanks at the end of a segment, or about a slash at
    /// the end of the path cannot tell this pattern from `other`. Regular expressions are not compared.
    pub fn reads_like(&self, other: &Self) -> bool {
        if let (Self::Regex(_), _) | (_, Self::Regex(_)) = (self, other) {
            return false; // before they are compiled for nothing
        }
        let lenient = |pattern: &Self| Pattern::compile(pattern).and_then(|pattern| Lenient::of(&pattern));
        matches!((lenient(self), lenient(other)), (Ok(one), Ok(two)) if one.is_twin(&two))
    }
}

impl std::fmt::Display for PathMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{}/*", prefix.trim_end_matches('/')),
            Self::Regex(regex) => write!(f, "~{regex}"),
        }
    }
}

/// A [`PathMatch`] ready to be used.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Exact(String),
    /// Without a trailing slash; the root prefix is empty.
    Prefix(String),
    Regex(Regex),
}

impl Pattern {
    pub(crate) fn compile(from: &PathMatch) -> Result<Self, PatternError> {
        let (PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Regex(text)) = from;
        if text.len() > PATTERN_LEN_MAX {
            return Err(PatternError::TooLong);
        }
        match from {
            PathMatch::Exact(path) => Ok(Self::Exact(canonical(path)?)),
            PathMatch::Prefix(path) => {
                let path = if path.is_empty() { "/" } else { path };
                Ok(Self::Prefix(canonical(path)?.trim_end_matches('/').to_owned()))
            }
            PathMatch::Regex(regex) => {
                let build = |text: &str| {
                    let built = self::regex(text).size_limit(REGEX_SIZE_MAX).build();
                    built.map_err(|why| PatternError::Regex(why.to_string()))
                };
                // Alone first: `a)|(b` compiles only between brackets, and would then not be held by the anchors.
                build(regex)?;
                build(&format!(r"\A(?:{regex})\z")).map(Self::Regex)
            }
        }
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// Sorts patterns into matching order; equal ranks keep the order they were written in.
    pub(crate) fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (0, 0),
            Self::Prefix(prefix) => (1, usize::MAX - prefix.len()),
            Self::Regex(_) => (2, 0),
        }
    }
}

/// How regular expressions of routes are built; the caller limits their size.
pub(crate) fn regex(text: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(text);
    builder.dfa_size_limit(REGEX_CACHE_MAX);
    builder
}

fn canonical(path: &str) -> Result<String, PatternError> {
    if !path.starts_with('/') {
        return Err(PatternError::NotAbsolute);
    }
    match path::written(path) {
        Ok(()) => Ok(path.to_owned()),
        Err(WrittenError::Settled(meant)) => Err(PatternError::NotCanonical(meant)),
        Err(WrittenError::Refused(why)) => Err(PatternError::NotCanonical(why.to_string())),
    }
}
