//! Stripping and replacing the beginning of a path.

use mezusphere_model::path::RequestPath;
use mezusphere_model::route::PathMatch;
use mezusphere_model::rules::{PathRule, RouteRules, RuleError};
use proptest::prelude::*;

fn strip(prefix: &str) -> PathRule {
    PathRule::Strip { prefix: prefix.to_owned() }
}

fn replace(prefix: &str, with: &str) -> PathRule {
    PathRule::Replace { prefix: prefix.to_owned(), with: with.to_owned() }
}

fn check(rule: PathRule, path: &str) -> Result<(), RuleError> {
    let rules = RouteRules { path: Some(rule), ..RouteRules::default() };
    rules.check(&PathMatch::parse(path).unwrap())
}

#[test]
fn a_prefix_is_stripped_by_whole_segments_and_the_rest_stays_as_it_was_sent() {
    for (raw, expected) in [
        ("/api", "/"),
        ("/api/", "/"),
        ("/api/v1", "/v1"),
        ("/api/v1/", "/v1/"),
        ("/api/a%20b%2Fc;d", "/a%20b%2Fc;d"),
        ("/%61pi/v1", "/v1"),
        ("/api//evil.example/x", "/evil.example/x"),
        ("/api///", "/"),
        ("/api/.well-known/a..b", "/.well-known/a..b"),
    ] {
        assert_eq!(strip("/api").apply(raw).as_deref(), Some(expected), "{raw}");
    }
    for raw in ["/apis", "/", "/API/x", "/ap/i", "/api%2Fv1", "api/x"] {
        assert_eq!(strip("/api").apply(raw), None, "{raw}");
    }
}

#[test]
fn a_prefix_is_replaced_and_what_takes_its_place_is_escaped() {
    for (rule, raw, expected) in [
        (replace("/old", "/new"), "/old", "/new"),
        (replace("/old", "/new"), "/old/", "/new/"),
        (replace("/old", "/new"), "/old/x", "/new/x"),
        (replace("/old", "/new"), "/old//x", "/new/x"),
        (replace("/a/b", "/c d/é"), "/a/b/x", "/c%20d/%C3%A9/x"),
        (replace("/größe", "/size"), "/gr%C3%B6%c3%9fe/x", "/size/x"),
    ] {
        assert_eq!(rule.apply(raw).as_deref(), Some(expected), "{raw} by {rule:?}");
    }
}

#[test]
fn r02_a_path_that_any_server_reads_as_climbing_up_is_not_rewritten() {
    let rule = replace("/api", "/internal/v1");
    for raw in [
        "/api/../api/x",
        "/api/x/../y",
        "/api/..",
        "/api/%2e%2e/api",
        "/api/.%2e/api",
        "/api/%252e%252e/api",
        "/api/..;x/api",
        "/api/x%2f..%2fy",
        "/api/x%5c..%5cy",
        "/api/..%20/x",
        "/api/%zz",
    ] {
        assert_eq!(rule.apply(raw), None, "{raw}");
    }
    assert_eq!(rule.apply("/api/a..b/...x").as_deref(), Some("/internal/v1/a..b/...x"));
}

#[test]
fn a_path_rule_needs_a_route_whose_paths_all_begin_with_its_prefix() {
    for path in ["/api/*", "/api/v1/*", "/api", "/api/v1"] {
        assert_eq!(check(strip("/api"), path), Ok(()), "{path}");
    }
    for path in ["/*", "/apis/*", "/ap/*", "/API/*", "/other"] {
        assert_eq!(check(strip("/api"), path), Err(RuleError::Uncovered("/api".to_owned())), "{path}");
    }
    assert_eq!(check(strip("/api"), "~/api/.*"), Err(RuleError::PrefixOfRegex));
}

#[test]
fn a_path_of_a_rule_is_written_in_canonical_form() {
    for bad in [
        "", "/", "api", "/api/", "/a//b", "/a/../b", "/a%20b", "/a;b", "/a?b", "/a#b", "/a\r\nb", "/api/*",
        "/a\\b",
    ] {
        assert_eq!(check(strip(bad), "/*"), Err(RuleError::Path(bad.to_owned())), "{bad:?}");
        let rule = replace("/api", bad);
        assert_eq!(check(rule, "/api/*"), Err(RuleError::Path(bad.to_owned())), "{bad:?}");
    }
}

/// Segments of which paths are made that lead somewhere odd, or nowhere.
const SEGMENTS: [&str; 16] = [
    "a",
    "api",
    "API",
    "%61pi",
    "b%20c",
    "..",
    ".",
    "",
    "%2e%2e",
    "%2E.",
    "..;x",
    "x;..",
    "%2f",
    "%5c..",
    "%252e%252e",
    "v1",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// However a server reads the new path, it stays below what took the prefix's place.
    #[test]
    fn r02_no_reading_of_a_rewritten_path_leaves_what_it_was_put_under(
        segments in proptest::collection::vec(proptest::sample::select(&SEGMENTS[..]), 0..6),
    ) {
        let raw = format!("/api/{}", segments.join("/"));
        let Some(path) = replace("/api", "/internal/v1").apply(&raw).map(std::borrow::Cow::into_owned) else {
            return Ok(());
        };
        let read = RequestPath::parse(&path).unwrap();
        for reading in read.readings().iter().chain(read.lenient()) {
            let reading = reading.as_str();
            let below = reading.strip_prefix("/internal/v1");
            prop_assert!(below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')), "{raw} became {path}, read as {reading}");
        }
    }

    /// What is stripped comes back: no octet of the rest is lost or changed.
    #[test]
    fn the_rest_of_a_path_is_kept_octet_by_octet(rest in "(/[a-zA-Z0-9;=._~%-]{1,8}){0,4}") {
        let raw = format!("/api{rest}");
        if let Some(path) = strip("/api").apply(&raw) {
            prop_assert_eq!(path.as_ref(), if rest.is_empty() { "/" } else { rest.as_str() });
        } else {
            prop_assert!(rest.contains("..") || rest.contains('%'), "{}", rest);
        }
    }

    #[test]
    fn a_rewritten_path_is_always_one(raw in "\\PC{0,40}", with in "(/[a-z é]{1,4}){1,3}") {
        for rule in [strip("/api"), replace("/api", &with)] {
            if let Some(path) = rule.apply(&format!("/api/{raw}")) {
                prop_assert!(path.starts_with('/') && !path.starts_with("//"), "{}", path);
            }
        }
    }
}
