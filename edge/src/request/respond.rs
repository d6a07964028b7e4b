//! Turns refusals into answers: what form they take and which headers go with them.
//! What each says is in [`super::told`].
//!
//! People get a page, programs `application/problem+json` (RFC 9457); both carry the stable code, the hop where
//! it stopped and the request's id. Nothing here tells a stranger anything about a tenant, and the reason of a
//! denial is told to the person denied, never to an anonymous client.

use std::time::Duration;

use super::refusal::{KeyWhy, Refusal};
use super::told::{Told, tell};
use super::wants::Wants;
use super::{cookie, sign_in};
use crate::http::METHODS;
use crate::page::{self, ERROR_FIELD, ErrorPage, Hop, Link};
use ::http::header::{self, HeaderName, HeaderValue};
use ::http::{Method, Response, StatusCode};
use askama::Template;
use bytes::Bytes;
use mezusphere_model::Host;
use mezusphere_model::id::RequestId;
use mezusphere_model::route::StepUp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// An answer the edge makes itself; never large.
pub(crate) type Own = Response<Bytes>;

/// Carries the request's id on every answer the edge makes itself.
const REQUEST_ID: HeaderName = HeaderName::from_static("mezu-request-id");

/// When to try again after a refusal that may pass by itself, in seconds: long enough for a warpgate to
/// have reconnected.
const RETRY_AFTER_S: u64 = 5;

/// Whom an answer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// The request.
    pub(crate) request: RequestId,
    /// The request's method.
    pub(crate) method: &'a Method,
    /// What the client can show.
    pub(crate) wants: Wants,
}

/// Where a client meant to go.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The host; `None` if it named none, or no host name.
    pub(crate) host: Option<Host>,
    /// The path as it was sent.
    pub(crate) path: &'a str,
}

/// Answers a refused request.
pub(crate) fn refuse(refusal: &Refusal, asker: Asker<'_>, wanted: &Wanted<'_>) -> Own {
    let told = tell(refusal);
    let mut response = match refusal {
        Refusal::SignIn(_, way) if asker.wants.may_redirect(asker.method) => redirect(&way.url, asker),
        Refusal::StepUp(_, way) if asker.wants.may_redirect(asker.method) && !way.is_again => {
            redirect(&way.way.url, asker)
        }
        _ if asker.wants == Wants::Page => page(refusal, &told, asker, wanted),
        _ => problem(refusal, &told, asker),
    };
    let status = response.status();
    let headers = response.headers_mut();
    let hop = told.hop.as_str();
    set(headers, ERROR_FIELD, &format!("{}; hop={hop}; id={}", refusal.code(), asker.request));
    match refusal {
        Refusal::SignIn(_, way) => {
            set(headers, header::SET_COOKIE, &way.set_cookie);
            if status == StatusCode::UNAUTHORIZED {
                set(headers, header::WWW_AUTHENTICATE, "Bearer");
            }
        }
        Refusal::StepUp(_, step) => {
            set(headers, header::SET_COOKIE, &step.way.set_cookie);
            if !step.is_again {
                set(headers, header::SET_COOKIE, &cookie::set_step_up(step.session));
            }
            if status == StatusCode::UNAUTHORIZED {
                set(headers, header::WWW_AUTHENTICATE, &challenge(step.needs));
            }
        }
        Refusal::Key(why) => {
            // RFC 6750 §3.1. Which of the reasons it was stays in the log.
            let scope = "Bearer error=\"insufficient_scope\"";
            let token = "Bearer error=\"invalid_token\"";
            set(headers, header::WWW_AUTHENTICATE, if *why == KeyWhy::Scope { scope } else { token });
        }
        Refusal::Method => set(headers, header::ALLOW, METHODS),
        Refusal::OwnMethod(allow) => set(headers, header::ALLOW, allow),
        Refusal::TooMany(wait) | Refusal::RateLimited { wait, .. } | Refusal::ProjectBusy(_, wait) => {
            set(headers, header::RETRY_AFTER, &seconds_up(*wait).to_string());
        }
        // Nobody knows when it ends, unless its owner said so.
        Refusal::Maintenance(_, None) => {}
        Refusal::Maintenance(_, Some(seconds)) => set(headers, header::RETRY_AFTER, &seconds.to_string()),
        _ if status == StatusCode::SERVICE_UNAVAILABLE || *refusal == Refusal::AddressBusy => {
            set(headers, header::RETRY_AFTER, &RETRY_AFTER_S.to_string());
        }
        _ => {}
    }
    response
}

/// Sends the client elsewhere (302).
pub(crate) fn redirect(to: &str, asker: Asker<'_>) -> Own {
    redirect_with(StatusCode::FOUND, to, asker)
}

/// Sends the client elsewhere.
pub(crate) fn redirect_with(status: StatusCode, to: &str, asker: Asker<'_>) -> Own {
    let mut response = own(status, "text/plain; charset=utf-8", String::new(), asker);
    set(response.headers_mut(), header::LOCATION, to);
    response
}

/// An answer of which only the head counts.
pub(crate) fn empty(status: StatusCode, asker: Asker<'_>) -> Own {
    let mut response = own(status, "text/plain; charset=utf-8", String::new(), asker);
    if status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

/// A page.
pub(crate) fn html(status: StatusCode, body: String, asker: Asker<'_>) -> Own {
    let mut response = own(status, "text/html; charset=utf-8", body, asker);
    let headers = response.headers_mut();
    set(headers, header::CONTENT_SECURITY_POLICY, page::content_security_policy());
    set(headers, HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(headers, header::X_FRAME_OPTIONS, "DENY");
    response
}

/// A document for programs.
pub(crate) fn json(status: StatusCode, kind: &'static str, body: String, asker: Asker<'_>) -> Own {
    own(status, kind, body, asker)
}

fn own(status: StatusCode, kind: &'static str, body: String, asker: Asker<'_>) -> Own {
    let len = body.len();
    // hyper's HTTP/2 side sends what it is given, so the answer to HEAD is made empty here.
    let body = if *asker.method == Method::HEAD { Bytes::new() } else { Bytes::from(body) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if len > 0 {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not `no-referrer`: with it browsers send `Origin: null` with our own sign-out form (Fetch §3.5).
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    set(headers, REQUEST_ID, &asker.request.to_string());
    response
}

/// Sets a field whose value we made ourselves; one that is no field value is left out.
pub(crate) fn set(headers: &mut ::http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

fn page(refusal: &Refusal, told: &Told<'_>, asker: Asker<'_>, wanted: &Wanted<'_>) -> Own {
    let request = asker.request.to_string();
    let is_maintenance = matches!(refusal, Refusal::Maintenance(..));
    let page = ErrorPage {
        title: told.title,
        host: wanted.host.as_ref().map(Host::as_str),
        detail: &told.detail,
        next: told.next,
        account: match refusal {
            Refusal::Denied(_, account) => account.as_deref(),
            Refusal::StepUp(_, way) => Some(&way.account),
            _ => None,
        },
        // During maintenance nothing is broken, so no place is marked.
        hop: Some(told.hop).filter(|hop| *hop != Hop::Client && !is_maintenance),
        // Whoever has used up their share is told so in the page's own words.
        fault: told.hop.fault().filter(|_| !is_maintenance && !matches!(refusal, Refusal::ProjectBusy(..))),
        links: &links(refusal, asker, wanted),
        code: refusal.code(),
        request: &request,
    };
    // Rendering writes into memory and has nothing that fails; if it did, the words still arrive.
    let body = page.render().unwrap_or_else(|_| format!("{}: {}", told.title, refusal.code()));
    html(told.status, body, asker)
}

fn links(refusal: &Refusal, asker: Asker<'_>, wanted: &Wanted<'_>) -> Vec<Link> {
    let front = || match &wanted.host {
        // Whoever was refused at the front page itself gets nowhere by going there.
        Some(host) if wanted.path != "/" => {
            Some(Link { href: "/".to_owned(), label: format!("Go to the front page of {host}").into() })
        }
        _ => None,
    };
    let sign_out = |label: &'static str| Link { href: super::own::SIGN_OUT.to_owned(), label: label.into() };
    match refusal {
        Refusal::SignIn(_, way) => vec![Link { href: way.url.clone(), label: "Sign in".into() }],
        Refusal::Callback(_) => vec![Link { href: "/".to_owned(), label: "Start again".into() }],
        Refusal::Denied(_, None) => front().into_iter().collect(),
        Refusal::Denied(..) => std::iter::once(switch(asker, wanted)).chain(front()).collect(),
        Refusal::StepUp(_, way) => {
            let again = Link { href: way.way.url.clone(), label: "Sign in again".into() };
            std::iter::once(again).chain(way.is_again.then(|| switch(asker, wanted))).collect()
        }
        Refusal::ControlRefused => vec![sign_out("Sign out")],
        Refusal::NoRoute | Refusal::Path(_) | Refusal::AmbiguousPath | Refusal::Forged => {
            front().into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// The way to another account, and back to what was asked for, if asking again does nothing but read.
fn switch(asker: Asker<'_>, wanted: &Wanted<'_>) -> Link {
    let reads = *asker.method == Method::GET || *asker.method == Method::HEAD;
    let place = Some(wanted.path).filter(|path| reads && sign_in::leads_here(path)).unwrap_or("/");
    let place = utf8_percent_encode(place, NON_ALPHANUMERIC);
    let href = format!("{}?then=sign-in&return_to={place}", super::own::SIGN_OUT);
    Link { href, label: "Use another account".into() }
}

/// The challenge of RFC 9470 §3: what a sign-in must be for the route.
fn challenge(needs: StepUp) -> String {
    let mut challenge = "Bearer error=\"insufficient_user_authentication\", \
                         error_description=\"A stronger or more recent sign-in is required\""
        .to_owned();
    let acr = needs.acr.map(|acr| format!(", acr_values=\"{}\"", acr.as_str()));
    let age = needs.max_auth_age_s.map(|seconds| format!(", max_age=\"{seconds}\""));
    challenge.extend([acr, age].into_iter().flatten());
    challenge
}

fn problem(refusal: &Refusal, told: &Told<'_>, asker: Asker<'_>) -> Own {
    let mut document = serde_json::json!({
        "title": told.title,
        "status": told.status.as_u16(),
        "detail": told.detail,
        "next": told.next,
        "code": refusal.code(),
        "hop": told.hop.as_str(),
        "request": asker.request.to_string(),
    });
    let more = match refusal {
        Refusal::SignIn(_, way) => Some(("login_url", way.url.as_str())),
        Refusal::StepUp(_, step) => Some(("login_url", step.way.url.as_str())),
        // A word, to those we know: not what they would need, but of which kind it is.
        Refusal::Denied(denial, Some(_)) => Some(("reason", denial.code())),
        _ => None,
    };
    if let (Some((name, value)), Some(fields)) = (more, document.as_object_mut()) {
        fields.insert(name.to_owned(), value.into());
    }
    json(told.status, "application/problem+json", document.to_string(), asker)
}

fn seconds_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
