//! What an older reader makes of a route with rules, and what a reader makes of rules that do not hold.

use mezusphere_model::id::RouteId;
use mezusphere_model::identity::Assurance;
use mezusphere_model::path::RequestPath;
use mezusphere_model::policy::{self, Circumstances, Denial};
use mezusphere_model::route::{
    AuthMode, ClaimRule, IdentityForward, IdentityProfile, NoRoute, PathMatch, READER, Requirement, RouteDoc,
    RouteTimeouts, Site, StepUp,
};
use mezusphere_model::rules::{
    CorsRule, EdgeAnswer, HeaderRules, HeaderValueRule, Maintenance, Origin, PathRule, Rate, RateKey, Reader,
    RouteLimits, RouteRules,
};
use mezusphere_model::slug::Slug;
use serde_json::json;

use crate::shop::publishing;

pub(crate) fn route(id: u128, path: &str) -> RouteDoc {
    let path = PathMatch::parse(path).unwrap();
    RouteDoc::new(RouteId::from_bits(id), path, AuthMode::Public, Slug::parse("web").unwrap())
}

fn with(rules: RouteRules) -> RouteDoc {
    RouteDoc { rules, ..route(1, "/api/*") }
}

/// Each rule on a route of its own, with the readers that it asks of an edge and of a warpgate.
fn rows() -> Vec<(&'static str, RouteDoc, u32, u32)> {
    let header = HeaderRules {
        set: vec![HeaderValueRule { name: "x-a".to_owned(), value: "b".to_owned() }],
        remove: Vec::new(),
    };
    let strip = PathRule::Strip { prefix: "/api".to_owned() };
    let maintenance = Maintenance { message: "Soon.".to_owned(), retry_after_s: None };
    let cors = CorsRule { origins: vec![Origin::parse("https://a.example").unwrap()], ..CorsRule::default() };
    let rate = Rate { per_minute: 1, burst: 1, by: RateKey::Address };
    let none = RouteRules::default;
    let plan = ClaimRule { name: "plan".to_owned(), any_of: vec![json!("pro")] };
    let claims = Requirement { claims: vec![plan], ..Requirement::default() };
    let told =
        IdentityForward { profiles: vec![IdentityProfile::RemoteUser], claims: vec!["plan".to_owned()] };
    vec![
        ("nothing", with(none()), 1, 1),
        ("path", with(RouteRules { path: Some(strip), ..none() }), 1, 2),
        ("upstream host", with(RouteRules { upstream_host: Some("a".to_owned()), ..none() }), 1, 2),
        ("request headers", with(RouteRules { request_headers: header.clone(), ..none() }), 1, 2),
        ("response headers", with(RouteRules { response_headers: header, ..none() }), 1, 2),
        ("answer", with(RouteRules { answer: Some(EdgeAnswer::Maintenance(maintenance)), ..none() }), 2, 1),
        ("cors", with(RouteRules { cors: Some(cors), ..none() }), 2, 1),
        ("body", RouteDoc { limits: RouteLimits { body_max: Some(1), rate: None }, ..with(none()) }, 2, 1),
        ("rate", RouteDoc { limits: RouteLimits { body_max: None, rate: Some(rate) }, ..with(none()) }, 2, 1),
        ("affinity", RouteDoc { affinity: true, ..with(none()) }, 1, 1),
        ("networks", RouteDoc { networks: vec!["10.0.0.0/8".parse().unwrap()], ..with(none()) }, 3, 3),
        ("claims", RouteDoc { require: claims, ..with(none()) }, 3, 3),
        (
            "strength",
            RouteDoc { step_up: StepUp { acr: Some(Assurance::Aal2), ..StepUp::default() }, ..with(none()) },
            3,
            3,
        ),
        (
            "age",
            RouteDoc { step_up: StepUp { max_auth_age_s: Some(60), ..StepUp::default() }, ..with(none()) },
            3,
            3,
        ),
        ("identity", RouteDoc { identity: told, ..with(none()) }, 1, 3),
        // An older reader enforces what a newer one would only write down.
        ("dry run", RouteDoc { enforce: false, ..with(none()) }, 1, 1),
        (
            "total",
            RouteDoc {
                timeouts: RouteTimeouts { total_ms: 90_000, ..RouteTimeouts::default() },
                ..with(none())
            },
            1,
            1,
        ),
    ]
}

#[test]
fn a_route_asks_of_each_program_only_what_that_one_carries_out() {
    for (what, route, edge, warpgate) in rows() {
        assert_eq!(route.check(), Ok(()), "{what}");
        assert_eq!((route.reader(Reader::Edge), route.reader(Reader::Warpgate)), (edge, warpgate), "{what}");
        assert!(edge <= READER && warpgate <= READER);
        let marked = publishing(vec![route]).marked_for(Reader::Warpgate);
        assert_eq!(marked.routes[0].min_reader, warpgate, "{what}");
    }
}

#[test]
fn a_route_without_rules_is_written_as_before_there_were_any() {
    let written = serde_json::to_value(publishing(vec![route(1, "/*")])).unwrap();
    assert_eq!(
        written["routes"][0],
        json!({
            "min_reader": 1, "id": RouteId::from_bits(1), "path": { "prefix": "/" }, "methods": [], "auth": "public",
            "require": { "any_role": [], "all_roles": [], "any_permission": [], "all_permissions": [] }, "upstream": "web",
            "timeouts": { "connect_ms": 5000, "head_ms": 60000, "idle_ms": 300_000, "total_ms": 0 },
        })
    );
    assert_eq!(written.get("quota"), None);
}

#[test]
fn a_route_written_before_there_were_rules_is_read() {
    let old = json!({
        "min_reader": 1, "id": RouteId::from_bits(1), "path": { "prefix": "/" }, "auth": "public", "upstream": "web",
        "timeouts": { "connect_ms": 5000, "head_ms": 60000, "idle_ms": 300_000 },
    });
    assert_eq!(serde_json::from_value::<RouteDoc>(old).unwrap(), route(1, "/*"));
}

#[test]
fn every_rule_is_read_as_it_was_written() {
    for (what, route, _, _) in rows() {
        let text = serde_json::to_string(&route).unwrap();
        assert_eq!(serde_json::from_str::<RouteDoc>(&text).unwrap(), route, "{what}");
    }
}

#[test]
fn r01_a_route_with_a_rule_that_does_not_hold_is_closed_and_no_other() {
    let strip = PathRule::Strip { prefix: "/other".to_owned() };
    let broken = with(RouteRules { path: Some(strip), ..RouteRules::default() });
    let built = Site::build(publishing(vec![broken, route(2, "/*")])).unwrap();
    let find = |path: &str| built.find(&RequestPath::parse(path).unwrap(), "GET").map(|route| route.id);
    assert_eq!(find("/api/x"), Err(NoRoute::TooNew));
    assert_eq!(find("/x"), Ok(RouteId::from_bits(2)));
    // Neither is it decided on by whoever finds it by its id.
    let by_id = built.route(RouteId::from_bits(1)).unwrap();
    let circumstances =
        Circumstances { client: "192.0.2.1".parse().unwrap(), now: mezusphere_model::Timestamp::default() };
    assert_eq!(policy::decide(by_id, None, &circumstances).unwrap_err(), Denial::TooNew);
}
