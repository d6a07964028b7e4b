//! Forms: where they must come from, the token that ties each to this browser, and their fields.
//!
//! A form token is `<payload>.<mac>`: what the form is about as JSON, and HMAC-SHA-256 over it, its purpose and the
//! hash of the browser's form cookie. So nothing is stored when strangers open a page, and a token is worth nothing
//! in another browser, for another purpose, or after its end.

use aws_lc_rs::{constant_time, digest, hmac};
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use http::{HeaderMap, header};
use mezusphere_model::Timestamp;
use mezusphere_model::token::Token;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::answer::Failure;

/// Largest form, in octets: a token that carries a return path of 8 KiB, encoded twice, and two passwords.
pub(super) const FORM_LEN_MAX: usize = 48 * 1024;

/// Fields of one form; ours have at most four, a browser's extension may add some.
const FIELDS_MAX: usize = 16;

/// Authenticates form tokens. Shared by all control nodes; never on an edge.
#[derive(Clone)]
pub(crate) struct FormKey(hmac::Key);

impl FormKey {
    /// The key with this secret.
    pub(crate) fn from_secret(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

impl std::fmt::Debug for FormKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FormKey(…)")
    }
}

/// What a form does; a token for one is worth nothing for another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    SignIn,
    Confirm,
    SignUp,
    Recover,
    Link,
    SignOut,
    SignedOut,
    Name,
    Email,
    Verify,
    Password,
    Sessions,
    ApiFlow,
    ApiToken,
}

impl Purpose {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::SignIn => b"mezu-form/1 sign-in\0",
            Self::Confirm => b"mezu-form/1 confirm\0",
            Self::SignUp => b"mezu-form/1 sign-up\0",
            Self::Recover => b"mezu-form/1 recover\0",
            Self::Link => b"mezu-form/1 link\0",
            Self::SignOut => b"mezu-form/1 sign-out\0",
            Self::SignedOut => b"mezu-form/1 signed-out\0",
            Self::Name => b"mezu-form/1 name\0",
            Self::Email => b"mezu-form/1 email\0",
            Self::Verify => b"mezu-form/1 verify\0",
            Self::Password => b"mezu-form/1 password\0",
            Self::Sessions => b"mezu-form/1 sessions\0",
            Self::ApiFlow => b"mezu-form/1 api-flow\0",
            Self::ApiToken => b"mezu-form/1 api-token\0",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Payload<T> {
    ends_at: Timestamp,
    about: T,
}

/// A token that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened<T> {
    /// What the form is about.
    pub(super) about: T,
    /// When the form ends.
    pub(super) ends_at: Timestamp,
}

/// The token was not made by us, for this browser and this purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forged;

impl FormKey {
    /// Writes a token for `browser` about `about`.
    pub(super) fn write<T: Serialize>(
        &self,
        purpose: Purpose,
        browser: &Token,
        ends_at: Timestamp,
        about: &T,
    ) -> String {
        // Ids, hosts and texts always serialize.
        let payload = serde_json::to_vec(&Payload { ends_at, about }).unwrap_or_default();
        let mac = self.mac(purpose, browser, &payload);
        format!("{}.{}", BASE64URL.encode(&payload), BASE64URL.encode(mac))
    }

    /// Reads a token. Whether it has ended is for the caller, who may still use what it says to offer a new form.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        browser: &Token,
        text: &str,
    ) -> Result<Opened<T>, Forged> {
        let (payload, mac) = text.split_once('.').ok_or(Forged)?;
        let payload = BASE64URL.decode(payload).map_err(|_| Forged)?;
        let mac = BASE64URL.decode(mac).map_err(|_| Forged)?;
        let ours = self.mac(purpose, browser, &payload);
        constant_time::verify_slices_are_equal(ours.as_ref(), &mac).map_err(|_| Forged)?;
        let payload: Payload<T> = serde_json::from_slice(&payload).map_err(|_| Forged)?;
        Ok(Opened { about: payload.about, ends_at: payload.ends_at })
    }

    fn mac(&self, purpose: Purpose, browser: &Token, payload: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(purpose.context());
        context.update(browser.hash().as_bytes());
        context.update(payload);
        context.sign()
    }
}

/// Whether a request that changes something was made by one of our own pages (R16).
///
/// Browsers say so in `Sec-Fetch-Site`, and in `Origin` on every POST. What is said must be right, and at least
/// one must be said: a client that says nothing is no browser of this decade.
pub(super) fn is_from_here(headers: &HeaderMap, origin: &str) -> bool {
    let only = |name| {
        let mut values = headers.get_all(name).into_iter();
        (values.next(), values.next().is_none())
    };
    let (said_origin, one_origin) = only(header::ORIGIN);
    let (said_site, one_site) = only(header::HeaderName::from_static("sec-fetch-site"));
    let origin_ok = said_origin.is_none_or(|value| value.as_bytes() == origin.as_bytes());
    let site_ok = said_site.is_none_or(|value| value.as_bytes() == b"same-origin");
    one_origin && one_site && origin_ok && site_ok && (said_origin.is_some() || said_site.is_some())
}

/// The fields of a form, each once.
pub(super) struct Fields(Vec<(String, Zeroizing<String>)>);

impl Fields {
    /// Reads the body of a request: a URL-encoded form of at most [`FORM_LEN_MAX`].
    pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Failure> {
        let kind =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Failure::bad_request());
        }
        // A length that is said is believed, so that a megabyte is refused without reading it (R14).
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if said.and_then(|text| text.parse::<u64>().ok()).is_some_and(|len| len > FORM_LEN_MAX as u64) {
            return Err(Failure::too_large());
        }
        let body = axum::body::to_bytes(body, FORM_LEN_MAX).await.map_err(|error| {
            let limit = std::error::Error::source(&error)
                .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
            if limit { Failure::too_large() } else { Failure::bad_request() }
        })?;
        let mut fields = Vec::new();
        for (name, value) in form_urlencoded::parse(&body) {
            if fields.len() == FIELDS_MAX || fields.iter().any(|(known, _)| *known == name) {
                return Err(Failure::bad_request());
            }
            fields.push((name.into_owned(), Zeroizing::new(value.into_owned())));
        }
        Ok(Self(fields))
    }

    /// The field's value; empty if it is missing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.as_str())
    }

    /// The field's value, taken out.
    pub(super) fn take(&mut self, name: &str) -> String {
        let found = self.0.iter_mut().find(|(field, _)| field == name);
        found.map(|(_, value)| std::mem::take(&mut **value)).unwrap_or_default()
    }
}

/// A short fingerprint of a token, to bind a form to what it is about without showing it.
pub(super) fn fingerprint(token: &Token) -> String {
    let hash = digest::digest(&digest::SHA256, token.hash().as_bytes());
    BASE64URL.encode(hash.as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use mezusphere_model::Entropy;

    use super::*;

    const ORIGIN: &str = "https://login.mezu.localhost:8443";

    fn headers(origin: Option<&str>, site: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        if let Some(site) = site {
            headers.insert("sec-fetch-site", HeaderValue::from_str(site).unwrap());
        }
        headers
    }

    #[test]
    fn r16_a_form_comes_from_this_host_or_not_at_all() {
        for (origin, site) in
            [(Some(ORIGIN), None), (Some(ORIGIN), Some("same-origin")), (None, Some("same-origin"))]
        {
            assert!(is_from_here(&headers(origin, site), ORIGIN), "{origin:?} {site:?}");
        }
        let rows = [
            (None, None),
            (Some("null"), None),
            (Some("null"), Some("same-origin")),
            (Some(""), None),
            (Some("https://shop.localhost:8443"), None),
            (Some("https://login.mezu.localhost"), None),
            (Some("http://login.mezu.localhost:8443"), None),
            (Some("https://login.mezu.localhost:8443.evil.example"), None),
            (Some("https://login.mezu.localhost:8443/"), None),
            (Some("HTTPS://login.mezu.localhost:8443"), None),
            (Some("https://evil.example"), Some("same-origin")),
            (Some(ORIGIN), Some("cross-site")),
            (Some(ORIGIN), Some("same-site")),
            (None, Some("same-site")),
            (None, Some("none")),
            (None, Some("")),
        ];
        for (origin, site) in rows {
            assert!(!is_from_here(&headers(origin, site), ORIGIN), "{origin:?} {site:?}");
        }
        let mut twice = headers(Some(ORIGIN), None);
        twice.append(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        assert!(!is_from_here(&twice, ORIGIN));
    }

    #[test]
    fn r16_a_form_token_is_good_in_its_browser_and_for_its_purpose_only() {
        let entropy = Entropy::counting();
        let key = FormKey::from_secret(&entropy.bytes());
        let (ada, eve) = (Token::random(&entropy), Token::random(&entropy));
        let end = Timestamp::from_seconds(2_000);
        let text = key.write(Purpose::SignIn, &ada, end, &"shop");
        let read =
            |key: &FormKey, purpose, browser: &Token, text: &str| key.read::<String>(purpose, browser, text);
        let opened = Opened { about: "shop".to_owned(), ends_at: end };
        assert_eq!(read(&key, Purpose::SignIn, &ada, &text), Ok(opened));
        assert_eq!(read(&key, Purpose::SignIn, &eve, &text), Err(Forged), "another browser");
        assert_eq!(read(&key, Purpose::SignOut, &ada, &text), Err(Forged), "another purpose");
        let other = FormKey::from_secret(&entropy.bytes());
        assert_eq!(read(&other, Purpose::SignIn, &ada, &text), Err(Forged), "another installation");
        for n in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[n] = if altered[n] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(read(&key, Purpose::SignIn, &ada, &altered), Err(Forged), "{n}");
        }
        for text in ["", ".", "a.b", "AAAA.", ".AAAA"] {
            assert_eq!(read(&key, Purpose::SignIn, &ada, text), Err(Forged), "{text:?}");
        }
    }
}
