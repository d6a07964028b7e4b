//! ClientHellos: no bytes panic, a proper prefix of one is never judged, and what follows one changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezusphere_edge::listen::hello::{ALPN_PROTOCOLS_MAX, HELLO_LEN_MAX, is_whole, parse};

fuzz_target!(|data: &[u8]| {
    // As records: what is whole stays whole with whatever follows, and nothing shorter was refused.
    if is_whole(data) == Ok(true) {
        assert_eq!(is_whole(&[data, &[0]].concat()), Ok(true));
        assert!(
            (0..data.len()).step_by(97).all(|cut| data.get(..cut).is_some_and(|part| is_whole(part).is_ok()))
        );
    }
    let parsed = parse(data);
    let Ok(Some(hello)) = &parsed else { return };
    let [_, a, b, c, ..] = *data else { panic!("a hello without a header") };
    let len = 4 + usize::from(a) * 65_536 + usize::from(b) * 256 + usize::from(c);
    assert!(len <= 4 + HELLO_LEN_MAX && len <= data.len());
    assert!(hello.alpn.len() <= ALPN_PROTOCOLS_MAX && hello.alpn.iter().all(|name| !name.is_empty()));
    if let Some(name) = &hello.server_name {
        assert!(name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()), "{name:?}");
    }
    for cut in [0, 1, 3, 4, len / 2, len - 1] {
        assert_eq!(data.get(..cut).map(parse), Some(Ok(None)), "cut at {cut}");
    }
    assert_eq!(data.get(..len).map(parse), Some(parsed), "what follows is not read");
});
