//! PROXY protocol headers: no bytes panic, a proper prefix is never judged good, and addresses survive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mezusphere_edge_link::proxy::{HEADER_LEN_MAX, ProxyHeader, encode, parse};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&[SIGNATURE, data].concat());
});

fn check(bytes: &[u8]) {
    let Ok(Some((header, len))) = parse(bytes) else { return };
    assert!(len <= bytes.len() && len <= HEADER_LEN_MAX);
    assert_eq!(bytes.get(..len).map(parse), Some(Ok(Some((header, len)))), "what follows is not read");
    for cut in 0..len {
        assert!(!matches!(bytes.get(..cut).map(parse), Some(Ok(Some(_)))), "whole at {cut} of {len}");
    }
    if let ProxyHeader::Proxied { source, destination } = header {
        let again = encode(source, destination);
        assert_eq!(parse(&again), Ok(Some((header, again.len()))));
    }
}
