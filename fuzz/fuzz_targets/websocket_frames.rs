//! Frames of a WebSocket: no octets panic, cutting them changes nothing, and what is said to be the rest of a frame ends it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezusphere_edge::http::websocket::Frames;

fuzz_target!(|data: &[u8]| {
    let [size, octets @ ..] = data else { return };
    let mut whole = Frames::default();
    whole.advance(octets);
    let mut pieces = Frames::default();
    for piece in octets.chunks(usize::from(*size) + 1) {
        if let Some((rest, _)) = pieces.rest(piece).and_then(|rest| piece.split_at_checked(rest)) {
            let mut ahead = pieces;
            ahead.advance(rest);
            assert!(ahead.is_between());
        }
        pieces.advance(piece);
    }
    assert_eq!(pieces, whole);
});
