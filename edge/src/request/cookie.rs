//! Cookies: ours are taken out of a request before anything else sees them, and an upstream cannot set them.
//!
//! The application's own cookies pass untouched, in both directions.

use ::http::header::{COOKIE, HeaderMap, HeaderValue};
use mezusphere_model::id::SessionId;
use mezusphere_model::token::{SessionCookie, Token};
use mezusphere_model::{Host, Platform};

/// What the name of every cookie of ours starts with. No application may use it.
pub(crate) const RESERVED_PREFIX: &str = "__Host-mezu";

/// Name of the cookie that ties a sign-in to the browser that began it.
pub(crate) const STATE_NAME: &str = "__Host-mezu-state";

/// Name of the cookie that says from which session a browser was sent to sign in once more.
pub(crate) const STEP_UP_NAME: &str = "__Host-mezu-step-up";

/// How long that is remembered, in seconds. Not longer than the youngest age a route may ask of a sign-in: one that was enough
/// when it came back is never taken for one that was not.
const STEP_UP_AGE_S: u32 = mezusphere_model::route::AUTH_AGE_S_MIN;

/// How long a sign-in may take, in seconds: the life of the state cookie.
pub(crate) const STATE_AGE_S_MAX: u32 = 600;

/// The platform's cookies of one request.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    /// The session cookie's value. `None` also if there were two different ones: then neither is believed.
    pub(crate) session: Option<SessionText>,
    /// The secret of a sign-in under way.
    pub(crate) state: Option<Token>,
    /// The session that was not enough, and was to be followed by another one. Boxed, because few requests bring one.
    pub(crate) step_up: Option<Box<SessionId>>,
}

/// The value of a session cookie as the client sent it; a secret until proven worthless.
#[derive(PartialEq, Eq)]
pub(crate) struct SessionText(Box<str>);

impl SessionText {
    /// The value.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The token inside, whoever signed the rest. Whether such a session exists, the view knows.
    pub(crate) fn token(&self) -> Option<Token> {
        self.0.split('.').next().and_then(Token::parse)
    }
}

impl std::fmt::Debug for SessionText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionText(…)")
    }
}

/// Takes the platform's cookies out of `headers` and leaves the application's own, in one `cookie` field.
///
/// Fields without a cookie of ours are not copied. Several fields (HTTP/2 may split them, RFC 9113 §8.2.3)
/// become one, because an HTTP/1.1 upstream expects one.
pub(crate) fn take(headers: &mut HeaderMap) -> Cookies {
    let mut cookies = Cookies::default();
    let mut fields = headers.get_all(COOKIE).iter();
    let Some(first) = fields.next() else { return cookies };
    let single = fields.next().is_none();
    if single && !mentions_ours(first.as_bytes()) {
        return cookies;
    }
    let mut kept: Vec<u8> = Vec::new();
    let mut session = Seen::Nothing;
    for field in headers.get_all(COOKIE) {
        for pair in field.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            if is_ours(pair) {
                read_ours(pair, &mut session, &mut cookies);
            } else if !pair.is_empty() {
                if !kept.is_empty() {
                    kept.extend_from_slice(b"; ");
                }
                kept.extend_from_slice(pair);
            }
        }
    }
    if let Seen::One(text) = session {
        cookies.session = Some(text);
    }
    // The pieces came from valid field values, so together they are one.
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(kept)) {
        Ok(value) if !value.is_empty() => drop(headers.insert(COOKIE, value)),
        _ => drop(headers.remove(COOKIE)),
    }
    cookies
}

enum Seen {
    Nothing,
    One(SessionText),
    Several,
}

fn read_ours(pair: &[u8], session: &mut Seen, cookies: &mut Cookies) {
    let Some((name, value)) = std::str::from_utf8(pair).ok().and_then(|pair| pair.split_once('=')) else {
        return;
    };
    match name.trim_end() {
        SessionCookie::NAME => {
            let text = SessionText(value.trim_start().into());
            *session = match std::mem::replace(session, Seen::Several) {
                Seen::Nothing => Seen::One(text),
                Seen::One(known) if known == text => Seen::One(known),
                Seen::One(_) | Seen::Several => Seen::Several,
            };
        }
        STATE_NAME => cookies.state = Token::parse(value.trim_start()),
        STEP_UP_NAME => cookies.step_up = value.trim().parse().ok().map(Box::new),
        _ => {}
    }
}

/// Whether a `name=value` pair, or a cookie without a name, reads as one of ours in any case.
fn is_ours(pair: &[u8]) -> bool {
    // A nameless cookie `=__Host-mezu-session=x` is sent back without its first `=` by some browsers.
    let pair = pair.trim_ascii_start();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair).trim_ascii_start();
    pair.get(..RESERVED_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX.as_bytes()))
}

fn mentions_ours(field: &[u8]) -> bool {
    field.split(|byte| *byte == b';').any(is_ours)
}

/// Whether an upstream on `host` may set this cookie: never one of ours, nor one that would reach the
/// platform's hosts or the application hosts of others (R9).
pub(crate) fn may_set(set_cookie: &HeaderValue, platform: &Platform) -> bool {
    let mut parts = set_cookie.as_bytes().split(|byte| *byte == b';');
    if parts.next().is_none_or(is_ours) {
        return false;
    }
    parts.filter_map(domain_attribute).all(|domain| !reaches_platform(domain, platform))
}

/// The value of a `Domain` attribute (RFC 6265 §5.2.3), without its leading dot.
fn domain_attribute(attribute: &[u8]) -> Option<&[u8]> {
    let equals = attribute.iter().position(|byte| *byte == b'=')?;
    let (name, value) = attribute.split_at_checked(equals)?;
    let value = value.get(1..)?.trim_ascii();
    name.trim_ascii().eq_ignore_ascii_case(b"domain").then(|| value.strip_prefix(b".").unwrap_or(value))
}

/// Whether a cookie for `domain` would be sent to the platform's hosts, or to every application host.
fn reaches_platform(domain: &[u8], platform: &Platform) -> bool {
    if domain.is_empty() {
        return false; // An empty value means: this host only.
    }
    let Some(domain) = std::str::from_utf8(domain).ok().and_then(|text| Host::parse(text).ok()) else {
        // Not a host name that we can read; a browser may read it in a way of its own.
        return true;
    };
    let (base, apps) = (&platform.base, &platform.apps);
    domain == *base
        || domain == *apps
        || base.is_below(&domain)
        || apps.is_below(&domain)
        || domain.is_below(base)
}

/// A `set-cookie` value for the session cookie (R11).
pub(crate) fn set_session(value: &str) -> String {
    format!("{}={value}; Path=/; Secure; HttpOnly; SameSite=Lax", SessionCookie::NAME)
}

/// A `set-cookie` value that removes the session cookie.
pub(crate) fn clear_session() -> String {
    format!("{}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax", SessionCookie::NAME)
}

/// A `set-cookie` value for the secret of a sign-in under way.
pub(crate) fn set_state(secret: &Token) -> String {
    let secret = secret.reveal();
    format!("{STATE_NAME}={secret}; Path=/; Max-Age={STATE_AGE_S_MAX}; Secure; HttpOnly; SameSite=Lax")
}

/// A `set-cookie` value that remembers which session was not enough.
pub(crate) fn set_step_up(session: SessionId) -> String {
    format!("{STEP_UP_NAME}={session}; Path=/; Max-Age={STEP_UP_AGE_S}; Secure; HttpOnly; SameSite=Lax")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezusphere_model::Entropy;

    fn request(fields: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_str(field).unwrap());
        }
        headers
    }

    #[test]
    fn r11_platform_cookies_never_reach_an_upstream_and_the_applications_own_do() {
        let rows: [(&[&str], Option<&str>, Option<&str>); 10] = [
            (&["a=1; b=2"], Some("a=1; b=2"), None),
            (&["__Host-mezu-session=t.1.m"], None, Some("t.1.m")),
            (&["a=1; __Host-mezu-session=t.1.m; b=2"], Some("a=1; b=2"), Some("t.1.m")),
            (&["a=1", "__Host-mezu-session=t.1.m", "b=2"], Some("a=1; b=2"), Some("t.1.m")),
            (&["a=1", "b=2"], Some("a=1; b=2"), None),
            (&["__host-MEZU-session=x; a=1"], Some("a=1"), None),
            (&["=__Host-mezu-session=x; a=1"], Some("a=1"), None),
            (&["__Host-mezu-anything=x"], None, None),
            (&["__Host-mezu-session=x; __Host-mezu-session=x"], None, Some("x")),
            (&["__Host-mezu-session=x; __Host-mezu-session=y; c=3"], Some("c=3"), None),
        ];
        for (fields, kept, session) in rows {
            let mut headers = request(fields);
            let cookies = take(&mut headers);
            let left: Vec<_> = headers.get_all(COOKIE).iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(left, kept.into_iter().collect::<Vec<_>>(), "{fields:?}");
            assert_eq!(cookies.session.as_ref().map(SessionText::as_str), session, "{fields:?}");
        }
    }

    #[test]
    fn the_secret_of_a_sign_in_under_way_is_found() {
        let secret = Token::random(&Entropy::counting());
        let mut headers = request(&[&format!("a=1; {STATE_NAME}={}", secret.reveal())]);
        assert_eq!(take(&mut headers).state, Some(secret));
    }

    #[test]
    fn the_session_that_was_not_enough_is_remembered() {
        let set = set_step_up(SessionId::from_bits(7));
        let pair = set.split(';').next().unwrap();
        let mut headers = request(&[&format!("a=1; {pair}")]);
        assert_eq!(take(&mut headers).step_up.as_deref(), Some(&SessionId::from_bits(7)));
        assert_eq!(headers[COOKIE], "a=1");
        assert_eq!(take(&mut request(&["__Host-mezu-step-up=x"])).step_up, None);
    }

    #[test]
    fn r09_an_upstream_cannot_set_a_platform_cookie_nor_one_for_other_hosts() {
        let platform = Platform::development(8443).unwrap();
        let rows = [
            ("a=1", true),
            ("a=1; Path=/; HttpOnly", true),
            ("a=1; Domain=shop.localhost", true),
            ("a=1; Domain=shop.example", true),
            ("a=1; Domain=", true),
            ("__Host-mezu-session=x; Path=/; Secure", false),
            ("__HOST-MEZU-session=x", false),
            (" __Host-mezu-state=x", false),
            ("=__Host-mezu-session=x", false),
            ("__Host-mezu-session", false),
            ("a=1; Domain=localhost", false),
            ("a=1; Domain=.localhost", false),
            ("a=1; domain = LOCALHOST", false),
            ("a=1; Domain=mezu.localhost", false),
            ("a=1; Domain=login.mezu.localhost", false),
            ("a=1; Domain=shop.localhost; Domain=localhost", false),
            ("a=1; Domain=%6cocalhost", false),
        ];
        for (text, allowed) in rows {
            assert_eq!(may_set(&HeaderValue::from_str(text).unwrap(), &platform), allowed, "{text}");
        }
    }

    #[test]
    fn r11_the_session_cookie_is_for_one_host_and_out_of_reach_of_scripts() {
        let state = set_state(&Token::from_bytes([7; 32]));
        for text in [set_session("v"), clear_session(), state, set_step_up(SessionId::from_bits(7))] {
            assert!(text.starts_with("__Host-"), "{text}");
            for attribute in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
                assert!(text.contains(attribute), "{text} lacks {attribute}");
            }
            assert!(!text.to_ascii_lowercase().contains("domain"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn r24_whatever_a_client_sends_as_cookies_nothing_of_ours_is_left(
            fields in proptest::collection::vec("([ -~\t]|;|=|__Host-mezu-session|__host-mezu){0,30}", 1..4),
        ) {
            let mut headers = HeaderMap::new();
            for field in &fields {
                headers.append(COOKIE, HeaderValue::from_str(field).unwrap());
            }
            drop(take(&mut headers));
            proptest::prop_assert!(headers.get_all(COOKIE).iter().count() <= 1);
            for left in headers.get_all(COOKIE) {
                proptest::prop_assert!(!mentions_ours(left.as_bytes()), "{left:?} of {fields:?}");
            }
        }

        #[test]
        fn r24_no_attribute_makes_a_reserved_cookie_settable(rest in "[ -~]{0,60}", prefix in "[ \t=]{0,3}") {
            let value = HeaderValue::from_str(&format!("{prefix}__Host-mezu{rest}")).unwrap();
            let platform = Platform::development(8443).unwrap();
            // Two equals signs in front make another name, which browsers keep apart.
            if prefix.matches('=').count() <= 1 {
                proptest::prop_assert!(!may_set(&value, &platform), "{value:?}");
            }
        }
    }
}
