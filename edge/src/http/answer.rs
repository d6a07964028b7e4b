//! What this layer says itself: refusals of requests that break a protocol's rules or limits, and the fields
//! every response gets.

use std::sync::Arc;

use ::http::header::{
    ALLOW, ALT_SVC, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap,
    TRANSFER_ENCODING,
};
use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use arc_swap::ArcSwap;
use http_body::Body as _;
use mezusphere_model::Clock;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::{Body, body};
use crate::config::{REQUEST_FIELDS_MAX, REQUEST_TARGET_LEN_MAX};

/// How long clients remember where HTTP/3 is spoken: a day, in seconds.
const ALT_SVC_MAX_AGE_S: u32 = 86_400;

/// `alt-svc` for HTTP/3 on `port` (RFC 7838 §3).
pub(super) fn alt_svc(port: u16) -> HeaderValue {
    HeaderValue::try_from(format!("h3=\":{port}\"; ma={ALT_SVC_MAX_AGE_S}"))
        .unwrap_or_else(|_| HeaderValue::from_static("clear"))
}

/// Says where HTTP/3 is spoken; an upstream's own advertisement is for a port that is not the edge's.
pub(super) fn advertise(headers: &mut HeaderMap, alt_svc: &HeaderValue) {
    headers.insert(ALT_SVC, alt_svc.clone());
}

/// Refuses what no request may be on any protocol: more fields or a longer target than the limits, a tunnel to
/// elsewhere. On h1 the limits were checked before parsing; the size of a field section is the codecs' to check.
pub(super) fn objection<B>(request: &Request<B>) -> Option<Response<Body>> {
    if request.headers().len() > REQUEST_FIELDS_MAX {
        return Some(refusal(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            &format!("the request has more than {REQUEST_FIELDS_MAX} fields"),
        ));
    }
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > REQUEST_TARGET_LEN_MAX) {
        return Some(refusal(
            StatusCode::URI_TOO_LONG,
            &format!("the request target is longer than {REQUEST_TARGET_LEN_MAX} octets"),
        ));
    }
    if request.method() == Method::CONNECT {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "nothing is tunnelled through an edge");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        return Some(response);
    }
    None
}

/// Readies a response for h2 or h3: no body where there must be none (RFC 9110 §6.4.1), a length where it is
/// known, a date, and nothing that belongs to h1 connections.
pub(super) fn head_and_body(
    mut response: Response<Body>,
    is_head: bool,
    dates: &Dates,
) -> (Response<()>, Body) {
    let status = response.status();
    let is_bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let length = response.body().size_hint().exact();
    let headers = response.headers_mut();
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    dates.add(headers);
    if let Some(length) = length.filter(|_| !is_head && !is_bodiless)
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let (head, body) = response.into_parts();
    let body = if is_head || is_bodiless { super::no_body() } else { body };
    (Response::from_parts(head, ()), body)
}

/// One calm line: what is wrong with the request. Such requests come from broken programs, never from browsers.
pub(super) fn refusal(status: StatusCode, reason: &str) -> Response<Body> {
    let line = format!("{} {}: {reason}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(body::text(line));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Dates for responses that have none (RFC 9110 §6.6.1), written once per second.
pub(super) struct Dates {
    clock: Clock,
    last: ArcSwap<(i64, HeaderValue)>,
}

const IMF_FIXDATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

impl Dates {
    pub(super) fn new(clock: Clock) -> Self {
        let now = clock.now().as_seconds();
        Self { clock, last: ArcSwap::from_pointee((now, date(now))) }
    }

    /// Adds a date unless there is one.
    pub(super) fn add(&self, headers: &mut HeaderMap) {
        if headers.contains_key(DATE) {
            return;
        }
        let now = self.clock.now().as_seconds();
        let last = self.last.load();
        let value = if last.0 == now {
            last.1.clone()
        } else {
            let value = date(now);
            self.last.store(Arc::new((now, value.clone())));
            value
        };
        headers.insert(DATE, value);
    }
}

fn date(seconds: i64) -> HeaderValue {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(IMF_FIXDATE).ok())
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or_else(|| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Timestamp;
    use mezusphere_model::clock::ManualClock;

    use super::*;

    #[test]
    fn a_date_is_an_imf_fixdate_and_moves_with_the_clock() {
        let hand = ManualClock::at(Timestamp::from_seconds(784_111_777));
        let dates = Dates::new(hand.clock());
        let fresh = || {
            let mut headers = HeaderMap::new();
            dates.add(&mut headers);
            headers.remove(DATE).unwrap()
        };
        assert_eq!(fresh(), "Sun, 06 Nov 1994 08:49:37 GMT"); // the example of RFC 9110 §5.6.7
        hand.advance(std::time::Duration::from_secs(1));
        assert_eq!(fresh(), "Sun, 06 Nov 1994 08:49:38 GMT");
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("the upstream's"));
        dates.add(&mut headers);
        assert_eq!(headers.get(DATE).unwrap(), "the upstream's");
    }

    #[test]
    fn r23_the_limits_are_the_same_whatever_carried_the_request() {
        let request = |target: usize, fields: usize| {
            let mut request = Request::get(format!("/{}", "a".repeat(target - 1)));
            for _ in 0..fields {
                request = request.header("x", "y");
            }
            objection(&request.body(()).unwrap()).map(|refusal| refusal.status().as_u16())
        };
        assert_eq!(request(REQUEST_TARGET_LEN_MAX, REQUEST_FIELDS_MAX), None);
        assert_eq!(request(REQUEST_TARGET_LEN_MAX + 1, 1), Some(414));
        assert_eq!(request(1, REQUEST_FIELDS_MAX + 1), Some(431));
    }
}
