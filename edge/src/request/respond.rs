//! Turns refusals into answers: the one place that knows statuses, words and headers.
//!
//! People get a page, programs `application/problem+json` (RFC 9457); both carry the stable code, the hop where
//! it stopped and the request's id. Nothing here tells a stranger anything about a tenant, and the reason of a
//! denial is told to the person denied, never to an anonymous client.

use std::time::Duration;

use ::http::header::{self, HeaderName, HeaderValue};
use ::http::{Method, Response, StatusCode};
use askama::Template;
use bytes::Bytes;
use mezusphere_model::id::RequestId;
use tunnel_proto::codes::FailureCode;

use super::authority::AuthorityError;
use super::refusal::{CallbackWhy, KeyWhy, Refusal};
use super::wants::Wants;
use crate::page::{self, ErrorPage, Hop, Link};

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

/// What is told of a refusal.
struct Told<'a> {
    status: StatusCode,
    title: &'static str,
    detail: std::borrow::Cow<'a, str>,
    next: &'static str,
    hop: Option<Hop>,
}

/// Answers a refused request.
pub(crate) fn refuse(refusal: &Refusal, asker: Asker<'_>) -> Own {
    let told = tell(refusal);
    let mut response = match refusal {
        Refusal::SignIn(_, way) if asker.wants.may_redirect(asker.method) => redirect(&way.url, asker),
        _ if asker.wants == Wants::Page => page(refusal, &told, asker),
        _ => problem(refusal, &told, asker),
    };
    let status = response.status();
    let headers = response.headers_mut();
    match refusal {
        Refusal::SignIn(_, way) => {
            set(headers, header::SET_COOKIE, &way.set_cookie);
            if status == StatusCode::UNAUTHORIZED {
                set(headers, header::WWW_AUTHENTICATE, "Bearer");
            }
        }
        Refusal::Key(why) => {
            // RFC 6750 §3.1. Which of the reasons it was stays in the log.
            let scope = "Bearer error=\"insufficient_scope\"";
            let token = "Bearer error=\"invalid_token\"";
            set(headers, header::WWW_AUTHENTICATE, if *why == KeyWhy::Scope { scope } else { token });
        }
        Refusal::OwnMethod(allow) => set(headers, header::ALLOW, allow),
        Refusal::TooMany(wait) => set(headers, header::RETRY_AFTER, &seconds_up(*wait).to_string()),
        _ if status == StatusCode::SERVICE_UNAVAILABLE => {
            set(headers, header::RETRY_AFTER, &RETRY_AFTER_S.to_string());
        }
        _ => {}
    }
    response
}

/// Sends the client elsewhere (302).
pub(crate) fn redirect(to: &str, asker: Asker<'_>) -> Own {
    let mut response = own(StatusCode::FOUND, "text/plain; charset=utf-8", String::new(), asker);
    set(response.headers_mut(), header::LOCATION, to);
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

fn page(refusal: &Refusal, told: &Told<'_>, asker: Asker<'_>) -> Own {
    let request = asker.request.to_string();
    let page = ErrorPage {
        status: told.status.as_u16(),
        title: told.title,
        detail: &told.detail,
        next: told.next,
        account: match refusal {
            Refusal::Denied(_, account) => Some(account),
            _ => None,
        },
        hop: told.hop,
        links: &links(refusal),
        code: refusal.code(),
        request: &request,
    };
    // Rendering writes into memory and has nothing that fails; if it did, the words still arrive.
    let body = page.render().unwrap_or_else(|_| format!("{}: {}", told.title, refusal.code()));
    html(told.status, body, asker)
}

fn links(refusal: &Refusal) -> Vec<Link> {
    match refusal {
        Refusal::SignIn(_, way) => vec![Link { href: way.url.clone(), label: "Sign in" }],
        Refusal::Callback(_) => vec![Link { href: "/".to_owned(), label: "Start again" }],
        Refusal::Denied(..) | Refusal::ControlRefused => {
            vec![Link { href: super::own::SIGN_OUT.to_owned(), label: "Sign out" }]
        }
        _ => Vec::new(),
    }
}

fn problem(refusal: &Refusal, told: &Told<'_>, asker: Asker<'_>) -> Own {
    let mut document = serde_json::json!({
        "title": told.title,
        "status": told.status.as_u16(),
        "detail": told.detail,
        "next": told.next,
        "code": refusal.code(),
        "hop": told.hop.unwrap_or(Hop::Client).as_str(),
        "request": asker.request.to_string(),
    });
    if let (Refusal::SignIn(_, way), Some(fields)) = (refusal, document.as_object_mut()) {
        fields.insert("login_url".to_owned(), way.url.clone().into());
    }
    json(told.status, "application/problem+json", document.to_string(), asker)
}

fn seconds_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

const ASK_AGAIN: &str = "Try again in a moment.";
const CHECK_ADDRESS: &str = "Check the address.";
const TELL_OWNER: &str =
    "If it stays so, tell whoever runs this application, with the code and the request below.";

/// What each refusal says. Statuses are here and nowhere else.
fn tell(refusal: &Refusal) -> Told<'_> {
    let told = |status, title, detail: &'static str, next, hop| Told {
        status,
        title,
        detail: detail.into(),
        next,
        hop,
    };
    let client = |status, title, detail, next| told(status, title, detail, next, None);
    let edge = |detail, next| {
        told(StatusCode::SERVICE_UNAVAILABLE, "Not available right now", detail, next, Some(Hop::Edge))
    };
    match refusal {
        Refusal::Authority(AuthorityError::Misdirected) => client(
            StatusCode::MISDIRECTED_REQUEST,
            "Wrong connection",
            "This connection was opened for another host.",
            "Open a new connection to the host you want.",
        ),
        Refusal::Authority(why) => said(StatusCode::BAD_REQUEST, "Bad request", why, CHECK_ADDRESS),
        Refusal::Path(why) => said(StatusCode::BAD_REQUEST, "Bad request", why, CHECK_ADDRESS),
        Refusal::AmbiguousPath => client(
            StatusCode::BAD_REQUEST,
            "Bad request",
            "This path can be read in more than one way.",
            "Write it without encoded slashes, dots and empty segments.",
        ),
        Refusal::Method | Refusal::OwnMethod(_) => client(
            StatusCode::METHOD_NOT_ALLOWED,
            "Method not allowed",
            "This address does not take requests of this method.",
            CHECK_ADDRESS,
        ),
        Refusal::ExtendedConnect => client(
            StatusCode::NOT_IMPLEMENTED,
            "Not implemented",
            "This edge does not open other protocols inside HTTP.",
            "Use plain requests.",
        ),
        Refusal::TooLarge => client(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "Too large",
            "The request's head is larger than can be passed on.",
            "Send fewer or shorter fields; clearing this site's cookies often helps.",
        ),
        Refusal::Body => client(
            StatusCode::BAD_REQUEST,
            "Bad request",
            "The body does not match what the head said of it.",
            "Send it again, whole.",
        ),
        Refusal::UnknownHost => client(
            StatusCode::NOT_FOUND,
            "Nothing here",
            "Nothing is published under this name.",
            CHECK_ADDRESS,
        ),
        Refusal::NoRoute => {
            client(StatusCode::NOT_FOUND, "Not found", "There is nothing at this address.", CHECK_ADDRESS)
        }
        Refusal::SignIn(..) => client(
            StatusCode::UNAUTHORIZED,
            "Sign in first",
            "This address is for people and programs that are signed in.",
            "Sign in, then try again.",
        ),
        Refusal::Key(_) => client(
            StatusCode::UNAUTHORIZED,
            "API key refused",
            "This API key is not good here.",
            "Check that it is whole, has not expired, belongs to this project and may call its routes.",
        ),
        Refusal::Denied(why, _) => said(
            StatusCode::FORBIDDEN,
            "No access",
            why,
            "Ask whoever runs this application for access, or sign in with another account.",
        ),
        Refusal::Forged => client(
            StatusCode::FORBIDDEN,
            "Not accepted",
            "This form was not sent from this site.",
            "Open the page again and send the form from there.",
        ),
        Refusal::Callback(CallbackWhy::NoState) => client(
            StatusCode::BAD_REQUEST,
            "Sign-in not finished",
            "This browser has not begun a sign-in, or began it too long ago.",
            "Start again; allow cookies for this site.",
        ),
        Refusal::Callback(CallbackWhy::NoCode | CallbackWhy::Spent) => client(
            StatusCode::BAD_REQUEST,
            "Sign-in not finished",
            "This sign-in was finished already, or took too long.",
            "Start again.",
        ),
        Refusal::TooMany(_) => client(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests",
            "There were too many sign-in attempts from your address.",
            "Wait a little, then try again.",
        ),
        Refusal::ControlRefused => told(
            StatusCode::FORBIDDEN,
            "Session ended",
            "Your session is no longer good.",
            "Sign in again.",
            None,
        ),
        Refusal::Stale => edge(
            "This edge has been cut off for so long that it can no longer tell who may pass.",
            "Public pages go on. Try again later; whoever runs this installation sees the reason in the log.",
        ),
        Refusal::Replica => edge("This edge cannot read its own records.", TELL_OWNER),
        Refusal::ControlAway => edge("Your session could not be confirmed just now.", ASK_AGAIN),
        Refusal::Starting => edge("This edge has just started and knows nothing yet.", ASK_AGAIN),
        Refusal::TooNew => edge("This edge is too old for this address.", TELL_OWNER),
        Refusal::NoTunnel => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "Application not connected",
            "The application's warpgate is not connected.",
            TELL_OWNER,
            Some(Hop::Warpgate),
        ),
        Refusal::NoUpstream => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "Application not connected",
            "No connected warpgate reaches this part of the application.",
            TELL_OWNER,
            Some(Hop::Warpgate),
        ),
        Refusal::TunnelBusy => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too busy",
            "The application's warpgate has as many requests as it takes.",
            ASK_AGAIN,
            Some(Hop::Warpgate),
        ),
        Refusal::TunnelLost => told(
            StatusCode::BAD_GATEWAY,
            "Connection lost",
            "The connection to the application's warpgate broke before an answer came.",
            "The request may or may not have been carried out. Check before you send it again.",
            Some(Hop::Warpgate),
        ),
        Refusal::TunnelProtocol => told(
            StatusCode::BAD_GATEWAY,
            "Bad answer",
            "The application's warpgate answered something that makes no sense.",
            TELL_OWNER,
            Some(Hop::Warpgate),
        ),
        Refusal::HeadTimeout => told(
            StatusCode::GATEWAY_TIMEOUT,
            "No answer in time",
            "The application did not answer in time.",
            "The request may have been carried out. Check before you send it again.",
            Some(Hop::Upstream),
        ),
        Refusal::BodyTimeout => client(
            StatusCode::REQUEST_TIMEOUT,
            "Too slow",
            "The rest of the request did not come in time.",
            "Send it again.",
        ),
        Refusal::Warpgate(code) => tell_failure(*code),
        Refusal::Internal => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something broke",
            "This edge made a mistake.",
            TELL_OWNER,
            Some(Hop::Edge),
        ),
    }
}

/// What a warpgate's failure says.
fn tell_failure(code: FailureCode) -> Told<'static> {
    let (status, title, detail, next, hop) = match code {
        FailureCode::UpstreamRefused | FailureCode::UpstreamUnresolved => (
            StatusCode::BAD_GATEWAY,
            "Application not running",
            "The application cannot be reached from its warpgate.",
            TELL_OWNER,
            Hop::Upstream,
        ),
        FailureCode::UpstreamConnectTimeout => (
            StatusCode::GATEWAY_TIMEOUT,
            "Application not reachable",
            "The application could not be reached in time.",
            TELL_OWNER,
            Hop::Upstream,
        ),
        FailureCode::UpstreamTimeout => (
            StatusCode::GATEWAY_TIMEOUT,
            "No answer in time",
            "The application did not answer in time.",
            "The request may have been carried out. Check before you send it again.",
            Hop::Upstream,
        ),
        FailureCode::UpstreamClosed | FailureCode::UpstreamMalformed | FailureCode::UpstreamTls => (
            StatusCode::BAD_GATEWAY,
            "Bad answer",
            "The application broke off, or answered something that makes no sense.",
            TELL_OWNER,
            Hop::Upstream,
        ),
        FailureCode::Denied => (
            StatusCode::FORBIDDEN,
            "No access",
            "The application's warpgate does not let this request through.",
            "Ask whoever runs this application for access.",
            Hop::Warpgate,
        ),
        FailureCode::RequestMalformed => (
            StatusCode::BAD_REQUEST,
            "Bad request",
            "The application's warpgate does not pass on requests like this one.",
            CHECK_ADDRESS,
            Hop::Warpgate,
        ),
        FailureCode::Draining | FailureCode::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too busy",
            "The application's warpgate takes no more requests just now.",
            ASK_AGAIN,
            Hop::Warpgate,
        ),
        FailureCode::Internal
        | FailureCode::UnknownUpstream
        | FailureCode::UnknownRoute
        | FailureCode::UnknownRevision
        | FailureCode::UnknownPrincipal
        | FailureCode::AssertionInvalid => (
            StatusCode::BAD_GATEWAY,
            "Not passed on",
            "The edge and the application's warpgate do not agree on this request.",
            "Try again in a moment; they may be about to agree.",
            Hop::Warpgate,
        ),
    };
    Told { status, title, detail: detail.into(), next, hop: Some(hop) }
}

/// A refusal of the client's request whose own words say what is wrong.
fn said<'a>(status: StatusCode, title: &'static str, why: &impl ToString, next: &'static str) -> Told<'a> {
    let mut detail = why.to_string();
    if let Some(first) = detail.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    detail.push('.');
    Told { status, title, detail: detail.into(), next, hop: None }
}

#[cfg(test)]
mod tests {
    use super::super::refusal::{SignInWay, SignInWhy};
    use super::*;
    use mezusphere_model::policy::Denial;
    use mezusphere_model::slug::Name;

    fn asker(method: &Method, wants: Wants) -> Asker<'_> {
        Asker { request: RequestId::from_bits(7), method, wants }
    }

    fn sign_in() -> Refusal {
        let way = SignInWay {
            url: "https://login.mezu.localhost/sign-in?host=shop.localhost".to_owned(),
            set_cookie: "__Host-mezu-state=s; Path=/; Secure".to_owned(),
        };
        Refusal::SignIn(SignInWhy::None, Box::new(way))
    }

    fn text(response: &Own) -> &str {
        std::str::from_utf8(response.body()).unwrap()
    }

    #[test]
    fn a_navigation_without_a_session_is_redirected_and_everything_else_gets_401() {
        let rows = [
            (Method::GET, Wants::Page, 302),
            (Method::HEAD, Wants::Page, 302),
            (Method::POST, Wants::Page, 401),
            (Method::GET, Wants::Problem, 401),
            (Method::POST, Wants::Problem, 401),
        ];
        for (method, wants, status) in rows {
            let response = refuse(&sign_in(), asker(&method, wants));
            assert_eq!(response.status(), status, "{method} {wants:?}");
            assert!(response.headers().contains_key(header::SET_COOKIE), "{method} {wants:?}");
            assert_eq!(response.headers().contains_key(header::LOCATION), status == 302);
            assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
        }
    }

    #[test]
    fn a_program_is_told_where_to_sign_in() {
        let response = refuse(&sign_in(), asker(&Method::GET, Wants::Problem));
        let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(document["login_url"], "https://login.mezu.localhost/sign-in?host=shop.localhost");
        assert_eq!(document["code"], "edge.sign_in_required");
        assert_eq!(document["request"], RequestId::from_bits(7).to_string());
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn the_reason_of_a_denial_is_told_to_the_person_denied_and_to_nobody_else() {
        let denial = Denial::MissingRole(Name::parse("customer").unwrap());
        let denied = refuse(&Refusal::Denied(denial, "zoe@example".into()), asker(&Method::GET, Wants::Page));
        assert_eq!(denied.status(), 403);
        assert!(text(&denied).contains("role customer") && text(&denied).contains("zoe@example"));
        let stranger = refuse(&sign_in(), asker(&Method::POST, Wants::Page));
        assert!(!text(&stranger).contains("role"));
    }

    #[test]
    fn a_failure_names_the_hop_in_both_forms() {
        let refusal = Refusal::Warpgate(FailureCode::UpstreamRefused);
        let page = refuse(&refusal, asker(&Method::GET, Wants::Page));
        assert_eq!(page.status(), 502);
        assert!(text(&page).contains("warpgate.upstream_refused"));
        assert!(text(&page).contains("class=\"broken\"><span>Application"));
        let problem = refuse(&refusal, asker(&Method::GET, Wants::Problem));
        let document: serde_json::Value = serde_json::from_slice(problem.body()).unwrap();
        assert_eq!((&document["hop"], &document["status"]), (&"upstream".into(), &502.into()));
    }

    #[test]
    fn every_failure_of_a_warpgate_is_an_error_of_the_5xx_or_4xx_class() {
        for code in FailureCode::ALL {
            let status = refuse(&Refusal::Warpgate(*code), asker(&Method::GET, Wants::Problem)).status();
            assert!(status.is_server_error() || status.is_client_error(), "{code}");
        }
    }

    #[test]
    fn the_answer_to_head_has_the_length_and_not_the_body() {
        let get = refuse(&Refusal::NoRoute, asker(&Method::GET, Wants::Problem));
        let head = refuse(&Refusal::NoRoute, asker(&Method::HEAD, Wants::Problem));
        assert!(head.body().is_empty() && !get.body().is_empty());
        assert_eq!(head.headers()[header::CONTENT_LENGTH], get.headers()[header::CONTENT_LENGTH]);
    }
}
