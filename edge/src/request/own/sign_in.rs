//! The way to sign in, for links of applications: `/.mezu/sign-in?return_to=/orders`.

use ::http::header::{REFERER, SET_COOKIE};
use mezusphere_model::route::Site;
use percent_encoding::percent_decode_str;

use super::super::ServerParts;
use super::super::authority::Authority;
use super::super::inbound::Inbound;
use super::super::refusal::Refusal;
use super::super::respond::{self, Own};
use super::super::sign_in::{self, leads_here};
use super::somebody;

/// Sends people to sign in.
pub(crate) const SIGN_IN: &str = "/.mezu/sign-in";

/// Sends the browser to sign in and come back; at once back, if it is signed in. Changes nothing but the cookie that ties the
/// way back to this browser.
pub(super) async fn go(inbound: Inbound<'_>, site: &Site, parts: &ServerParts) -> Result<Own, Refusal> {
    let place = place(&inbound);
    let Inbound { ask, address, cookies, .. } = inbound;
    if somebody(ask, &address.authority, &cookies, site, parts).await?.is_some() {
        return Ok(respond::redirect(&format!("{}{place}", address.authority.origin()), ask.asker()));
    }
    if parts.link.is_away() {
        return Err(Refusal::SignInAway);
    }
    let way = sign_in::way_to(&place, &address.authority, cookies.state, &parts.hosts, &parts.entropy);
    let mut response = respond::redirect(&way.url, ask.asker());
    respond::set(response.headers_mut(), SET_COOKIE, &way.set_cookie);
    Ok(response)
}

/// Where to come back to: what the query says, or the page that led here; the front page if that leads elsewhere.
pub(super) fn place(inbound: &Inbound<'_>) -> String {
    let named = inbound.ask.uri.query().and_then(|query| parameter(query, "return_to"));
    let page = || {
        let referer = inbound.headers.get(REFERER)?.to_str().ok()?;
        here(referer, &inbound.address.authority)
    };
    named.or_else(page).filter(|place| leads_here(place)).unwrap_or_else(|| "/".to_owned())
}

/// Path and query of a page of this host that is not one of our own.
fn here(referer: &str, authority: &Authority) -> Option<String> {
    let place = referer.strip_prefix(authority.origin().as_str())?;
    (!place.starts_with(super::PREFIX)).then(|| place.to_owned())
}

/// A query's value, decoded; `None` if it is there more than once.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut found = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value);
    let value = found.next().filter(|_| found.next().is_none())?;
    percent_decode_str(value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Host;

    use super::*;

    #[test]
    fn a_page_of_this_host_is_a_place_to_come_back_to_and_our_own_are_not() {
        let authority = Authority::new(Host::parse("shop.localhost").unwrap(), Some(8443));
        let rows = [
            ("https://shop.localhost:8443/cart?a=1", Some("/cart?a=1")),
            ("https://shop.localhost:8443/.mezu/sign-out?then=sign-in", None),
            ("https://evil.example/", None),
        ];
        for (referer, wanted) in rows {
            assert_eq!(here(referer, &authority).as_deref(), wanted, "{referer}");
        }
    }

    #[test]
    fn a_parameter_is_taken_if_it_is_there_once() {
        assert_eq!(parameter("a=1&return_to=%2Fb%3Fc", "return_to").as_deref(), Some("/b?c"));
        for query in ["", "return_to", "return_to=/a&return_to=/b", "xreturn_to=/a", "return_to=%ff"] {
            assert_eq!(parameter(query, "return_to"), None, "{query}");
        }
    }
}
