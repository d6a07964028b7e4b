//! The second decision: is this exchange what control allows, whatever the edge says (R6).
//!
//! [`validate`] is the only maker of [`Validated`], and the upstream client takes nothing else. Everything
//! is decided on the bundle in force: host, route, policy, caller, upstream. What a client or a lying edge could
//! have slipped into the headers is stripped again, and ours are set last (R4, R5, R9, R10).

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use mezusphere_model::path::RequestPath;
use mezusphere_model::policy::{self, Circumstances};
use mezusphere_model::route::{AuthMode, RouteDoc, RouteTimeouts};
use mezusphere_model::rules::RouteRules;
use tunnel_proto::exchange::{FailureCode, RequestHead, Scheme};
use tunnel_proto::headers;
use tunnel_proto::limits::CLOCK_SKEW_MAX;

use super::principal::{Principals, Verified};
use super::upstream::Upstream;
use super::{Gate, Refused, propagate, rules};
use crate::bundle::Trusted;

/// A request that may go to its upstream, exactly as it goes there.
#[derive(Debug)]
pub(crate) struct Validated {
    upstream: Arc<Upstream>,
    route: Arc<RouteDoc>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    length: BodyLength,
    /// The protocol to switch to, if the client asked for one.
    upgrade: Option<String>,
    trusted: Arc<Trusted>,
}

/// How the end of the request body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// There is none.
    None,
    /// So many octets, as `content-length` says.
    Exactly(u64),
    /// By an end of its own.
    Unknown,
}

impl Validated {
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    pub(crate) fn length(&self) -> BodyLength {
        self.length
    }

    pub(crate) fn timeouts(&self) -> RouteTimeouts {
        self.route.timeouts
    }

    /// What the route does to requests and responses.
    pub(crate) fn rules(&self) -> &RouteRules {
        &self.route.rules
    }

    /// The target: path and query, as the upstream gets them.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The protocol to switch to, if the client asked for one.
    pub(crate) fn upgrade(&self) -> Option<&str> {
        self.upgrade.as_deref()
    }

    /// The bundle it was decided on.
    pub(crate) fn trusted(&self) -> &Arc<Trusted> {
        &self.trusted
    }

    /// The request as the upstream gets it, around `body`.
    pub(crate) fn request<B>(&self, headers: HeaderMap, body: B) -> http::Request<B> {
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        request
    }

    /// Its header fields, taken out: they are sent once.
    pub(crate) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }
}

/// Decides whether the exchange that begins with `head` may reach an upstream; `end`: nothing follows the head.
///
/// Waits up to [`crate::limits::REVISION_WAIT_MAX`] if the edge names a newer bundle than ours.
pub(crate) async fn validate(
    head: RequestHead,
    end: bool,
    gate: &Gate,
    principals: &Principals,
) -> Result<Validated, Refused> {
    let mut trusted = gate.bundles.current().clone();
    if head.revision > trusted.revision() {
        trusted = gate.bundles.at_least(head.revision).await;
        if head.revision > trusted.revision() {
            let detail = format!("bundle {} did not come; this one is {}", head.revision, trusted.revision());
            return Err(Refused::new(FailureCode::UnknownRevision, detail));
        }
    }
    if head.method == Method::CONNECT {
        return Err(malformed("a CONNECT is not forwarded"));
    }
    let route = find_route(&head, &trusted)?;
    let now = gate.clock.now();
    let caller = match route.auth_in_force() {
        // No identity is looked for on a public route and none is forwarded, whatever the edge says.
        AuthMode::Public => None,
        AuthMode::Optional | AuthMode::Required => principals.find(&head.identity, &trusted, now)?,
    };
    // Where the client is, only the edge knows; when it signed in, the assertion says, by control's clock.
    let circumstances = Circumstances { client: head.client, now: now.before(CLOCK_SKEW_MAX) };
    let permit = policy::decide(&route, caller.as_ref().map(|verified| &verified.identity), &circumstances)
        .map_err(|why| Refused::new(FailureCode::Denied, why.to_string()))?;
    let caller = caller.filter(|_| permit.forwards_identity());
    let upstream = gate.upstream(&route.upstream).ok_or_else(|| {
        Refused::new(
            FailureCode::UnknownUpstream,
            format!("upstream {} is not declared here", route.upstream),
        )
    })?;

    let RequestHead { client, scheme, authority, method, target, mut headers, upgrade, .. } = head;
    let upgrade = upgrade_of(upgrade, &method)?;
    headers::strip_request(&mut headers);
    strip_platform_cookies(&mut headers);
    // Nothing is sent before a switch but the head.
    let length = body_length(&mut headers, &method, end || upgrade.is_some())?;
    set_forwarding(&mut headers, client, scheme, &authority)?;
    set_identity(&mut headers, caller.as_deref());
    rules::request(&route.rules, &mut headers);
    // After the rules: none of them says who the caller is.
    propagate::write(&route.identity, caller.as_deref(), &mut headers);
    let target = match &route.rules.path {
        Some(rule) => rules::target(rule, &target).map_err(|why| malformed(&why.to_string()))?,
        None => target,
    };
    Ok(Validated { upstream, uri: uri(target)?, method, headers, length, upgrade, route, trusted })
}

/// The protocol to switch to. One that is HTTP again is passed over, as a server may (RFC 9110 §7.8): requests inside
/// it would be decided on by nobody.
fn upgrade_of(asked: Option<String>, method: &Method) -> Result<Option<String>, Refused> {
    let Some(protocol) = asked else { return Ok(None) };
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-./^_`|~".contains(&byte);
    if protocol.is_empty() || !protocol.bytes().all(is_token) {
        return Err(malformed("the protocol to switch to is no token"));
    }
    let name = protocol.split('/').next().unwrap_or_default();
    if ["h2c", "h2", "http", "tls"].iter().any(|carrier| name.eq_ignore_ascii_case(carrier)) {
        return Ok(None);
    }
    if name.eq_ignore_ascii_case("websocket") && *method != Method::GET {
        return Err(malformed("a WebSocket begins with GET"));
    }
    Ok(Some(protocol))
}

/// The route of our own bundle for this request, if it is the one the edge chose.
fn find_route(head: &RequestHead, trusted: &Trusted) -> Result<Arc<RouteDoc>, Refused> {
    let refuse = |detail: String| Refused::new(FailureCode::UnknownRoute, detail);
    let host = host_of(&head.authority).ok_or_else(|| malformed("the authority is malformed"))?;
    if !trusted.serves(host) {
        return Err(refuse("this environment is not published under the request's host".to_owned()));
    }
    let path = head.target.split_once('?').map_or(head.target.as_str(), |(path, _)| path);
    let path = RequestPath::parse(path).map_err(|why| malformed(&why.to_string()))?;
    let route = trusted.site.find(&path, head.method.as_str()).map_err(|why| refuse(why.to_string()))?;
    if route.id != head.route {
        return Err(refuse(format!(
            "the edge chose route {}, but the path leads to {}",
            head.route, route.id
        )));
    }
    Ok(Arc::clone(route))
}

/// The host of `host[:port]`; addresses are no hosts here.
fn host_of(authority: &str) -> Option<&str> {
    match authority.split_once(':') {
        None => Some(authority),
        Some((host, port)) => port.parse::<u16>().ok().map(|_| host),
    }
}

/// Removes the platform's own cookies: a workload must not hold what signs its users in.
fn strip_platform_cookies(headers: &mut HeaderMap) {
    let is_ours = |pair: &[u8]| {
        let start = pair.trim_ascii_start().get(..PLATFORM_COOKIE.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(PLATFORM_COOKIE))
    };
    let pairs = |value: &HeaderValue, found: &dyn Fn(&[u8]) -> bool| {
        value.as_bytes().split(|byte| *byte == b';').any(found)
    };
    if !headers.get_all(header::COOKIE).iter().any(|value| pairs(value, &is_ours)) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| {
            let ours_out: Vec<&[u8]> =
                value.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_ours(pair)).collect();
            let joined = ours_out.join(&b';');
            HeaderValue::from_bytes(joined.trim_ascii()).ok().filter(|value| !value.is_empty())
        })
        .collect();
    headers.remove(header::COOKIE);
    for value in kept {
        headers.append(header::COOKIE, value);
    }
}

/// What the names of the platform's cookies start with, in any case.
pub(super) const PLATFORM_COOKIE: &[u8] = b"__host-mezu";

fn uri(target: String) -> Result<Uri, Refused> {
    let asked = target.len();
    let parsed = PathAndQuery::from_maybe_shared(Bytes::from(target))
        .map_err(|_| malformed("the target is malformed"))?;
    // The parser drops a fragment; a target that has one is refused, never shortened.
    if parsed.as_str().len() == asked {
        Ok(Uri::from(parsed))
    } else {
        Err(malformed("the target has a fragment"))
    }
}

/// Makes framing unambiguous: one `content-length` that is true, or one `transfer-encoding`, or neither.
///
/// With a length that lies, what follows on the upstream's connection would be read as part of this request.
fn body_length(headers: &mut HeaderMap, method: &Method, end: bool) -> Result<BodyLength, Refused> {
    let declared = {
        let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
        match (values.next(), values.next()) {
            (None, _) => None,
            (Some(one), None) => Some(number(one).ok_or_else(|| malformed("content-length is malformed"))?),
            (Some(_), Some(_)) => return Err(malformed("there is more than one content-length")),
        }
    };
    match (declared, end) {
        (Some(0), true) => Ok(BodyLength::None),
        (None, true) => {
            // Some servers wait for a body, or answer 411, unless told that there is none (RFC 9110 §8.6).
            if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            Ok(BodyLength::None)
        }
        (Some(_), true) => Err(malformed("content-length announces a body that does not follow")),
        (Some(length), false) => Ok(BodyLength::Exactly(length)),
        (None, false) => {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            Ok(BodyLength::Unknown)
        }
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Writes the headers that tell who the client is and what it asked for. Clients' own were stripped (R10).
fn set_forwarding(
    headers: &mut HeaderMap,
    client: IpAddr,
    scheme: Scheme,
    authority: &str,
) -> Result<(), Refused> {
    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
    const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

    let authority_value =
        HeaderValue::from_str(authority).map_err(|_| malformed("the authority is malformed"))?;
    let (proto, default_port) = match scheme {
        Scheme::Http => ("http", "80"),
        Scheme::Https => ("https", "443"),
    };
    let port = authority.split_once(':').map_or(default_port, |(_, port)| port);
    // RFC 7239 §6: an IPv6 address stands in brackets and quotes.
    let forwarded = match client {
        IpAddr::V4(address) => format!("for={address};host=\"{authority}\";proto={proto}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\";host=\"{authority}\";proto={proto}"),
    };
    let value =
        |text: String| HeaderValue::try_from(text).map_err(|_| malformed("the authority is malformed"));
    let address = value(client.to_string())?;
    headers.insert(header::FORWARDED, value(forwarded)?);
    headers.insert(X_FORWARDED_PORT, value(port.to_owned())?);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers.insert(X_FORWARDED_FOR, address.clone());
    headers.insert(X_REAL_IP, address);
    headers.insert(X_FORWARDED_HOST, authority_value.clone());
    headers.insert(header::HOST, authority_value);
    Ok(())
}

fn set_identity(headers: &mut HeaderMap, caller: Option<&Verified>) {
    match caller {
        Some(verified) => verified.write_headers(headers),
        None => headers::set_identity(headers, None),
    }
}

fn malformed(detail: &str) -> Refused {
    Refused::new(FailureCode::RequestMalformed, detail.to_owned())
}
