//! One request of an HTTP/2 connection: handed on, answered, its body pumped while the client reads.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::header::CONTENT_LENGTH;
use ::http::{Method, Request};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body as _, Frame, SizeHint};

use crate::http::body::BodyError;
use crate::http::stall::Stall;
use crate::http::{Body, BoxError, ConnectionInfo, Handle, Service, answer, no_body, unless};

/// Answers one request. Returns early when the client resets the stream; everything for it is dropped then.
pub(super) async fn serve<H: Handle>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    service: &Service<H>,
    info: &ConnectionInfo,
) {
    let is_head = request.method() == Method::HEAD;
    let response = match answer::objection(&request) {
        None => {
            let request = received(request, service.limits.stall);
            let answer = service.handler.handle(request, info);
            unless(answer, |cx| respond.poll_reset(cx).is_ready()).await
        }
        refusal => refusal,
    };
    let Some(mut response) = response else { return };
    answer::advertise(response.headers_mut(), service.alt_svc.as_ref());
    let (head, body) = answer::head_and_body(response, is_head, &service.date);
    let is_end = body.is_end_stream();
    match respond.send_response(head, is_end) {
        Ok(stream) if !is_end => pump(stream, body, Stall::new(service.limits.stall)).await,
        Ok(_) => {}
        // The response holds what HTTP/2 forbids, or the stream is gone: in both cases nothing was sent.
        Err(_) => respond.send_reset(Reason::INTERNAL_ERROR),
    }
}

fn received(request: Request<RecvStream>, stall: std::time::Duration) -> Request<Body> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    request.map(|stream| {
        if stream.is_end_stream() {
            no_body()
        } else {
            Body::new(H2Body { stream, left: length, stall: Stall::new(stall) })
        }
    })
}

/// Sends `body` as fast as the client reads and no faster.
async fn pump(mut stream: SendStream<Bytes>, mut body: Body, mut stall: Stall) {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let Some(frame) = unless(frame, |cx| stream.poll_reset(cx).is_ready()).await else { return };
        let sent = match frame.map(|frame| frame.map(Frame::into_data)) {
            None => stream.send_data(Bytes::new(), true),
            Some(Ok(Ok(data))) => {
                if send(&mut stream, data, body.is_end_stream(), &mut stall).await {
                    continue;
                }
                return;
            }
            Some(Ok(Err(frame))) => match frame.into_trailers() {
                Ok(trailers) => stream.send_trailers(trailers),
                // Neither data nor trailers: a kind of frame that HTTP/2 has no place for.
                Err(_) => continue,
            },
            // A body that broke off must not look complete.
            Some(Err(_)) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return;
            }
        };
        // An error means that the client is gone; there is nobody to tell.
        return drop(sent);
    }
}

/// Sends `data`, and the end with it if it `is_last`; whether more may follow.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, is_last: bool, stall: &mut Stall) -> bool {
    loop {
        if !data.is_empty() {
            stream.reserve_capacity(data.len());
            if stream.capacity() == 0 && !room(stream, stall).await {
                return false;
            }
        }
        let part = data.split_to(data.len().min(stream.capacity()));
        let is_all = data.is_empty();
        if stream.send_data(part, is_last && is_all).is_err() {
            return false;
        }
        if is_all {
            return !is_last;
        }
    }
}

/// Waits until the client lets something be sent; false if it is gone or has not read for too long.
async fn room(stream: &mut SendStream<Bytes>, stall: &mut Stall) -> bool {
    let capacity = poll_fn(|cx| {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Some(None));
        }
        let poll = stream.poll_capacity(cx);
        stall.watch(cx, poll)
    });
    match capacity.await {
        Some(Some(Ok(_))) => true,
        Some(_) => false,
        None => {
            stream.send_reset(Reason::CANCEL);
            false
        }
    }
}

/// A request body. The client may send as much again as was taken.
struct H2Body {
    stream: RecvStream,
    /// Octets still to come, if the client said how many; `h2` enforces it.
    left: Option<u64>,
    stall: Stall,
}

impl H2Body {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = std::task::ready!(self.stream.poll_data(cx)) {
            return Poll::Ready(Some(data.map(|data| {
                // Fails only on a stream that is gone, which the next poll says.
                drop(self.stream.flow_control().release_capacity(data.len()));
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Frame::data(data)
            })));
        }
        self.stream
            .poll_trailers(cx)
            .map(|trailers| trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl http_body::Body for H2Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let poll = this.poll(cx);
        this.stall.watch(cx, poll).map(|frame| match frame {
            Some(frame) => frame.map(|frame| frame.map_err(|error| body_error(&error).into())),
            None => Some(Err(BodyError::Stalled.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn body_error(error: &h2::Error) -> BodyError {
    // What h2 itself complains of is the client's breach; the rest is a client that left.
    if error.is_library() { BodyError::Malformed } else { BodyError::Gone }
}
