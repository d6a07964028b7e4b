//! How a code from the login host becomes a session of this host: in a browser that was sent back here, and for a program
//! that signed somebody in by the login host's JSON API.
//!
//! A code is worth nothing without the secret whose hash the sign-in was begun with: a cookie in a browser, what the
//! program kept otherwise. So a code that was read on its way, or planted, signs nobody in.

use ::http::StatusCode;
use ::http::header::SET_COOKIE;
use mezusphere_model::link::{LinkError, RedeemCode, Redeemed};
use mezusphere_model::route::Site;
use mezusphere_model::token::{SessionCookie, Token};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::super::ServerParts;
use super::super::authority::Authority;
use super::super::cookie::{self, SessionText};
use super::super::inbound::{Ask, Inbound};
use super::super::refusal::{CallbackWhy, Refusal};
use super::super::respond::{self, Own};
use super::super::sign_in;
use super::{control, form, somebody};

/// Longest hand-off code, in characters: a token has 43.
const CODE_LEN_MAX: usize = 128;

/// `GET /.mezu/callback?code=…`: sets the cookie, and sends the browser to what it wanted.
pub(super) async fn callback(inbound: Inbound<'_>, site: &Site, parts: &ServerParts) -> Result<Own, Refusal> {
    let Inbound { ask, address, cookies, .. } = inbound;
    let state = cookies.state.as_ref().ok_or(Refusal::Callback(CallbackWhy::NoState))?;
    let code = ask.uri.query().and_then(code).ok_or(Refusal::Callback(CallbackWhy::NoCode))?;
    let old = cookies.session.as_ref().and_then(SessionText::token);
    let begun = match redeem(ask, &address.authority, code, state, old, parts).await {
        Ok(begun) => begun,
        Err(spent @ Refusal::Callback(CallbackWhy::Spent)) => {
            // Whoever goes back in the browser, or clicks twice, is signed in by now.
            let signed_in = somebody(ask, &address.authority, &cookies, site, parts).await?.is_some();
            let front = format!("{}/", address.authority.origin());
            return if signed_in { Ok(respond::redirect(&front, ask.asker())) } else { Err(spent) };
        }
        Err(refusal) => return Err(refusal),
    };
    // Made absolute, so that `//elsewhere` stays a path of this host.
    let path = if begun.return_to.starts_with('/') { begun.return_to.as_str() } else { "/" };
    let mut response = respond::redirect(&format!("{}{path}", address.authority.origin()), ask.asker());
    respond::set(response.headers_mut(), SET_COOKIE, &begun.set_cookie);
    Ok(response)
}

/// What a program sends.
#[derive(Deserialize)]
struct Begin {
    /// The code the login host gave.
    code: String,
    /// The secret whose hash the sign-in was begun with: 32 bytes in base64url.
    state: String,
}

/// `POST /.mezu/session`: sets the cookie, and answers 204.
///
/// JSON only, which no page of another site can send here unasked; so nobody is signed in as somebody else by a form.
pub(super) async fn begin(inbound: Inbound<'_>, parts: &ServerParts) -> Result<Own, Refusal> {
    let Inbound { ask, address, cookies, headers, body, .. } = inbound;
    form::not_foreign(&headers, &address.authority.origin())?;
    let whole = form::body(&headers, body, "application/json").await?;
    let Begin { code, state } = serde_json::from_slice(&whole).map_err(|_| Refusal::Body)?;
    let state = Token::parse(&state).ok_or(Refusal::Callback(CallbackWhy::NoState))?;
    if !(1..=CODE_LEN_MAX).contains(&code.len()) {
        return Err(Refusal::Callback(CallbackWhy::NoCode));
    }
    let old = cookies.session.as_ref().and_then(SessionText::token);
    let begun = redeem(ask, &address.authority, code, &state, old, parts).await?;
    let mut response = respond::empty(StatusCode::NO_CONTENT, ask.asker());
    respond::set(response.headers_mut(), SET_COOKIE, &begun.set_cookie);
    Ok(response)
}

/// `DELETE /.mezu/session`: ends the sign-in, with every session of it. Nobody being signed in is as good.
pub(super) async fn end(inbound: Inbound<'_>, parts: &ServerParts) -> Result<Own, Refusal> {
    let Inbound { ask, address, cookies, headers, .. } = inbound;
    form::not_foreign(&headers, &address.authority.origin())?;
    let cookie = cookies.session.as_ref().filter(|cookie| parts.view.is_authentic(cookie.as_str()));
    if let Some(token) = cookie.and_then(SessionText::token) {
        sign_out(token, parts).await?;
    }
    let mut response = respond::empty(StatusCode::NO_CONTENT, ask.asker());
    respond::set(response.headers_mut(), SET_COOKIE, &cookie::clear_session());
    Ok(response)
}

/// Ends the sign-in that the session with this token is a child of.
pub(super) async fn sign_out(token: Token, parts: &ServerParts) -> Result<(), Refusal> {
    let hash = token.hash();
    match control(parts, parts.link.sign_out(token)).await {
        // Refused: control does not know the session, so there is nothing left to end.
        Ok(()) | Err(LinkError::Refused(_)) => {
            parts.view.end_session(hash);
            Ok(())
        }
        Err(LinkError::Away) => Err(Refusal::ControlAway),
    }
}

/// A session that has just begun here.
struct Begun {
    /// Its cookie, as a `set-cookie` value.
    set_cookie: String,
    /// Path and query on this host where the user wanted to go.
    return_to: String,
}

/// Asks control for the session of a code; `old` is the one the client held until now, which ends (R11).
async fn redeem(
    ask: &Ask,
    authority: &Authority,
    code: String,
    state: &Token,
    old: Option<Token>,
    parts: &ServerParts,
) -> Result<Begun, Refusal> {
    // Each try is a question to control by somebody unknown.
    parts.view.charge(ask.client).map_err(Refusal::TooMany)?;
    let redeem = RedeemCode {
        code,
        host: authority.host.clone(),
        state_hash: sign_in::state_hash(state),
        replaces: old.as_ref().map(Token::hash),
    };
    let Redeemed { token, found, born_at, return_to } =
        control(parts, parts.link.redeem(redeem)).await.map_err(|why| match why {
            LinkError::Away => Refusal::ControlAway,
            LinkError::Refused(_) => Refusal::Callback(CallbackWhy::Spent),
        })?;
    let platform = parts.view.platform().ok_or(Refusal::Starting)?;
    let key = platform.doc.cookie_keys.first().ok_or(Refusal::Starting)?;
    let token = Token::parse(&token).ok_or(Refusal::Internal)?;
    if found.session.token_hash != token.hash() || found.session.host != authority.host {
        return Err(Refusal::Internal);
    }
    // Sent on, its browser would be sent back to sign in, and come here again, and so on.
    let now = parts.clock.now();
    if found.session.check(found.session.project, &authority.host, now, None).is_err() {
        tracing::error!(issued_at = %found.session.issued_at, %now, "A session is over where it begins: the clocks of this edge and of control differ");
        return Err(Refusal::Clocks);
    }
    if let Some(old) = old.filter(|old| *old != token) {
        parts.view.end_session(old.hash());
    }
    parts.view.begin_session(found, born_at);
    let cookie = SessionCookie { token, born_at }.write(key);
    Ok(Begun { set_cookie: cookie::set_session(&cookie), return_to })
}

/// The `code` of a query, decoded.
fn code(query: &str) -> Option<String> {
    let mut found = query.split('&').filter_map(|pair| pair.strip_prefix("code="));
    let code = found.next().filter(|_| found.next().is_none())?;
    let code = percent_decode_str(code).decode_utf8().ok()?;
    (1..=CODE_LEN_MAX).contains(&code.len()).then(|| code.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_taken_from_the_query_once() {
        assert_eq!(code("code=abc"), Some("abc".to_owned()));
        assert_eq!(code("a=1&code=a%2Db&c=2"), Some("a-b".to_owned()));
        let long = format!("code={}", "x".repeat(CODE_LEN_MAX + 1));
        for bad in ["", "code=", "code=a&code=b", "xcode=a", long.as_str()] {
            assert_eq!(code(bad), None, "{bad}");
        }
    }
}
