//! Sends a probe over a tunnel as an exchange of its own: the proof that the whole way to the warpgate works.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tunnel_proto::exchange::{Decoder, Encoder, Event};

use super::transport::Transport;

/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// Octets of one probe's answer.
const PROBE_LEN_MAX: usize = 64;

/// The time until the answer; `None`: there was none, or not that one.
pub(super) async fn probe(transport: &Transport, nonce: u64) -> Option<Duration> {
    let begun = Instant::now();
    let answered = async {
        let (mut send, mut recv) = transport.open().await.ok()?;
        let mut encoder = Encoder::new();
        encoder.probe(nonce);
        let mut pending = [encoder.take()];
        while !pending.iter().all(Bytes::is_empty) {
            send.write_chunks(&mut pending).await.ok()?;
        }
        send.finish();
        let mut decoder = Decoder::responses();
        let mut read = 0;
        loop {
            match decoder.poll() {
                Ok(Some(Event::ProbeReply { nonce: answer })) if answer == nonce => {
                    return Some(begun.elapsed());
                }
                Ok(None) if read <= PROBE_LEN_MAX => {}
                _ => return None,
            }
            let chunk = recv.read_chunk().await.ok()??;
            read += chunk.len();
            decoder.push(chunk);
        }
    };
    tokio::time::timeout(PROBE_MAX, answered).await.ok()?
}
