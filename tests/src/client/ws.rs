//! A WebSocket client (RFC 6455) over HTTP/1.1 and TLS that knows binary messages of up to 125 octets.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Target;

/// Longest head of a response.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// Octets of a message whose length fits the short form (RFC 6455 §5.2).
pub const MESSAGE_LEN_MAX: usize = 125;

/// Messages that [`WebSocket::send_until_cut`] sends at once.
const FRAMES_AT_ONCE: usize = 1000;

/// A final frame that holds a binary message.
const BINARY: u8 = 0x82;

/// A whole close frame.
const CLOSE: u8 = 0x88;

/// The bit that says a frame is masked.
const MASKED: u8 = 0x80;

/// One open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TlsStream<TcpStream>,
}

impl WebSocket {
    /// Connects and switches; `tls` must offer `http/1.1`.
    pub async fn open(target: &Target, tls: &Arc<rustls::ClientConfig>) -> anyhow::Result<Self> {
        Self::open_with(target, tls, "").await
    }

    /// The same with more fields in the request, each with its line's end.
    pub async fn open_with(
        target: &Target,
        tls: &Arc<rustls::ClientConfig>,
        fields: &str,
    ) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let mut stream = TlsConnector::from(Arc::clone(tls)).connect(target.server_name()?, tcp).await?;
        let (path, authority) = (&target.path, &target.authority);
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\norigin: https://{authority}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            anyhow::ensure!(answer.len() < HEAD_LEN_MAX, "the answer's head has no end");
            answer.push(stream.read_u8().await?);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        anyhow::ensure!(answer.starts_with("HTTP/1.1 101 "), "no WebSocket: {answer}");
        Ok(Self { stream })
    }

    /// Waits until the other side closes and the connection ends; gives the close code. An error if it broke off.
    pub async fn closed(&mut self) -> anyhow::Result<u16> {
        loop {
            let (first, len) = (self.stream.read_u8().await?, self.stream.read_u8().await?);
            anyhow::ensure!(usize::from(len) <= MESSAGE_LEN_MAX, "a longer frame than expected");
            let mut payload = vec![0; len.into()];
            self.stream.read_exact(&mut payload).await?;
            if first == CLOSE {
                let code = payload.first_chunk().context("a close frame with a code")?;
                self.stream.write_all(&[CLOSE, MASKED | 2, 0, 0, 0, 0, code[0], code[1]]).await?;
                anyhow::ensure!(self.stream.read(&mut [0; 16]).await? == 0, "octets after the last frame");
                return Ok(u16::from_be_bytes(*code));
            }
        }
    }

    /// Sends messages without end and reads nothing, until the connection breaks.
    pub async fn send_until_cut(&mut self) {
        let frame = [&[BINARY, MASKED | 4, 0, 0, 0, 0][..], b"more"].concat();
        let frames = frame.repeat(FRAMES_AT_ONCE);
        while self.stream.write_all(&frames).await.is_ok() && self.stream.flush().await.is_ok() {}
    }

    /// Sends a message and waits for it to come back.
    pub async fn echo(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let len = u8::try_from(message.len()).ok().filter(|len| usize::from(*len) <= MESSAGE_LEN_MAX);
        let len = len.context("a short message")?;
        // A mask of zeros is one (§5.3), and leaves the message as it is.
        let mut frame = vec![BINARY, MASKED | len, 0, 0, 0, 0];
        frame.extend_from_slice(message);
        self.stream.write_all(&frame).await?;
        let mut back = vec![0; 2 + message.len()];
        self.stream.read_exact(&mut back).await?;
        anyhow::ensure!(
            back.starts_with(&[BINARY, len]) && back.ends_with(message),
            "another message came back"
        );
        Ok(())
    }
}
