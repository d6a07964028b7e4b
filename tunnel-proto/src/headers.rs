//! What both ends remove from requests, responses and trailers, and the identity headers a workload gets.
//!
//! Pure functions over [`HeaderMap`]. The edge strips what a client sent, the warpgate strips the same again
//! (a lying edge gains nothing), and adds ours last, so that nothing a client wrote can remove them.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use mezusphere_model::header as names;

use crate::assertion::Claims;

/// End-to-end fields that a `Connection` field cannot remove (RFC 9110 §7.6.1 forbids naming them there):
/// without them the rest would mean something else.
const NOT_REMOVABLE: [&str; 14] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "origin",
    "range",
    "set-cookie",
    "sec-fetch-site",
    "trailer",
];

/// Fields that mean nothing, or harm, in trailers (RFC 9110 §6.5.1): framing, routing, authentication,
/// modifiers of the request and of how content is read.
const NOT_IN_TRAILERS: [&str; 24] = [
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "range",
    "retry-after",
    "set-cookie",
    "vary",
    "www-authenticate",
];

/// Removes from a client's request what must not reach a workload: hop-by-hop fields and those `Connection`
/// names, every spelling of ours and of what other proxies call the caller by (R4), what claims to tell the
/// client's address (R10), and names that a workload could fold to another (`_` for `-`, R5). `host` stays the
/// caller's business.
pub fn strip_request(headers: &mut HeaderMap) {
    remove_named_by_connection(headers);
    remove(headers, is_unwanted_of_clients);
}

/// Removes from a workload's response what must not reach a client: hop-by-hop fields, those `Connection`
/// names, and every spelling of ours.
pub fn strip_response(headers: &mut HeaderMap) {
    remove_named_by_connection(headers);
    remove(headers, |name| names::is_reserved(name) || is_hop_by_hop(name));
}

/// Removes from a client's trailers what [`strip_request`] removes from its head, and what has no place in trailers.
pub fn strip_request_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| is_unwanted_of_clients(name) || NOT_IN_TRAILERS.contains(&name));
}

/// Removes from a workload's trailers what [`strip_response`] removes from its head, and what has no place in trailers.
pub fn strip_response_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| {
        names::is_reserved(name) || is_hop_by_hop(name) || NOT_IN_TRAILERS.contains(&name)
    });
}

/// Whether a field of this name belongs to one connection only; `name` in lower case.
pub fn is_hop_by_hop(name: &str) -> bool {
    names::HOP_BY_HOP.contains(&name)
}

/// Sets each of [`names::IDENTITY`] once: from `claims` and the JWS they came in, or empty for nobody.
///
/// Anything of those names that is in `headers` already is replaced.
pub fn set_identity(headers: &mut HeaderMap, identity: Option<(&Claims, &str)>) {
    let Some((claims, jws)) = identity else {
        for name in names::IDENTITY {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(""));
        }
        return;
    };
    let list = |names: &[mezusphere_model::slug::Name]| {
        names.iter().map(|name| names::encode_value(name.as_str())).collect::<Vec<_>>().join(",")
    };
    let rows = [
        (names::USER_ID, names::encode_value(&claims.sub.to_string())),
        (names::USER_EMAIL, names::encode_value(&claims.email)),
        (names::USER_NAME, names::encode_value(&claims.name)),
        (names::AUTH_METHOD, names::encode_value(&claims.amr.join("+"))),
        (names::AUTH_TIME, mezusphere_model::Timestamp::from_seconds(claims.auth_time).to_string()),
        (names::ROLES, list(&claims.roles)),
        (names::PERMISSIONS, list(&claims.permissions)),
        (names::SESSION_ID, claims.sid.map(|session| session.to_string()).unwrap_or_default()),
        (names::ASSERTION, jws.to_owned()),
    ];
    for (name, value) in rows {
        // Encoded values are printable ASCII; a JWS that is not would be no JWS.
        let value = HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""));
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn is_unwanted_of_clients(name: &str) -> bool {
    names::is_reserved(name)
        || is_hop_by_hop(name)
        || names::is_ambiguous(name)
        || names::is_forwarding(name)
        || names::is_alias(name)
}

/// Removes the fields whose names `Connection` lists.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(http::header::CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(http::header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|octet| *octet == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .filter(|name| !NOT_REMOVABLE.contains(&name.as_str()))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Removes the fields whose names `unwanted` picks. Takes no memory when there are none.
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}
