//! Exchange frames: no bytes panic, cutting them changes nothing, and what was read writes and reads back the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use tunnel_proto::exchange::{DecodeError, Decoder, Encoder, Event};

type Outcome = (Vec<Event>, Option<DecodeError>, bool);

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let decoder = || if how & 1 == 0 { Decoder::requests() } else { Decoder::responses() };
    let size = usize::from(how >> 1) + 1;
    let pieces = decode(decoder(), bytes, size);
    let whole = decode(decoder(), bytes, bytes.len().max(1));
    assert_eq!(pieces, whole);
    let (events, _, complete) = whole;
    let (again, why, still_complete) = decode(decoder(), &encode(&events), size);
    assert_eq!((&again, why), (&events, None));
    assert!(still_complete || !complete, "a whole message stays whole");
});

fn decode(mut decoder: Decoder, bytes: &[u8], size: usize) -> Outcome {
    let mut events: Vec<Event> = Vec::new();
    for chunk in bytes.chunks(size) {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match (decoder.poll(), events.last_mut()) {
                // Where a body is cut is no part of the message.
                (Ok(Some(Event::Data(piece))), Some(Event::Data(before))) => {
                    let mut joined = BytesMut::from(before.as_ref());
                    joined.extend_from_slice(&piece);
                    *before = joined.freeze();
                }
                (Ok(Some(event)), _) => events.push(event),
                (Ok(None), _) => break,
                (Err(why), _) => return (events, Some(why), decoder.finish().is_ok()),
            }
        }
    }
    let complete = decoder.finish().is_ok();
    (events, None, complete)
}

fn encode(events: &[Event]) -> Bytes {
    let mut encoder = Encoder::new();
    let mut out = BytesMut::new();
    let mut raw = false;
    for event in events {
        match event {
            Event::Request { head, end } => {
                encoder.request(head, *end).expect("what was read is within the limits")
            }
            Event::Informational(head) => {
                encoder.informational(head).expect("what was read is within the limits")
            }
            Event::Response { head, end } => {
                encoder.response(head, *end).expect("what was read is within the limits")
            }
            Event::Failure(failure) => encoder.failure(failure),
            Event::Data(piece) if raw => out.extend_from_slice(piece),
            Event::Data(piece) => encoder.data(piece),
            Event::Trailers(trailers) => {
                encoder.trailers(trailers).expect("what was read is within the limits")
            }
            Event::End => encoder.end(),
            Event::Raw => {
                encoder.raw();
                raw = true;
            }
            Event::Probe { nonce } => encoder.probe(*nonce),
            Event::ProbeReply { nonce } => encoder.probe_reply(*nonce),
        }
        out.extend_from_slice(&encoder.take());
    }
    out.freeze()
}
