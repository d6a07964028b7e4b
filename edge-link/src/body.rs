//! Bodies on an HTTP/2 stream, both directions: bounded reading, bounded inflating, deflating.
//!
//! Memory is taken as octets come and never beyond the bound given: neither a length that is promised nor a small body that
//! inflates to a large one takes more.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::frame::place;
use crate::limits::{CHUNK_LEN, DEFLATE_FROM};
use crate::wire::{DEFLATE, JSON};

/// Octets deflated or inflated before other tasks get a turn.
const TURN_LEN: usize = 64 * 1024;

/// Why a body is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The stream broke before the body was whole; the connection may be dead.
    #[error("the stream broke: {0}")]
    Broken(#[from] h2::Error),
    /// More octets than the bound, as sent or inflated.
    #[error("the body is longer than {0} octets")]
    TooLong(usize),
    /// Neither plain nor deflated JSON.
    #[error("the body is {0:?}, not JSON")]
    Type(String),
    /// Deflated wrongly, or not the JSON expected. The place only: the text may hold a secret.
    #[error("the body cannot be read: {0}")]
    Malformed(String),
}

/// A body to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) is_deflated: bool,
}

/// Writes `message` as JSON, deflated if `may_deflate` and worth it.
pub(crate) async fn encode<T: Serialize>(message: &T, may_deflate: bool) -> Result<Encoded, BodyError> {
    let json = serde_json::to_vec(message).map_err(|why| BodyError::Malformed(why.to_string()))?;
    if !may_deflate || json.len() < DEFLATE_FROM {
        return Ok(Encoded { bytes: json.into(), is_deflated: false });
    }
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(json.len() / 4), Compression::fast());
    for turn in json.chunks(TURN_LEN) {
        encoder.write_all(turn).map_err(|why| BodyError::Malformed(why.to_string()))?;
        tokio::task::yield_now().await;
    }
    let bytes = encoder.finish().map_err(|why| BodyError::Malformed(why.to_string()))?;
    Ok(Encoded { bytes: bytes.into(), is_deflated: true })
}

/// Whether a body with these fields is JSON, and whether it is deflated.
pub(crate) fn is_deflated(fields: &HeaderMap) -> Result<bool, BodyError> {
    let text =
        |name| fields.get(name).map_or(Cow::Borrowed(""), |value| String::from_utf8_lossy(value.as_bytes()));
    let kind = text(CONTENT_TYPE);
    if kind.split(';').next().map(str::trim) != Some(JSON) {
        return Err(BodyError::Type(kind.chars().take(100).collect()));
    }
    match text(CONTENT_ENCODING).as_ref() {
        "" => Ok(false),
        DEFLATE => Ok(true),
        other => Err(BodyError::Type(other.chars().take(100).collect())),
    }
}

/// Reads a whole body of at most `len_max` octets, as sent and as inflated. The caller bounds the time.
pub(crate) async fn read(
    body: &mut RecvStream,
    is_deflated: bool,
    len_max: usize,
) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        if bytes.len() + chunk.len() > len_max {
            return Err(BodyError::TooLong(len_max));
        }
        bytes.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    if is_deflated { inflate(&bytes, len_max).await } else { Ok(bytes) }
}

/// Inflates to at most `len_max` octets.
async fn inflate(deflated: &[u8], len_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut decoder = ZlibDecoder::new(deflated);
    let mut bytes = Vec::new();
    loop {
        let read = (&mut decoder).take(TURN_LEN as u64).read_to_end(&mut bytes);
        let read = read.map_err(|why| BodyError::Malformed(why.to_string()))?;
        if bytes.len() > len_max {
            return Err(BodyError::TooLong(len_max));
        }
        if read == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    if decoder.total_in() < deflated.len() as u64 {
        return Err(BodyError::Malformed("octets follow the deflated body".to_owned()));
    }
    Ok(bytes)
}

/// Reads a message.
pub(crate) fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, BodyError> {
    serde_json::from_slice(json).map_err(|why| BodyError::Malformed(place(&why)))
}

/// Why a body was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The peer reset the stream, or the connection broke.
    #[error(transparent)]
    Broken(#[from] h2::Error),
    /// The peer made no room for too long.
    #[error("the peer stopped reading")]
    Stalled,
}

/// Hands `bytes` to a stream as its peer makes room, a chunk at a time; gives up when there is none for `stall`.
pub(crate) async fn send(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    end: End,
    stall: Duration,
) -> Result<(), SendError> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len().min(CHUNK_LEN));
        let room = timeout(stall, poll_fn(|cx| stream.poll_capacity(cx))).await;
        // `None`: the stream was closed by the peer.
        let room = room.map_err(|_| SendError::Stalled)?.ok_or(h2::Error::from(h2::Reason::CANCEL))??;
        let part = bytes.split_to(bytes.len().min(room));
        if !part.is_empty() {
            stream.send_data(part, end == End::Closes && bytes.is_empty())?;
        }
    }
    Ok(())
}

/// Whether a body ends with what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It does.
    Closes,
    /// More may follow.
    Open,
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn deflated(bytes: &[u8]) -> Vec<u8> {
        let encoded = encode(&String::from_utf8(bytes.to_vec()).unwrap(), true).await.unwrap();
        assert!(encoded.is_deflated);
        encoded.bytes.to_vec()
    }

    #[tokio::test]
    async fn a_body_survives_deflating() {
        let text = "abcdefgh ".repeat(50_000);
        let small = deflated(text.as_bytes()).await;
        assert!(small.len() < text.len() / 10);
        let again = inflate(&small, text.len() + 2).await.unwrap();
        assert_eq!(decode::<String>(&again).unwrap(), text);
    }

    #[tokio::test]
    async fn r23_a_bomb_is_an_error_at_its_bound() {
        let bomb = deflated(&vec![b'a'; 4 * 1024 * 1024]).await;
        assert!(bomb.len() < 40 * 1024, "{}", bomb.len());
        let end = inflate(&bomb, 100_000).await;
        assert!(matches!(end, Err(BodyError::TooLong(100_000))), "{end:?}");
    }

    #[tokio::test]
    async fn r24_what_is_not_deflated_or_cut_off_is_an_error() {
        let good = deflated("abcdefgh ".repeat(500).as_bytes()).await;
        let mut longer = good.clone();
        longer.extend(b"more");
        for bad in [b"plain text".to_vec(), good[..good.len() / 2].to_vec(), longer] {
            let end = inflate(&bad, 1_000_000).await;
            assert!(matches!(end, Err(BodyError::Malformed(_))), "{end:?}");
        }
    }

    #[tokio::test]
    async fn short_bodies_and_those_that_must_not_travel_plain() {
        assert!(!encode(&"short", true).await.unwrap().is_deflated);
        assert!(!encode(&"long".repeat(1000), false).await.unwrap().is_deflated);
    }

    #[test]
    fn only_json_is_read() {
        let fields = |kind: &str, encoding: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_TYPE, kind.parse().unwrap());
            fields.insert(CONTENT_ENCODING, encoding.parse().unwrap());
            fields
        };
        assert!(!is_deflated(&fields("application/json; charset=utf-8", "")).unwrap());
        assert!(is_deflated(&fields("application/json", "deflate")).unwrap());
        for (kind, encoding) in
            [("text/html", ""), ("", ""), ("application/json", "gzip"), ("application/jsonp", "")]
        {
            assert!(matches!(is_deflated(&fields(kind, encoding)), Err(BodyError::Type(_))));
        }
    }
}
