//! Connect messages: no bytes panic, and what was read writes and reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel_proto::connect::{Decoder, Reply, Request, frame};

fuzz_target!(|data: &[u8]| {
    // As a stream of frames…
    let mut decoder = Decoder::new();
    if let Ok(whole) = decoder.push(data) {
        assert_eq!(decoder.finish().is_ok(), whole);
    }
    // …and as the JSON inside one, which mutations reach more often than through a right length.
    if let Ok(request) = Request::from_json(data) {
        assert_eq!(Request::from_json(&request.to_json().expect("a request")), Ok(request));
    }
    if let Ok(reply) = Reply::from_json(data) {
        assert_eq!(Reply::from_json(&reply.to_json().expect("a reply")), Ok(reply));
    }
    let framed = frame(data).expect("within the limit");
    let mut decoder = Decoder::new();
    assert_eq!(decoder.push(&framed), Ok(true));
    assert_eq!(decoder.finish().as_deref(), Ok(data));
});
