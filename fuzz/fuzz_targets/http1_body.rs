//! HTTP/1.1 request bodies: no bytes panic, cutting them changes nothing, and a body ends exactly where it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezusphere_edge::http::h1::body::BodyScan;
use mezusphere_edge::http::h1::head::Framing;

fuzz_target!(|data: &[u8]| {
    let [how, size, bytes @ ..] = data else { return };
    let framing = if how & 1 == 0 { Framing::Chunked } else { Framing::Length(u64::from(how >> 1) * 16 + 1) };
    let whole = follow(framing, bytes, bytes.len().max(1));
    assert_eq!(follow(framing, bytes, usize::from(*size) + 1), whole);
    let Ok((len, is_end)) = whole else { return };
    assert!(len <= bytes.len() && (is_end || len == bytes.len()));
    match framing {
        Framing::Length(announced) if is_end => assert_eq!(len as u64, announced),
        Framing::Chunked if is_end => assert!(bytes.get(..len).is_some_and(|body| body.ends_with(b"\r\n"))),
        _ => {}
    }
});

/// The octets that belong to the body and whether it ended with them; or where it went wrong.
fn follow(framing: Framing, bytes: &[u8], size: usize) -> Result<(usize, bool), usize> {
    let mut scan = BodyScan::new(framing).expect("there is a body");
    let mut len = 0;
    for piece in bytes.chunks(size) {
        let step = scan.advance(piece).map_err(|good| len + good)?;
        len += step.len;
        if step.is_end {
            return Ok((len, true));
        }
    }
    Ok((len, false))
}
