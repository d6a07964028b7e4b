//! Redirects and maintenance.

use mezusphere_model::route::PathMatch;
use mezusphere_model::rules::{EdgeAnswer, Maintenance, Redirect, RedirectStatus, RouteRules, RuleError};
use proptest::prelude::*;

fn redirect(to: &str) -> Redirect {
    Redirect { to: to.to_owned(), status: RedirectStatus::default() }
}

fn check(answer: EdgeAnswer) -> Result<(), RuleError> {
    let rules = RouteRules { answer: Some(answer), ..RouteRules::default() };
    rules.check(&PathMatch::Prefix("/".to_owned()))
}

#[test]
fn a_target_is_a_url_or_a_path_that_nobody_can_lead_elsewhere() {
    for good in [
        "https://new.example",
        "https://new.example/",
        "https://new.example:8443/x?y=z#top",
        "https://New.Example/x",
        "https://new.example{path}{query}",
        "https://new.example{query}",
        "https://{host}/signed-in",
        "https://{host}{path}{query}",
        "https://[::1]:8443/x",
        "http://10.0.0.1{path}",
        "/",
        "/elsewhere",
        "/v2{path}{query}",
        "/v2{path}?a=b{query}",
        "/v2{path}{query}#top",
    ] {
        assert_eq!(check(EdgeAnswer::Redirect(redirect(good))), Ok(()), "{good}");
    }
    for bad in [
        "",
        "elsewhere",
        "{path}",
        "{host}/x",
        "//evil.example/x",
        "ftp://new.example/",
        "javascript:alert(1)",
        "https://",
        "https:///x",
        "https://{host}.evil.example/",
        "https://x{host}/",
        "https://{host}:99/",
        "https://{path}",
        "https://user@new.example/",
        "https://new.example:99999/",
        "/x{host}",
        "/x{unknown}",
        "/x{",
        "/x}",
        "/x{path",
        "/x{path}{path}",
        "/x{query}{path}",
        "/x?{query}",
        "/x?a=b&{query}",
        "/x{query}y",
        "/x{query}{query}",
        "/x#{path}",
        "/x?to={path}",
        "/a b",
        "/a\r\nset-cookie: x=y",
        "/a\"b",
        "/a\\b",
        "/é",
    ] {
        let why = check(EdgeAnswer::Redirect(redirect(bad)));
        assert!(matches!(why, Err(RuleError::Redirect(_))), "{bad:?}: {why:?}");
    }
    assert_eq!(
        check(EdgeAnswer::Redirect(redirect(&format!("/{}", "a".repeat(2048))))),
        Err(RuleError::RedirectLength)
    );
}

#[test]
fn a_target_takes_over_what_it_names_of_the_request() {
    let target =
        |to: &str, path: &str, query: Option<&str>| redirect(to).target(path, query, "shop.example:8443");
    for (to, path, query, expected) in [
        ("https://new.example", "/a/b", Some("c=d"), "https://new.example"),
        ("https://new.example{path}{query}", "/a/b", Some("c=d"), "https://new.example/a/b?c=d"),
        ("https://new.example{path}{query}", "/a/b", None, "https://new.example/a/b"),
        ("https://new.example{path}{query}", "/a/b", Some(""), "https://new.example/a/b"),
        ("/v2{path}?x=y{query}", "/a%2Fb", Some("c=d"), "/v2/a%2Fb?x=y&c=d"),
        ("https://{host}/in", "/a", None, "https://shop.example:8443/in"),
        ("/v2{path}{query}#top", "/a", Some("b"), "/v2/a?b#top"),
    ] {
        assert_eq!(target(to, path, query), expected);
    }
}

#[test]
fn a_path_in_a_target_never_names_another_host() {
    for to in ["/{path}", "/x/{path}"] {
        let prefix = to.trim_end_matches("{path}");
        assert_eq!(redirect(to).target("//evil.example/", None, "h"), format!("{prefix}evil.example/"));
    }
    assert_eq!(
        redirect("https://a.example{path}").target("//evil.example", None, "h"),
        "https://a.example/evil.example"
    );
}

#[test]
fn a_redirect_has_a_status_that_redirects() {
    for status in [301, 302, 303, 307, 308] {
        assert_eq!(u16::from(RedirectStatus::try_from(status).unwrap()), status);
    }
    for status in [200, 300, 304, 305, 306, 309, 404] {
        assert!(RedirectStatus::try_from(status).is_err(), "{status}");
        assert!(serde_json::from_str::<RedirectStatus>(&status.to_string()).is_err());
    }
    assert_eq!(serde_json::to_string(&RedirectStatus::Found).unwrap(), "302");
}

#[test]
fn a_maintenance_message_is_short_plain_text() {
    let answer = |message: &str, retry_after_s| {
        EdgeAnswer::Maintenance(Maintenance { message: message.to_owned(), retry_after_s })
    };
    assert_eq!(check(answer("Back at nine.\nThank you for waiting, Zoë.", Some(3600))), Ok(()));
    for bad in ["", "  \n", "bell\u{7}", "a\r\nb", &"x".repeat(501)] {
        assert_eq!(check(answer(bad, None)), Err(RuleError::Maintenance), "{bad:?}");
    }
    for bad in [0, 7 * 24 * 3600 + 1] {
        assert_eq!(check(answer("Soon.", Some(bad))), Err(RuleError::RetryAfter), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whoever asks, and for what: a target leads to the host it was written for, and is one line of ASCII.
    #[test]
    fn no_request_chooses_the_host_of_a_target(
        path in "/{1,3}[\\PC\\r\\n]{0,20}",
        query in proptest::option::of("[\\PC\\r\\n]{0,20}"),
        to in proptest::sample::select(&["https://new.example{path}{query}", "https://new.example/x{path}", "https://new.example{query}"][..]),
    ) {
        let target = redirect(to).target(&path, query.as_deref(), "shop.example");
        prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{}", target);
        let rest = target.strip_prefix("https://new.example").unwrap();
        prop_assert!(rest.is_empty() || rest.starts_with(['/', '?']), "{}", target);
        let relative = redirect("/{path}{query}").target(&path, query.as_deref(), "shop.example");
        prop_assert!(relative.starts_with('/') && !relative.starts_with("//"), "{}", relative);
    }

    #[test]
    fn no_text_makes_the_check_fall_over(to in "(https://|/|)([a-z/?#&]|\\{path\\}|\\{query\\}|\\{host\\}|\\PC){0,12}") {
        if check(EdgeAnswer::Redirect(redirect(&to))).is_ok() {
            let target = redirect(&to).target("/p", Some("q"), "h.example");
            prop_assert!(target.starts_with("https://") || (target.starts_with('/') && !target.starts_with("//")), "{}", target);
        }
    }
}
