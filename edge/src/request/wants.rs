//! What a client can show: a page for a person, or a problem document for a program.
//!
//! Decided by `Sec-Fetch-*`, then `Accept`, then `X-Requested-With`; never by the user agent's name.

use ::http::Method;
use ::http::header::{ACCEPT, HeaderMap};

/// The form of an answer that the edge gives itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// HTML.
    Page,
    /// `application/problem+json` (RFC 9457).
    Problem,
}

impl Wants {
    /// Reads the request's fields.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        if let Some(mode) = headers.get("sec-fetch-mode") {
            // A script's fetch may accept anything; only a navigation ends in a person's window.
            return if mode == "navigate" { Self::Page } else { Self::Problem };
        }
        let html = headers.get_all(ACCEPT).iter().any(|field| accepts_html(field.as_bytes()));
        if html && !headers.contains_key("x-requested-with") { Self::Page } else { Self::Problem }
    }

    /// Whether the request may be answered by sending the browser to sign in: a person's window that loses
    /// nothing by going elsewhere first.
    pub(crate) fn may_redirect(self, method: &Method) -> bool {
        self == Self::Page && (method == Method::GET || method == Method::HEAD)
    }
}

/// Whether an `Accept` field names HTML with a weight above zero (RFC 9110 §12.5.1). `*/*` alone is a program.
fn accepts_html(field: &[u8]) -> bool {
    field.split(|byte| *byte == b',').any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let named = parts.next().is_some_and(|kind| {
            kind.eq_ignore_ascii_case(b"text/html") || kind.eq_ignore_ascii_case(b"application/xhtml+xml")
        });
        let zero = |part: &[u8]| {
            part.strip_prefix(b"q=")
                .or_else(|| part.strip_prefix(b"Q="))
                .is_some_and(|weight| !weight.iter().any(|byte| (b'1'..=b'9').contains(byte)))
        };
        named && !parts.any(zero)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;

    #[test]
    fn a_page_goes_to_people_and_a_problem_to_programs() {
        let rows: [(&[(&str, &str)], Wants); 11] = [
            (&[], Wants::Problem),
            (&[("accept", "*/*")], Wants::Problem),
            (&[("accept", "application/json")], Wants::Problem),
            (&[("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")], Wants::Page),
            (&[("accept", "TEXT/HTML")], Wants::Page),
            (&[("accept", "text/html;q=0, application/json")], Wants::Problem),
            (&[("accept", "text/html;q=0.0")], Wants::Problem),
            (&[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")], Wants::Problem),
            (&[("accept", "text/html"), ("sec-fetch-mode", "cors")], Wants::Problem),
            (&[("accept", "*/*"), ("sec-fetch-mode", "navigate")], Wants::Page),
            (&[("sec-fetch-mode", "navigate"), ("x-requested-with", "x")], Wants::Page),
        ];
        for (fields, wanted) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(Wants::read(&headers), wanted, "{fields:?}");
        }
    }

    #[test]
    fn only_a_navigation_that_carries_nothing_is_redirected() {
        assert!(Wants::Page.may_redirect(&Method::GET));
        assert!(Wants::Page.may_redirect(&Method::HEAD));
        assert!(!Wants::Page.may_redirect(&Method::POST));
        assert!(!Wants::Problem.may_redirect(&Method::GET));
    }
}
