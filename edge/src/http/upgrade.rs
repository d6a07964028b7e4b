//! A client's wish to speak another protocol on its connection: `Upgrade` on HTTP/1.1 (RFC 9110 §7.8) and the extended
//! CONNECT of HTTP/2 (RFC 8441), in one form.
//!
//! A request that carries [`Upgrade`] in its extensions has as its body what the client sends *after* the switch: it is
//! not to be pulled before the upstream has said 101. The response says 101 whatever the
//! client speaks, and has as its body what the upstream sends. **An end of one direction is not the end of both**: the
//! response's body says the end of the upstream's bytes by a frame of empty trailers, and ends when both directions
//! have. Any other final status refuses the switch and is a response like any other.

use ::http::header::{CONNECTION, HeaderMap, UPGRADE};
use ::http::{Method, Version, request};
use tunnel_proto::limits::UPGRADE_LEN_MAX;

/// The protocol a client wants to switch to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    protocol: Box<str>,
}

/// Protocols that carry requests of their own, or hide the octets from the edge: a connection switched to them would let
/// a client ask for what nobody decided about. Such a wish is passed over, as RFC 9110 §7.8 permits.
const NEVER: [&str; 5] = ["h2c", "h2", "h3", "http", "tls"];

impl Upgrade {
    /// WebSocket (RFC 6455).
    pub const WEBSOCKET: &'static str = "websocket";

    /// A wish for `protocol`, a token with perhaps a version behind a slash, as the client wrote it. `None` for what is
    /// no token, is too long, or is never switched to.
    pub fn to(protocol: &str) -> Option<Self> {
        let name = protocol.split('/').next().unwrap_or_default();
        let is_token = protocol.split('/').count() <= 2
            && protocol
                .split('/')
                .all(|part| !part.is_empty() && part.bytes().all(super::h1::head::is_token_byte));
        if !is_token
            || protocol.len() > UPGRADE_LEN_MAX
            || NEVER.iter().any(|never| never.eq_ignore_ascii_case(name))
        {
            return None;
        }
        let is_websocket = protocol.eq_ignore_ascii_case(Self::WEBSOCKET);
        Some(Self { protocol: if is_websocket { Self::WEBSOCKET.into() } else { protocol.into() } })
    }

    /// `websocket`, or the token as the client wrote it.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Whether it is WebSocket, which browsers speak and which is therefore asked for its origin (R16).
    pub fn is_websocket(&self) -> bool {
        &*self.protocol == Self::WEBSOCKET
    }

    /// The first protocol an HTTP/1.1 request without a body asks for and may have; `None`: none, and the request is to
    /// be served like any other.
    pub(super) fn of_h1(head: &request::Parts, has_body: bool) -> Option<Self> {
        if has_body || head.version != Version::HTTP_11 || head.method == Method::CONNECT {
            return None;
        }
        // Without `Connection: upgrade` the field was meant for somebody before us.
        if !lists(&head.headers, CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade")) {
            return None;
        }
        lists(&head.headers, UPGRADE).find_map(Self::to)
    }
}

/// The members of a list field, in order.
fn lists(headers: &HeaderMap, name: ::http::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use ::http::Request;

    use super::*;

    fn wished(method: &str, version: Version, fields: &[(&str, &str)], has_body: bool) -> Option<String> {
        let mut request = Request::builder().method(method).version(version).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Upgrade::of_h1(&head, has_body).map(|upgrade| upgrade.protocol().to_owned())
    }

    #[test]
    fn the_first_protocol_that_may_be_had_is_taken() {
        let rows = [
            (("Upgrade", "websocket"), Some("websocket")),
            (("keep-alive, upgrade", "WebSocket"), Some("websocket")),
            (("upgrade", "SPDY/3.1"), Some("SPDY/3.1")),
            (("upgrade", "h2c, tcp"), Some("tcp")),
            (("upgrade", "b@d, a/b/c, /x, tcp"), Some("tcp")),
            (("keep-alive", "websocket"), None),
            (("upgrade", ""), None),
        ];
        for ((connection, upgrade), expected) in rows {
            let fields = [("connection", connection), ("upgrade", upgrade)];
            let found = wished("GET", Version::HTTP_11, &fields, false);
            assert_eq!(found.as_deref(), expected, "{connection} {upgrade}");
        }
    }

    #[test]
    fn r01_nobody_switches_to_a_protocol_that_carries_requests_nobody_decides_about() {
        for protocol in ["h2c", "H2C", "h2", "h3", "HTTP/2.0", "http/1.1", "TLS/1.2", "tls"] {
            assert_eq!(Upgrade::to(protocol), None, "{protocol}");
        }
    }

    #[test]
    fn an_upgrade_is_asked_for_by_http_11_without_a_body() {
        let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert!(wished("GET", Version::HTTP_11, &fields, false).is_some());
        assert!(wished("POST", Version::HTTP_11, &fields, false).is_some());
        assert!(wished("POST", Version::HTTP_11, &fields, true).is_none());
        assert!(wished("GET", Version::HTTP_10, &fields, false).is_none());
        assert!(wished("CONNECT", Version::HTTP_11, &fields, false).is_none());
    }
}
