//! Header rules, upstream hosts and time-outs: which can be stored.

use mezusphere_model::id::RouteId;
use mezusphere_model::route::{AuthMode, PathMatch, RouteDoc, RouteTimeouts};
use mezusphere_model::rules::{
    HEADER_VALUE_LEN_MAX, HeaderRules, HeaderValueRule, RULES_MAX, RouteRules, RuleError,
};
use mezusphere_model::slug::Slug;
use proptest::prelude::*;

fn set(pairs: &[(&str, &str)]) -> HeaderRules {
    let rule = |(name, value): &(&str, &str)| HeaderValueRule {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    HeaderRules { set: pairs.iter().map(rule).collect(), remove: Vec::new() }
}

fn remove(names: &[&str]) -> HeaderRules {
    HeaderRules { set: Vec::new(), remove: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn check(rules: &RouteRules) -> Result<(), RuleError> {
    rules.check(&PathMatch::Prefix("/".to_owned()))
}

fn on_request(request_headers: HeaderRules) -> Result<(), RuleError> {
    check(&RouteRules { request_headers, ..RouteRules::default() })
}

fn on_response(response_headers: HeaderRules) -> Result<(), RuleError> {
    check(&RouteRules { response_headers, ..RouteRules::default() })
}

#[test]
fn ordinary_headers_are_set_and_removed() {
    assert_eq!(
        on_request(set(&[("x-tenant", "shop"), ("x-forwarded-prefix", "/api"), ("x-empty", "")])),
        Ok(())
    );
    assert_eq!(on_request(remove(&["referer", "x-debug", "authorization"])), Ok(()));
    assert_eq!(on_response(set(&[("cache-control", "no-store"), ("x-frame-options", "DENY")])), Ok(()));
    assert_eq!(on_response(remove(&["server", "x-powered-by"])), Ok(()));
}

#[test]
fn r04_a_reserved_header_is_refused_in_every_spelling() {
    for name in ["mezu-user-id", "mezu-anything", "mezu_user_id", "Mezu-Roles", "mezu.session"] {
        for rules in [set(&[(name, "x")]), remove(&[name])] {
            assert_eq!(on_request(rules.clone()), Err(RuleError::HeaderReserved(name.to_owned())), "{name}");
            assert_eq!(on_response(rules), Err(RuleError::HeaderReserved(name.to_owned())), "{name}");
        }
    }
}

#[test]
fn r05_headers_of_the_connection_of_framing_and_of_addresses_are_refused() {
    for name in [
        "connection",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
        "proxy-authorization",
        "content-length",
        "content-encoding",
        "trailer",
        "expect",
        "host",
        "cookie",
        "set-cookie",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
        "http2-settings",
        "sec-websocket-key",
    ] {
        for rules in [set(&[(name, "x")]), remove(&[name])] {
            for checked in [on_request(rules.clone()), on_response(rules.clone())] {
                assert!(matches!(checked, Err(RuleError::HeaderForbidden(..))), "{name}: {checked:?}");
            }
        }
    }
    assert!(matches!(on_request(set(&[("origin", "x")])), Err(RuleError::HeaderForbidden(..))));
    assert!(matches!(on_response(set(&[("alt-svc", "x")])), Err(RuleError::HeaderForbidden(..))));
}

#[test]
fn r05_a_name_is_read_in_one_way_and_a_value_is_one_line() {
    for name in ["", "x_tenant", "X-Tenant", "x tenant", "x:tenant", "x\r\ny", "é", &"x".repeat(65)] {
        assert_eq!(on_request(set(&[(name, "x")])), Err(RuleError::HeaderName(name.to_owned())), "{name:?}");
    }
    for value in ["a\r\nb", "a\nb", "a\0b", "a\u{7f}", "é", " a", "a ", "\ta"] {
        assert_eq!(
            on_request(set(&[("x-a", value)])),
            Err(RuleError::HeaderValue("x-a".to_owned())),
            "{value:?}"
        );
    }
    let long = "x".repeat(HEADER_VALUE_LEN_MAX);
    assert_eq!(on_request(set(&[("x-a", &long)])), Ok(()));
    let longer = format!("{long}x");
    assert_eq!(on_request(set(&[("x-a", &longer)])), Err(RuleError::HeaderValueLength("x-a".to_owned())));
    let together = [("x-a", &*long), ("x-b", &long), ("x-c", &long), ("x-d", &long)];
    assert_eq!(on_request(set(&together)), Err(RuleError::HeaderListLength));
}

#[test]
fn a_header_has_one_rule_and_a_list_not_too_many() {
    assert_eq!(on_request(set(&[("x-a", "1"), ("x-a", "2")])), Err(RuleError::HeaderTwice("x-a".to_owned())));
    let both = HeaderRules { remove: vec!["x-a".to_owned()], ..set(&[("x-a", "1")]) };
    assert_eq!(on_request(both), Err(RuleError::HeaderTwice("x-a".to_owned())));
    let names: Vec<String> = (0..=RULES_MAX).map(|n| format!("x-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(on_response(remove(&names)), Err(RuleError::TooMany("response headers")));
    assert_eq!(on_response(remove(&names[..RULES_MAX])), Ok(()));
}

#[test]
fn an_upstream_host_is_a_host_with_or_without_a_port() {
    let with =
        |host: &str| check(&RouteRules { upstream_host: Some(host.to_owned()), ..RouteRules::default() });
    assert_eq!(with("app.internal:8080"), Ok(()));
    for bad in ["", "https://app.internal", "app/x", "app\r\nx: y", "a b", "{host}"] {
        assert_eq!(with(bad), Err(RuleError::UpstreamHost(bad.to_owned())));
    }
}

#[test]
fn a_total_time_out_is_no_shorter_than_the_one_to_the_head() {
    let path = PathMatch::Prefix("/".to_owned());
    let mut route = RouteDoc::new(RouteId::from_bits(1), path, AuthMode::Public, Slug::parse("web").unwrap());
    assert_eq!(route.check(), Ok(()));
    for (head_ms, total_ms, good) in [(2000, 0, true), (2000, 2000, true), (2000, 1999, false)] {
        route.timeouts = RouteTimeouts { head_ms, total_ms, ..RouteTimeouts::default() };
        assert_eq!(route.check().is_ok(), good, "{head_ms} {total_ms}");
    }
}

proptest! {
    /// What passes the check is one header line, whatever was asked for.
    #[test]
    fn r05_no_value_that_is_stored_ends_a_line(name in "\\PC{1,20}|[a-z-]{1,20}", value in "[ -~\\r\\n\\x00\\PC]{0,20}") {
        if on_request(set(&[(&name, &value)])).is_ok() {
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)));
            prop_assert_eq!(value.trim(), &value);
        }
    }
}
