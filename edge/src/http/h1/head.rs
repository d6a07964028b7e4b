//! Finds where an HTTP/1.1 request head ends and how its body is delimited, by the strict letter of RFC 9112,
//! and refuses everything that two readers could understand in two ways (R7). Bodies are [`mod@super::body`]'s.
//!
//! hyper parses after this and is more lenient (a bare LF ends a line, equal `Content-Length` lines are folded
//! into one): it only ever sees heads that passed here. Pure: bytes in, decisions out.

use crate::config::{REQUEST_FIELDS_MAX, REQUEST_HEAD_LEN_MAX, REQUEST_TARGET_LEN_MAX};
use crate::http::Upgrade;

/// Why a request is refused before it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// CR without LF, or LF without CR.
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// The request line is not `method SP target SP HTTP-version`.
    #[error("the request line is malformed")]
    RequestLine,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("the HTTP version is not one spoken here")]
    Version,
    /// A field continues on the next line (RFC 9112 §5.2).
    #[error("a field is folded over several lines")]
    Folding,
    /// No colon, an empty name, or a character (often a space) that has no place in one.
    #[error("a field name is malformed")]
    FieldName,
    /// A control character.
    #[error("a field value holds a control character")]
    FieldValue,
    /// Not one number (RFC 9110 §8.6).
    #[error("Content-Length is not a number")]
    ContentLength,
    /// More than once, even if equal.
    #[error("Content-Length is given twice")]
    ContentLengthTwice,
    /// Anything but a single `chunked`.
    #[error("Transfer-Encoding is not chunked")]
    TransferEncoding,
    /// Together with Content-Length.
    #[error("both Content-Length and Transfer-Encoding are given")]
    TwoFramings,
    /// In an HTTP/1.0 request, where it means nothing.
    #[error("Transfer-Encoding in an HTTP/1.0 request")]
    TransferEncodingIn10,
    /// Longer than [`REQUEST_TARGET_LEN_MAX`].
    #[error("the request target is longer than {REQUEST_TARGET_LEN_MAX} octets")]
    TargetTooLong,
    /// Longer than [`REQUEST_HEAD_LEN_MAX`].
    #[error("the request head is longer than {REQUEST_HEAD_LEN_MAX} octets")]
    HeadTooLong,
    /// More than [`REQUEST_FIELDS_MAX`].
    #[error("the request has more than {REQUEST_FIELDS_MAX} fields")]
    TooManyFields,
    /// The head began and did not end in time.
    #[error("the request head took too long")]
    TooSlow,
}

/// How a body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    Empty,
    /// This many octets.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What a look at a head gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStep {
    /// It has not ended yet.
    More,
    /// It is `len` octets long and a body so delimited follows.
    Done {
        /// Octets up to and with the empty line.
        len: usize,
        /// What follows.
        framing: Framing,
        /// Whether it asks to switch protocols: what follows must then wait for the answer (RFC 9110 §7.8).
        upgrade: bool,
    },
}

/// Reads one request head. Fed the same growing bytes again, it looks at each line once.
#[derive(Clone, Copy, Debug)]
pub struct HeadScan {
    /// Where the line being read begins.
    line: usize,
    /// Up to where no LF was found.
    searched: usize,
    seen_request_line: bool,
    is_http_10: bool,
    fields: usize,
    content_length: Option<u64>,
    chunked: bool,
    wish: Wish,
}

/// What of a wish to switch protocols was seen.
#[derive(Clone, Copy, Debug)]
struct Wish {
    /// The method has a switch of its own.
    is_connect: bool,
    /// `Connection` lists `upgrade`.
    connection: bool,
    /// `Upgrade` lists a protocol that may be had.
    upgrade: bool,
}

impl HeadScan {
    /// Nothing seen yet.
    pub const START: Self = Self {
        line: 0,
        searched: 0,
        seen_request_line: false,
        is_http_10: false,
        fields: 0,
        content_length: None,
        chunked: false,
        wish: Wish { is_connect: false, connection: false, upgrade: false },
    };

    /// Looks at `head`, which begins where the head begins and holds at least what it held before.
    ///
    /// # Errors
    /// [`Violation`] as soon as one line shows it.
    pub fn advance(&mut self, head: &[u8]) -> Result<HeadStep, Violation> {
        while let Some(found) = head.get(self.searched..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let end = self.searched + found;
            if end >= REQUEST_HEAD_LEN_MAX {
                return Err(Violation::HeadTooLong);
            }
            let line = head.get(self.line..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").ok_or(Violation::LineEnd)?;
            self.line = end + 1;
            self.searched = end + 1;
            if line.is_empty() && self.seen_request_line {
                let framing = self.framing()?;
                let upgrade = self.is_upgrade(framing);
                return Ok(HeadStep::Done { len: self.line, framing, upgrade });
            }
            if self.seen_request_line {
                self.field(line)?;
            } else if !line.is_empty() {
                // Empty lines before a request are skipped (RFC 9112 §2.2); they count towards the head's length.
                self.request_line(line)?;
            }
        }
        self.searched = head.len();
        if head.len() > REQUEST_HEAD_LEN_MAX {
            return Err(Violation::HeadTooLong);
        }
        Ok(HeadStep::More)
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.seen_request_line = true;
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Violation::RequestLine);
        };
        if !is_token(method) || target.is_empty() || target.iter().any(|byte| *byte < b'!' || *byte == 0x7f) {
            return Err(Violation::RequestLine);
        }
        if target.len() > REQUEST_TARGET_LEN_MAX {
            return Err(Violation::TargetTooLong);
        }
        self.wish.is_connect = method == b"CONNECT";
        self.is_http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ if version.starts_with(b"HTTP/") => return Err(Violation::Version),
            _ => return Err(Violation::RequestLine),
        };
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Violation> {
        let (name, value) = split_field(line)?;
        self.fields += 1;
        if self.fields > REQUEST_FIELDS_MAX {
            return Err(Violation::TooManyFields);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.content_length.is_some() {
                return Err(Violation::ContentLengthTwice);
            }
            self.content_length = Some(decimal(value).ok_or(Violation::ContentLength)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.wish.connection |= members(value).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            let is_had = |token: &[u8]| std::str::from_utf8(token).ok().and_then(Upgrade::to).is_some();
            self.wish.upgrade |= members(value).any(is_had);
        }
        Ok(())
    }

    /// The same question [`Upgrade::of_h1`] asks of the parsed head; where the two differ, nothing is switched.
    fn is_upgrade(&self, framing: Framing) -> bool {
        let Wish { is_connect, connection, upgrade } = self.wish;
        connection && upgrade && !is_connect && !self.is_http_10 && framing == Framing::Empty
    }

    fn framing(&self) -> Result<Framing, Violation> {
        match (self.chunked, self.content_length) {
            (true, _) if self.is_http_10 => Err(Violation::TransferEncodingIn10),
            (true, Some(_)) => Err(Violation::TwoFramings),
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::Empty),
            (false, Some(len)) => Ok(Framing::Length(len)),
        }
    }
}

/// Splits a field line into name and trimmed value, both of permitted characters only (RFC 9110 §5.1, §5.5).
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if let Some(b' ' | b'\t') = line.first() {
        return Err(Violation::Folding);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Violation::FieldName)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Violation::FieldName)?;
    let value = value.get(1..).unwrap_or_default();
    if !is_token(name) {
        return Err(Violation::FieldName);
    }
    // No early exit: so written, the compiler looks at many octets at once.
    let bad = value.iter().fold(0, |bad, byte| {
        bad | (u8::from(*byte < b' ') & u8::from(*byte != b'\t')) | u8::from(*byte == 0x7f)
    });
    match bad {
        0 => Ok((name, trim(value))),
        // A CR here is one without its LF.
        _ if value.contains(&b'\r') => Err(Violation::LineEnd),
        _ => Err(Violation::FieldValue),
    }
}

/// The members of a list field.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A decimal number that fits 64 bits; nothing but digits.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// `tchar` of RFC 9110 §5.6.2.
pub(in crate::http) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
