//! Where a request that changes something must come from, and its small body.

use ::http::header::{CONTENT_TYPE, HeaderMap, ORIGIN};
use http_body_util::BodyExt as _;

use super::super::refusal::Refusal;
use crate::http::Body;

/// Largest body any address of the edge's own takes, in octets: a form of one hidden field, or a code and a state.
const LEN_MAX: usize = 4096;

/// Refuses a form that another site's page sent. Either field may be missing (older browsers, privacy tools), not both.
pub(super) fn same_origin(headers: &HeaderMap, own: &str) -> Result<(), Refusal> {
    match said(headers, own) {
        (Some(true), Some(true) | None) | (None, Some(true)) => Ok(()),
        _ => Err(Refusal::Forged),
    }
}

/// The same for what browsers send to no other site without asking it first (Fetch §3.2: a method or type that no form has),
/// so that a program that is no browser need not say where it comes from.
pub(super) fn not_foreign(headers: &HeaderMap, own: &str) -> Result<(), Refusal> {
    match said(headers, own) {
        (Some(true) | None, Some(true) | None) => Ok(()),
        _ => Err(Refusal::Forged),
    }
}

/// Whether `origin` and `sec-fetch-site` say: from here. `None`: it is not there.
fn said(headers: &HeaderMap, own: &str) -> (Option<bool>, Option<bool>) {
    let all = |name: &str, wanted: &str| {
        let mut values = headers.get_all(name).iter().peekable();
        values.peek().is_some().then(|| values.all(|value| value == wanted))
    };
    (all(ORIGIN.as_str(), own), all("sec-fetch-site", "same-origin"))
}

/// The body, if it is of this media type and not too large.
pub(super) async fn body(headers: &HeaderMap, body: Option<Body>, kind: &str) -> Result<Vec<u8>, Refusal> {
    let is_kind = headers.get(CONTENT_TYPE).is_some_and(|said| {
        let said = said.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        said.trim_ascii().eq_ignore_ascii_case(kind.as_bytes())
    });
    let mut body = body.filter(|_| is_kind).ok_or(Refusal::Forged)?;
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Body)?.into_data() else { continue };
        if whole.len() + data.len() > LEN_MAX {
            return Err(Refusal::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    #[test]
    fn r16_a_form_from_another_site_is_refused() {
        let own = "https://shop.localhost:8443";
        // Whether a form is taken, and whether what no form can send is.
        let rows: [(Option<&str>, Option<&str>, bool, bool); 11] = [
            (Some(own), Some("same-origin"), true, true),
            (Some(own), None, true, true),
            (None, Some("same-origin"), true, true),
            (None, None, false, true),
            (Some("null"), None, false, false),
            (Some("null"), Some("same-origin"), false, false),
            (Some("https://shop.localhost"), None, false, false),
            (Some("http://shop.localhost:8443"), None, false, false),
            (Some("https://blog.localhost:8443"), Some("same-site"), false, false),
            (Some(own), Some("cross-site"), false, false),
            (None, Some("none"), false, false),
        ];
        for (origin, site, form, program) in rows {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            }
            assert_eq!(same_origin(&headers, own).is_ok(), form, "{origin:?} {site:?}");
            assert_eq!(not_foreign(&headers, own).is_ok(), program, "{origin:?} {site:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(ORIGIN, HeaderValue::from_static(own));
        twice.append(ORIGIN, HeaderValue::from_static("https://evil.example"));
        assert!(same_origin(&twice, own).is_err() && not_foreign(&twice, own).is_err());
    }
}
