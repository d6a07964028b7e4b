//! One request of an HTTP/3 connection: read, handed on, answered, its body pumped while the client reads.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use ::http::header::{self, CONTENT_LENGTH, HeaderMap, HeaderName, TE};
use ::http::{HeaderValue, Method, Request, Response, StatusCode, request};
use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http_body::{Body as _, Frame};
use tokio::time::timeout;
use tracing::debug;

use super::body::{H3Body, Recv};
use super::quic::{self, SendStream};
use crate::http::answer::Breach;
use crate::http::leash::{self, Leash};
use crate::http::stall::Stall;
use crate::http::{Body, ConnectionInfo, Handle, Interim, InterimHead, Service, answer, unless};

type Send = RequestStream<SendStream<Bytes>, Bytes>;

/// Octets handed to QUIC at once: the client must take this much within [`crate::Limits::stall`].
const CHUNK_LEN: usize = 16 * 1024;

/// Fields that belong to HTTP/1 connections and make a request malformed (RFC 9114 §4.2).
const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How a request ended.
pub(super) enum Ended {
    /// It was answered, well or badly.
    Answered,
    /// The client gave it up, or never made it whole.
    GivenUp,
}

/// Answers one request. Returns early when the client gives it up; everything for it is dropped then.
pub(super) async fn serve<H: Handle>(
    resolver: RequestResolver<quic::Connection, Bytes>,
    mut handle: quic::Handle,
    service: &Service<H>,
    info: &ConnectionInfo,
) -> Ended {
    let (request, mut both) = match timeout(service.limits.request_head, resolver.resolve_request()).await {
        Ok(Ok(whole)) => whole,
        Ok(Err(error)) => {
            debug!(%error, "An HTTP/3 request could not be read");
            return Ended::GivenUp;
        }
        Err(_) => {
            debug!("An HTTP/3 request head took too long");
            return Ended::GivenUp;
        }
    };
    handle.guard();
    let is_head = request.method() == Method::HEAD;
    let Ok(length) = well_formed(request.headers()) else {
        both.stop_stream(Code::H3_MESSAGE_ERROR);
        return Ended::Answered;
    };
    let (mut send, body) = both.split();
    let is_answered = Arc::new(AtomicBool::new(false));
    let (head, ()) = request.into_parts();
    let response = match answer::section_objection(&head) {
        None => {
            let stall = Stall::until(service.limits.stall, &is_answered);
            let Some(body) = received(body, length, stall).await else {
                send.stop_stream(Code::H3_MESSAGE_ERROR);
                return Ended::Answered;
            };
            answered(head, body, &mut send, &mut handle, service, info).await
        }
        refusal => {
            // A client that does not read its refusal must not keep the head here meanwhile.
            drop(head);
            refusal
        }
    };
    let Some(response) = response else { return Ended::GivenUp };
    is_answered.store(true, Ordering::Relaxed);
    let mut response = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        answer::refusal(Breach::Unasked, answer::UNASKED)
    } else {
        response
    };
    let leash = Leash::take(response.extensions_mut());
    let (head, body) = answer::head_and_body(response, is_head, &service.date);
    let stall = Stall::new(service.limits.stall);
    if respond(&mut send, head, body, &mut handle, (stall, leash)).await.is_none() {
        return Ended::GivenUp;
    }
    // Whatever closes the connection next must not outrun the response.
    let over = poll_fn(|cx| handle.poll_over(cx));
    drop(timeout(service.limits.stall, over).await);
    Ended::Answered
}

/// What HTTP/3 asks of fields and h3 0.0.8 does not check; gives the length of the body, if it is said.
fn well_formed(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    if CONNECTION_SPECIFIC.iter().any(|name| headers.contains_key(name)) {
        return Err(());
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        return Err(());
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => digits(length).map(Some).ok_or(()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn digits(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The request's body; `None` if it is known to be malformed.
async fn received(recv: Recv, length: Option<u64>, stall: Stall) -> Option<Body> {
    let mut recv = Some((recv, stall));
    poll_fn(|cx| {
        let begun = recv.take().map(|(recv, stall)| H3Body::begin(cx, recv, length, stall));
        Poll::Ready(begun.and_then(Result::ok))
    })
    .await
}

/// Hands the request on and says what comes before its response; `None` if the client gave it up.
async fn answered<H: Handle>(
    mut head: request::Parts,
    body: Body,
    send: &mut Send,
    handle: &mut quic::Handle,
    service: &Service<H>,
    info: &ConnectionInfo,
) -> Option<Response<Body>> {
    let mut interims = Interim::attach(&mut head, !body.is_end_stream());
    let mut stall = Stall::new(service.limits.stall);
    let mut answer = pin!(service.handler.handle(Request::from_parts(head, body), info));
    let mut response = None;
    loop {
        let said = poll_fn(|cx| {
            if response.is_none()
                && let Poll::Ready(answered) = answer.as_mut().poll(cx)
            {
                response = Some(answered);
            }
            match interims.poll_next(cx) {
                Poll::Ready(head) => Poll::Ready(Some(head)),
                Poll::Pending if response.is_some() || handle.poll_over(cx).is_ready() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let Some(InterimHead { status, headers }) = said else { return response };
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers;
        in_time(send.send_response(head), &mut stall, None).await?;
    }
}

/// Sends a response as fast as the client reads and no faster; `None` if it could not be sent whole.
async fn respond(
    send: &mut Send,
    head: Response<()>,
    mut body: Body,
    handle: &mut quic::Handle,
    (mut stall, leash): (Stall, Option<Leash>),
) -> Option<()> {
    let leash = leash.as_ref();
    in_time(send.send_response(head), &mut stall, leash).await?;
    while !body.is_end_stream() {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        // Dropping an unfinished response resets it, so a body that broke off does not look complete.
        let frame = unless(frame, |cx| handle.poll_over(cx).is_ready()).await?.transpose().ok()?;
        let Some(frame) = frame else { break };
        match frame.into_data() {
            Ok(mut data) => {
                while !data.is_empty() {
                    let part = data.split_to(data.len().min(CHUNK_LEN));
                    in_time(send.send_data(part), &mut stall, leash).await?;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = Frame::into_trailers(frame) {
                    in_time(send.send_trailers(trailers), &mut stall, leash).await?;
                    break;
                }
            }
        }
    }
    in_time(send.finish(), &mut stall, leash).await
}

/// `None` if it failed, took too long, or must not go on.
async fn in_time(
    sending: impl Future<Output = Result<(), StreamError>>,
    stall: &mut Stall,
    leash: Option<&Leash>,
) -> Option<()> {
    let mut sending = pin!(sending);
    poll_fn(|cx| {
        let poll = sending.as_mut().poll(cx);
        if poll.is_pending() && leash::is_over(leash, cx) {
            return Poll::Ready(None);
        }
        stall.watch(cx, poll)
    })
    .await?
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r08_fields_of_h1_connections_make_a_request_malformed() {
        type Fields = &'static [(&'static str, &'static str)];
        let rows: [(Fields, Result<Option<u64>, ()>); 12] = [
            (&[("accept", "*/*")], Ok(None)),
            (&[("te", "trailers")], Ok(None)),
            (&[("content-length", "12")], Ok(Some(12))),
            (&[("te", "gzip")], Err(())),
            (&[("connection", "close")], Err(())),
            (&[("keep-alive", "timeout=5")], Err(())),
            (&[("proxy-connection", "close")], Err(())),
            (&[("transfer-encoding", "chunked")], Err(())),
            (&[("upgrade", "websocket")], Err(())),
            (&[("content-length", "+1")], Err(())),
            (&[("content-length", "")], Err(())),
            (&[("content-length", "1"), ("content-length", "1")], Err(())),
        ];
        for (fields, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(well_formed(&headers), expected, "{fields:?}");
        }
    }
}
