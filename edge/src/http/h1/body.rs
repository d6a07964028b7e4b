//! Follows an HTTP/1.1 request body to its end, so that the next request's head is found where it really is
//! (RFC 9112 §7). Strict like [`super::head`]; pure.

use super::head::{Framing, is_token_byte};
use crate::config::{REQUEST_FIELDS_MAX, REQUEST_HEAD_LEN_MAX};

/// Longest line that announces a chunk, extensions included. Nobody uses extensions; they serve to hide things.
pub const CHUNK_LINE_LEN_MAX: usize = 256;

/// Follows one body to its end.
#[derive(Clone, Copy, Debug)]
pub struct BodyScan(BodyState);

#[derive(Clone, Copy, Debug)]
enum BodyState {
    /// This many octets are left.
    Length(u64),
    /// In the line that announces a chunk.
    Size {
        digits: usize,
        len: usize,
        size: u64,
        part: SizePart,
    },
    /// This many octets of the chunk are left.
    Data(u64),
    /// After a chunk's data: CR, then LF.
    DataCr,
    DataLf,
    /// In the trailer section: octets and fields so far, and what the current line is.
    Trailer {
        total: usize,
        fields: usize,
        line: TrailerLine,
    },
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SizePart {
    Digits,
    Extension,
    Lf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrailerLine {
    Start,
    Name,
    Value,
    /// After the CR of a field.
    FieldLf,
    /// After the CR of the empty line.
    EndLf,
}

/// What following a body gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyStep {
    /// Octets that belong to the body.
    pub len: usize,
    /// Whether it ends with them.
    pub is_end: bool,
}

impl BodyScan {
    /// A body delimited by `framing`; `None` if there is none.
    pub const fn new(framing: Framing) -> Option<Self> {
        match framing {
            Framing::Empty => None,
            Framing::Length(len) => Some(Self(BodyState::Length(len))),
            Framing::Chunked => Some(Self(BodyState::SIZE)),
        }
    }

    /// Follows `bytes`.
    ///
    /// # Errors
    /// How many octets were still in order, when the next one is not.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<BodyStep, usize> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let BodyState::Length(left) | BodyState::Data(left) = &mut self.0 {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                at += taken;
                *left -= taken as u64;
                match self.0 {
                    BodyState::Length(0) => return Ok(BodyStep { len: at, is_end: true }),
                    BodyState::Data(0) => self.0 = BodyState::DataCr,
                    _ => {}
                }
                continue;
            }
            let Some(byte) = rest.first() else { break };
            self.0 = self.0.after(*byte).ok_or(at)?;
            at += 1;
            if matches!(self.0, BodyState::End) {
                return Ok(BodyStep { len: at, is_end: true });
            }
        }
        Ok(BodyStep { len: at, is_end: false })
    }
}

impl BodyState {
    const SIZE: Self = Self::Size { digits: 0, len: 0, size: 0, part: SizePart::Digits };

    /// The state after one octet of chunked framing; `None` if it has no place there.
    fn after(self, byte: u8) -> Option<Self> {
        match self {
            Self::Size { digits, len, size, part } => size_after(digits, len + 1, size, part, byte),
            Self::DataCr => (byte == b'\r').then_some(Self::DataLf),
            Self::DataLf => (byte == b'\n').then_some(Self::SIZE),
            Self::Trailer { total, fields, line } => trailer_after(total + 1, fields, line, byte),
            Self::Length(_) | Self::Data(_) | Self::End => None,
        }
    }
}

fn size_after(digits: usize, len: usize, size: u64, part: SizePart, byte: u8) -> Option<BodyState> {
    if len > CHUNK_LINE_LEN_MAX {
        return None;
    }
    let next = |digits, size, part| Some(BodyState::Size { digits, len, size, part });
    match (part, byte) {
        (SizePart::Digits, _) if byte.is_ascii_hexdigit() => {
            let digit = char::from(byte).to_digit(16)?;
            // Sixteen digits fill 64 bits; hyper stops at the same size.
            (digits < 16).then_some(())?;
            next(digits + 1, size << 4 | u64::from(digit), part)
        }
        (SizePart::Digits, b';') if digits > 0 => next(digits, size, SizePart::Extension),
        (SizePart::Digits | SizePart::Extension, b'\r') if digits > 0 => next(digits, size, SizePart::Lf),
        (SizePart::Extension, b'\t' | b' '..=b'~' | 0x80..) => next(digits, size, part),
        (SizePart::Lf, b'\n') if size == 0 => {
            Some(BodyState::Trailer { total: 0, fields: 0, line: TrailerLine::Start })
        }
        (SizePart::Lf, b'\n') => Some(BodyState::Data(size)),
        _ => None,
    }
}

fn trailer_after(total: usize, fields: usize, line: TrailerLine, byte: u8) -> Option<BodyState> {
    if total > REQUEST_HEAD_LEN_MAX || fields > REQUEST_FIELDS_MAX {
        return None;
    }
    let next = |fields, line| Some(BodyState::Trailer { total, fields, line });
    match (line, byte) {
        (TrailerLine::Start, b'\r') => next(fields, TrailerLine::EndLf),
        (TrailerLine::EndLf, b'\n') => Some(BodyState::End),
        (TrailerLine::Start, _) if is_token_byte(byte) => next(fields + 1, TrailerLine::Name),
        (TrailerLine::Name, _) if is_token_byte(byte) => next(fields, line),
        (TrailerLine::Name, b':') => next(fields, TrailerLine::Value),
        (TrailerLine::Value, b'\r') => next(fields, TrailerLine::FieldLf),
        (TrailerLine::Value, b'\t' | b' '..=b'~' | 0x80..) => next(fields, line),
        (TrailerLine::FieldLf, b'\n') => next(fields, TrailerLine::Start),
        _ => None,
    }
}
