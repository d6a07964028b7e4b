//! What this layer says itself: refusals of requests that break a protocol's rules or limits, and the fields
//! every response gets.

use std::sync::Arc;

use ::http::header::{
    ALLOW, ALT_SVC, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap,
    TRANSFER_ENCODING,
};
use ::http::uri::{Authority, PathAndQuery};
use ::http::{HeaderValue, Method, Response, StatusCode, request};
use arc_swap::ArcSwap;
use http_body::Body as _;
use mezusphere_model::Clock;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::{Body, body};
use crate::config::{REQUEST_FIELDS_MAX, REQUEST_HEAD_LEN_MAX, REQUEST_TARGET_LEN_MAX};
use crate::page::{ERROR_FIELD, Hop};

/// How long clients remember where HTTP/3 is spoken: a day, in seconds.
const ALT_SVC_MAX_AGE_S: u32 = 86_400;

/// `alt-svc` for HTTP/3 on `port` (RFC 7838 §3).
pub(super) fn alt_svc(port: u16) -> HeaderValue {
    HeaderValue::try_from(format!("h3=\":{port}\"; ma={ALT_SVC_MAX_AGE_S}"))
        .unwrap_or_else(|_| HeaderValue::from_static("clear"))
}

/// Says where HTTP/3 is spoken, if it is; whoever answers behind us knows of no port that is ours.
pub(super) fn advertise(headers: &mut HeaderMap, alt_svc: Option<&HeaderValue>) {
    match alt_svc {
        Some(alt_svc) => headers.insert(ALT_SVC, alt_svc.clone()),
        None => headers.remove(ALT_SVC),
    };
}

/// A kind of refusal this layer makes, with its status, its stable code and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// The request breaks the protocol's rules.
    Malformed,
    /// Its version is not spoken here.
    Version,
    /// Its target is too long.
    TargetTooLong,
    /// Its head is too large.
    HeadTooLarge,
    /// Its head took too long.
    HeadTooSlow,
    /// It wants to be connected to somewhere else.
    Connect,
    /// The application switched to a protocol nobody asked for.
    Unasked,
    /// The application answers a request to switch protocols as if it were an ordinary one.
    NotSwitched,
}

impl Breach {
    const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unasked | Self::NotSwitched => StatusCode::BAD_GATEWAY,
        }
    }

    /// Listed in `docs/errors.md`.
    const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "edge.malformed",
            Self::Version => "edge.http_version",
            Self::TargetTooLong => "edge.target_too_long",
            Self::HeadTooLarge => "edge.too_large",
            Self::HeadTooSlow => "edge.head_too_slow",
            Self::Connect => "edge.method",
            Self::Unasked => "edge.tunnel_protocol",
            Self::NotSwitched => "edge.not_switched",
        }
    }

    const fn next(self) -> &'static str {
        match self {
            Self::Malformed => "mend the client, or the proxy in front of it",
            Self::Version => "speak HTTP/1.1, HTTP/2 or HTTP/3",
            Self::TargetTooLong => "send long parameters in a body",
            Self::HeadTooLarge => "send fewer or shorter fields; in a browser, clear this site's cookies",
            Self::HeadTooSlow => "send the request again",
            Self::Connect => "ask the application itself",
            Self::Unasked => "ask whoever runs the application to mend it",
            Self::NotSwitched => "check that the application speaks WebSocket under this path",
        }
    }
}

/// What a field counts beyond its octets (RFC 9113 §6.5.2, RFC 9114 §4.2.2).
const FIELD_OVERHEAD: usize = 32;

/// Refuses on h2 and h3 what no request may be: what [`objection`] refuses, and a head that is too long. The codecs read
/// longer ones, so that they are told the same as on h1.
pub(super) fn section_objection(head: &request::Parts) -> Option<Response<Body>> {
    objection(head).or_else(|| {
        let is_too_long = pseudo_len(head) + section_len(&head.headers) > REQUEST_HEAD_LEN_MAX;
        let reason = || format!("the request head is longer than {REQUEST_HEAD_LEN_MAX} octets");
        is_too_long.then(|| refusal(Breach::HeadTooLarge, &reason()))
    })
}

/// The size of a field section without pseudo-fields, as limits count it.
pub(super) fn section_len(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum()
}

fn pseudo_len(head: &request::Parts) -> usize {
    let uri = &head.uri;
    let of = |name: &str, value: Option<&str>| value.map_or(0, |it| name.len() + it.len() + FIELD_OVERHEAD);
    of(":method", Some(head.method.as_str()))
        + of(":scheme", uri.scheme_str())
        + of(":authority", uri.authority().map(Authority::as_str))
        + of(":path", uri.path_and_query().map(PathAndQuery::as_str))
}

/// Refuses what no request may be on any protocol: more fields or a longer target than the limits, a tunnel to
/// elsewhere. On h1 the limits were checked before parsing; [`section_objection`] has those of h2 and h3.
pub(super) fn objection(head: &request::Parts) -> Option<Response<Body>> {
    if head.headers.len() > REQUEST_FIELDS_MAX {
        let reason = format!("the request has more than {REQUEST_FIELDS_MAX} fields");
        return Some(refusal(Breach::HeadTooLarge, &reason));
    }
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > REQUEST_TARGET_LEN_MAX) {
        let reason = format!("the request target is longer than {REQUEST_TARGET_LEN_MAX} octets");
        return Some(refusal(Breach::TargetTooLong, &reason));
    }
    if head.method == Method::CONNECT {
        let mut response = refusal(Breach::Connect, "an edge connects nobody to elsewhere");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
        return Some(response);
    }
    None
}

/// What a client is told of a 101 that nobody asked for.
pub(super) const UNASKED: &str = "the application switched protocols unasked";

/// What `allow` says where CONNECT or TRACE is refused; other methods are the routes' business.
pub(crate) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

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

/// Says what is wrong with a request, and what next. Such requests come from broken programs, hardly ever from a
/// browser, so it is said in three lines of text.
pub(super) fn refusal(breach: Breach, reason: &str) -> Response<Body> {
    let (status, code, next) = (breach.status(), breach.code(), breach.next());
    let phrase = status.canonical_reason().unwrap_or_default();
    let lines = format!("{} {phrase}: {reason}\ncode: {code}\nnext: {next}\n", status.as_u16());
    let mut response = Response::new(body::text(lines));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Such a request has no id yet.
    if let Ok(error) = HeaderValue::try_from(format!("{code}; hop={}", Hop::Client.as_str())) {
        headers.insert(ERROR_FIELD, error);
    }
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
            let mut request = ::http::Request::get(format!("/{}", "a".repeat(target - 1)));
            for _ in 0..fields {
                request = request.header("x", "y");
            }
            objection(&request.body(()).unwrap().into_parts().0).map(|refusal| refusal.status().as_u16())
        };
        assert_eq!(request(REQUEST_TARGET_LEN_MAX, REQUEST_FIELDS_MAX), None);
        assert_eq!(request(REQUEST_TARGET_LEN_MAX + 1, 1), Some(414));
        assert_eq!(request(1, REQUEST_FIELDS_MAX + 1), Some(431));
    }

    #[test]
    fn r23_a_head_of_h2_or_h3_is_measured_as_its_peers_measure_it() {
        let told = |value: usize| {
            let request = ::http::Request::get("https://a/").header("x", "y".repeat(value));
            section_objection(&request.body(()).unwrap().into_parts().0).map(|refusal| refusal.status())
        };
        // `:method` GET, `:scheme` https, `:authority` a, `:path` /, and `x`, each with its overhead.
        let others = (7 + 3) + (7 + 5) + (10 + 1) + (5 + 1) + 1 + 5 * 32;
        assert_eq!(told(REQUEST_HEAD_LEN_MAX - others), None);
        assert_eq!(
            told(REQUEST_HEAD_LEN_MAX - others + 1),
            Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
    }
}
