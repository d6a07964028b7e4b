//! Sends a probe over a tunnel as an exchange of its own: the proof that the whole way to the warpgate works.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tunnel_proto::exchange::{Decoder, Encoder, Event};

/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// Octets of one probe's answer.
const PROBE_LEN_MAX: usize = 64;

/// The time until the answer; `None`: there was none, or not that one.
pub(super) async fn probe(connection: &quinn::Connection, nonce: u64) -> Option<Duration> {
    let begun = Instant::now();
    let answered = async {
        let (mut send, mut recv) = connection.open_bi().await.ok()?;
        let mut encoder = Encoder::new();
        encoder.probe(nonce);
        send.write_chunk(encoder.take()).await.ok()?;
        send.finish().ok()?;
        let reply = recv.read_to_end(PROBE_LEN_MAX).await.ok()?;
        let mut decoder = Decoder::responses();
        decoder.push(Bytes::from(reply));
        (decoder.poll() == Ok(Some(Event::ProbeReply { nonce }))).then(|| begun.elapsed())
    };
    tokio::time::timeout(PROBE_MAX, answered).await.ok()?
}
