//! The response's way from the upstream to the edge: head, body, trailers; nothing that was cut looks whole.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use mezusphere_model::Host;
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::{Failure, ResponseHead};
use tunnel_proto::headers;

use super::answer::{AnswerBody, BodyError};
use super::body::RequestBody;
use super::forward::Ended;
use super::informational::{Flood, Informational};
use super::stream::ToEdge;
use super::upload::Activity;
use super::upstream::{Lease, flooded, h2_failure, malformed};
use super::validate::{PLATFORM_COOKIE, Validated};
use super::{NOTHING, h1, rules};
use crate::bundle::Trusted;

/// Pieces up to this many octets are copied behind the frame before them, so that a small response is one write.
const COPY_LEN_MAX: usize = 4 * 1024;

/// Sends the request and passes the response on. Gives back the upstream's connection, good for another request.
pub(super) async fn respond(
    validated: &mut Validated,
    body: RequestBody,
    to: &mut ToEdge,
    activity: &Activity,
) -> Result<Lease, Ended> {
    let upstream = Arc::clone(validated.upstream());
    let informational = Arc::new(Informational::default());
    let sending = upstream.send(validated, body, &informational);
    let (response, lease) = interim_until(sending, &informational, to, activity).await?;
    activity.has_head();
    pass_response(response, validated, to, activity).await?;
    Ok(lease)
}

/// Passes 1xx heads on as they come, until what is `sending` has the final one.
pub(super) async fn interim_until<T>(
    sending: impl Future<Output = Result<T, Failure>>,
    informational: &Informational,
    to: &mut ToEdge,
    activity: &Activity,
) -> Result<T, Ended> {
    let mut sending = std::pin::pin!(sending);
    loop {
        tokio::select! {
            biased;
            heads = informational.next() => {
                activity.touch();
                pass_informational(heads.map_err(|Flood| flooded())?, to).await?;
            }
            sent = &mut sending => {
                // They may have come in one piece with the final head.
                pass_informational(informational.take().map_err(|Flood| flooded())?, to).await?;
                return Ok(sent?);
            }
        }
    }
}

/// Passes a final response on, to its end.
pub(super) async fn pass_response(
    response: Response<AnswerBody>,
    validated: &Validated,
    to: &mut ToEdge,
    activity: &Activity,
) -> Result<(), Ended> {
    let (parts, mut body) = response.into_parts();
    let head = response_head(parts, &body, validated)?;
    let whole = body.is_end_stream();
    to.encoder.response(&head, whole).map_err(|why| malformed(why.to_string()))?;
    if !whole {
        pass_body(&mut body, to, activity).await?;
    }
    to.finish().await.map_err(Ended::Edge)
}

async fn pass_informational(heads: Vec<ResponseHead>, to: &mut ToEdge) -> Result<(), Ended> {
    for mut head in heads {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            continue; // HTTP/2 has no such thing (RFC 9113 §8.6)
        }
        headers::strip_response(&mut head.headers);
        head.headers.remove(header::CONTENT_LENGTH);
        to.encoder.informational(&head).map_err(|why| malformed(why.to_string()))?;
    }
    if to.encoder.is_empty() { Ok(()) } else { to.flush(NOTHING).await.map_err(Ended::Edge) }
}

/// Passes data and trailers on as they come; what is there at once goes out in one write with the head.
async fn pass_body(body: &mut AnswerBody, to: &mut ToEdge, activity: &Activity) -> Result<(), Ended> {
    let mut head_sent = false;
    loop {
        let frame = if let Some(frame) = body.frame().now_or_never() {
            frame
        } else {
            if !to.encoder.is_empty() {
                to.flush(NOTHING).await.map_err(Ended::Edge)?;
                head_sent = true;
            }
            body.frame().await
        };
        activity.touch();
        let frame = match frame {
            None => {
                to.encoder.end();
                return Ok(());
            }
            Some(Ok(frame)) => frame,
            Some(Err(_)) if head_sent => return Err(Ended::Cut(ResetCode::UpstreamCut)),
            // Nothing of the response has left yet, so the client can still be told properly.
            Some(Err(why)) => {
                let Failure { code, detail, started } = match &why {
                    BodyError::H1(why) => h1::failure(why, true),
                    BodyError::H2(why) => h2_failure(why, true),
                };
                let detail = format!("the response broke off: {detail}");
                return Err(Ended::Failed(Failure { code, detail, started }));
            }
        };
        match frame.into_data() {
            Ok(piece) if piece.len() <= COPY_LEN_MAX && to.encoder.len() <= COPY_LEN_MAX => {
                to.encoder.data(&piece);
            }
            Ok(piece) => {
                to.encoder.data_header(piece.len());
                to.flush(piece).await.map_err(Ended::Edge)?;
                head_sent = true;
                activity.touch();
            }
            Err(frame) => {
                let Ok(mut trailers) = frame.into_trailers() else { continue };
                headers::strip_response_trailers(&mut trailers);
                return to.encoder.trailers(&trailers).map_err(|_| Ended::Cut(ResetCode::UpstreamCut));
            }
        }
        if body.is_end_stream() {
            to.encoder.end();
            return Ok(());
        }
    }
}

/// The head as the edge gets it: stripped, its length true, no cookies for hosts that are not the upstream's.
fn response_head(
    parts: http::response::Parts,
    body: &AnswerBody,
    validated: &Validated,
) -> Result<ResponseHead, Ended> {
    if parts.status.is_informational() {
        return Err(malformed(format!("status {} was not asked for", parts.status.as_u16())).into());
    }
    let mut head = cleared(parts, validated);
    set_length(&mut head.headers, head.status, validated.method(), body)?;
    Ok(head)
}

/// The head of a switch to another protocol, as the edge gets it. Which one it is the edge knows.
pub(super) fn switched_head(parts: http::response::Parts, validated: &Validated) -> ResponseHead {
    let mut head = cleared(parts, validated);
    head.headers.remove(header::CONTENT_LENGTH);
    head
}

/// Without what must not reach a client, and with what the route's rules make of it.
fn cleared(parts: http::response::Parts, validated: &Validated) -> ResponseHead {
    let http::response::Parts { status, mut headers, .. } = parts;
    headers::strip_response(&mut headers);
    keep_own_cookies(&mut headers, validated.trusted());
    rules::response(validated.rules(), &mut headers);
    ResponseHead { status, headers }
}

/// Leaves the `content-length` that is true, or none. Where there is no body it may tell what GET would bring.
fn set_length(
    headers: &mut HeaderMap,
    status: StatusCode,
    method: &Method,
    body: &AnswerBody,
) -> Result<(), Ended> {
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        let one = headers.get_all(header::CONTENT_LENGTH).iter().count() <= 1;
        let number =
            |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
        if !one || !headers.get(header::CONTENT_LENGTH).is_none_or(number) {
            return Err(malformed("content-length is malformed").into());
        }
        return Ok(());
    }
    match body.size_hint().exact() {
        // RFC 9110 §8.6: never with 204.
        Some(_) if status == StatusCode::NO_CONTENT => {
            headers.remove(header::CONTENT_LENGTH);
        }
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    Ok(())
}

/// Removes cookies that pose as the platform's or reach for another tenant's host (R9).
fn keep_own_cookies(headers: &mut HeaderMap, trusted: &Trusted) {
    let allowed =
        |value: &HeaderValue| cookie_is_allowed(value, &trusted.login_host, trusted.origin_host.as_ref());
    if headers.get_all(header::SET_COOKIE).iter().all(allowed) {
        return;
    }
    let kept: Vec<_> =
        headers.get_all(header::SET_COOKIE).iter().filter(|value| allowed(value)).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

fn cookie_is_allowed(value: &HeaderValue, login: &Host, origin: Option<&Host>) -> bool {
    let mut parts = value.as_bytes().split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    if name.get(..PLATFORM_COOKIE.len()).is_some_and(|start| start.eq_ignore_ascii_case(PLATFORM_COOKIE)) {
        return false;
    }
    // The last Domain counts (RFC 6265 §5.3); all of them are looked at, so that order does not matter.
    parts.all(|attribute| {
        let mut halves = attribute.splitn(2, |byte| *byte == b'=');
        let is_domain = halves.next().is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"domain"));
        let domain = halves.next().unwrap_or_default().trim_ascii();
        if !is_domain || domain.is_empty() {
            return true;
        }
        let domain = domain.strip_prefix(b".").unwrap_or(domain);
        let Some(domain) = std::str::from_utf8(domain).ok().and_then(|text| Host::parse(text).ok()) else {
            return false;
        };
        let reaches_login = *login == domain || login.is_below(&domain);
        // The endpoint's parent holds all tenants' endpoints.
        let reaches_siblings = origin.is_some_and(|origin| origin.is_below(&domain));
        !reaches_login && !reaches_siblings
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r09_a_workload_sets_no_cookie_for_the_platform_or_its_neighbours() {
        let login = Host::parse("login.mezu.localhost").unwrap();
        let origin = Host::parse("shop.apps.example").unwrap();
        let rows = [
            ("a=1", true),
            ("a=1; Path=/; HttpOnly", true),
            ("a=1; Domain=shop.apps.example", true),
            ("a=1; Domain=custom.example", true),
            ("a=1; domain=", true),
            ("a=1; Domain=apps.example", false),
            ("a=1; Domain=.apps.example", false),
            ("a=1; DOMAIN = example", false),
            ("a=1; Domain=login.mezu.localhost", false),
            ("a=1; Domain=mezu.localhost", false),
            ("a=1; Domain=localhost", false),
            ("a=1; Domain=custom.example; Domain=mezu.localhost", false),
            ("a=1; Domain=\u{e9}", false),
            ("__Host-mezu-session=x", false),
            (" __HOST-MEZU-state = x", false),
            ("__Host-other=x", true),
        ];
        for (cookie, allowed) in rows {
            let value = HeaderValue::from_bytes(cookie.as_bytes()).unwrap();
            assert_eq!(cookie_is_allowed(&value, &login, Some(&origin)), allowed, "{cookie}");
        }
    }
}
