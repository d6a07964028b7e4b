//! Control messages: no bytes panic, cutting them changes nothing, and what was read writes and reads back the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tunnel_proto::control::{DecodeError, Decoder, Encoder, Message};

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let decoder = || if how & 1 == 0 { Decoder::from_warpgate() } else { Decoder::from_edge() };
    let size = usize::from(how >> 1) + 1;
    let (pieces, why) = decode(decoder(), bytes, size);
    let (whole, why_whole) = decode(decoder(), bytes, bytes.len().max(1));
    assert_eq!((&pieces, why), (&whole, why_whole));
    let mut encoder = Encoder::new();
    for message in &whole {
        encoder.message(message).expect("what was read is within the limits");
    }
    assert_eq!(decode(decoder(), &encoder.take(), size), (whole, None));
});

fn decode(mut decoder: Decoder, bytes: &[u8], size: usize) -> (Vec<Message>, Option<DecodeError>) {
    let mut messages = Vec::new();
    for chunk in bytes.chunks(size) {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.poll() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(why) => return (messages, Some(why)),
            }
        }
    }
    (messages, None)
}
