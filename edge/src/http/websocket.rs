//! Where the frames of a WebSocket begin and end (RFC 6455 §5.2), without looking into them: so that the edge can say
//! the last word on a connection it must end, between two frames and not in the middle of one. Pure; copies nothing.
//!
//! What is followed is what an upstream sends. Frames of a server are not masked; one that is, which its client will
//! refuse, is followed all the same.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Longest reason of a close frame, in octets: a control frame carries 125, two of them the code (RFC 6455 §5.5).
pub const REASON_LEN_MAX: usize = 123;

/// The first octet of a close frame that is whole.
const CLOSE: u8 = 0x88;

/// The opcode's bits in a frame's first octet, and the one of a close frame.
const OPCODE: u8 = 0x0f;
const OPCODE_CLOSE: u8 = 0x08;

/// In a frame's second octet: whether a mask follows the length, and the length itself.
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// Lengths that say where the real one is: in the next two octets, or in the next eight.
const IN_TWO: u8 = 126;
const IN_EIGHT: u8 = 127;

/// Longest payload there is: the highest bit of its length is never set.
const LEN_MAX: u64 = u64::MAX >> 1;

/// Octets of a mask.
const MASK_LEN: u64 = 4;

/// A close frame as a server sends it, with what is left of `reason` within its limit.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = reason.get(..reason.floor_char_boundary(REASON_LEN_MAX)).unwrap_or_default();
    let len = u8::try_from(reason.len()).unwrap_or(0) + 2;
    let mut frame = BytesMut::with_capacity(usize::from(len) + 2);
    frame.put_slice(&[CLOSE, len]);
    frame.put_u16(code);
    frame.put_slice(reason.as_bytes());
    frame.freeze()
}

/// Follows the frames of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    state: State,
    /// Whether the sender has said that it ends: nothing may follow that.
    has_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two frames.
    Between,
    /// After a frame's first octet.
    First,
    /// In a length of several octets, of which so many are to come; with what came of it.
    Length { left: u8, so_far: u64, mask: u64 },
    /// So many octets of the frame are left.
    Inside(u64),
    /// No frame has such a length: where the next one begins, nobody can tell.
    Lost,
}

impl Default for Frames {
    fn default() -> Self {
        Self { state: State::Between, has_closed: false }
    }
}

impl Frames {
    /// Follows `octets`.
    pub fn advance(&mut self, mut octets: &[u8]) {
        while let Some(rest) = octets.get(self.step(octets)..).filter(|rest| !rest.is_empty()) {
            octets = rest;
        }
    }

    /// Whether the octets so far end with a frame.
    pub fn is_between(&self) -> bool {
        self.state == State::Between
    }

    /// Whether a close frame was among them.
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// How many of `octets`, which come next, belong to the frame at hand; `None` if it does not end in them.
    pub fn rest(&self, octets: &[u8]) -> Option<usize> {
        let mut ahead = *self;
        if ahead.is_between() {
            return Some(0);
        }
        let taken = ahead.step(octets);
        ahead.is_between().then_some(taken)
    }

    /// Follows `octets` to the end of the frame at hand, or of the next one; says how many that were.
    fn step(&mut self, octets: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
            if let State::Inside(left) = self.state {
                let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                at += taken;
                self.state = inside(left.saturating_sub(taken as u64));
            } else if self.state == State::Lost {
                return octets.len();
            } else if let Some(octet) = rest.first() {
                at += 1;
                self.head(*octet);
            }
            if self.is_between() {
                break;
            }
        }
        at
    }

    /// One more octet of a frame's head.
    fn head(&mut self, octet: u8) {
        self.state = match self.state {
            State::Between => {
                self.has_closed |= octet & OPCODE == OPCODE_CLOSE;
                State::First
            }
            State::First => {
                let mask = if octet & MASKED == 0 { 0 } else { MASK_LEN };
                match octet & LENGTH {
                    IN_TWO => State::Length { left: 2, so_far: 0, mask },
                    IN_EIGHT => State::Length { left: 8, so_far: 0, mask },
                    len => inside(u64::from(len) + mask),
                }
            }
            State::Length { left, so_far, mask } => {
                let so_far = so_far << 8 | u64::from(octet);
                match left {
                    // The highest bit is never set (RFC 6455 §5.2).
                    0 | 1 if so_far > LEN_MAX => State::Lost,
                    0 | 1 => inside(so_far + mask),
                    _ => State::Length { left: left - 1, so_far, mask },
                }
            }
            State::Inside(_) | State::Lost => State::Lost,
        };
    }
}

/// A frame of which so many octets are left.
const fn inside(left: u64) -> State {
    if left == 0 { State::Between } else { State::Inside(left) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A frame with this first octet.
    fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
        let bit = if is_masked { MASKED } else { 0 };
        let mut octets = vec![first];
        match payload.len() {
            len @ ..126 => octets.push(bit | u8::try_from(len).unwrap()),
            len @ 126..=0xffff => {
                octets.push(bit | IN_TWO);
                octets.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                octets.push(bit | IN_EIGHT);
                octets.extend((len as u64).to_be_bytes());
            }
        }
        octets.extend(if is_masked { vec![7; 4] } else { Vec::new() });
        octets.extend(payload);
        octets
    }

    fn after(octets: &[u8]) -> Frames {
        let mut frames = Frames::default();
        frames.advance(octets);
        frames
    }

    #[test]
    fn a_frame_ends_where_its_length_says() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for is_masked in [false, true] {
                let whole = frame(0x82, &vec![0x88; len], is_masked);
                assert!(after(&whole).is_between(), "{len}");
                for cut in [1, 2, whole.len() - 1] {
                    let (before, rest) = whole.split_at(cut);
                    if rest.is_empty() {
                        continue;
                    }
                    let frames = after(before);
                    assert!(!frames.is_between() && !frames.has_closed(), "{len} {cut}");
                    let more = [rest, b"\x81\x01x"].concat();
                    assert_eq!(frames.rest(&more), Some(rest.len()), "{len} {cut}");
                    assert_eq!(frames.rest(&rest[..rest.len() - 1]), None, "{len} {cut}");
                }
            }
        }
    }

    #[test]
    fn a_close_frame_is_whole_says_its_code_and_is_seen() {
        let said = close_frame(4401, "session ended");
        assert_eq!(&said[..4], [0x88, 15, 0x11, 0x31]);
        assert_eq!(&said[4..], b"session ended");
        let frames = after(&said);
        assert!(frames.is_between() && frames.has_closed());
        let long = close_frame(4401, &"ä".repeat(100));
        assert_eq!((long.len(), long[1]), (2 + 2 + 122, 124), "cut between characters");
        assert!(after(&long).is_between());
    }

    #[test]
    fn r24_a_length_that_no_frame_has_is_never_followed_to_an_end() {
        let mut frames = after(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        frames.advance(&[0; 1000]);
        assert!(!frames.is_between());
        assert_eq!(frames.rest(&[0x88, 0]), None);
    }

    proptest! {
        #[test]
        fn r24_however_frames_are_cut_their_boundaries_are_found(
            frames in vec((any::<u8>(), vec(any::<u8>(), 0..300), any::<bool>()), 0..8),
            sizes in vec(1_usize..200, 1..50),
        ) {
            let (mut octets, mut ends) = (Vec::new(), vec![0]);
            for (first, payload, is_masked) in &frames {
                octets.extend(frame(*first, payload, *is_masked));
                ends.push(octets.len());
            }
            let (mut followed, mut at) = (Frames::default(), 0);
            for size in sizes.iter().cycle() {
                prop_assert_eq!(followed.is_between(), ends.contains(&at));
                let rest = &octets[at..];
                let end = ends.iter().find(|end| **end >= at).unwrap();
                prop_assert_eq!(followed.rest(rest), Some(end - at));
                if rest.is_empty() {
                    break;
                }
                let piece = &rest[..rest.len().min(*size)];
                followed.advance(piece);
                at += piece.len();
            }
            prop_assert_eq!(followed.has_closed(), frames.iter().any(|frame| frame.0 & OPCODE == OPCODE_CLOSE));
        }

        #[test]
        fn r24_no_octets_panic_and_cutting_them_changes_nothing(octets in vec(any::<u8>(), 0..400), size in 1_usize..50) {
            let mut pieces = Frames::default();
            octets.chunks(size).for_each(|piece| pieces.advance(piece));
            prop_assert_eq!(pieces, after(&octets));
        }
    }
}
