//! One exchange as a behaviour sees it, whatever the protocol.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request};

use super::{End, Shared, h1, h2};

/// How the length of a response's body is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    /// There is no body.
    Empty,
    /// It is this long.
    Known(u64),
    /// Nobody knows yet: chunked on HTTP/1.1.
    Unknown,
}

/// A request, and the way back.
pub(super) struct Call {
    pub(super) head: request::Parts,
    pub(super) upload: Upload,
    pub(super) reply: Reply,
    pub(super) shared: Arc<Shared>,
    pub(super) received: u64,
    /// What the behaviour knows of the exchange's end; whole if it says nothing else.
    pub(super) end: End,
}

impl Call {
    /// The next piece of the request's body; `None` at its end.
    pub(super) async fn data(&mut self) -> anyhow::Result<Option<Bytes>> {
        let data = match &mut self.upload {
            Upload::H1(upload) => upload.data().await,
            Upload::H2(upload) => upload.data().await,
        };
        match data {
            Ok(data) => {
                self.received += data.as_ref().map_or(0, |data| data.len() as u64);
                Ok(data)
            }
            Err(broken) => {
                self.end = End::BodyCut;
                Err(broken)
            }
        }
    }

    /// The request's trailers, once its body has ended.
    pub(super) async fn trailers(&mut self) -> anyhow::Result<HeaderMap> {
        match &mut self.upload {
            Upload::H1(upload) => Ok(upload.trailers()),
            Upload::H2(upload) => upload.trailers().await,
        }
    }

    /// Tells a client that waits for it to send its body.
    pub(super) async fn accept_body(&mut self) -> anyhow::Result<()> {
        if self.head.headers.get(header::EXPECT).is_some_and(|value| value == "100-continue") {
            self.informational(StatusCode::CONTINUE, HeaderMap::new()).await?;
        }
        Ok(())
    }

    /// Sends a 1xx head.
    pub(super) async fn informational(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
    ) -> anyhow::Result<()> {
        match &mut self.reply {
            Reply::H1(reply) => reply.head(status, &headers, None).await,
            Reply::H2(reply) => reply.informational(status, headers),
        }
    }

    /// Sends the final head.
    pub(super) async fn answer(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        length: Length,
    ) -> anyhow::Result<()> {
        match &mut self.reply {
            Reply::H1(reply) => reply.head(status, &headers, Some(length)).await,
            Reply::H2(reply) => reply.head(status, headers, length),
        }
    }

    /// Answers with a text, whole.
    pub(super) async fn text(&mut self, status: StatusCode, kind: &str, text: String) -> anyhow::Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse()?);
        self.answer(status, headers, Length::Known(text.len() as u64)).await?;
        self.send(text.into()).await?;
        self.finish(None).await
    }

    /// Sends a piece of the response's body, at once.
    pub(super) async fn send(&mut self, piece: Bytes) -> anyhow::Result<()> {
        let sent = match &mut self.reply {
            Reply::H1(reply) => reply.data(&piece).await,
            Reply::H2(reply) => reply.data(piece).await,
        };
        if sent.is_err() {
            self.end = End::Cancelled;
        }
        sent
    }

    /// Ends the response.
    pub(super) async fn finish(&mut self, trailers: Option<HeaderMap>) -> anyhow::Result<()> {
        let sent = match &mut self.reply {
            Reply::H1(reply) => reply.finish(trailers.as_ref()).await,
            Reply::H2(reply) => reply.finish(trailers),
        };
        if sent.is_err() {
            self.end = End::Cancelled;
        }
        sent
    }

    /// Turns the exchange into octets both ways: 101 on HTTP/1.1, 200 on HTTP/2.
    pub(super) async fn switch(&mut self, headers: HeaderMap) -> anyhow::Result<()> {
        match (&mut self.upload, &mut self.reply) {
            (Upload::H1(upload), Reply::H1(reply)) => {
                reply.head(StatusCode::SWITCHING_PROTOCOLS, &headers, None).await?;
                upload.make_raw();
                reply.make_raw();
                Ok(())
            }
            (_, Reply::H2(reply)) => reply.head(StatusCode::OK, headers, Length::Unknown),
            _ => anyhow::bail!("one exchange has one protocol"),
        }
    }

    /// Breaks the exchange off where it stands.
    pub(super) fn cut(&mut self) {
        self.end = End::CutHere;
        match &mut self.reply {
            Reply::H1(reply) => reply.cut(),
            Reply::H2(reply) => reply.cut(),
        }
    }

    /// Ends when the other side has left.
    pub(super) async fn gone(&mut self) {
        match (&mut self.upload, &mut self.reply) {
            (Upload::H1(upload), _) => upload.gone().await,
            (_, Reply::H2(reply)) => reply.gone().await,
            _ => std::future::pending().await,
        }
        self.end = End::Cancelled;
    }

    /// Waits at a gate until it has been released `count` times; `false` if the other side left before.
    pub(super) async fn wait_at(&mut self, gate: &str, count: usize) -> bool {
        let mut released = self.shared.gate(gate).subscribe();
        tokio::select! {
            _ = released.wait_for(|now| *now >= count) => true,
            () = self.gone() => false,
        }
    }
}

/// The request's body, still coming.
pub(super) enum Upload {
    H1(h1::Upload),
    H2(h2::Upload),
}

/// The response, still going.
pub(super) enum Reply {
    H1(h1::Reply),
    H2(h2::Reply),
}
