//! One request of an HTTP/2 connection: handed on, answered, its body pumped while the client reads.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, HeaderName};
use ::http::{Method, Request, Response, StatusCode, request};
use bytes::Bytes;
use h2::ext::Protocol as ConnectProtocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::http::answer::{Breach, Dates};
use crate::http::body::{BodyError, trailers_fit};
use crate::http::leash::{self, Leash};
use crate::http::stall::Stall;
use crate::http::{
    Body, BoxError, ConnectionInfo, Handle, Interim, InterimHead, Service, Upgrade, answer, no_body, unless,
};

/// What a WebSocket client on HTTP/1.1 checks, and one on HTTP/2 did not ask for (RFC 8441 §5).
const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// How long what a client still uploads is taken and dropped once its answer is out. A reset right behind the answer makes
/// some clients throw away the answer too, though it says `NO_ERROR` (RFC 9113 §8.1); one that has read it stops by itself.
const LINGER: Duration = Duration::from_secs(1);

/// Answers one request. Returns early when the client resets the stream; everything for it is dropped then.
pub(super) async fn serve<H: Handle>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    service: &Service<H>,
    info: &ConnectionInfo,
) {
    let (mut head, stream) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let is_switch = wants_switch(&mut head);
    let is_answered = Arc::new(AtomicBool::new(is_switch));
    let mut unread = None;
    let response = match answer::section_objection(&head) {
        None => {
            let body = received(&head, stream, service.limits.stall, &is_answered, &mut unread);
            let mut interims = Interim::attach(&mut head, !body.is_end_stream());
            let mut answer = pin!(service.handler.handle(Request::from_parts(head, body), info));
            poll_fn(|cx| {
                let polled = answer.as_mut().poll(cx);
                while let Poll::Ready(head) = interims.poll_next(cx) {
                    // Fails for what HTTP/2 forbids in a head, and on a stream that is gone.
                    drop(respond.send_informational(informational(head)));
                }
                match polled {
                    Poll::Ready(response) => Poll::Ready(Some(response)),
                    Poll::Pending if respond.poll_reset(cx).is_ready() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        }
        refusal => {
            // A client that does not read its refusal must not keep the head here meanwhile.
            drop(head);
            refusal
        }
    };
    let Some(response) = response else { return };
    is_answered.store(true, Ordering::Relaxed);
    let mut response = if is_switch { switched(response) } else { response };
    let leash = Leash::take(response.extensions_mut());
    answer::advertise(response.headers_mut(), service.alt_svc.as_ref());
    let (head, body) = head_and_body(response, is_head, &service.date);
    let is_end = body.is_end_stream();
    match respond.send_response(head, is_end) {
        Ok(stream) if !is_end => pump(stream, body, Stall::new(service.limits.stall), leash.as_ref()).await,
        Ok(_) => {}
        // The response holds what HTTP/2 forbids, or the stream is gone: in both cases nothing was sent.
        Err(_) => return respond.send_reset(Reason::INTERNAL_ERROR),
    }
    if let Some(unread) = unread {
        // Whatever comes of it, the answer is out.
        drop(timeout(LINGER, drop_upload(unread)).await);
    }
}

/// Takes and drops what is left of an upload that nobody wants, until its end.
async fn drop_upload(unread: oneshot::Receiver<RecvStream>) {
    // Comes once the body was let go of; not at all if it was read to its end.
    let Ok(mut stream) = unread.await else { return };
    while let Some(Ok(data)) = stream.data().await {
        if stream.flow_control().release_capacity(data.len()).is_err() {
            return;
        }
    }
}

/// Whether a request asks to switch protocols (RFC 8441 §4); then it is put as everybody else asks: a GET with an
/// [`Upgrade`]. Other protocols than WebSocket stay a CONNECT, which is refused.
fn wants_switch(head: &mut request::Parts) -> bool {
    let wish = match head.extensions.get::<ConnectProtocol>() {
        Some(protocol) if head.method == Method::CONNECT => Upgrade::to(protocol.as_str()),
        _ => None,
    };
    let Some(wish) = wish.filter(Upgrade::is_websocket) else { return false };
    head.extensions.remove::<ConnectProtocol>();
    head.extensions.insert(wish);
    head.method = Method::GET;
    true
}

/// The answer to a request that asks to switch, as HTTP/2 says it: 200 means that the stream is the new protocol's, so
/// no other 2xx may say anything else.
fn switched(mut response: Response<Body>) -> Response<Body> {
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
            response.headers_mut().remove(CONTENT_LENGTH);
            response
        }
        status if status.is_success() => answer::refusal(
            Breach::NotSwitched,
            "the application answered a WebSocket request without switching to WebSocket",
        ),
        _ => response,
    }
}

/// Readies a response. One that switches unasked is none.
fn head_and_body(response: Response<Body>, is_head: bool, dates: &Dates) -> (Response<()>, Body) {
    let response = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        answer::refusal(Breach::Unasked, answer::UNASKED)
    } else {
        response
    };
    answer::head_and_body(response, is_head, dates)
}

fn informational(head: InterimHead) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn received(
    head: &request::Parts,
    stream: RecvStream,
    stall: Duration,
    is_answered: &Arc<AtomicBool>,
    unread: &mut Option<oneshot::Receiver<RecvStream>>,
) -> Body {
    if stream.is_end_stream() {
        return no_body();
    }
    let (give_back, returned) = oneshot::channel();
    *unread = Some(returned);
    let left = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Body::new(H2Body {
        stream: Some(stream),
        left,
        stall: Stall::until(stall, is_answered),
        give_back: Some(give_back),
    })
}

/// Sends `body` as fast as the client reads and no faster.
async fn pump(mut stream: SendStream<Bytes>, mut body: Body, mut stall: Stall, leash: Option<&Leash>) {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let Some(frame) = unless(frame, |cx| stream.poll_reset(cx).is_ready()).await else { return };
        let sent = match frame.map(|frame| frame.map(Frame::into_data)) {
            None => stream.send_data(Bytes::new(), true),
            Some(Ok(Ok(data))) => {
                if send(&mut stream, data, body.is_end_stream(), &mut stall, leash).await {
                    continue;
                }
                return;
            }
            Some(Ok(Err(frame))) => match frame.into_trailers() {
                // The end of one direction of two (see `http::Upgrade`); the body says when both have ended.
                Ok(trailers) if trailers.is_empty() => {
                    if stream.send_data(Bytes::new(), true).is_err() {
                        return;
                    }
                    continue;
                }
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
async fn send(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
    stall: &mut Stall,
    leash: Option<&Leash>,
) -> bool {
    loop {
        if !data.is_empty() {
            stream.reserve_capacity(data.len());
            if stream.capacity() == 0 && !room(stream, stall, leash).await {
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

/// Waits until the client lets something be sent; false if it is gone, has not read for too long, or may not have it
/// any more.
async fn room(stream: &mut SendStream<Bytes>, stall: &mut Stall, leash: Option<&Leash>) -> bool {
    let capacity = poll_fn(|cx| {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Some(None));
        }
        let poll = stream.poll_capacity(cx);
        if poll.is_pending() && leash::is_over(leash, cx) {
            return Poll::Ready(None);
        }
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
    /// There until it is dropped.
    stream: Option<RecvStream>,
    /// Octets still to come, if the client said how many; `h2` enforces it.
    left: Option<u64>,
    stall: Stall,
    /// Where the stream goes if it is dropped before its end.
    give_back: Option<oneshot::Sender<RecvStream>>,
}

impl Drop for H2Body {
    fn drop(&mut self) {
        if let (Some(stream), Some(give_back)) = (self.stream.take(), self.give_back.take())
            && !stream.is_end_stream()
        {
            // Nobody takes it back if the request was given up; the stream is reset then.
            drop(give_back.send(stream));
        }
    }
}

impl H2Body {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if let Some(data) = std::task::ready!(stream.poll_data(cx)) {
            return Poll::Ready(Some(data.map(|data| {
                // Fails only on a stream that is gone, which the next poll says.
                drop(stream.flow_control().release_capacity(data.len()));
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Frame::data(data)
            })));
        }
        stream
            .poll_trailers(cx)
            .map(|trailers| trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    /// What became of a poll. Trailers have the limits of a head.
    fn told(frame: Result<Frame<Bytes>, h2::Error>) -> Result<Frame<Bytes>, BodyError> {
        let frame = frame.map_err(|error| body_error(&error))?;
        match frame.trailers_ref() {
            Some(trailers) if !trailers_fit(trailers) => Err(BodyError::Malformed),
            _ => Ok(frame),
        }
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
            Some(frame) => frame.map(|frame| Self::told(frame).map_err(BoxError::from)),
            None => Some(Err(BodyError::Stalled.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn body_error(error: &h2::Error) -> BodyError {
    // What h2 itself complains of is the client's breach; the rest is a client that left.
    if error.is_library() { BodyError::Malformed } else { BodyError::Gone }
}
