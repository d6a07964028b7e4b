//! Sending somebody to sign in: the address at the login host, and the cookie that ties the way back to this
//! browser (R16, R17).

use ::http::Method;
use ::http::header::{HeaderMap, REFERER};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::link::ControlLink;
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::route::StepUp;
use mezusphere_model::token::Token;
use mezusphere_model::{Entropy, Platform};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::authority::Authority;
use super::cookie;
use super::inbound::Ask;
use super::refusal::{Refusal, SignInWay};
use super::wants::Wants;

/// Longest place to come back to, in octets. It travels inside another address, percent-encoded, which must stay
/// under the 8 KiB of one; whoever wanted something longer comes back to the front page.
pub(crate) const RETURN_TO_LEN_MAX: usize = 2048;

/// What stands in a query value as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Where to sign in and come back from.
pub(crate) fn way(
    ask: &Ask,
    authority: &Authority,
    headers: &HeaderMap,
    state: Option<Token>,
    hosts: &Platform,
    entropy: &Entropy,
) -> SignInWay {
    way_to(return_to(ask, authority, headers), authority, state, hosts, entropy)
}

/// Where to sign in and come back from to `return_to`, a place that [`leads_here`] takes.
pub(crate) fn way_to(
    return_to: &str,
    authority: &Authority,
    state: Option<Token>,
    hosts: &Platform,
    entropy: &Entropy,
) -> SignInWay {
    // A second tab must not spoil the sign-in that the first one has begun.
    let secret = state.unwrap_or_else(|| Token::random(entropy));
    let login = hosts.host(PlatformHost::Login).map(|login| hosts.origin(&login)).unwrap_or_default();
    let url = format!(
        "{login}/sign-in?host={}&return_to={}&state={}",
        authority.host,
        utf8_percent_encode(return_to, QUERY),
        state_hash(&secret),
    );
    SignInWay { url, set_cookie: cookie::set_state(&secret) }
}

/// The same way for somebody whose sign-in is not strong or young enough.
pub(crate) fn again(mut way: SignInWay, needs: StepUp) -> SignInWay {
    let age = needs.max_auth_age_s.map(|seconds| format!("&max_age={seconds}"));
    let acr = needs.acr.map(|acr| format!("&acr={}", acr.as_str()));
    way.url.extend([age, acr].into_iter().flatten());
    way
}

/// Refuses to send a browser to sign in where nobody answers: it would meet an error of its own, and not come back. What is
/// told where it stands stays as it is.
pub(crate) fn unless_away(refusal: Refusal, ask: &Ask, link: &dyn ControlLink) -> Refusal {
    let leaves = match &refusal {
        Refusal::SignIn(..) => true,
        Refusal::StepUp(_, way) => !way.is_again,
        _ => false,
    };
    if leaves && ask.wants.may_redirect(&ask.method) && link.is_away() {
        Refusal::SignInAway
    } else {
        refusal
    }
}

/// What the login host is told of the secret: enough to bind a code to this browser, useless to anybody else.
pub(crate) fn state_hash(secret: &Token) -> String {
    BASE64URL.encode(secret.hash().as_bytes())
}

/// The path and query to come back to: what a person asked for, or the page whose script or form asked; for a program
/// without a page the address itself, if asking for it again does nothing but read.
fn return_to<'a>(ask: &'a Ask, authority: &Authority, headers: &'a HeaderMap) -> &'a str {
    let reads = ask.method == Method::GET || ask.method == Method::HEAD;
    let target = || Some(ask.target()).filter(|_| reads);
    let page = || {
        let referer = headers.get(REFERER).and_then(|referer| referer.to_str().ok())?;
        referer.strip_prefix(authority.origin().as_str())
    };
    let wanted = match ask.wants {
        Wants::Page => target().or_else(page),
        // A script's address is no page: go back to where the person was.
        Wants::Problem => page().filter(|page| leads_here(page)).or_else(target),
    };
    wanted.filter(|wanted| leads_here(wanted)).unwrap_or("/")
}

/// Whether the login host takes this as a place to come back to: no browser may read it as another host's, and it is not
/// too long. A place it refuses would end the sign-in before it began.
pub(crate) fn leads_here(place: &str) -> bool {
    place.starts_with('/')
        && !place.starts_with("//")
        && place.len() <= RETURN_TO_LEN_MAX
        && place.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'\\' | b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Protocol;
    use ::http::HeaderValue;
    use mezusphere_model::Host;
    use mezusphere_model::id::RequestId;
    use mezusphere_model::identity::Assurance;

    fn ask(method: Method, target: &str, wants: Wants) -> Ask {
        Ask {
            id: RequestId::from_bits(1),
            client: "192.0.2.1".parse().unwrap(),
            protocol: Protocol::H2,
            method,
            uri: target.parse().unwrap(),
            wants,
            host: None,
        }
    }

    fn url(ask: &Ask, referer: Option<&str>) -> String {
        let authority = Authority::new(Host::parse("shop.localhost").unwrap(), Some(8443));
        let mut headers = HeaderMap::new();
        if let Some(referer) = referer {
            headers.insert(REFERER, HeaderValue::from_str(referer).unwrap());
        }
        let hosts = Platform::development(8443).unwrap();
        let secret = Some(Token::from_bytes([9; 32]));
        let way = way(ask, &authority, &headers, secret, &hosts, &Entropy::counting());
        way.url.split("&state=").next().unwrap().to_owned()
    }

    #[test]
    fn a_person_comes_back_to_what_they_asked_for() {
        let start = "https://login.mezu.localhost:8443/sign-in?host=shop.localhost&return_to=";
        let page = |target| url(&ask(Method::GET, target, Wants::Page), None);
        assert_eq!(page("/a/b?c=d&e=%2F"), format!("{start}/a/b%3Fc%3Dd%26e%3D%252F"));
        assert_eq!(page(&format!("/{}", "x".repeat(RETURN_TO_LEN_MAX))), format!("{start}/"));
    }

    #[test]
    fn a_sign_in_that_is_not_enough_is_asked_for_what_it_lacks() {
        let way = SignInWay { url: "https://login/sign-in?host=h".to_owned(), set_cookie: String::new() };
        let url = |acr, max_auth_age_s| again(way.clone(), StepUp { acr, max_auth_age_s }).url;
        assert_eq!(url(None, Some(900)), "https://login/sign-in?host=h&max_age=900");
        let both = url(Some(Assurance::Aal2), Some(60));
        assert_eq!(both, "https://login/sign-in?host=h&max_age=60&acr=aal2");
    }

    #[test]
    fn a_script_comes_back_to_its_page_if_that_was_here() {
        let start = "https://login.mezu.localhost:8443/sign-in?host=shop.localhost&return_to=";
        let cart = Some("https://shop.localhost:8443/cart?a=1");
        let elsewhere = [
            None,
            Some("https://evil.example/"),
            Some("https://shop.localhost:8443.evil.example/x"),
            Some("https://shop.localhost:8443//evil.example/x"),
            Some("https://shop.localhost:8443/a b"),
            Some("https://shop.localhost:8443/\\evil.example"),
        ];
        // What only reads can be asked for again; what writes cannot, and its address is no page.
        for (method, itself) in
            [(Method::GET, "/api/x%3Fb%3D1"), (Method::HEAD, "/api/x%3Fb%3D1"), (Method::POST, "/")]
        {
            let script = |referer| url(&ask(method.clone(), "/api/x?b=1", Wants::Problem), referer);
            assert_eq!(script(cart), format!("{start}/cart%3Fa%3D1"), "{method}");
            for referer in elsewhere {
                assert_eq!(script(referer), format!("{start}{itself}"), "{method} {referer:?}");
            }
        }
        let form = |referer| url(&ask(Method::POST, "/buy", Wants::Page), referer);
        assert_eq!((form(cart), form(None)), (format!("{start}/cart%3Fa%3D1"), format!("{start}/")));
    }

    #[test]
    fn nobody_is_sent_to_sign_in_with_a_place_that_the_login_host_refuses() {
        let start = "https://login.mezu.localhost:8443/sign-in?host=shop.localhost&return_to=";
        for wants in [Wants::Page, Wants::Problem] {
            assert_eq!(
                url(&ask(Method::GET, "//evil.example/x", wants), None),
                format!("{start}/"),
                "{wants:?}"
            );
        }
    }

    #[test]
    fn a_sign_in_under_way_keeps_its_secret_and_the_address_shows_only_its_hash() {
        let authority = Authority::new(Host::parse("shop.localhost").unwrap(), None);
        let hosts = Platform::development(443).unwrap();
        let (secret, entropy) = (Token::from_bytes([9; 32]), Entropy::counting());
        let ask = ask(Method::GET, "/", Wants::Page);
        let again = way(&ask, &authority, &HeaderMap::new(), Some(secret.clone()), &hosts, &entropy);
        assert_eq!(again.set_cookie, cookie::set_state(&secret));
        assert!(again.url.ends_with(&state_hash(&secret)));
        assert!(!again.url.contains(&secret.reveal()));
        let fresh = way(&ask, &authority, &HeaderMap::new(), None, &hosts, &entropy);
        assert_ne!(fresh.set_cookie, again.set_cookie);
    }
}
