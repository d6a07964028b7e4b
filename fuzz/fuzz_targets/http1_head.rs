//! HTTP/1.1 request heads: no bytes panic, cutting them changes nothing, and a head that passes ends where it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezusphere_edge::http::h1::head::{Framing, HeadScan, HeadStep, Violation};

fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_first() else { return };
    let whole = in_pieces(bytes, bytes.len().max(1));
    assert_eq!(in_pieces(bytes, usize::from(*size) + 1), whole);
    let Ok(HeadStep::Done { len, framing, .. }) = whole else { return };
    let head = bytes.get(..len).expect("it ends within what was given");
    assert!(head.ends_with(b"\r\n\r\n"));
    // Whatever a lenient reader takes for a line end is one here too.
    let bare = head.windows(2).any(|pair| pair.ends_with(b"\n") && !pair.starts_with(b"\r"));
    assert!(!bare && !head.starts_with(b"\n") && !head.contains(&0));
    let text = head.to_ascii_lowercase();
    let has = |name: &[u8]| text.windows(name.len()).any(|window| window == name);
    match framing {
        Framing::Chunked => assert!(has(b"\ntransfer-encoding:") && !has(b"\ncontent-length:")),
        Framing::Length(_) => assert!(has(b"\ncontent-length:") && !has(b"\ntransfer-encoding:")),
        Framing::Empty => assert!(!has(b"\ntransfer-encoding:")),
    }
});

fn in_pieces(bytes: &[u8], size: usize) -> Result<HeadStep, Violation> {
    let mut scan = HeadScan::START;
    let mut step = HeadStep::More;
    for end in (size..bytes.len()).step_by(size).chain([bytes.len()]) {
        step = scan.advance(bytes.get(..end).unwrap_or_default())?;
        if step != HeadStep::More {
            break;
        }
    }
    Ok(step)
}
