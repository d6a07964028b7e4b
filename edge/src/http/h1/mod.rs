//! HTTP/1.1 (RFC 9112) and 1.0: hyper behind a strict `guard`.
//!
//! What hyper's server does not do goes past it: interim heads (`wire`), and what happens after a 101 (`switch`).

pub mod body;
pub mod head;

mod guard;
mod switch;
mod wire;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use ::http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, UPGRADE};
use ::http::{HeaderValue, Request, Response, StatusCode, request};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tracing::debug;

use self::guard::{Guard, PLACEHOLDER_METHOD};
use self::head::Violation;
use self::switch::{Lead, Switch};
use self::wire::Wire;
use super::answer::Breach;
use super::body::H1Body;
use super::leash::Leash;
use super::{Body, ConnectionInfo, Handle, Interim, Service, Upgrade, answer, no_body};
use crate::config::{Limits, REQUEST_HEAD_LEN_MAX};
use crate::listen::drain::LINGER;

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

/// Serves one connection until it ends; on drain, until the request under way or, for a while, the next one is answered.
pub async fn serve<T, H>(io: T, service: Arc<Service<H>>, info: ConnectionInfo)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handle,
{
    let _client = service.drain.client();
    let guard = Guard::new(io, &service.limits);
    let stall = service.limits.stall;
    let exchange = Arc::new(Exchange {
        wire: guard.wire(),
        service: Arc::clone(&service),
        info,
        switch: Mutex::default(),
    });
    let answerer = Arc::clone(&exchange);
    let mut connection = service.h1.serve_connection(
        TokioIo::new(guard),
        service_fn(move |request| {
            let exchange = Arc::clone(&answerer);
            async move { Ok::<_, Infallible>(exchange.answer(request).await) }
        }),
    );
    let mut draining = pin!(async {
        service.drain.draining().await;
        sleep(LINGER).await;
    });
    let mut is_told = false;
    let end = poll_fn(|cx| {
        let mut connection = Pin::new(&mut connection);
        if !is_told && draining.as_mut().poll(cx).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.poll(cx)
    })
    .await;
    if let Err(error) = end {
        return debug!(%error, "An HTTP/1.1 connection broke");
    }
    if let Some(switch) = exchange.switched() {
        let (io, ahead) = connection.into_parts().io.into_inner().into_raw();
        switch.run(io, ahead, stall).await;
    }
}

/// What the requests of a connection share.
struct Exchange<H> {
    service: Arc<Service<H>>,
    info: ConnectionInfo,
    wire: Wire,
    /// What is to happen once a 101 is written.
    switch: Mutex<Option<Switch>>,
}

impl<H: Handle> Exchange<H> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut response = match self.objection(&head) {
            None => self.handle(head, body).await,
            Some(mut refusal) => {
                refusal.headers_mut().insert(CONNECTION, CLOSE);
                refusal
            }
        };
        answer::advertise(response.headers_mut(), self.service.alt_svc.as_ref());
        if self.service.drain.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.wire.answer_on(Leash::take(response.extensions_mut()));
        }
        self.wire.answered();
        response
    }

    async fn handle(&self, mut head: request::Parts, incoming: Incoming) -> Response<Body> {
        let has_body = !incoming.is_end_stream();
        let mut interims = Interim::attach(&mut head, has_body);
        let wish = if self.wire.is_held() { Upgrade::of_h1(&head, has_body) } else { None };
        let (wish, body) = match wish {
            Some(wish) => {
                let (lead, body) = switch::after_switch();
                head.extensions.insert(wish.clone());
                (Some((wish, lead)), body)
            }
            None => (None, body(incoming)),
        };
        let mut handling = pin!(self.service.handler.handle(Request::from_parts(head, body), &self.info));
        let response = poll_fn(|cx| {
            let polled = handling.as_mut().poll(cx);
            while let Poll::Ready(head) = interims.poll_next(cx) {
                self.wire.say(&head);
            }
            polled
        })
        .await;
        drop(interims);
        poll_fn(|cx| self.wire.poll_written(cx)).await;
        self.switch(response, wish)
    }

    /// Carries out a switch, or says that there is none. Behind a request that asked for one, nothing is read: it could
    /// be either protocol's.
    fn switch(&self, mut response: Response<Body>, wish: Option<(Upgrade, Lead)>) -> Response<Body> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            if self.wire.is_held() {
                response.headers_mut().insert(CONNECTION, CLOSE);
            }
            return response;
        }
        let Some((wish, lead)) = wish else {
            return answer::refusal(Breach::Unasked, answer::UNASKED);
        };
        let headers: &mut HeaderMap = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Ok(protocol) = HeaderValue::from_str(wish.protocol()) {
            headers.insert(UPGRADE, protocol);
        }
        let leash = Leash::take(response.extensions_mut());
        let (head, body) = response.into_parts();
        let switch = lead.grant(body, leash);
        *self.switch.lock().unwrap_or_else(PoisonError::into_inner) = Some(switch);
        Response::from_parts(head, no_body())
    }

    fn switched(&self) -> Option<Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn objection(&self, head: &request::Parts) -> Option<Response<Body>> {
        if let Some(violation) = self.wire.violation().filter(|_| head.method == PLACEHOLDER_METHOD) {
            return Some(answer::refusal(breach(violation), &violation.to_string()));
        }
        answer::objection(head)
    }
}

/// Says that nothing more is answered on the connection.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

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
