//! HTTP/1.1 (RFC 9112) and 1.0: hyper behind a strict `guard`.

pub mod body;
pub mod head;

mod guard;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use ::http::header::CONNECTION;
use ::http::{HeaderValue, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use self::guard::{Guard, PLACEHOLDER_METHOD, Verdict};
use self::head::Violation;
use super::answer::Breach;
use super::body::H1Body;
use super::{Body, ConnectionInfo, Handle, Service, answer, no_body};
use crate::config::{Limits, REQUEST_HEAD_LEN_MAX};

/// Largest read or write buffer of a connection, in octets: a whole head fits twice.
const BUFFER_LEN_MAX: usize = 2 * REQUEST_HEAD_LEN_MAX;

/// hyper's settings. Those of heads repeat what the guard enforces, in case hyper counts otherwise; its limit of
/// 100 fields is the built-in one, which costs no allocation.
pub(super) fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        // The guard times a head from its first octet; this is the wait for that octet.
        .header_read_timeout(limits.idle)
        .max_header_size(REQUEST_HEAD_LEN_MAX)
        .max_buf_size(BUFFER_LEN_MAX)
        .keep_alive(true)
        .half_close(false)
        .ignore_invalid_headers(false)
        .allow_multiple_spaces_in_request_line_delimiters(false);
    builder
}

/// Serves one connection until it ends; on drain, until the request under way is answered.
pub async fn serve<T, H>(io: T, service: Arc<Service<H>>, info: ConnectionInfo)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handle,
{
    let guard = Guard::new(io, &service.limits);
    let exchange = Arc::new(Exchange { verdict: guard.verdict(), service: Arc::clone(&service), info });
    let connection = service.h1.serve_connection(
        TokioIo::new(guard),
        service_fn(move |request| {
            let exchange = Arc::clone(&exchange);
            async move { Ok::<_, Infallible>(exchange.answer(request).await) }
        }),
    );
    let mut connection = pin!(connection);
    let mut draining = pin!(service.drain.draining());
    let mut is_told = false;
    let end = poll_fn(|cx| {
        if !is_told && draining.as_mut().poll(cx).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = end {
        debug!(%error, "An HTTP/1.1 connection broke");
    }
}

/// What the requests of a connection share.
struct Exchange<H> {
    service: Arc<Service<H>>,
    info: ConnectionInfo,
    verdict: Verdict,
}

impl<H: Handle> Exchange<H> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let mut response = match self.objection(&request) {
            None => self.service.handler.handle(request.map(body), &self.info).await,
            Some(mut refusal) => {
                refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                refusal
            }
        };
        answer::advertise(response.headers_mut(), self.service.alt_svc.as_ref());
        response
    }

    fn objection(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        if let Some(violation) = self.verdict.get().filter(|_| request.method() == PLACEHOLDER_METHOD) {
            return Some(answer::refusal(breach(violation), &violation.to_string()));
        }
        answer::objection(request)
    }
}

fn breach(violation: Violation) -> Breach {
    match violation {
        Violation::Version => Breach::Version,
        Violation::TargetTooLong => Breach::TargetTooLong,
        Violation::HeadTooLong | Violation::TooManyFields => Breach::HeadTooLarge,
        Violation::TooSlow => Breach::HeadTooSlow,
        _ => Breach::Malformed,
    }
}

fn body(incoming: Incoming) -> Body {
    if incoming.is_end_stream() { no_body() } else { Body::new(H1Body(incoming)) }
}

#[cfg(test)]
mod tests;
