//! How a request path is read, and every way an upstream might read it differently.
//!
//! Policy is decided on the readings; what the client sent is forwarded. A path that is plain has one
//! reading. One with `%2f`, `%5c`, dot segments, empty segments, path parameters or escapes of escapes has several, and
//! [`crate::route::Site::find`] refuses it when they lead to different routes (R2).
//!
//! The base reading decodes every escape once, except that an escaped slash stays `%2F`, because it
//! separates nothing yet. From there each of the steps below is something that some server does, in any order
//! and any number of times; the readings are all texts that can come of it:
//!
//! | step | who does it |
//! |---|---|
//! | `%2F` is a slash | servers that decode before they split |
//! | `\` is a slash | IIS and others on Windows |
//! | `.` and `..` segments are resolved (RFC 3986 §5.2.4) | nearly all, some before and some after decoding |
//! | several slashes are one | nginx, Go's and Node's file servers |
//! | `;` and what follows it in a segment is dropped | Tomcat, Jetty, Spring |
//! | escapes are decoded once more | chains of two servers that each decode |
//!
//! Case is compared as it is, `+` is a plus, and the query is never part of a path.

use std::borrow::Cow;

/// Longest request target, in octets (design §10).
pub const URI_LEN_MAX: usize = 8 * 1024;

/// Most readings of one path. A path people mean has one or two; the bound keeps a hostile one from
/// making every route match against hundreds.
pub const READINGS_MAX: usize = 16;

/// A path as one kind of upstream would read it: decoded, starting with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading(String);

impl Reading {
    /// The decoded path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path that may be routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath(Readings);

/// Apart, so that a plain path costs one allocation: its own text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Readings {
    One(Reading),
    Several(Vec<Reading>),
}

/// Why a path is refused whatever the routes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Does not start with `/`.
    #[error("a path starts with /")]
    NotAbsolute,
    /// Longer than [`URI_LEN_MAX`].
    #[error("the path is longer than {URI_LEN_MAX} octets")]
    TooLong,
    /// A `%` that two hexadecimal digits do not follow.
    #[error("a % is not followed by two hexadecimal digits")]
    BadPercent,
    /// A space, control character, `\`, `#`, `?` or octet outside ASCII as such; or a control character in escaped
    /// form, however often escaped.
    #[error("the path holds a character that is never allowed")]
    BadCharacter,
    /// The decoded octets are not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// More than [`READINGS_MAX`] readings.
    #[error("the path can be read in more than {READINGS_MAX} ways")]
    TooManyReadings,
}

impl RequestPath {
    /// Reads the path of a request target, without its query. A plain path costs one pass and one allocation.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if raw.len() > URI_LEN_MAX {
            return Err(PathError::TooLong);
        }
        let base = decode_once(raw)?;
        if is_settled(&base) {
            return Ok(Self(Readings::One(Reading(base))));
        }
        let readings = closure(base)?;
        Ok(Self(Readings::Several(readings)))
    }

    /// Every way it can be read, the most literal first; one for a plain path, never none.
    pub fn readings(&self) -> &[Reading] {
        match &self.0 {
            Readings::One(reading) => std::slice::from_ref(reading),
            Readings::Several(readings) => readings,
        }
    }
}

/// A path as a person writes it in a route: decoded, and settled, so that a request can match it.
///
/// # Errors
/// [`WrittenError::Settled`] with the path that was probably meant, if a server might read this one differently.
pub(crate) fn written(path: &str) -> Result<(), WrittenError> {
    let never = |character: char| character.is_control() || matches!(character, '\\' | '#' | '?');
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute.into());
    }
    if path.len() > URI_LEN_MAX {
        return Err(PathError::TooLong.into());
    }
    if path.contains(never) {
        return Err(PathError::BadCharacter.into());
    }
    if is_settled(path) {
        return Ok(());
    }
    match closure(path.to_owned())?.pop() {
        Some(Reading(last)) if last != path => Err(WrittenError::Settled(last)),
        _ => Ok(()),
    }
}

/// Why a path cannot stand in a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrittenError {
    /// No request may have it.
    #[error(transparent)]
    Refused(#[from] PathError),
    /// Write it like this.
    #[error("write {0}")]
    Settled(String),
}

/// The base reading: escapes decoded once, an escaped slash as `%2F`.
fn decode_once(raw: &str) -> Result<String, PathError> {
    let octets = raw.as_bytes();
    let never = |octet: &u8| matches!(octet, 0..=b' ' | b'#' | b'?' | b'\\' | 0x7f..);
    if octets.iter().any(never) {
        return Err(PathError::BadCharacter);
    }
    if !octets.contains(&b'%') {
        return Ok(raw.to_owned());
    }
    let mut decoded = Vec::with_capacity(octets.len());
    let mut rest = octets.iter();
    while let Some(octet) = rest.next() {
        if *octet != b'%' {
            decoded.push(*octet);
            continue;
        }
        let mut digit = || rest.next().copied().and_then(hex);
        let (high, low) = (digit(), digit());
        match high.zip(low).ok_or(PathError::BadPercent)? {
            (2, 15) => decoded.extend_from_slice(SLASH),
            (high, low) => decoded.push(high << 4 | low),
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathError::NotUtf8)?;
    if decoded.contains(char::is_control) { Err(PathError::BadCharacter) } else { Ok(decoded) }
}

/// An escaped slash in a reading.
const SLASH: &[u8] = b"%2F";

fn hex(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether no step would change `path`.
fn is_settled(path: &str) -> bool {
    let mut octets = path.bytes();
    let mut before = octets.next();
    for octet in octets {
        match octet {
            b'%' | b'\\' | b';' => return false,
            // Dot segments and empty segments both begin right after a slash.
            b'/' | b'.' if before == Some(b'/') => return STEPS.iter().all(|step| step(path).is_none()),
            _ => before = Some(octet),
        }
    }
    true
}

/// All readings that can come of `base`, itself first.
fn closure(base: String) -> Result<Vec<Reading>, PathError> {
    let mut readings = vec![Reading(base)];
    let mut at = 0;
    while let Some(reading) = readings.get(at) {
        let mut more: Vec<String> = Vec::new();
        for step in STEPS {
            let Some(text) = step(reading.as_str()) else { continue };
            if text.contains(char::is_control) {
                return Err(PathError::BadCharacter);
            }
            if !more.contains(&text) && readings.iter().all(|known| known.0 != text) {
                more.push(text);
            }
        }
        readings.extend(more.into_iter().map(Reading));
        if readings.len() > READINGS_MAX {
            return Err(PathError::TooManyReadings);
        }
        at += 1;
    }
    Ok(readings)
}

/// Something a server may do to a path; `None` if it changes nothing. The result starts with `/`, is no
/// longer than before, and doing all of them again and again comes to an end.
type Step = fn(&str) -> Option<String>;

const STEPS: [Step; 6] = [
    slashes_decoded,
    backslashes_as_slashes,
    dots_resolved,
    slashes_merged,
    parameters_dropped,
    decoded_again,
];

fn slashes_decoded(path: &str) -> Option<String> {
    path.contains("%2F").then(|| path.replace("%2F", "/"))
}

fn backslashes_as_slashes(path: &str) -> Option<String> {
    path.contains('\\').then(|| path.replace('\\', "/"))
}

/// RFC 3986 §5.2.4: a `..` takes the segment before it along, an empty one too, and cannot climb above the root.
fn dots_resolved(path: &str) -> Option<String> {
    let is_dots = |segment: &str| segment == "." || segment == "..";
    if !path.split('/').any(is_dots) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment == ".." {
            kept.pop();
        }
        if !is_dots(segment) {
            kept.push(segment);
        } else if is_last {
            kept.push(""); // "/a/.." is the directory "/", "/a/." is "/a/"
        }
    }
    Some(kept.iter().fold(String::with_capacity(path.len()), |path, segment| path + "/" + segment))
}

fn slashes_merged(path: &str) -> Option<String> {
    if !path.contains("//") {
        return None;
    }
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    Some(merged)
}

fn parameters_dropped(path: &str) -> Option<String> {
    if !path.contains(';') {
        return None;
    }
    let name = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    Some(path.split('/').map(name).collect::<Vec<_>>().join("/"))
}

/// Unlike the first time, a `%` without digits stays, and octets that are not UTF-8 become U+FFFD: what matters is
/// what the rest turns into.
fn decoded_again(path: &str) -> Option<String> {
    match percent_encoding::percent_decode_str(path).decode_utf8_lossy() {
        Cow::Borrowed(_) => None,
        Cow::Owned(decoded) => (decoded != path).then_some(decoded),
    }
}
