//! The workload's WebSocket (RFC 6455): says back every message, answers pings and the closing handshake.

use anyhow::ensure;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};

use super::behaviour::fields;
use super::call::Call;

/// What the accept key is made with (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A frame longer than this is no test's.
const FRAME_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Opcodes (RFC 6455 §5.2).
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Accepts the handshake and echoes until the closing one.
pub(super) async fn echo(call: &mut Call) -> anyhow::Result<()> {
    let is_extended = call.head.extensions.get::<::h2::ext::Protocol>().is_some();
    let asked = call
        .head
        .headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = call
        .head
        .headers
        .get("sec-websocket-key")
        .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    let mut headers = match (is_extended, asked, key) {
        (true, ..) => HeaderMap::new(),
        (false, true, Some(key)) => {
            let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
            let accept = STANDARD.encode(sum);
            fields(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accept)])?
        }
        _ => return call.text(StatusCode::UPGRADE_REQUIRED, "text/plain", "websocket".to_owned()).await,
    };
    let offered = call.head.headers.get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
    if let Some(first) = offered.and_then(|offered| offered.split(',').next()) {
        headers.insert("sec-websocket-protocol", first.trim().parse()?);
    }
    call.switch(headers).await?;
    let mut buffer = BytesMut::new();
    loop {
        let Some((first, payload)) = frame(call, &mut buffer).await? else {
            // Without a closing handshake the other side has left.
            anyhow::bail!("the client left");
        };
        let answer = match first & 0x0f {
            PING => (first & 0xf0) | PONG,
            PONG => continue,
            _ => first,
        };
        call.send(encode(answer, &payload)).await?;
        if first & 0x0f == CLOSE {
            return call.finish(None).await;
        }
    }
}

/// The next frame: its first octet, and its payload unmasked.
async fn frame(call: &mut Call, buffer: &mut BytesMut) -> anyhow::Result<Option<(u8, BytesMut)>> {
    if !fill(call, buffer, 2).await? {
        return Ok(None);
    }
    let (first, second) = (buffer.get_u8(), buffer.get_u8());
    ensure!(second & 0x80 != 0, "a client masks its frames (RFC 6455 §5.1)");
    let len = match second & 0x7f {
        126 => {
            ensure!(fill(call, buffer, 2).await?, "cut in a frame");
            u64::from(buffer.get_u16())
        }
        127 => {
            ensure!(fill(call, buffer, 8).await?, "cut in a frame");
            buffer.get_u64()
        }
        len => u64::from(len),
    };
    ensure!(len <= FRAME_LEN_MAX, "a frame of {len} octets");
    let len = usize::try_from(len)?;
    ensure!(fill(call, buffer, len + 4).await?, "cut in a frame");
    let mask = buffer.get_u32().to_be_bytes();
    let mut payload = buffer.split_to(len);
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(octet, mask)| *octet ^= mask);
    Ok(Some((first, payload)))
}

async fn fill(call: &mut Call, buffer: &mut BytesMut, len: usize) -> anyhow::Result<bool> {
    while buffer.len() < len {
        let Some(data) = call.data().await? else { return Ok(false) };
        buffer.extend_from_slice(&data);
    }
    Ok(true)
}

fn encode(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    frame.put_u8(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ ..=125), _) => frame.put_u8(len),
        (_, Ok(len)) => {
            frame.put_u8(126);
            frame.put_u16(len);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(payload.len() as u64);
        }
    }
    frame.extend_from_slice(payload);
    frame.freeze()
}
