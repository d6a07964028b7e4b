//! Bounds what a client's HTTP/3 stream can make the parser behind it hold.
//!
//! h3 0.0.8 keeps a frame until it is whole, whatever length the client announced, buffers frames it does not
//! know, and takes an empty DATA frame for the end of a body. So the octets of each stream pass here first:
//! frames longer than their kind may be are an error, unknown frames (RFC 9114 §9) and empty DATA frames are
//! taken out and counted, everything else goes on as it came, without a copy. Pure.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::config::REQUEST_HEAD_READ_MAX;

/// Longest encoded field section, in octets: as much as it may have decoded, where each field counts 32 octets more than
/// it takes encoded, and Huffman coding makes text shorter.
const HEADERS_LEN_MAX: u64 = REQUEST_HEAD_READ_MAX as u64;

/// Longest of the other frames with a meaning, in octets: SETTINGS with a hundred parameters.
const OTHER_LEN_MAX: u64 = 1024;

/// Octets of two variable-length integers: a frame's type and length.
const HEADER_LEN_MAX: usize = 16;

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
/// The other frames with a meaning (`CANCEL_PUSH`, `SETTINGS`, `PUSH_PROMISE`, `GOAWAY`, `MAX_PUSH_ID`), and the
/// types HTTP/2 had, which are errors in HTTP/3.
const KNOWN: [u64; 9] = [0x3, 0x4, 0x5, 0x7, 0xd, 0x2, 0x6, 0x8, 0x9];
const CONTROL_STREAM: u64 = 0x0;

/// A frame is longer than its kind may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of type {kind:#x} announces {len} octets")]
pub struct FrameTooLong {
    /// The frame's type (RFC 9114 §7.2).
    pub kind: u64,
    /// The length it announces.
    pub len: u64,
}

/// One stream's gate: octets in with [`Gate::push`], permitted octets out with [`Gate::pop`].
#[derive(Debug)]
pub struct Gate {
    state: State,
    input: Bytes,
    /// A frame's header, or a stream's type, that did not come whole.
    partial: BytesMut,
    tally: Tally,
}

/// What the frames were that began since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Heads, and pieces of bodies.
    pub useful: u32,
    /// Everything else.
    pub idle: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a unidirectional stream's type.
    StreamType,
    /// Between frames.
    Header,
    /// This many octets go through.
    Forward(u64),
    /// This many octets are dropped.
    Skip(u64),
    /// Not made of frames.
    Open,
}

impl Gate {
    /// For a request stream.
    pub fn request() -> Self {
        Self::new(State::Header)
    }

    /// For a unidirectional stream, whose type comes first. Only the control stream is made of frames.
    pub fn unidirectional() -> Self {
        Self::new(State::StreamType)
    }

    fn new(state: State) -> Self {
        Self { state, input: Bytes::new(), partial: BytesMut::new(), tally: Tally::default() }
    }

    /// Takes what arrived; to be called when [`Gate::pop`] had no more.
    pub fn push(&mut self, input: Bytes) {
        self.input = if self.partial.is_empty() {
            input
        } else {
            // At most fifteen octets were kept, so this happens where a header was cut.
            self.partial.extend_from_slice(&input);
            self.partial.split().freeze()
        };
    }

    /// The next octets for the parser; `None`: more must be pushed first.
    ///
    /// # Errors
    /// [`FrameTooLong`]: the connection is to be closed.
    pub fn pop(&mut self) -> Result<Option<Bytes>, FrameTooLong> {
        while !self.input.is_empty() {
            match self.state {
                State::Open => return Ok(Some(std::mem::take(&mut self.input))),
                State::Forward(left) => {
                    let (octets, left) = self.take(left);
                    self.state = if left == 0 { State::Header } else { State::Forward(left) };
                    return Ok(Some(octets));
                }
                State::Skip(left) => {
                    let (_, left) = self.take(left);
                    self.state = if left == 0 { State::Header } else { State::Skip(left) };
                }
                State::StreamType => {
                    let Some((kind, len)) = varint(&self.input) else { break };
                    self.state = if kind == CONTROL_STREAM { State::Header } else { State::Open };
                    return Ok(Some(self.input.split_to(len)));
                }
                State::Header => {
                    let Some((kind, len, header)) = frame_header(&self.input) else { break };
                    if let Some(octets) = self.frame(kind, len, header)? {
                        return Ok(Some(octets));
                    }
                }
            }
        }
        self.partial.extend_from_slice(&self.input);
        self.input.clear();
        Ok(None)
    }

    /// What frames began since it was last asked.
    pub fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Decides about a frame whose header, `header` octets long, is at the front.
    fn frame(&mut self, kind: u64, len: u64, header: usize) -> Result<Option<Bytes>, FrameTooLong> {
        let len_max = match kind {
            DATA if len == 0 => None,
            DATA => Some(u64::MAX),
            HEADERS => Some(HEADERS_LEN_MAX),
            _ if KNOWN.contains(&kind) => Some(OTHER_LEN_MAX),
            _ => None,
        };
        match kind {
            DATA if len == 0 => self.tally.idle += 1,
            DATA | HEADERS => self.tally.useful += 1,
            _ => self.tally.idle += 1,
        }
        match len_max {
            Some(max) if len > max => Err(FrameTooLong { kind, len }),
            Some(_) => {
                let (octets, left) = self.take(len.saturating_add(header as u64));
                self.state = if left == 0 { State::Header } else { State::Forward(left) };
                Ok(Some(octets))
            }
            None => {
                self.input.advance(header);
                self.state = if len == 0 { State::Header } else { State::Skip(len) };
                Ok(None)
            }
        }
    }

    /// Takes up to `wanted` octets and says how many are still wanted.
    fn take(&mut self, wanted: u64) -> (Bytes, u64) {
        let len = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.input.len());
        (self.input.split_to(len), wanted - len as u64)
    }
}

/// A frame's type and length, and how many octets they take; `None` while they are not whole.
fn frame_header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, kind_len) = varint(bytes)?;
    let (len, len_len) = varint(bytes.get(kind_len..)?)?;
    debug_assert!(kind_len + len_len <= HEADER_LEN_MAX);
    Some((kind, len, kind_len + len_len))
}

/// A variable-length integer (RFC 9000 §16) and its length.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let value = bytes.get(..len)?.iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
    // The two length bits are at the top of the first octet.
    Some((value & (u64::MAX >> 2 >> (64 - 8 * len)), len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for value in [kind, payload.len() as u64] {
            // The four-octet form, so that headers are long enough to be cut.
            bytes.extend_from_slice(&(u32::try_from(value).unwrap() | 0x8000_0000).to_be_bytes());
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    fn pass(mut gate: Gate, bytes: &[u8], piece: usize) -> Result<Vec<u8>, FrameTooLong> {
        let mut out = Vec::new();
        for chunk in bytes.chunks(piece) {
            gate.push(Bytes::copy_from_slice(chunk));
            while let Some(octets) = gate.pop()? {
                out.extend_from_slice(&octets);
            }
        }
        Ok(out)
    }

    #[test]
    fn a_varint_has_four_lengths() {
        let rows: [(&[u8], u64); 4] = [
            (&[0x25], 37),
            (&[0x7b, 0xbd], 15_293),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
        ]; // RFC 9000 §A.1
        for (bytes, value) in rows {
            assert_eq!(varint(bytes), Some((value, bytes.len())));
            assert_eq!(varint(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn frames_without_a_meaning_are_taken_out_and_the_rest_goes_through() {
        let (headers, data) = (frame(HEADERS, b"head"), frame(DATA, b"body"));
        let grease = frame(0x21, &[7; 3000]);
        let sent = [&headers[..], &grease, &data, &frame(DATA, b""), &data, &grease].concat();
        let wanted = [&headers[..], &data, &data].concat();
        for piece in [1, 2, 3, 5, 7, 1000, sent.len()] {
            assert_eq!(pass(Gate::request(), &sent, piece).unwrap(), wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn r23_an_announced_length_costs_nothing() {
        let mut huge = vec![1];
        huge.extend_from_slice(&(0xc000_0000_0000_0000_u64 | 1 << 40).to_be_bytes());
        let error = FrameTooLong { kind: HEADERS, len: 1 << 40 };
        assert_eq!(pass(Gate::request(), &huge, 9), Err(error));
        huge[0] = 4;
        let error = FrameTooLong { kind: 4, len: 1 << 40 };
        assert_eq!(pass(Gate::unidirectional(), &[&[0][..], &huge].concat(), 3), Err(error));
    }

    #[test]
    fn only_the_control_stream_of_the_unidirectional_ones_has_frames() {
        let settings = frame(4, b"");
        let control = [&[0][..], &settings].concat();
        assert_eq!(pass(Gate::unidirectional(), &control, 2).unwrap(), control);
        let encoder = [2, 1, 0xff, 0xff, 0xff];
        assert_eq!(pass(Gate::unidirectional(), &encoder, 2).unwrap(), encoder);
    }

    proptest! {
        #[test]
        fn r24_how_bytes_arrive_changes_nothing(
            bytes in proptest::collection::vec(prop_oneof![0_u8..6, any::<u8>()], 0..200),
            piece in 1_usize..20,
        ) {
            let whole = pass(Gate::request(), &bytes, bytes.len().max(1));
            prop_assert_eq!(pass(Gate::request(), &bytes, piece), whole);
        }
    }
}
