//! Which origins a CORS rule lets in, and which rules there can be.

use mezusphere_model::route::PathMatch;
use mezusphere_model::rules::{CorsRule, HeaderRules, Origin, RULES_MAX, RouteRules, RuleError};
use proptest::prelude::*;

fn origin(text: &str) -> Origin {
    Origin::parse(text).unwrap()
}

fn rule(origins: &[&str]) -> CorsRule {
    CorsRule { origins: origins.iter().map(|text| origin(text)).collect(), ..CorsRule::default() }
}

fn check(cors: CorsRule) -> Result<(), RuleError> {
    let rules = RouteRules { cors: Some(cors), ..RouteRules::default() };
    rules.check(&PathMatch::Prefix("/".to_owned()))
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_origin_is_written_as_browsers_send_it() {
    for good in [
        "https://app.example",
        "http://localhost:3000",
        "https://app.example:8443",
        "https://[::1]:8443",
        "http://10.0.0.1",
        "capacitor://localhost",
        "https://app.example:80",
        "*",
    ] {
        assert_eq!(origin(good).as_str(), good);
    }
    for bad in [
        "",
        "null",
        "app.example",
        "https://",
        "https://App.example",
        "HTTPS://app.example",
        "https://app.example/",
        "https://app.example/x",
        "https://app.example:443",
        "http://app.example:80",
        "https://*.app.example",
        "https://app.example:0",
        "https://a@b",
        "https://a b",
        "https://a,https://b",
        "**",
        "https://a\r\nb",
    ] {
        assert!(Origin::parse(bad).is_err(), "{bad:?}");
        assert!(serde_json::from_value::<Origin>(bad.into()).is_err(), "{bad:?}");
    }
}

#[test]
fn an_origin_is_let_in_exactly() {
    let rule = rule(&["https://app.example", "http://localhost:3000"]);
    for allowed in ["https://app.example", "http://localhost:3000"] {
        assert!(rule.allows(allowed), "{allowed}");
    }
    for other in [
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "https://evil-app.example",
        "https://x.app.example",
        "null",
        "",
        "*",
        "https://app.example/",
        "http://localhost",
    ] {
        assert!(!rule.allows(other), "{other}");
    }
}

#[test]
fn every_origin_is_let_in_only_without_credentials() {
    let any = rule(&["*"]);
    assert!(any.allows("https://anything.example") && any.allows("null") && any.is_any());
    assert_eq!(check(any.clone()), Ok(()));
    assert_eq!(check(CorsRule { credentials: true, ..any }), Err(RuleError::CorsWildcard));
    let named = CorsRule { credentials: true, ..rule(&["https://app.example"]) };
    assert_eq!(check(named.clone()), Ok(()));
    for wild in [
        CorsRule { methods: texts(&["*"]), ..named.clone() },
        CorsRule { headers: texts(&["*"]), ..named.clone() },
        CorsRule { expose: texts(&["*"]), ..named },
    ] {
        assert_eq!(check(wild), Err(RuleError::CorsWildcard));
    }
}

#[test]
fn methods_and_headers_are_let_in_by_name() {
    let rule = CorsRule {
        methods: texts(&["PUT"]),
        headers: texts(&["content-type", "x-trace"]),
        ..rule(&["https://app.example"])
    };
    for method in ["GET", "HEAD", "POST", "PUT"] {
        assert!(rule.allows_method(method), "{method}");
    }
    assert!(!rule.allows_method("DELETE") && !rule.allows_method("put"));
    assert!(
        rule.allows_header("X-Trace")
            && !rule.allows_header("x-other")
            && !rule.allows_header("authorization")
    );
    let any = CorsRule { headers: texts(&["*"]), ..rule };
    assert!(any.allows_header("x-other") && !any.allows_header("Authorization"));
    let named = CorsRule { headers: texts(&["*", "authorization"]), ..any };
    assert!(named.allows_header("Authorization"));
}

#[test]
fn a_list_holds_names_and_not_too_many() {
    let good = rule(&["https://app.example"]);
    assert_eq!(check(CorsRule::default()), Err(RuleError::CorsOrigins));
    for bad in ["", "a b", "a,b", "a\r\nb", "é"] {
        let wrong = RuleError::CorsToken(bad.to_owned());
        assert_eq!(check(CorsRule { methods: texts(&[bad]), ..good.clone() }), Err(wrong.clone()));
        assert_eq!(check(CorsRule { headers: texts(&[bad]), ..good.clone() }), Err(wrong.clone()));
        assert_eq!(check(CorsRule { expose: texts(&[bad]), ..good.clone() }), Err(wrong));
    }
    assert_eq!(
        check(CorsRule { headers: texts(&["X-A"]), ..good.clone() }),
        Err(RuleError::CorsToken("X-A".to_owned()))
    );
    let many = vec!["x".to_owned(); RULES_MAX + 1];
    assert_eq!(
        check(CorsRule { expose: many, ..good.clone() }),
        Err(RuleError::TooMany("CORS exposed headers"))
    );
    assert_eq!(check(CorsRule { max_age_s: 86_401, ..good.clone() }), Err(RuleError::CorsAge));
    // The rule would be written over by what it stands beside.
    let rules = RouteRules {
        cors: Some(good),
        response_headers: HeaderRules {
            remove: texts(&["access-control-allow-origin"]),
            ..HeaderRules::default()
        },
        ..RouteRules::default()
    };
    let why = rules.check(&PathMatch::Prefix("/".to_owned()));
    assert_eq!(why, Err(RuleError::HeaderOfCors("access-control-allow-origin".to_owned())));
}

proptest! {
    #[test]
    fn a_rule_that_names_origins_lets_in_no_other(text in "\\PC{0,30}") {
        let rule = rule(&["https://app.example"]);
        prop_assert_eq!(rule.allows(&text), text == "https://app.example");
        let longer = format!("https://app.example{text}");
        prop_assert_eq!(rule.allows(&longer), text.is_empty());
    }

    #[test]
    fn an_origin_that_is_read_is_one_line_without_a_path(text in "([a-z]{1,8}://)?\\PC{0,20}") {
        if let Ok(origin) = Origin::parse(&text) {
            let (_, authority) = origin.as_str().split_once("://").unwrap_or(("", "x"));
            prop_assert!(!authority.contains(['/', '@', '?', '#', ' ', ',']), "{}", text);
        }
    }
}
