//! Signing out: a GET asks, a POST acts. It reaches the sign-in at the login host, and so every session of it. With
//! `?then=sign-in` it is the way to another account: on to the login host, and back to where the person was.

use ::http::StatusCode;
use ::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, SET_COOKIE};
use askama::Template as _;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::route::Site;
use mezusphere_model::token::Token;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::ServerParts;
use super::super::authority::Authority;
use super::super::cookie::{self, SessionText};
use super::super::inbound::{Ask, Inbound};
use super::super::refusal::Refusal;
use super::super::respond::{self, Own};
use super::super::sign_in as login;
use super::{form, session, sign_in, somebody};
use crate::page::{self, SignOutPage, SignedOut, SignedOutPage};

/// Asks whether to sign out, and does.
pub(crate) const SIGN_OUT: &str = "/.mezu/sign-out";

/// Asks before it does anything, because a GET changes nothing.
pub(super) async fn ask(inbound: Inbound<'_>, site: &Site, parts: &ServerParts) -> Result<Own, Refusal> {
    let switching = is_switching(inbound.ask);
    let place = sign_in::place(&inbound);
    let Inbound { ask, address, cookies, .. } = inbound;
    let authority = address.authority;
    let Some(somebody) = somebody(ask, &authority, &cookies, site, parts).await? else {
        return if switching {
            on_to_sign_in(StatusCode::FOUND, &place, ask, &authority, cookies.state, parts)
        } else {
            Ok(signed_out(ask, &authority, SignedOut::Before))
        };
    };
    let token = cookies.session.as_ref().and_then(SessionText::token);
    let action = if switching { switch_to(&place) } else { SIGN_OUT.to_owned() };
    let page = SignOutPage {
        account: somebody.caller.account(),
        host: authority.host.as_str(),
        token: &token.as_ref().map(form_token).unwrap_or_default(),
        action: &action,
        switching,
    };
    let body = page.render().map_err(|_| Refusal::Internal)?;
    let mut response = respond::html(StatusCode::OK, body, ask.asker());
    if switching && let Some(policy) = form_to_login(parts) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// Ends the sign-in, if the form is ours (R16).
pub(super) async fn act(inbound: Inbound<'_>, parts: &ServerParts) -> Result<Own, Refusal> {
    let switching = is_switching(inbound.ask);
    let place = sign_in::place(&inbound);
    let Inbound { ask, address, cookies, headers, body, .. } = inbound;
    form::same_origin(&headers, &address.authority.origin())?;
    // A session that nobody ever had needs no end, and its inventor no word with control.
    let cookie = cookies.session.as_ref().filter(|cookie| parts.view.is_authentic(cookie.as_str()));
    let ended = match cookie.and_then(SessionText::token) {
        None => SignedOut::Before,
        Some(token) => {
            let given = given(&form::body(&headers, body, "application/x-www-form-urlencoded").await?)?;
            // Whoever knows the right value knows the session's token; comparing by hash leaks no more than that.
            let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
            if hash(&given).as_ref() != hash(&form_token(&token)).as_ref() {
                return Err(Refusal::Forged);
            }
            session::sign_out(token, parts).await?;
            SignedOut::Now
        }
    };
    if switching {
        on_to_sign_in(StatusCode::SEE_OTHER, &place, ask, &address.authority, cookies.state, parts)
    } else {
        Ok(signed_out(ask, &address.authority, ended))
    }
}

fn is_switching(ask: &Ask) -> bool {
    let then = ask.uri.query().and_then(|query| sign_in::parameter(query, "then"));
    then.as_deref() == Some("sign-in")
}

/// Where the form of whoever switches goes: it remembers where they were.
fn switch_to(place: &str) -> String {
    format!("{SIGN_OUT}?then=sign-in&return_to={}", utf8_percent_encode(place, NON_ALPHANUMERIC))
}

/// Sends a browser that is signed out on to the login host.
fn on_to_sign_in(
    status: StatusCode,
    place: &str,
    ask: &Ask,
    authority: &Authority,
    state: Option<Token>,
    parts: &ServerParts,
) -> Result<Own, Refusal> {
    if parts.link.is_away() {
        return Err(Refusal::SignInAway);
    }
    let way = login::way_to(place, authority, state, &parts.hosts, &parts.entropy);
    let mut response = respond::redirect_with(status, &way.url, ask.asker());
    respond::set(response.headers_mut(), SET_COOKIE, &cookie::clear_session());
    respond::set(response.headers_mut(), SET_COOKIE, &way.set_cookie);
    Ok(response)
}

/// The pages' policy with the login host as a place a form may lead to: chromium holds the redirects after a form against
/// `form-action` too.
fn form_to_login(parts: &ServerParts) -> Option<HeaderValue> {
    let login = parts.hosts.origin(&parts.hosts.host(PlatformHost::Login).ok()?);
    let policy =
        page::content_security_policy().replace("form-action 'self'", &format!("form-action 'self' {login}"));
    HeaderValue::try_from(policy).ok()
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

/// The form's `token`.
fn given(form: &[u8]) -> Result<String, Refusal> {
    let text = std::str::from_utf8(form).map_err(|_| Refusal::Forged)?;
    let token = text.split('&').find_map(|pair| pair.strip_prefix("token=")).ok_or(Refusal::Forged)?;
    Ok(percent_decode_str(token).decode_utf8().map_err(|_| Refusal::Forged)?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_token_does_not_tell_the_sessions() {
        let token = Token::from_bytes([3; 32]);
        assert_ne!(form_token(&token), token.reveal());
        assert_ne!(form_token(&token), form_token(&Token::from_bytes([4; 32])));
    }
}
