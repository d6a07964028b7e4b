//! The two cookies of the login host.
//!
//! `__Host-mezu-sign-in` holds the tokens of this browser's sign-ins, newest first, joined by dots: one per
//! directory, because somebody may be a customer here and an operator there, and signing in as one must not
//! sign the other out. `__Host-mezu-form` holds a random token that ties forms to this browser, signed in or
//! not. Both are `Secure`, `HttpOnly`, `SameSite=Lax` and end with the browser's session; the `__Host-`
//! prefix keeps sibling hosts from setting them (RFC 6265bis §4.1.3.2).

use http::{HeaderMap, HeaderValue, header};
use mezusphere_model::Entropy;
use mezusphere_model::token::Token;

/// The cookie of the sign-ins.
pub(super) const SIGN_IN: &str = "__Host-mezu-sign-in";

/// The cookie that ties forms to a browser.
pub(super) const FORM: &str = "__Host-mezu-form";

/// Sign-ins one browser holds at once; a further one ends the oldest.
pub(super) const SIGN_INS_MAX: usize = mezusphere_identity::sign_in::HELD_MAX;

const ATTRIBUTES: &str = "; Path=/; Secure; HttpOnly; SameSite=Lax";

/// The tokens of the sign-ins this browser holds, newest first; whether they are good is for the store to say.
pub(super) fn sign_ins(headers: &HeaderMap) -> Vec<Token> {
    let value = read(headers, SIGN_IN).unwrap_or_default();
    value.split('.').filter_map(Token::parse).take(SIGN_INS_MAX).collect()
}

/// Sets the sign-ins; none clears the cookie.
pub(super) fn set_sign_ins(tokens: &[Token]) -> Option<HeaderValue> {
    if tokens.is_empty() {
        return HeaderValue::from_str(&format!("{SIGN_IN}={ATTRIBUTES}; Max-Age=0")).ok();
    }
    let value = tokens.iter().map(Token::reveal).collect::<Vec<_>>().join(".");
    HeaderValue::from_str(&format!("{SIGN_IN}={value}{ATTRIBUTES}")).ok()
}

/// The token that ties forms to this browser; `None` if it sent none.
pub(super) fn form(headers: &HeaderMap) -> Option<Token> {
    read(headers, FORM).and_then(Token::parse)
}

/// The browser's form token, or a new one with the header that sets it.
pub(super) fn form_or_new(headers: &HeaderMap, entropy: &Entropy) -> (Token, Option<HeaderValue>) {
    if let Some(token) = form(headers) {
        return (token, None);
    }
    let token = Token::random(entropy);
    let header = HeaderValue::from_str(&format!("{FORM}={}{ATTRIBUTES}", token.reveal())).ok();
    (token, header)
}

/// The first cookie of this name; HTTP/2 may split the header (RFC 9113 §8.2.3).
fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    pairs
        .flat_map(|pairs| pairs.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|value| (header::COOKIE, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn sign_ins_survive_the_cookie_newest_first() {
        let entropy = Entropy::counting();
        let tokens = [Token::random(&entropy), Token::random(&entropy)];
        let set = set_sign_ins(&tokens).unwrap();
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        assert_eq!(sign_ins(&headers(&["a=b", &format!("c=d; {pair}; e=f")])), tokens);
    }

    #[test]
    fn r11_cookies_are_host_only_secure_and_out_of_reach_of_scripts() {
        let entropy = Entropy::counting();
        let set = [
            set_sign_ins(&[Token::random(&entropy)]).unwrap(),
            set_sign_ins(&[]).unwrap(),
            form_or_new(&HeaderMap::new(), &entropy).1.unwrap(),
        ];
        for value in set {
            let value = value.to_str().unwrap();
            assert!(value.starts_with("__Host-mezu-"), "{value}");
            for attribute in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
                assert!(value.contains(attribute), "{value}: {attribute}");
            }
            assert!(!value.contains("Domain"), "{value}");
        }
    }

    #[test]
    fn what_is_no_token_is_no_sign_in_and_no_browser_holds_too_many() {
        let entropy = Entropy::counting();
        let many: Vec<Token> = (0..9).map(|_| Token::random(&entropy)).collect();
        let value = many.iter().map(Token::reveal).collect::<Vec<_>>().join(".");
        assert_eq!(sign_ins(&headers(&[&format!("{SIGN_IN}={value}")])).len(), SIGN_INS_MAX);
        for text in ["", ".", "..", "short", "x.y", "%00"] {
            assert!(sign_ins(&headers(&[&format!("{SIGN_IN}={text}")])).is_empty(), "{text}");
        }
        let token = Token::random(&entropy).reveal();
        assert!(sign_ins(&headers(&[&format!("mezu-sign-in={token}; X{SIGN_IN}={token}")])).is_empty());
    }
}
