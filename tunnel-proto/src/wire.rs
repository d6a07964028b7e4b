//! Numbers, byte strings and extension fields: what all frames are made of (RFC 9000 §16 for the numbers).
//!
//! [`Reader`] hands out borrowed pieces and never reads past its end; writing goes to a `BytesMut`.

use bytes::{BufMut as _, BytesMut};

/// Largest number: 62 bits.
pub(crate) const VARINT_MAX: u64 = (1 << 62) - 1;

/// The bytes ended inside a value, or a value is out of range for its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads a whole payload from front to back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Octets not read yet.
    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_be_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let (value, len) = varint(self.rest).ok_or(Malformed)?;
        self.rest = self.rest.get(len..).ok_or(Malformed)?;
        Ok(value)
    }

    /// A number that must fit the type asked for.
    pub(crate) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.varint()?).map_err(|_| Malformed)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A byte string: its length, then itself.
    pub(crate) fn bytes(&mut self, len_max: usize) -> Result<&'a [u8], Malformed> {
        let len: usize = self.number()?;
        if len > len_max { Err(Malformed) } else { self.take(len) }
    }

    /// A byte string that must be UTF-8.
    pub(crate) fn text(&mut self, len_max: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(len_max)?).map_err(|_| Malformed)
    }

    /// The next extension field, `None` at the payload's end: its number and its value.
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Reader<'a>)>, Malformed> {
        if self.is_empty() {
            return Ok(None);
        }
        let number = self.varint()?;
        let value = self.bytes(usize::MAX)?;
        Ok(Some((number, Reader::new(value))))
    }

    /// Everything not read yet.
    pub(crate) fn remainder(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// The number at the front of `bytes` and its length; `None` if they end inside it.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    Some(match first >> 6 {
        0 => (u64::from(first), 1),
        1 => (u64::from(u16::from_be_bytes(*bytes.first_chunk()?)) & 0x3fff, 2),
        2 => (u64::from(u32::from_be_bytes(*bytes.first_chunk()?)) & 0x3fff_ffff, 4),
        _ => (u64::from_be_bytes(*bytes.first_chunk()?) & VARINT_MAX, 8),
    })
}

/// Appends a number in its shortest form; one above [`VARINT_MAX`] is written as that.
pub(crate) fn put_varint(out: &mut BytesMut, value: u64) {
    if let Ok(small @ 0..=0x3f) = u8::try_from(value) {
        out.put_u8(small);
    } else if let Ok(medium @ 0..=0x3fff) = u16::try_from(value) {
        out.put_u16(medium | 0x4000);
    } else if let Ok(large @ 0..=0x3fff_ffff) = u32::try_from(value) {
        out.put_u32(large | 0x8000_0000);
    } else {
        out.put_u64(value.min(VARINT_MAX) | 0xc000_0000_0000_0000);
    }
}

/// Appends a length in its shortest form.
pub(crate) fn put_len(out: &mut BytesMut, len: usize) {
    put_varint(out, u64::try_from(len).unwrap_or(VARINT_MAX));
}

/// Appends a byte string: its length, then itself.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.put_slice(bytes);
}

/// Appends an extension field.
pub(crate) fn put_field(out: &mut BytesMut, number: u64, value: &[u8]) {
    put_varint(out, number);
    put_bytes(out, value);
}

/// Appends an extension field that holds a number.
pub(crate) fn put_number_field(out: &mut BytesMut, number: u64, value: u64) {
    let mut inner = BytesMut::with_capacity(8);
    put_varint(&mut inner, value);
    put_field(out, number, &inner);
}

/// Octets of a frame's length when it is written before the payload is known.
const LATE_LEN: usize = 4;

/// Begins a frame whose length is not known yet; [`end_frame`] fills it in.
pub(crate) fn begin_frame(out: &mut BytesMut, kind: u64) -> usize {
    put_varint(out, kind);
    out.put_u32(0);
    out.len()
}

/// Ends the frame whose payload began at `start`, or takes it back if the payload is longer than `len_max`.
pub(crate) fn end_frame(out: &mut BytesMut, start: usize, len_max: usize) -> Result<(), Malformed> {
    let len = out.len().checked_sub(start).ok_or(Malformed)?;
    let late = u32::try_from(len).ok().filter(|late| len <= len_max && *late < 1 << 30).ok_or(Malformed)?;
    let place = start.checked_sub(LATE_LEN).and_then(|from| out.get_mut(from..start)).ok_or(Malformed)?;
    place.copy_from_slice(&(late | 0x8000_0000).to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_the_fewest_octets_that_hold_it() {
        // Values and forms of RFC 9000 §A.1.
        let rows: [(u64, &[u8]); 4] = [
            (37, &[0x25]),
            (15_293, &[0x7b, 0xbd]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
        ];
        for (value, form) in rows {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out.as_ref(), form);
            assert_eq!(varint(form), Some((value, form.len())));
            for cut in 0..form.len() {
                assert_eq!(varint(&form[..cut]), None);
            }
        }
        assert_eq!(varint(&[0x40, 0x25]), Some((37, 2)), "a longer form than needed is read as well");
    }

    #[test]
    fn a_reader_never_hands_out_what_is_not_there() {
        let mut reader = Reader::new(&[3, b'a', b'b']);
        assert_eq!(reader.bytes(10), Err(Malformed));
        let mut reader = Reader::new(&[2, b'a', b'b']);
        assert_eq!(reader.bytes(1), Err(Malformed), "longer than its place allows");
        assert_eq!(Reader::new(&[0xff; 8]).number::<u32>(), Err(Malformed));
    }
}
