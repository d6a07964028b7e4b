//! The keys that applications verify assertions with. Public.

use ::http::Method;
use ::http::StatusCode;
use ::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use bytes::Bytes;

use super::super::ServerParts;
use super::super::inbound::Inbound;
use super::super::refusal::Refusal;
use super::super::respond::{self, Own};

/// How a JWK set is labelled (RFC 7517 §8.5.2).
const KIND: &str = "application/jwk-set+json";

pub(super) fn tell(inbound: &Inbound<'_>, parts: &ServerParts) -> Result<Own, Refusal> {
    let platform = parts.view.platform().ok_or(Refusal::Starting)?;
    let mut response = respond::json(StatusCode::OK, KIND, String::new(), inbound.ask.asker());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(KIND));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(platform.jwks.len()));
    // New keys are published long before they sign.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.remove(ALLOW);
    if inbound.ask.method != Method::HEAD {
        *response.body_mut() = Bytes::clone(&platform.jwks);
    }
    Ok(response)
}
