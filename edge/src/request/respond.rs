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
mod tests {
    use super::super::refusal::{SignInWay, SignInWhy, StepUpWay};
    use super::*;
    use mezusphere_model::id::SessionId;
    use mezusphere_model::identity::Assurance;
    use mezusphere_model::policy::Denial;
    use mezusphere_model::slug::Name;
    use tunnel_proto::codes::FailureCode;

    fn asker(method: &Method, wants: Wants) -> Asker<'_> {
        Asker { request: RequestId::from_bits(7), method, wants }
    }

    fn wanted() -> Wanted<'static> {
        Wanted { host: Host::parse("shop.localhost").ok(), path: "/orders" }
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
            let response = refuse(&sign_in(), asker(&method, wants), &wanted());
            assert_eq!(response.status(), status, "{method} {wants:?}");
            assert!(response.headers().contains_key(header::SET_COOKIE), "{method} {wants:?}");
            assert_eq!(response.headers().contains_key(header::LOCATION), status == 302);
            assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), status == 401);
        }
    }

    #[test]
    fn a_program_is_told_where_to_sign_in() {
        let response = refuse(&sign_in(), asker(&Method::GET, Wants::Problem), &wanted());
        let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(document["login_url"], "https://login.mezu.localhost/sign-in?host=shop.localhost");
        assert_eq!(document["code"], "edge.sign_in_required");
        assert_eq!(document["request"], RequestId::from_bits(7).to_string());
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn what_is_missing_is_told_to_nobody_and_of_which_kind_it_is_only_to_those_we_know() {
        let role = || Denial::MissingRole(Name::parse("customer").unwrap());
        let known = || Some("zoe@example".into());
        let told = |denial, account, wants| {
            let denied = refuse(&Refusal::Denied(denial, account), asker(&Method::GET, wants), &wanted());
            assert_eq!(denied.status(), 403);
            text(&denied).to_owned()
        };
        let page = told(role(), known(), Wants::Page);
        assert!(
            page.contains("Your account may not use this page.") && page.contains("zoe@example"),
            "{page}"
        );
        let problem = told(role(), known(), Wants::Problem);
        assert!(problem.contains("\"reason\":\"missing_role\""), "{problem}");
        let network = told(Denial::Network, known(), Wants::Page);
        assert!(network.contains("from your network"), "{network}");
        for wants in [Wants::Page, Wants::Problem] {
            let stranger = told(Denial::Network, None, wants);
            assert!(!stranger.contains("network") && !stranger.contains("reason"), "{stranger}");
            assert!(!stranger.contains("another account"), "{stranger}");
            assert!(!told(role(), known(), wants).contains("customer"));
        }
        let stranger = refuse(&sign_in(), asker(&Method::POST, Wants::Page), &wanted());
        assert!(!text(&stranger).contains("role"));
    }

    fn step_up(is_again: bool) -> Refusal {
        let way = SignInWay {
            url: "https://login.mezu.localhost/sign-in?host=shop.localhost&max_age=900".to_owned(),
            set_cookie: "__Host-mezu-state=s; Path=/; Secure".to_owned(),
        };
        let needs = StepUp { acr: Some(Assurance::Aal2), max_auth_age_s: Some(900) };
        let (account, session) = ("zoe@example".into(), SessionId::from_bits(7));
        let way = StepUpWay { way, needs, account, session, is_again };
        Refusal::StepUp(Denial::TooOld { max_auth_age_s: 900 }, Box::new(way))
    }

    #[test]
    fn whoever_must_prove_more_is_sent_to_do_so_or_gets_the_challenge_of_rfc_9470() {
        let challenge = "Bearer error=\"insufficient_user_authentication\", \
            error_description=\"A stronger or more recent sign-in is required\", acr_values=\"aal2\", max_age=\"900\"";
        for (method, wants, status) in [
            (Method::GET, Wants::Page, 302),
            (Method::HEAD, Wants::Page, 302),
            (Method::POST, Wants::Page, 401),
            (Method::GET, Wants::Problem, 401),
        ] {
            let response = refuse(&step_up(false), asker(&method, wants), &wanted());
            assert_eq!(response.status(), status, "{method} {wants:?}");
            let cookies = response.headers().get_all(header::SET_COOKIE).iter().count();
            assert_eq!(cookies, 2, "the way back, and where it began");
            let told = response.headers().get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
            assert_eq!(told, (status == 401).then_some(challenge), "{method} {wants:?}");
        }
        let problem = refuse(&step_up(false), asker(&Method::GET, Wants::Problem), &wanted());
        let document: serde_json::Value = serde_json::from_slice(problem.body()).unwrap();
        assert_eq!(document["code"], "edge.step_up_required");
        assert!(document["login_url"].as_str().unwrap().ends_with("&max_age=900"));
    }

    #[test]
    fn whoever_comes_back_with_no_more_than_before_is_not_sent_round_in_circles() {
        for (method, wants) in [(Method::GET, Wants::Page), (Method::GET, Wants::Problem)] {
            let response = refuse(&step_up(true), asker(&method, wants), &wanted());
            assert_eq!(response.status(), 403);
            assert!(!response.headers().contains_key(header::LOCATION));
            assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
            assert!(text(&response).contains("within the last 15 minutes"), "{}", text(&response));
        }
        let page = refuse(&step_up(true), asker(&Method::GET, Wants::Page), &wanted());
        for part in ["zoe@example", "Sign in again", "Use another account", "edge.step_up_failed"] {
            assert!(text(&page).contains(part), "{part}");
        }
    }

    #[test]
    fn who_may_not_is_offered_another_account_and_never_a_bare_way_out() {
        let denial = Denial::NoneOfRoles(vec![Name::parse("vip").unwrap()]);
        let denied = Refusal::Denied(denial, Some("zoe@example".into()));
        let switch = |method| {
            let page = refuse(&denied, asker(&method, Wants::Page), &wanted());
            let way =
                text(&page).split("/.mezu/sign-out").nth(1).unwrap().split('"').next().unwrap().to_owned();
            assert!(text(&page).contains(">Use another account</a>"));
            way.replace("&#38;", "&").replace("&amp;", "&")
        };
        assert_eq!(switch(Method::GET), "?then=sign-in&return_to=%2Forders");
        assert_eq!(switch(Method::POST), "?then=sign-in&return_to=%2F", "what writes is not asked for again");
        let page = refuse(&denied, asker(&Method::GET, Wants::Page), &wanted());
        assert!(!text(&page).contains("Sign out"));
    }

    #[test]
    fn a_page_that_is_not_there_names_the_host_and_leads_to_its_front() {
        let of = |path| {
            let wanted = Wanted { path, ..wanted() };
            text(&refuse(&Refusal::NoRoute, asker(&Method::GET, Wants::Page), &wanted)).to_owned()
        };
        let way = "href=\"/\">Go to the front page of shop.localhost</a>";
        assert!(
            of("/nowhere").contains("<p class=\"where\">shop.localhost</p>") && of("/nowhere").contains(way)
        );
        assert!(!of("/").contains(way), "no circle");
        let nameless = Wanted { host: None, path: "/x" };
        let page = refuse(&Refusal::NoRoute, asker(&Method::GET, Wants::Page), &nameless);
        assert!(!text(&page).contains("class=\"where\"") && !text(&page).contains("front page"));
    }

    #[test]
    fn a_failure_names_the_hop_in_both_forms() {
        let refusal = Refusal::Warpgate(FailureCode::UpstreamRefused);
        let page = refuse(&refusal, asker(&Method::GET, Wants::Page), &wanted());
        assert_eq!(page.status(), 502);
        assert!(text(&page).contains("warpgate.upstream_refused"));
        assert!(text(&page).contains("class=\"broken\"><span>App<"));
        let problem = refuse(&refusal, asker(&Method::GET, Wants::Problem), &wanted());
        let document: serde_json::Value = serde_json::from_slice(problem.body()).unwrap();
        assert_eq!((&document["hop"], &document["status"]), (&"upstream".into(), &502.into()));
    }

    #[test]
    fn every_failure_of_a_warpgate_is_an_error_of_the_5xx_or_4xx_class() {
        for code in FailureCode::ALL {
            let status =
                refuse(&Refusal::Warpgate(*code), asker(&Method::GET, Wants::Problem), &wanted()).status();
            assert!(status.is_server_error() || status.is_client_error(), "{code}");
        }
    }

    #[test]
    fn the_answer_to_head_has_the_length_and_not_the_body() {
        let get = refuse(&Refusal::NoRoute, asker(&Method::GET, Wants::Problem), &wanted());
        let head = refuse(&Refusal::NoRoute, asker(&Method::HEAD, Wants::Problem), &wanted());
        assert!(head.body().is_empty() && !get.body().is_empty());
        assert_eq!(head.headers()[header::CONTENT_LENGTH], get.headers()[header::CONTENT_LENGTH]);
    }
}
