//! Exchange frames: what is written is read, however it is cut; nothing else is believed.
//!
//! `properties` holds for all messages, `rules` for one at a time; here is what both write and read with.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod properties;
mod rules;

use bytes::Bytes;
use tunnel_proto::exchange::{DecodeError, Decoder, Encoder, Event, Truncated};

/// The bytes of `events`; `unknown` frames are put in front of each frame.
fn encode(events: &[Event], unknown: &[u8]) -> Bytes {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let mut raw = false;
    for event in events {
        if !raw {
            out.extend_from_slice(unknown);
        }
        match event {
            Event::Request { head, end } => encoder.request(head, *end).unwrap(),
            Event::Informational(head) => encoder.informational(head).unwrap(),
            Event::Response { head, end } => encoder.response(head, *end).unwrap(),
            Event::Failure(failure) => encoder.failure(failure),
            Event::Data(piece) if raw => out.extend_from_slice(piece),
            Event::Data(piece) => {
                encoder.data_header(piece.len());
                out.extend_from_slice(&encoder.take());
                out.extend_from_slice(piece);
            }
            Event::Trailers(trailers) => encoder.trailers(trailers).unwrap(),
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
    out.into()
}

/// What `decoder` makes of `bytes` cut into chunks of the sizes in `cuts`, over and over.
fn decode(
    mut decoder: Decoder,
    bytes: &Bytes,
    cuts: &[usize],
) -> Result<(Vec<Event>, Result<(), Truncated>), DecodeError> {
    let mut rest = bytes.clone();
    let mut events = Vec::new();
    let mut sizes = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        decoder.push(rest.split_to(size));
        while let Some(event) = decoder.poll()? {
            events.push(event);
        }
    }
    Ok((events, decoder.finish()))
}

/// The same events with neighbouring pieces joined.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (Some(Event::Data(before)), Event::Data(piece)) => {
                *before = [before.as_ref(), piece.as_ref()].concat().into();
            }
            (_, event) => out.push(event),
        }
    }
    out
}
