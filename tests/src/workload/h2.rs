//! HTTP/2, with or without TLS below: every stream a call.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};
use tokio::task::JoinSet;

use super::call::{Call, Length, Reply as AnyReply, Upload as AnyUpload};
use super::{End, Io, STREAMS_MAX, Shared, behaviour};

/// What may be on its way to us, a stream and a connection: enough that the workload is never what is slow.
const WINDOW: u32 = 8 * 1024 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(io: Box<dyn Io>, shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut connection = Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .enable_connect_protocol()
        .handshake(io)
        .await?;
    let mut calls = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let (head, body) = request.into_parts();
        let call = Call {
            upload: AnyUpload::H2(Upload { body }),
            reply: AnyReply::H2(Reply::Waiting(respond)),
            head,
            shared: Arc::clone(&shared),
            received: 0,
            end: End::Whole,
        };
        calls.spawn(async move { drop(behaviour::run("h2", call).await) });
        while calls.try_join_next().is_some() {}
    }
    Ok(())
}

/// The request's body.
pub(super) struct Upload {
    body: RecvStream,
}

impl Upload {
    pub(super) async fn data(&mut self) -> anyhow::Result<Option<Bytes>> {
        let Some(data) = self.body.data().await.transpose()? else { return Ok(None) };
        self.body.flow_control().release_capacity(data.len())?;
        Ok(Some(data))
    }

    pub(super) async fn trailers(&mut self) -> anyhow::Result<HeaderMap> {
        Ok(self.body.trailers().await?.unwrap_or_default())
    }
}

/// The response, before and after its head.
pub(super) enum Reply {
    /// No final head yet.
    Waiting(SendResponse<Bytes>),
    /// The body goes out.
    Sending(SendStream<Bytes>),
    /// Ended, or broken off.
    Done,
}

impl Reply {
    pub(super) fn informational(&mut self, status: StatusCode, headers: HeaderMap) -> anyhow::Result<()> {
        let Self::Waiting(respond) = self else { anyhow::bail!("the final head is out") };
        Ok(respond.send_informational(response(status, headers))?)
    }

    pub(super) fn head(
        &mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        length: Length,
    ) -> anyhow::Result<()> {
        let Self::Waiting(respond) = self else { anyhow::bail!("the final head is out") };
        if let Length::Known(len) = length {
            headers.insert(http::header::CONTENT_LENGTH, len.into());
        }
        let is_over = matches!(length, Length::Empty);
        let stream = respond.send_response(response(status, headers), is_over)?;
        *self = if is_over { Self::Done } else { Self::Sending(stream) };
        Ok(())
    }

    pub(super) async fn data(&mut self, mut piece: Bytes) -> anyhow::Result<()> {
        let Self::Sending(stream) = self else { return Ok(()) };
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len());
            let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.context("reset")??;
            let now = piece.split_to(capacity.min(piece.len()));
            stream.send_data(now, false)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) -> anyhow::Result<()> {
        if let Self::Sending(stream) = std::mem::replace(self, Self::Done) {
            let mut stream = stream;
            match trailers {
                Some(trailers) => stream.send_trailers(trailers)?,
                None => stream.send_data(Bytes::new(), true)?,
            }
        }
        Ok(())
    }

    pub(super) fn cut(&mut self) {
        match std::mem::replace(self, Self::Done) {
            Self::Waiting(mut respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            Self::Sending(mut stream) => stream.send_reset(Reason::INTERNAL_ERROR),
            Self::Done => {}
        }
    }

    pub(super) async fn gone(&mut self) {
        // Whether it was reset or the connection ended: the other side has left.
        let (Ok(_) | Err(_)) = match self {
            Self::Waiting(respond) => std::future::poll_fn(|cx| respond.poll_reset(cx)).await,
            Self::Sending(stream) => std::future::poll_fn(|cx| stream.poll_reset(cx)).await,
            Self::Done => std::future::pending().await,
        };
    }
}

fn response(status: StatusCode, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
