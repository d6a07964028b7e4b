//! The edge's own addresses on every application host, under `/.mezu/`: coming back from sign-in, signing out, who am I,
//! and the keys that assertions are verified with.

use ::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, SET_COOKIE};
use ::http::{Method, StatusCode};
use askama::Template as _;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use mezusphere_model::link::{LinkError, RedeemCode, Redeemed};
use mezusphere_model::path::RequestPath;
use mezusphere_model::route::Site;
use mezusphere_model::token::{SessionCookie, Token};
use percent_encoding::percent_decode_str;

use super::ServerParts;
use super::authenticate::{self, Authenticated};
use super::authority::Authority;
use super::cookie::{self, Cookies, SessionText};
use super::inbound::{Ask, Inbound};
use super::refusal::{CallbackWhy, Refusal};
use super::respond::{self, Own};
use super::sign_in;
use crate::http::Body;
use crate::page::{SignOutPage, SignedOut, SignedOutPage};

/// Where every address of the edge's own begins.
const PREFIX: &str = "/.mezu";

/// Asks whether to sign out, and does.
pub(crate) const SIGN_OUT: &str = "/.mezu/sign-out";

/// Longest hand-off code, in characters: a token has 43.
const CODE_LEN_MAX: usize = 128;

/// Largest form, in octets: one hidden field.
const FORM_LEN_MAX: usize = 4096;

/// Which of the edge's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Where the login host sends people back to.
    Callback,
    /// Signing out.
    SignOut,
    /// Who the caller is, as JSON.
    Whoami,
    /// The keys of assertions, as a JWK set.
    Jwks,
    /// Nothing, or a path that only some would read as ours.
    Nothing,
}

/// Whether a path is the edge's own under any reading, and what it is for. Such a path never reaches an upstream.
pub(crate) fn endpoint(path: &RequestPath) -> Option<Endpoint> {
    let is_own = |reading: &str| {
        reading.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if !path.readings().iter().any(|reading| is_own(reading.as_str())) {
        return None;
    }
    let [only] = path.readings() else { return Some(Endpoint::Nothing) };
    Some(match only.as_str() {
        "/.mezu/callback" => Endpoint::Callback,
        SIGN_OUT => Endpoint::SignOut,
        "/.mezu/whoami" => Endpoint::Whoami,
        "/.mezu/jwks.json" => Endpoint::Jwks,
        _ => Endpoint::Nothing,
    })
}

/// Answers a request for one of them.
pub(crate) async fn serve(
    endpoint: Endpoint,
    inbound: Inbound<'_>,
    site: &Site,
    parts: &ServerParts,
) -> Result<Own, Refusal> {
    let method = &inbound.ask.method;
    let reads = method == Method::GET || method == Method::HEAD;
    match endpoint {
        Endpoint::Callback if method == Method::GET => callback(inbound, site, parts).await,
        Endpoint::Callback => Err(Refusal::OwnMethod("GET")),
        Endpoint::SignOut if reads => sign_out_form(inbound, site, parts).await,
        Endpoint::SignOut if method == Method::POST => sign_out(inbound, parts).await,
        Endpoint::SignOut => Err(Refusal::OwnMethod("GET, HEAD, POST")),
        Endpoint::Whoami if reads => whoami(inbound, site, parts).await,
        Endpoint::Jwks if reads => jwks(&inbound, parts),
        Endpoint::Whoami | Endpoint::Jwks => Err(Refusal::OwnMethod("GET, HEAD")),
        Endpoint::Nothing => Err(Refusal::NoRoute),
    }
}

/// Turns the code from the login host into a session of this host.
async fn callback(inbound: Inbound<'_>, site: &Site, parts: &ServerParts) -> Result<Own, Refusal> {
    let Inbound { ask, address, cookies, .. } = inbound;
    let state = cookies.state.as_ref().ok_or(Refusal::Callback(CallbackWhy::NoState))?;
    let code = ask.uri.query().and_then(code).ok_or(Refusal::Callback(CallbackWhy::NoCode))?;
    // Each try is a question to control by somebody unknown.
    parts.view.charge(ask.client).map_err(Refusal::TooMany)?;
    let old = cookies.session.as_ref().and_then(SessionText::token);
    let redeem = RedeemCode {
        code,
        host: address.authority.host.clone(),
        state_hash: sign_in::state_hash(state),
        replaces: old.as_ref().map(Token::hash),
    };
    let Redeemed { token, found, born_at, return_to } = match control(parts, parts.link.redeem(redeem)).await
    {
        Ok(redeemed) => redeemed,
        Err(LinkError::Away) => return Err(Refusal::ControlAway),
        Err(LinkError::Refused(_)) => {
            // Whoever goes back in the browser, or clicks twice, is signed in by now.
            let signed_in = somebody(ask, &address.authority, &cookies, site, parts).await?.is_some();
            let front = format!("{}/", address.authority.origin());
            let spent = Refusal::Callback(CallbackWhy::Spent);
            return if signed_in { Ok(respond::redirect(&front, ask.asker())) } else { Err(spent) };
        }
    };
    let platform = parts.view.platform().ok_or(Refusal::Starting)?;
    let key = platform.doc.cookie_keys.first().ok_or(Refusal::Starting)?;
    let token = Token::parse(&token).ok_or(Refusal::Internal)?;
    if found.session.token_hash != token.hash() || found.session.host != address.authority.host {
        return Err(Refusal::Internal);
    }
    if let Some(old) = old.filter(|old| *old != token) {
        parts.view.end_session(old.hash());
    }
    parts.view.begin_session(found, born_at);
    let cookie = SessionCookie { token, born_at }.write(key);
    // Made absolute, so that `//elsewhere` stays a path of this host.
    let path = if return_to.starts_with('/') { return_to.as_str() } else { "/" };
    let mut response = respond::redirect(&format!("{}{path}", address.authority.origin()), ask.asker());
    respond::set(response.headers_mut(), SET_COOKIE, &cookie::set_session(&cookie));
    Ok(response)
}

/// The `code` of a query, decoded.
fn code(query: &str) -> Option<String> {
    let mut found = query.split('&').filter_map(|pair| pair.strip_prefix("code="));
    let code = found.next().filter(|_| found.next().is_none())?;
    let code = percent_decode_str(code).decode_utf8().ok()?;
    (1..=CODE_LEN_MAX).contains(&code.len()).then(|| code.into_owned())
}

/// Asks before it does anything, because a GET changes nothing.
async fn sign_out_form(inbound: Inbound<'_>, site: &Site, parts: &ServerParts) -> Result<Own, Refusal> {
    let Inbound { ask, address, cookies, .. } = inbound;
    let authority = address.authority;
    let Some(somebody) = somebody(ask, &authority, &cookies, site, parts).await? else {
        return Ok(signed_out(ask, &authority, SignedOut::Before));
    };
    let token = cookies.session.as_ref().and_then(SessionText::token);
    let page = SignOutPage {
        account: somebody.caller.account(),
        host: authority.host.as_str(),
        token: &token.as_ref().map(form_token).unwrap_or_default(),
    };
    let body = page.render().map_err(|_| Refusal::Internal)?;
    Ok(respond::html(StatusCode::OK, body, ask.asker()))
}

/// Ends the sign-in, if the form is ours (R16).
async fn sign_out(inbound: Inbound<'_>, parts: &ServerParts) -> Result<Own, Refusal> {
    let Inbound { ask, address, cookies, headers, body, .. } = inbound;
    same_origin(&headers, &address.authority.origin())?;
    // A session that nobody ever had needs no end, and its inventor no word with control.
    let cookie = cookies.session.as_ref().filter(|cookie| parts.view.is_authentic(cookie.as_str()));
    let Some(token) = cookie.and_then(SessionText::token) else {
        return Ok(signed_out(ask, &address.authority, SignedOut::Before));
    };
    let given = form(&headers, body).await?;
    // Whoever knows the right value knows the session's token; comparing by hash leaks no more than that.
    if digest::digest(&digest::SHA256, given.as_bytes()).as_ref()
        != digest::digest(&digest::SHA256, form_token(&token).as_bytes()).as_ref()
    {
        return Err(Refusal::Forged);
    }
    let hash = token.hash();
    match control(parts, parts.link.sign_out(token)).await {
        // Refused: control does not know the session, so there is nothing left to end.
        Ok(()) | Err(LinkError::Refused(_)) => parts.view.end_session(hash),
        Err(LinkError::Away) => return Err(Refusal::ControlAway),
    }
    Ok(signed_out(ask, &address.authority, SignedOut::Now))
}

fn signed_out(ask: &Ask, authority: &Authority, out: SignedOut) -> Own {
    let page = SignedOutPage { host: authority.host.as_str(), out };
    let body = page.render().unwrap_or_else(|_| "You are signed out.".to_owned());
    let mut response = respond::html(StatusCode::OK, body, ask.asker());
    respond::set(response.headers_mut(), SET_COOKIE, &cookie::clear_session());
    response
}

/// What the sign-out form carries: only who holds the session's cookie can know it, and it does not tell the cookie.
fn form_token(token: &Token) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"mezu-sign-out-form/1");
    context.update(token.as_bytes());
    BASE64URL.encode(context.finish().as_ref())
}

/// Refuses a form that another site's page sent. Either field may be missing (older browsers, privacy tools), not both.
fn same_origin(headers: &HeaderMap, own: &str) -> Result<(), Refusal> {
    let origin = headers.get(ORIGIN).map(|origin| origin == own);
    let site = headers.get("sec-fetch-site").map(|site| site == "same-origin");
    match (origin, site) {
        (Some(true), Some(true) | None) | (None, Some(true)) => Ok(()),
        _ => Err(Refusal::Forged),
    }
}

/// The form's `token`.
async fn form(headers: &HeaderMap, body: Option<Body>) -> Result<String, Refusal> {
    let is_form = headers.get(CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .split(|byte| *byte == b';')
            .next()
            .is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
    });
    let mut body = body.filter(|_| is_form).ok_or(Refusal::Forged)?;
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Body)?.into_data() else { continue };
        if whole.len() + data.len() > FORM_LEN_MAX {
            return Err(Refusal::Forged);
        }
        whole.extend_from_slice(&data);
    }
    let text = std::str::from_utf8(&whole).map_err(|_| Refusal::Forged)?;
    let token = text.split('&').find_map(|pair| pair.strip_prefix("token=")).ok_or(Refusal::Forged)?;
    Ok(percent_decode_str(token).decode_utf8().map_err(|_| Refusal::Forged)?.into_owned())
}

/// Who the caller is, for the application's own pages.
async fn whoami(inbound: Inbound<'_>, site: &Site, parts: &ServerParts) -> Result<Own, Refusal> {
    let Inbound { ask, address, cookies, .. } = inbound;
    let document = match somebody(ask, &address.authority, &cookies, site, parts).await? {
        None => serde_json::json!({ "signed_in": false }),
        Some(somebody) => {
            let identity = &somebody.caller.identity;
            serde_json::json!({
                "signed_in": true,
                "id": identity.subject.to_string(),
                "email": identity.email,
                "name": identity.name,
                "roles": identity.roles,
                "permissions": identity.permissions,
                "auth_method": identity.methods,
                "acr": identity.assurance,
                "auth_time": identity.authenticated_at.to_string(),
                "session_id": identity.session,
                "sign_out_url": SIGN_OUT,
            })
        }
    };
    Ok(respond::json(StatusCode::OK, "application/json", document.to_string(), ask.asker()))
}

/// The keys that applications verify assertions with. Public.
fn jwks(inbound: &Inbound<'_>, parts: &ServerParts) -> Result<Own, Refusal> {
    let platform = parts.view.platform().ok_or(Refusal::Starting)?;
    let mut response =
        respond::json(StatusCode::OK, "application/jwk-set+json", String::new(), inbound.ask.asker());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(::http::header::CONTENT_LENGTH, HeaderValue::from(platform.jwks.len()));
    // New keys are published long before they sign.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.remove(ALLOW);
    if inbound.ask.method != Method::HEAD {
        *response.body_mut() = Bytes::clone(&platform.jwks);
    }
    Ok(response)
}

/// The holder of the session that came with the request; `None` for everybody else.
async fn somebody(
    ask: &Ask,
    authority: &Authority,
    cookies: &Cookies,
    site: &Site,
    parts: &ServerParts,
) -> Result<Option<Authenticated>, Refusal> {
    let Some(cookie) = &cookies.session else { return Ok(None) };
    if parts.view.is_stale(site.doc.project) {
        return Err(Refusal::Stale);
    }
    let (view, clock) = (&parts.view, &parts.clock);
    Ok(authenticate::by_session(cookie, site, &authority.host, ask.client, view, clock).await?.ok())
}

async fn control<T>(
    parts: &ServerParts,
    asked: mezusphere_model::link::Answer<'_, Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::time::timeout(parts.view.limits().ask_control, asked).await.unwrap_or(Err(LinkError::Away))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r16_a_form_from_another_site_is_refused() {
        let own = "https://shop.localhost:8443";
        let rows: [(Option<&str>, Option<&str>, bool); 11] = [
            (Some(own), Some("same-origin"), true),
            (Some(own), None, true),
            (None, Some("same-origin"), true),
            (None, None, false),
            (Some("null"), None, false),
            (Some("null"), Some("same-origin"), false),
            (Some("https://shop.localhost"), None, false),
            (Some("http://shop.localhost:8443"), None, false),
            (Some("https://blog.localhost:8443"), Some("same-site"), false),
            (Some(own), Some("cross-site"), false),
            (None, Some("none"), false),
        ];
        for (origin, site, accepted) in rows {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            }
            assert_eq!(same_origin(&headers, own).is_ok(), accepted, "{origin:?} {site:?}");
        }
    }

    #[test]
    fn the_form_token_does_not_tell_the_sessions() {
        let token = Token::from_bytes([3; 32]);
        assert_ne!(form_token(&token), token.reveal());
        assert_ne!(form_token(&token), form_token(&Token::from_bytes([4; 32])));
    }

    #[test]
    fn a_code_is_taken_from_the_query_once() {
        assert_eq!(code("code=abc"), Some("abc".to_owned()));
        assert_eq!(code("a=1&code=a%2Db&c=2"), Some("a-b".to_owned()));
        let long = format!("code={}", "x".repeat(CODE_LEN_MAX + 1));
        for bad in ["", "code=", "code=a&code=b", "xcode=a", long.as_str()] {
            assert_eq!(code(bad), None, "{bad}");
        }
    }

    #[test]
    fn r02_a_path_that_anybody_could_read_as_ours_never_reaches_an_upstream() {
        let of = |text: &str| endpoint(&RequestPath::parse(text).unwrap());
        assert_eq!(of("/.mezu/callback"), Some(Endpoint::Callback));
        assert_eq!(of("/.mezu/sign-out"), Some(Endpoint::SignOut));
        assert_eq!(of("/.mezu"), Some(Endpoint::Nothing));
        assert_eq!(of("/.mezu/other"), Some(Endpoint::Nothing));
        assert_eq!(of("/.mezuzah"), None);
        assert_eq!(of("/mezu/callback"), None);
    }
}
