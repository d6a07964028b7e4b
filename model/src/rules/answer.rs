//! What the edge answers in an upstream's place: a redirect, or that there is maintenance.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{RuleError, authority};

/// Longest redirect target as written, in octets.
pub const REDIRECT_LEN_MAX: usize = 2048;

/// Longest maintenance message, in characters: a few sentences.
pub const MAINTENANCE_LEN_MAX: usize = 500;

/// Longest time to tell clients to wait, in seconds: a week.
pub const RETRY_AFTER_S_MAX: u32 = 7 * 24 * 60 * 60;

/// What the edge answers in the upstream's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeAnswer {
    /// To everybody who may use the route.
    Redirect(Redirect),
    /// To everybody, with status 503.
    Maintenance(Maintenance),
}

/// Where a request is sent on to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// A URL or a path. `{path}` stands for the request's path with its slash, `{query}` for its query with its question mark (for
    /// nothing if it has none), `{host}` for the host it was sent to, with its port.
    pub to: String,
    /// How.
    pub status: RedirectStatus,
}

/// Status of a redirect (RFC 9110 §15.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum RedirectStatus {
    /// 301: for good; a POST may become a GET.
    MovedPermanently,
    /// 302: for now; a POST may become a GET.
    Found,
    /// 303: look there with a GET.
    SeeOther,
    /// 307: for now, with the same method and body.
    #[default]
    Temporary,
    /// 308: for good, with the same method and body.
    Permanent,
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> Self {
        match status {
            RedirectStatus::MovedPermanently => 301,
            RedirectStatus::Found => 302,
            RedirectStatus::SeeOther => 303,
            RedirectStatus::Temporary => 307,
            RedirectStatus::Permanent => 308,
        }
    }
}

/// A status that is none of a redirect's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a redirect has the status 301, 302, 303, 307 or 308")]
pub struct NotRedirect;

impl TryFrom<u16> for RedirectStatus {
    type Error = NotRedirect;

    fn try_from(status: u16) -> Result<Self, NotRedirect> {
        Ok(match status {
            301 => Self::MovedPermanently,
            302 => Self::Found,
            303 => Self::SeeOther,
            307 => Self::Temporary,
            308 => Self::Permanent,
            _ => return Err(NotRedirect),
        })
    }
}

impl fmt::Display for RedirectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        u16::from(*self).fmt(f)
    }
}

/// The route is closed for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// For people; plain text.
    pub message: String,
    /// For programs (RFC 9110 §10.2.3), in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

impl Maintenance {
    pub(super) fn check(&self) -> Result<(), RuleError> {
        let length = self.message.chars().count();
        // Line ends are kept: a message may have two paragraphs.
        let shows = |text: &str| !text.chars().any(|character| character.is_control() && character != '\n');
        if self.message.trim().is_empty() || length > MAINTENANCE_LEN_MAX || !shows(&self.message) {
            return Err(RuleError::Maintenance);
        }
        match self.retry_after_s {
            Some(0) => Err(RuleError::RetryAfter),
            Some(seconds) if seconds > RETRY_AFTER_S_MAX => Err(RuleError::RetryAfter),
            _ => Ok(()),
        }
    }
}

/// A stretch of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    Path,
    Query,
    Host,
}

/// What is wrong with a target that holds a placeholder nobody knows.
const UNKNOWN: &str = "between { and } stands path, query or host";

/// `target` split at its placeholders.
fn parts(target: &str) -> impl Iterator<Item = Result<Part<'_>, RuleError>> {
    let mut rest = target;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(['{', '}']).unwrap_or(rest.len());
        if end > 0 {
            let (text, after) = rest.split_at_checked(end)?;
            rest = after;
            return Some(Ok(Part::Text(text)));
        }
        let known = [("{path}", Part::Path), ("{query}", Part::Query), ("{host}", Part::Host)];
        let found = known.iter().find_map(|(name, part)| Some((rest.strip_prefix(name)?, *part)));
        let (after, part) = match found {
            Some((after, part)) => (after, Ok(part)),
            None => ("", Err(RuleError::Redirect(UNKNOWN))),
        };
        rest = after;
        Some(part)
    })
}

impl Redirect {
    /// Whether the target is one: where it leads is settled by whoever wrote it, and never by whoever follows it.
    pub(super) fn check(&self) -> Result<(), RuleError> {
        let refused = |why| Err(RuleError::Redirect(why));
        if self.to.len() > REDIRECT_LEN_MAX {
            return Err(RuleError::RedirectLength);
        }
        if !self.to.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`|".contains(&byte)) {
            return refused("write what is not a character of a URL escaped, as %20");
        }
        let after_scheme = self.to.strip_prefix("https://").or_else(|| self.to.strip_prefix("http://"));
        match after_scheme {
            Some(rest) => authority_settled(rest)?,
            None if !self.to.starts_with('/') => {
                return refused("a target is a path that starts with /, or begins with https:// or http://");
            }
            None if self.to.starts_with("//") => {
                return refused("a target that starts with // leads to another site: write https://");
            }
            None => {}
        }
        let tail =
            after_scheme.map_or(self.to.as_str(), |rest| rest.get(authority_len(rest)..).unwrap_or(""));
        placeholders_placed(tail)
    }

    /// Where a request goes: a value for `location`, whatever the request was.
    ///
    /// `path` and `query` are the request's own, as it sent them, the query without its question mark; `host` is the one that it was
    /// sent to and that was found published here, with its port if that is not the usual one.
    pub fn target(&self, path: &str, query: Option<&str>, host: &str) -> String {
        let mut target = String::with_capacity(self.to.len() + path.len() + query.map_or(0, str::len));
        for part in parts(&self.to).map_while(Result::ok) {
            match part {
                Part::Text(text) => target.push_str(text),
                Part::Host => push_visible(&mut target, host),
                Part::Query => {
                    if let Some(query) = query.filter(|query| !query.is_empty()) {
                        target.push(if target.contains('?') { '&' } else { '?' });
                        push_visible(&mut target, query);
                    }
                }
                Part::Path => {
                    // One slash: two at the beginning of a target would lead to a host of the client's choosing.
                    if !target.ends_with('/') {
                        target.push('/');
                    }
                    push_visible(&mut target, path.trim_start_matches('/'));
                }
            }
        }
        target
    }
}

/// Where the authority of a URL without its scheme ends.
fn authority_len(rest: &str) -> usize {
    let placeholder = ["{path}", "{query}"].iter().filter_map(|name| rest.find(name)).min();
    let ends = rest.find(['/', '?', '#']);
    ends.into_iter().chain(placeholder).min().unwrap_or(rest.len())
}

fn authority_settled(rest: &str) -> Result<(), RuleError> {
    let authority = rest.get(..authority_len(rest)).unwrap_or(rest);
    // `{host}` stands alone: beside other text it would be another host, `shop.example` made `shop.example.other`.
    if authority == "{host}" || authority::is_authority(&authority.to_ascii_lowercase()) {
        Ok(())
    } else {
        Err(RuleError::Redirect("after :// stands a host, a host with a port, or {host} alone"))
    }
}

/// Whether the placeholders of what follows the authority stand where their values make sense.
fn placeholders_placed(tail: &str) -> Result<(), RuleError> {
    let (mut before, mut has_path, mut has_query) = (String::new(), false, false);
    for part in parts(tail) {
        let is_fragment = before.contains('#');
        let wrong = match part? {
            Part::Text(text) if has_query && !is_fragment && !text.starts_with('#') => {
                "nothing stands after {query} but a #"
            }
            Part::Text(text) => {
                before.push_str(text);
                continue;
            }
            Part::Host => "{host} stands right after https:// or http:// only",
            Part::Path | Part::Query if is_fragment => "nothing is put in after a #",
            Part::Path if has_path => "{path} stands once",
            Part::Path if has_query || before.contains('?') => "{path} stands before the query",
            Part::Path => {
                has_path = true;
                continue;
            }
            Part::Query if has_query => "{query} stands once",
            Part::Query if before.ends_with(['?', '&']) => "{query} brings its own ? or &",
            Part::Query => {
                has_query = true;
                continue;
            }
        };
        return Err(RuleError::Redirect(wrong));
    }
    Ok(())
}

/// Appends `text` with everything escaped that no header value may hold.
fn push_visible(target: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() {
            target.push(char::from(byte));
        } else {
            target.push_str(percent_encoding::percent_encode_byte(byte));
        }
    }
}
