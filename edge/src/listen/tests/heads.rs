//! Heads of requests at the limits, and what is said of those that are too long: the same whatever a client speaks.

use ::http::StatusCode;

use super::*;

impl Rig {
    /// With so many fields.
    pub(super) fn with_fields(&self, count: usize) -> Request<()> {
        let mut request = self.get("/");
        for _ in 0..count {
            request.headers_mut().append("a", HeaderValue::from_static("b"));
        }
        request
    }

    /// With a field whose value has so many octets.
    pub(super) fn with_field_of(&self, len: usize) -> Request<()> {
        let mut request = self.get("/");
        request.headers_mut().insert("a", HeaderValue::try_from("b".repeat(len)).unwrap());
        request
    }
}

/// That this is what a client hears whose field has `len` octets, as on HTTP/1.1.
pub(super) fn is_told_too_large((status, headers, said): &(StatusCode, HeaderMap, Bytes), len: usize) {
    assert_eq!(*status, 431);
    assert_eq!(headers["mezu-error"], "edge.too_large; hop=client", "{len}");
    assert!(String::from_utf8_lossy(said).contains("longer than 32768 octets"), "{len}: as on h1");
}
