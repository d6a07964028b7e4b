//! Which form an answer takes, and what goes with it.

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
    assert!(page.contains("Your account may not use this page.") && page.contains("zoe@example"), "{page}");
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
    let needed = "A newer sign-in is needed";
    for part in [needed, "zoe@example", "Sign in again", "Use another account", "edge.step_up_failed"] {
        assert!(text(&page).contains(part), "{part}");
    }
}

#[test]
fn who_may_not_is_offered_another_account_and_never_a_bare_way_out() {
    let denial = Denial::NoneOfRoles(vec![Name::parse("vip").unwrap()]);
    let denied = Refusal::Denied(denial, Some("zoe@example".into()));
    let switch = |method| {
        let page = refuse(&denied, asker(&method, Wants::Page), &wanted());
        let way = text(&page).split("/.mezu/sign-out").nth(1).unwrap().split('"').next().unwrap().to_owned();
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
    assert!(of("/nowhere").contains("<p class=\"where\">shop.localhost</p>") && of("/nowhere").contains(way));
    assert!(!of("/").contains(way), "no circle");
    let nameless = Wanted { host: None, path: "/x" };
    let page = refuse(&Refusal::NoRoute, asker(&Method::GET, Wants::Page), &nameless);
    assert!(!text(&page).contains("class=\"where\"") && !text(&page).contains("front page"));
}

#[test]
fn whoever_uses_a_method_that_is_not_taken_is_told_which_are() {
    for (refusal, allow) in [(Refusal::Method, METHODS), (Refusal::OwnMethod("GET"), "GET")] {
        let refused = refuse(&refusal, asker(&Method::TRACE, Wants::Problem), &wanted());
        assert_eq!(refused.status(), 405);
        assert_eq!(refused.headers()[header::ALLOW], allow);
        assert!(text(&refused).contains("`allow`"), "{}", text(&refused));
    }
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
