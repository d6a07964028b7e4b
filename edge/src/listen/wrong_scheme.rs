//! A client that speaks plain HTTP to the TLS port, told so in its own words: a TLS alert would reach a person as
//! "empty reply" or seven strange octets.
//!
//! Reads nothing but the first octets that came, decides nothing by them, and the connection ends with the answer.

use mezusphere_model::{Host, Platform};

/// How a request in the clear begins. TLS records begin with an octet below 32 (RFC 8446 §5.1).
const METHODS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PRI * HTTP/2"];

/// Most octets of a request that are looked at: its line and the first fields, where `host` stands.
pub(super) const HEAD_LEN_MAX: usize = 2048;

/// Whether a connection that begins so speaks plain HTTP.
pub(super) fn is_plain_http(first: &[u8]) -> bool {
    METHODS.iter().any(|method| first.starts_with(method))
}

/// What such a client gets: a complete response of HTTP/1.1, which an HTTP/2 client shows as well.
pub(super) fn answer(first: &[u8], platform: &Platform) -> Vec<u8> {
    let text = match host(first) {
        Some(host) => format!("This port speaks HTTPS: {}/\n", platform.origin(&host)),
        None => "This port speaks HTTPS.\n".to_owned(),
    };
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

/// The host of the request, proven to be a name: nothing else of what the client sent is repeated to it.
fn host(first: &[u8]) -> Option<Host> {
    let head = std::str::from_utf8(first.get(..HEAD_LEN_MAX).unwrap_or(first)).ok()?;
    let mut fields = head.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    let field = fields.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    })?;
    let name = match field.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => field,
    };
    Host::parse(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(first: &str) -> String {
        let platform = Platform::development(8443).unwrap();
        let answer = String::from_utf8(answer(first.as_bytes(), &platform)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 400 ") && head.contains(&format!("Content-Length: {}", body.len()))
        );
        body.to_owned()
    }

    #[test]
    fn whoever_speaks_plain_http_is_told_the_right_address() {
        let rows = [
            (
                "GET / HTTP/1.1\r\nHost: shop.localhost:8443\r\n\r\n",
                "This port speaks HTTPS: https://shop.localhost:8443/\n",
            ),
            (
                "GET / HTTP/1.1\r\nAccept: */*\r\nhost:Shop.Localhost\r\n\r\n",
                "This port speaks HTTPS: https://shop.localhost:8443/\n",
            ),
            ("GET / HTTP/1.0\r\n\r\nHost: evil.example", "This port speaks HTTPS.\n"),
            ("GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", "This port speaks HTTPS.\n"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "This port speaks HTTPS.\n"),
        ];
        for (request, told) in rows {
            assert!(is_plain_http(request.as_bytes()), "{request}");
            assert_eq!(text(request), told, "{request}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_plain_http() {
        for first in
            [&b""[..], b"G", b"GET", b"\x16\x03\x01\x02\x00\x01", b"\x15\x03\x03", b"SSH-2.0-x", b"get / "]
        {
            assert!(!is_plain_http(first), "{first:?}");
        }
    }
}
