//! What no client may say on h2 or h3, for tests that write frames themselves (R8).

/// The fields of a request that is in order.
pub(super) fn good(host: &str) -> [(&str, &str); 4] {
    [(":method", "POST"), (":scheme", "https"), (":authority", host), (":path", "/seen")]
}

/// Fields that may stand beside them.
pub(super) const FINE: [(&str, &str); 3] = [("x", "y"), ("te", "trailers"), ("content-length", "4")];

/// Fields that may not, where the body has four octets.
pub(super) const MALFORMED: [(&str, (&str, &str)); 14] = [
    ("connection", ("connection", "close")),
    ("keep-alive", ("keep-alive", "timeout=5")),
    ("proxy-connection", ("proxy-connection", "close")),
    ("transfer-encoding", ("transfer-encoding", "chunked")),
    ("upgrade", ("upgrade", "websocket")),
    ("te", ("te", "gzip")),
    ("CR in a value", ("x", "a\rb")),
    ("LF in a value", ("x", "a\nGET / HTTP/1.1")),
    ("NUL in a value", ("x", "a\0b")),
    ("LF in a name", ("x\n", "a")),
    ("a colon in a name", ("x:y", "a")),
    ("upper case", ("X", "a")),
    ("a shorter content-length", ("content-length", "3")),
    ("a content-length that is no number", ("content-length", "+4")),
];
