//! HTTP/1.1 by hand: one connection, one exchange after the other.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::call::{Call, Length, Reply as AnyReply, Upload as AnyUpload};
use super::{Io, Shared, behaviour};

/// A head longer than this is no proxy's.
const HEAD_LEN_MAX: usize = 128 * 1024;

/// Most fields of a head.
const FIELDS_MAX: usize = 256;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Empty,
    Known(u64),
    Chunked,
    /// Octets until the connection ends.
    Raw,
}

/// Serves one connection to its end.
pub(super) async fn serve(io: Box<dyn Io>, shared: Arc<Shared>) -> anyhow::Result<()> {
    let (reader, writer) = tokio::io::split(io);
    let mut upload =
        Upload { reader, buffer: BytesMut::new(), framing: Framing::Empty, trailers: HeaderMap::new() };
    let mut writer = writer;
    loop {
        let Some(head) = upload.head().await? else { return Ok(()) };
        let is_head = head.method() == http::Method::HEAD;
        upload.framing = framing(head.headers())?;
        upload.trailers = HeaderMap::new();
        let reply = Reply { writer, framing: Framing::Empty, sent: 0, is_head, broken: false };
        let call = Call {
            head: head.into_parts().0,
            upload: AnyUpload::H1(upload),
            reply: AnyReply::H1(reply),
            shared: Arc::clone(&shared),
            received: 0,
            end: super::End::Whole,
        };
        let (AnyUpload::H1(next), AnyReply::H1(reply)) = behaviour::run("h1", call).await else {
            return Ok(());
        };
        if reply.broken || reply.framing != Framing::Empty || next.framing != Framing::Empty {
            return Ok(());
        }
        (upload, writer) = (next, reply.writer);
    }
}

fn framing(headers: &HeaderMap) -> anyhow::Result<Framing> {
    if let Some(coding) = headers.get(header::TRANSFER_ENCODING) {
        ensure!(coding == "chunked", "only chunked is spoken");
        return Ok(Framing::Chunked);
    }
    match headers.get(header::CONTENT_LENGTH) {
        None => Ok(Framing::Empty),
        Some(len) => match len.to_str()?.parse()? {
            0 => Ok(Framing::Empty),
            len => Ok(Framing::Known(len)),
        },
    }
}

/// The reading half, and how the current body is framed.
pub(super) struct Upload {
    reader: ReadHalf<Box<dyn Io>>,
    buffer: BytesMut,
    framing: Framing,
    trailers: HeaderMap,
}

impl Upload {
    async fn more(&mut self) -> anyhow::Result<bool> {
        Ok(self.reader.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next request's head; `None` if the connection ended between requests.
    async fn head(&mut self) -> anyhow::Result<Option<Request<()>>> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut parsed = httparse::Request::new(&mut fields);
            if let httparse::Status::Complete(len) = parsed.parse(&self.buffer)? {
                let mut request = Request::builder()
                    .method(parsed.method.unwrap_or_default())
                    .uri(parsed.path.unwrap_or_default());
                for field in parsed.headers.iter() {
                    request = request.header(field.name, field.value);
                }
                let request = request.body(())?;
                self.buffer.advance(len);
                return Ok(Some(request));
            }
            ensure!(self.buffer.len() < HEAD_LEN_MAX, "the head never ends");
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8(line.to_vec())?);
            }
            ensure!(self.more().await?, "the body broke off in a line");
        }
    }

    pub(super) async fn data(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self.framing {
            Framing::Empty => Ok(None),
            Framing::Raw => {
                if self.buffer.is_empty() && !self.more().await? {
                    return Ok(None);
                }
                Ok(Some(self.buffer.split().freeze()))
            }
            Framing::Known(left) => {
                if self.buffer.is_empty() {
                    ensure!(self.more().await?, "the body broke off {left} octets before its end");
                }
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                let left = left - len as u64;
                self.framing = if left == 0 { Framing::Empty } else { Framing::Known(left) };
                Ok(Some(self.buffer.split_to(len).freeze()))
            }
            Framing::Chunked => {
                let size = self.line().await?;
                let size = size.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16).with_context(|| format!("chunk size {size:?}"))?;
                if size == 0 {
                    loop {
                        let line = self.line().await?;
                        let Some((name, value)) = line.split_once(':') else { break };
                        self.trailers.append(
                            HeaderName::from_bytes(name.as_bytes())?,
                            HeaderValue::from_str(value.trim())?,
                        );
                    }
                    self.framing = Framing::Empty;
                    return Ok(None);
                }
                while self.buffer.len() < size + 2 {
                    ensure!(self.more().await?, "the body broke off in a chunk");
                }
                let chunk = self.buffer.split_to(size).freeze();
                if !self.buffer.starts_with(b"\r\n") {
                    bail!("a chunk does not end where it said");
                }
                self.buffer.advance(2);
                Ok(Some(chunk))
            }
        }
    }

    pub(super) fn trailers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.trailers)
    }

    pub(super) fn make_raw(&mut self) {
        self.framing = Framing::Raw;
    }

    /// Ends with the connection; what is sent meanwhile is kept for later reading.
    pub(super) async fn gone(&mut self) {
        while matches!(self.more().await, Ok(true)) && self.buffer.len() < HEAD_LEN_MAX {}
    }
}

/// The writing half, and how the current body is framed.
pub(super) struct Reply {
    writer: WriteHalf<Box<dyn Io>>,
    framing: Framing,
    sent: u64,
    is_head: bool,
    broken: bool,
}

impl Reply {
    /// Writes a head; without a `length` it is an interim one.
    pub(super) async fn head(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<Length>,
    ) -> anyhow::Result<()> {
        let reason = status.canonical_reason().unwrap_or_default();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
        for (name, value) in headers {
            field(&mut head, name.as_str(), value.as_bytes());
        }
        let has_body =
            !self.is_head && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED;
        match length {
            None | Some(Length::Empty) if !has_body || length.is_none() => {}
            Some(Length::Known(len)) => {
                field(&mut head, "content-length", len.to_string().as_bytes());
                self.framing = if has_body && len > 0 { Framing::Known(len) } else { Framing::Empty };
            }
            Some(Length::Unknown) => {
                field(&mut head, "transfer-encoding", b"chunked");
                self.framing = if has_body { Framing::Chunked } else { Framing::Empty };
            }
            _ => field(&mut head, "content-length", b"0"),
        }
        self.sent = 0;
        head.extend_from_slice(b"\r\n");
        self.write(&head).await
    }

    pub(super) async fn data(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        match self.framing {
            Framing::Empty => Ok(()),
            Framing::Raw | Framing::Known(_) => {
                self.sent += piece.len() as u64;
                self.write(piece).await
            }
            Framing::Chunked => {
                let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                chunk.extend_from_slice(piece);
                chunk.extend_from_slice(b"\r\n");
                self.write(&chunk).await
            }
        }
    }

    pub(super) async fn finish(&mut self, trailers: Option<&HeaderMap>) -> anyhow::Result<()> {
        match self.framing {
            Framing::Chunked => {
                let mut last = b"0\r\n".to_vec();
                for (name, value) in trailers.into_iter().flatten() {
                    field(&mut last, name.as_str(), value.as_bytes());
                }
                last.extend_from_slice(b"\r\n");
                self.write(&last).await?;
            }
            Framing::Known(len) => ensure!(self.sent == len, "{} of {len} octets were sent", self.sent),
            Framing::Raw => {
                self.writer.shutdown().await?;
                self.broken = true;
            }
            Framing::Empty => {}
        }
        self.framing = Framing::Empty;
        Ok(())
    }

    pub(super) fn make_raw(&mut self) {
        self.framing = Framing::Raw;
    }

    /// The connection is closed without the rest.
    pub(super) fn cut(&mut self) {
        self.broken = true;
    }

    async fn write(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        let written = async {
            self.writer.write_all(octets).await?;
            self.writer.flush().await
        };
        if let Err(broken) = written.await {
            self.broken = true;
            return Err(broken.into());
        }
        Ok(())
    }
}

fn field(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}
