//! What a route answers in its upstream's place, around the question who asks: preflights and maintenance before it, so that
//! they need nobody to be known; redirects after it, because where a protected route leads is nobody's business.
//!
//! A preflight is answered during maintenance too: a page can read the 503 only after it.

use ::http::StatusCode;
use ::http::header::CACHE_CONTROL;
use mezusphere_model::route::AuthMode;
use mezusphere_model::rules::{EdgeAnswer, Maintenance, RateKey, Redirect, RedirectStatus};

use super::authorize::Permitted;
use super::cors;
use super::inbound::Inbound;
use super::refusal::Refusal;
use super::respond::{self, Own};
use super::route::Routed;
use super::{ServerParts, limits};

/// A request that is not answered before it is known who sends it.
pub(crate) struct Open<'a>(pub(super) Routed<'a>);

/// What becomes of a request with a route.
pub(crate) enum Opened<'a> {
    /// It is a preflight, and this its answer.
    Preflight(Own),
    /// It goes on.
    Open(Open<'a>),
}

/// Answers what needs nobody to be known, and counts the request for its address.
pub(crate) fn open<'a>(routed: Routed<'a>, parts: &ServerParts) -> Result<Opened<'a>, Refusal> {
    let (inbound, route) = (&routed.inbound, &routed.route);
    if let Some(rule) = &route.rules.cors
        && cors::asks_about(&inbound.ask.method, &inbound.headers).is_some()
    {
        return cors::preflight(rule, inbound, inbound.ask.asker()).map(Opened::Preflight);
    }
    if let Some(EdgeAnswer::Maintenance(Maintenance { message, retry_after_s })) = &route.rules.answer {
        return Err(Refusal::Maintenance(message.as_str().into(), *retry_after_s));
    }
    if let Some(rate) = route.limits.rate.filter(|rate| rate.by == RateKey::Address) {
        limits::by_network(inbound.ask, route.id, rate, parts)?;
    }
    Ok(Opened::Open(Open(routed)))
}

/// The answer of a route that leads elsewhere, to somebody who may use it.
pub(crate) fn redirect(permitted: &Permitted<'_>) -> Option<Own> {
    let Permitted { inbound, route, .. } = permitted;
    let Some(EdgeAnswer::Redirect(redirect)) = &route.rules.answer else { return None };
    let Redirect { status, .. } = redirect;
    let Inbound { ask, address, .. } = inbound;
    let to = redirect.target(ask.uri.path(), ask.uri.query(), &address.authority.to_string());
    let code = StatusCode::from_u16((*status).into()).unwrap_or(StatusCode::TEMPORARY_REDIRECT);
    let mut response = respond::redirect_with(code, &to, ask.asker());
    let is_for_good = matches!(status, RedirectStatus::MovedPermanently | RedirectStatus::Permanent);
    // For good means that it may be remembered (RFC 9110 §15.4.2), by whoever may know it.
    if is_for_good && route.auth_in_force() == AuthMode::Public {
        response.headers_mut().remove(CACHE_CONTROL);
    }
    Some(response)
}
