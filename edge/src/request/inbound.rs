//! The first stage: what a request asks for, in canonical form, with everything removed that only we may say.
//!
//! After it, `host` and path are proven, our cookies and keys are in hands of their own, and no header of the
//! client's can be taken for one of ours (R3–R5, R9–R11).

use std::net::IpAddr;

use ::http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue};
use ::http::request::Parts;
use ::http::{Extensions, Method, Uri};
use http_body::Body as _;
use mezusphere_model::id::RequestId;
use mezusphere_model::path::RequestPath;
use mezusphere_model::token::ApiKeyToken;
use mezusphere_model::{Entropy, Host};

use super::authority::{self, Authority};
use super::cookie::{self, Cookies};
use super::refusal::Refusal;
use super::respond::{Asker, Wanted};
use super::wants::Wants;
use crate::http::{Body, ConnectionInfo, Protocol};

/// What can be said of every request, however malformed: enough to answer it and to write it down.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Its id, in every log line and on every page.
    pub(crate) id: RequestId,
    /// The client's address, from the socket.
    pub(crate) client: IpAddr,
    /// What the client speaks.
    pub(crate) protocol: Protocol,
    /// Its method.
    pub(crate) method: Method,
    /// Its target as the client sent it.
    pub(crate) uri: Uri,
    /// What the client can show.
    pub(crate) wants: Wants,
    /// Its `host` field as the client sent it, which HTTP/2 and 3 have in the target.
    pub(crate) host: Option<HeaderValue>,
}

impl Ask {
    /// The facts of a request that has just come.
    pub(crate) fn new(parts: &Parts, connection: &ConnectionInfo, entropy: &Entropy) -> Self {
        Self {
            id: RequestId::random(entropy),
            client: connection.client.ip().to_canonical(),
            protocol: connection.protocol,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            wants: Wants::read(&parts.headers),
            host: parts.headers.get(HOST).cloned(),
        }
    }

    /// Path and query as the client sent them.
    pub(crate) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// Where the client meant to go, for a page that says so. Nothing is decided by it.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        let named = self.uri.authority().map(::http::uri::Authority::as_str);
        let field = || self.host.as_ref().and_then(|field| field.to_str().ok());
        let host = named.or_else(field).and_then(|named| {
            let host = match named.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
                _ => named,
            };
            Host::parse(host).ok()
        });
        Wanted { host, path: self.uri.path() }
    }

    /// For whom an answer of the edge's own is.
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker { request: self.id, method: &self.method, wants: self.wants }
    }
}

/// Host and path of a request, proven.
#[derive(Debug)]
pub(crate) struct Address {
    /// For which host.
    pub(crate) authority: Authority,
    /// For which path, in every way it can be read.
    pub(crate) path: RequestPath,
}

/// Reads where a request is for.
pub(crate) fn address(ask: &Ask, parts: &Parts, connection: &ConnectionInfo) -> Result<Address, Refusal> {
    if parts.extensions.get::<h2::ext::Protocol>().is_some() {
        return Err(Refusal::ExtendedConnect);
    }
    // CONNECT asks for a raw connection; TRACE echoes fields that scripts must not see.
    if ask.method == Method::CONNECT || ask.method == Method::TRACE {
        return Err(Refusal::Method);
    }
    let authority = authority::read(&ask.uri, &parts.headers, connection)?;
    let path = RequestPath::parse(ask.uri.path())?;
    Ok(Address { authority, path })
}

/// A request for an application host, stripped of what is ours.
pub(crate) struct Inbound<'a> {
    /// What was asked.
    pub(crate) ask: &'a Ask,
    /// For which host and path.
    pub(crate) address: Address,
    /// The platform's cookies, taken out.
    pub(crate) cookies: Cookies,
    /// The platform's API key, taken out.
    pub(crate) key: Option<PresentedKey>,
    /// End-to-end fields of the client's own.
    pub(crate) headers: HeaderMap,
    /// Octets the body must have, if the head says.
    pub(crate) length: Option<u64>,
    /// The body; `None` if there is none.
    pub(crate) body: Option<Body>,
    /// What the connection handed along with the request: the way for interim responses, a switch of protocols.
    pub(crate) extensions: Extensions,
}

/// An API key of ours in an `Authorization` field.
#[derive(Debug)]
pub(crate) enum PresentedKey {
    /// A whole one.
    Whole(Box<ApiKeyToken>),
    /// One that begins like ours and is damaged.
    Damaged,
}

/// Strips a request for an application host.
pub(crate) fn strip(
    ask: &Ask,
    address: Address,
    mut headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Result<Inbound<'_>, Refusal> {
    let cookies = cookie::take(&mut headers);
    let key = take_key(&mut headers);
    tunnel_proto::headers::strip_request(&mut headers);
    headers.remove(HOST);
    // There is one expectation only, and the way for interim responses knows of it.
    headers.remove(EXPECT);
    let length = length(&headers)?;
    let body = (!body.is_end_stream()).then_some(body);
    if body.is_none() && length.is_some_and(|length| length > 0) {
        return Err(Refusal::Body);
    }
    Ok(Inbound { ask, address, cookies, key, headers, length, body, extensions })
}

/// Takes an API key of ours out of the request. Any other `Authorization` is the application's business.
fn take_key(headers: &mut HeaderMap) -> Option<PresentedKey> {
    let mut key = None;
    for field in headers.get_all(AUTHORIZATION) {
        let Some(text) = bearer(field.as_bytes()) else { continue };
        let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse::<ApiKeyToken>().ok());
        key = match (key, parsed) {
            (None, Some(whole)) => Some(PresentedKey::Whole(Box::new(whole))),
            // Two keys, or half of one: nobody can say who is meant.
            _ => Some(PresentedKey::Damaged),
        };
    }
    if key.is_some() {
        headers.remove(AUTHORIZATION);
    }
    key
}

/// What follows `Bearer` (RFC 6750 §2.1), if it begins like a key of ours.
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = field.split_at_checked(6)?;
    let token = rest.trim_ascii();
    let ours = scheme.eq_ignore_ascii_case(b"bearer")
        && rest.first().is_some_and(u8::is_ascii_whitespace)
        && token.starts_with(ApiKeyToken::PREFIX.as_bytes());
    ours.then_some(token)
}

/// The one `content-length`, if there is one (RFC 9110 §8.6).
pub(crate) fn length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    let digits = field.as_bytes();
    let ok = fields.next().is_none() && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = field.to_str().ok().filter(|_| ok).ok_or(Refusal::Body)?;
    text.parse().map(Some).map_err(|_| Refusal::Body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezusphere_model::token::Token;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_an_authorization_that_carries_our_key_is_taken() {
        let entropy = Entropy::counting();
        let secret = Token::random(&entropy);
        let key = ApiKeyToken { id: mezusphere_model::id::ApiKeyId::random(&entropy), secret };
        let text = key.reveal();
        let rows = [
            (format!("Bearer {text}"), Some(true)),
            (format!("bearer   {text} "), Some(true)),
            (format!("BEARER\t{text}"), Some(true)),
            (format!("Bearer {}", &text[..40]), Some(false)),
            ("Bearer mzk_".to_owned(), Some(false)),
            ("Bearer eyJhbGciOi".to_owned(), None),
            (format!("Basic {text}"), None),
            (format!("Bearer{text}"), None),
        ];
        for (value, whole) in rows {
            let mut headers = headers(&[("authorization", &value)]);
            let key = take_key(&mut headers);
            assert_eq!(key.as_ref().map(|key| matches!(key, PresentedKey::Whole(_))), whole, "{value}");
            assert_eq!(headers.contains_key(AUTHORIZATION), whole.is_none(), "{value}");
        }
        let mut two = HeaderMap::new();
        for _ in 0..2 {
            two.append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {text}")).unwrap());
        }
        assert!(matches!(take_key(&mut two), Some(PresentedKey::Damaged)));
    }

    #[test]
    fn r08_a_content_length_is_one_number() {
        assert_eq!(length(&headers(&[])), Ok(None));
        assert_eq!(length(&headers(&[("content-length", "12")])), Ok(Some(12)));
        for bad in ["", "+1", "-1", "1,1", "0x1", "99999999999999999999999", "1 2"] {
            assert_eq!(length(&headers(&[("content-length", bad)])), Err(Refusal::Body), "{bad:?}");
        }
        assert_eq!(length(&headers(&[("content-length", "1"), ("content-length", "1")])), Err(Refusal::Body));
    }
}
