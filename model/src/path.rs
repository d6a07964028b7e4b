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
//! These are the literal readings, and they must all lead to one route. Then there are servers that tell less
//! apart: they also
//!
//! | step | who does it |
//! |---|---|
//! | drop blanks at the end of a segment | Windows, and frameworks that trim what they split |
//! | drop dots at the end of a segment | Windows: IIS, ASP.NET |
//! | take upper case for lower case | Express, IIS, Tomcat and others on file systems that do |
//! | take `/a/` for `/a` | Express, Spring, Rails |
//!
//! What comes of the first two beside all of the above are the [lenient readings](RequestPath::lenient); the last two
//! are a matter of matching, in [`crate::lenient`]. `+` is a plus, and the query is never part of a path.

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
pub struct RequestPath {
    readings: Readings,
    is_plain: bool,
}

/// Apart, so that a plain path costs one allocation: its own text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Readings {
    /// Literal and lenient alike.
    One(Reading),
    Several {
        literal: Vec<Reading>,
        lenient: Vec<Reading>,
    },
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
        if is_settled(&base, &LENIENT_STEPS) {
            let is_plain = is_lower_case(&base) && (base.len() == 1 || !base.ends_with('/'));
            return Ok(Self { readings: Readings::One(Reading(base)), is_plain });
        }
        let literal = closure(vec![Reading(base)], &STEPS)?;
        let mut lenient: Vec<Reading> = Vec::new();
        for Reading(text) in closure(literal.clone(), &LENIENT_STEPS)? {
            let reading = Reading(trimmed(text));
            if !lenient.contains(&reading) {
                lenient.push(reading);
            }
        }
        Ok(Self { readings: Readings::Several { literal, lenient }, is_plain: false })
    }

    /// Every way it can be read to the letter, the most literal first; one for a plain path, never none.
    pub fn readings(&self) -> &[Reading] {
        match &self.readings {
            Readings::One(reading) => std::slice::from_ref(reading),
            Readings::Several { literal, .. } => literal,
        }
    }

    /// Every way that servers read it which drop what stands at the end of a segment; never none. Case is as it was.
    pub fn lenient(&self) -> &[Reading] {
        match &self.readings {
            Readings::One(reading) => std::slice::from_ref(reading),
            Readings::Several { lenient, .. } => lenient,
        }
    }

    /// Whether the most lenient server reads it as it is: one reading in lower case, without a slash at its end.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
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
    if is_settled(path, &STEPS) {
        return Ok(());
    }
    match closure(vec![Reading(path.to_owned())], &STEPS)?.pop() {
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

/// Whether no step would change `path`. The steps are tried only where one pass finds what they look for.
fn is_settled(path: &str, steps: &[Step]) -> bool {
    let none_changes = || steps.iter().all(|step| step(path).is_none());
    // What a segment may lose at its end; an octet outside ASCII may belong to a blank.
    let is_loose = |octet| matches!(octet, Some(b'.' | b' ' | 0x80..));
    let mut octets = path.bytes();
    let mut before = octets.next();
    for octet in octets {
        match octet {
            b'%' | b'\\' | b';' => return false,
            // Dot segments and empty segments both begin right after a slash.
            b'/' | b'.' if before == Some(b'/') => return none_changes(),
            b'/' if is_loose(before) => return none_changes(),
            _ => before = Some(octet),
        }
    }
    !is_loose(before) || none_changes()
}

/// Whether folding case changes nothing, as far as one quick pass can tell. Without a branch per octet, so that it
/// costs a plain path next to nothing.
fn is_lower_case(path: &str) -> bool {
    path.bytes().fold(0, |any, octet| any | u8::from(octet.is_ascii_uppercase()) | (octet & 0x80)) == 0
}

/// All readings that can come of `readings` by these steps, themselves first.
fn closure(mut readings: Vec<Reading>, steps: &[Step]) -> Result<Vec<Reading>, PathError> {
    let mut at = 0;
    while let Some(reading) = readings.get(at) {
        let mut more: Vec<String> = Vec::new();
        for step in steps {
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

/// `path` with nothing left at the end of a segment that a lenient server drops, and no segment empty.
pub(crate) fn trimmed(path: String) -> String {
    let path = ends_trimmed(&path).unwrap_or(path);
    slashes_merged(&path).unwrap_or(path)
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

const LENIENT_STEPS: [Step; 8] = [
    slashes_decoded,
    backslashes_as_slashes,
    dots_resolved,
    slashes_merged,
    parameters_dropped,
    decoded_again,
    blanks_trimmed,
    ends_trimmed,
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

/// Apart from [`ends_trimmed`], because what is left of `.. ` is a dot segment.
fn blanks_trimmed(path: &str) -> Option<String> {
    by_segment(path, |segment| segment.trim_end())
}

/// Blanks and dots; a dot segment stays one.
fn ends_trimmed(path: &str) -> Option<String> {
    by_segment(path, |segment| match segment {
        "." | ".." => segment,
        _ => segment.trim_end_matches(|last: char| last == '.' || last.is_whitespace()),
    })
}

fn by_segment(path: &str, trim: fn(&str) -> &str) -> Option<String> {
    if path.split('/').all(|segment| trim(segment).len() == segment.len()) {
        return None;
    }
    Some(path.split('/').map(trim).collect::<Vec<_>>().join("/"))
}
