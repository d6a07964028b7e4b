//! What a route may be, and what is said of one that may not.

use serde_json::json;

use super::*;
use crate::api::types::{Change, IdentityChanges, LimitChanges, RequireChanges, RuleChanges, StepUpChanges};

pub(crate) fn request(path: &str) -> AddRoute {
    AddRoute {
        path: path.to_owned(),
        methods: Vec::new(),
        auth: AuthMode::Required,
        require: RequireChanges::default(),
        step_up: StepUpChanges::default(),
        networks: Vec::new(),
        enforce: None,
        identity: IdentityChanges::default(),
        upstream: None,
        timeouts: Timeouts::default(),
        rules: RuleChanges::default(),
        limits: LimitChanges::default(),
        affinity: false,
        position: None,
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn each_bad_pattern_gets_its_own_sentence() {
    for (path, sentence) in [
        ("api", "path: a path starts with /"),
        ("/api*", "path: a * stands only at the end, after a slash"),
        ("/a/*/b", "path: a * stands only at the end, after a slash"),
    ] {
        assert_eq!(Draft::new(&request(path)).unwrap_err().to_string(), sentence);
    }
    assert!(matches!(Draft::new(&request("~(")), Err(BadRoute::Pattern(PatternError::Regex(_)))));
}

#[test]
fn a_demand_on_a_route_that_lets_everybody_in_is_a_contradiction() {
    for auth in [AuthMode::Public, AuthMode::Optional] {
        let require = RequireChanges { any_role: Some(vec![name("admin")]), ..RequireChanges::default() };
        let bad = Draft::new(&AddRoute { auth, require, ..request("/*") }).unwrap_err();
        assert_eq!(bad, BadRoute::Contradiction(auth));
        assert_eq!(Refusal::from(bad).code(), &problem::ROUTE_CONTRADICTION);
    }
}

#[test]
fn a_network_is_told_with_the_one_that_was_meant() {
    let asked = |text: &str| AddRoute { networks: vec![text.to_owned()], ..request("/*") };
    let refused = |text| Refusal::from(Draft::new(&asked(text)).unwrap_err());
    let bits = refused("10.1.2.3/8");
    assert!(bits.detail().contains("10.0.0.0/8"), "{}", bits.detail());
    assert_eq!(refused("intranet").code(), &problem::ROUTE_INVALID);
    let draft = Draft::new(&asked("::ffff:192.0.2.0/120")).unwrap();
    assert_eq!(draft.networks, ["192.0.2.0/24".parse().unwrap()], "as clients' addresses are");
    // Networks ask nothing of an identity, so a route for everybody may have them.
    assert!(Draft::new(&AddRoute { auth: AuthMode::Public, ..asked("192.0.2.0/24") }).is_ok());
}

#[test]
fn demands_of_a_sign_in_are_checked_like_roles() {
    let young = |seconds| StepUpChanges { max_auth_age_s: Change::Set(seconds), ..StepUpChanges::default() };
    let asked = |seconds, auth| AddRoute { auth, step_up: young(seconds), ..request("/*") };
    for (seconds, code) in
        [(59, Some(&problem::ROUTE_RULE)), (60, None), (2_592_001, Some(&problem::ROUTE_RULE))]
    {
        let refused = Draft::new(&asked(seconds, AuthMode::Required)).err().map(Refusal::from);
        assert_eq!(refused.as_ref().map(Refusal::code), code, "{seconds}");
    }
    let open = Draft::new(&asked(60, AuthMode::Optional)).unwrap_err();
    assert_eq!(open, BadRoute::Contradiction(AuthMode::Optional));
    let claim = |name: &str, any_of: serde_json::Value| {
        let any_of = any_of.as_array().unwrap().clone();
        let claims = Some(vec![ClaimRule { name: name.to_owned(), any_of }]);
        let require = RequireChanges { claims, ..RequireChanges::default() };
        Draft::new(&AddRoute { require, ..request("/*") }).map(|draft| draft.require.claims)
    };
    let kept = claim("plan", json!(["team", "pro", "team", 3, true])).unwrap();
    assert_eq!(kept[0].any_of, [json!("pro"), json!("team"), json!(3), json!(true)]);
    for (name, any_of) in [
        ("", json!(["a"])),
        ("a b", json!(["a"])),
        ("1st", json!(["a"])),
        ("plan", json!([])),
        ("plan", json!([null])),
        ("plan", json!([["a"]])),
        ("plan", json!(["x".repeat(257)])),
    ] {
        assert!(matches!(claim(name, any_of.clone()), Err(BadRoute::Rule(_))), "{name:?} {any_of}");
    }
}

#[test]
fn methods_are_written_in_one_way() {
    let asked = vec!["post".to_owned(), "GET".to_owned(), "get".to_owned()];
    let draft = Draft::new(&AddRoute { methods: asked, ..request("/*") }).unwrap();
    assert_eq!(draft.methods, ["GET", "POST"]);
    for bad in ["", "GET /", "connect"] {
        let asked = AddRoute { methods: vec![bad.to_owned()], ..request("/*") };
        assert_eq!(Draft::new(&asked), Err(BadRoute::Method(bad.to_owned())));
    }
}

#[test]
fn a_time_out_out_of_bounds_is_told_with_its_bounds() {
    let timeouts = Timeouts { connect_ms: Some(1), ..Timeouts::default() };
    let bad = Draft::new(&AddRoute { timeouts, ..request("/*") }).unwrap_err();
    assert_eq!(bad.to_string(), "timeouts.connect_ms: 100ms to 1m");
}

#[test]
fn an_update_changes_what_it_names_and_is_checked_as_a_whole() {
    let require = RequireChanges { any_role: Some(vec![name("admin")]), ..RequireChanges::default() };
    let draft = Draft::new(&AddRoute { require, ..request("/api/*") }).unwrap();
    let moved = UpdateRoute { path: Some("/v2/*".to_owned()), ..UpdateRoute::default() };
    let updated = draft.clone().updated(&moved).unwrap();
    assert_eq!((updated.path.to_string().as_str(), &updated.require), ("/v2/*", &draft.require));
    // One list of demands is changed without another being lost.
    let names = Some(vec![name("x:y")]);
    let more = RequireChanges { all_permissions: names, ..RequireChanges::default() };
    let networks = Some(vec!["192.0.2.0/24".to_owned()]);
    let guarded = UpdateRoute { require: more, networks, enforce: Some(false), ..UpdateRoute::default() };
    let guarded = draft.clone().updated(&guarded).unwrap();
    assert_eq!(guarded.require.any_role, [name("admin")]);
    let kept = guarded.clone().updated(&moved).unwrap();
    assert_eq!((kept.networks, kept.enforce, kept.require), (guarded.networks, false, guarded.require));
    let opened = UpdateRoute { auth: Some(AuthMode::Public), ..UpdateRoute::default() };
    assert_eq!(draft.updated(&opened), Err(BadRoute::Contradiction(AuthMode::Public)));
}
