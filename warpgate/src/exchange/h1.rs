//! HTTP/1.1 to one upstream: one exchange at a time on a connection.

use std::error::Error as _;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tunnel_proto::exchange::{Failure, FailureCode, ResponseHead};

use super::body::RequestBody;
use super::informational::Informational;
use super::pool::Lease;
use crate::limits::{UPSTREAM_BUFFER_LEN_MAX, UPSTREAM_HEAD_LEN_MAX};

/// Why a request got no response.
pub(super) enum SendError {
    /// Nothing of it was sent; here it is again.
    Unsent(hyper::Error, Box<Request<RequestBody>>),
    /// Something of it may have been.
    Failed(hyper::Error),
}

/// Begins HTTP/1.1 on `io`. One `for_upgrade` is never used for a second exchange.
pub(super) async fn start<IO>(io: IO, for_upgrade: bool) -> Result<Lease, Failure>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(UPSTREAM_BUFFER_LEN_MAX).max_header_size(UPSTREAM_HEAD_LEN_MAX);
    let begun = builder.handshake(TokioIo::new(io)).await;
    let (sender, connection) = begun.map_err(|why| Failure {
        code: FailureCode::UpstreamClosed,
        detail: why.to_string(),
        started: false,
    })?;
    // Ended by the lease, or by itself when the upstream closes. What ended it is told to the exchange.
    let ended = |result: hyper::Result<()>| {
        if let Err(error) = result {
            tracing::trace!(%error, "Upstream connection ended");
        }
    };
    let task = if for_upgrade {
        tokio::spawn(async move { ended(connection.with_upgrades().await) })
    } else {
        tokio::spawn(async move { ended(connection.await) })
    };
    Ok(Lease::new(sender, task.abort_handle()))
}

/// Sends a request and waits for the head of the final response.
pub(super) async fn send(
    lease: &mut Lease,
    mut request: Request<RequestBody>,
    informational: &Arc<Informational>,
) -> Result<Response<Incoming>, SendError> {
    let sink = Arc::clone(informational);
    hyper::ext::on_informational(&mut request, move |head| {
        sink.push(ResponseHead { status: head.status(), headers: head.headers().clone() });
    });
    lease.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
        Some(unsent) => SendError::Unsent(error.into_error(), Box::new(unsent)),
        None => SendError::Failed(error.into_error()),
    })
}

/// Whether the upstream closed the connection before a byte of the response.
pub(super) fn is_close(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset(error)
}

fn is_reset(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::BrokenPipe
                | std::io::ErrorKind::ConnectionAborted
        )
    })
}

/// What became of a request, in a stable code.
pub(super) fn failure(error: &hyper::Error, started: bool) -> Failure {
    let code = if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        FailureCode::UpstreamMalformed
    } else {
        FailureCode::UpstreamClosed
    };
    Failure { code, detail: describe(error), started }
}

/// An error with its causes: hyper's own words name only the outermost.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(why) = source {
        text.push_str(": ");
        text.push_str(&why.to_string());
        source = why.source();
    }
    text
}
