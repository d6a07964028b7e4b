//! HTTP/3 streams before their parser: no bytes panic, cutting them changes nothing, and nothing is made up.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mezusphere_edge::http::h3::gate::{FrameTooLong, Gate};

fuzz_target!(|data: &[u8]| {
    let [how, size, bytes @ ..] = data else { return };
    let gate = || if how & 1 == 0 { Gate::request() } else { Gate::unidirectional() };
    let whole = pass(gate(), bytes, bytes.len().max(1));
    let pieces = pass(gate(), bytes, usize::from(*size) + 1);
    assert_eq!(pieces, whole);
    let (out, _) = whole;
    // What comes out is what went in with some left out, so it is a subsequence of it.
    let mut rest = bytes.iter();
    assert!(out.iter().all(|byte| rest.any(|from| from == byte)));
    // And passing it once more takes nothing out.
    let (again, _) = pass(gate(), &out, out.len().max(1));
    assert_eq!(again, out);
});

fn pass(mut gate: Gate, bytes: &[u8], size: usize) -> (Vec<u8>, Option<FrameTooLong>) {
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        gate.push(Bytes::copy_from_slice(piece));
        loop {
            match gate.pop() {
                Ok(Some(octets)) => out.extend_from_slice(&octets),
                Ok(None) => break,
                Err(why) => return (out, Some(why)),
            }
        }
    }
    (out, None)
}
