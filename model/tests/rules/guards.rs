//! What guards a route beside its policy is not got round by a spelling that a lenient server takes for its path (ADR 14, 15).

use mezusphere_model::path::RequestPath;
use mezusphere_model::route::{IdentityProfile, NoRoute, RouteDoc, Site};
use mezusphere_model::rules::{
    CorsRule, EdgeAnswer, HeaderRules, Maintenance, Origin, Rate, RateKey, RouteLimits, RouteRules,
};

use crate::readers::route;

use crate::shop::publishing;

/// What becomes of a spelling that would get round a guard.
const REFUSED: Result<u128, NoRoute> = Err(NoRoute::Ambiguous);

fn find(site: &Site, path: &str) -> Result<u128, NoRoute> {
    site.find(&RequestPath::parse(path).unwrap(), "GET").map(|route| route.id.bits())
}

/// Both are public; `/guarded` has what `guard` gives it, and `/*` what `open` does.
fn guarded(open: impl Fn(&mut RouteDoc), guard: impl Fn(&mut RouteDoc)) -> Site {
    let (mut everything, mut one) = (route(1, "/*"), route(2, "/guarded"));
    open(&mut everything);
    guard(&mut one);
    Site::build(publishing(vec![everything, one])).unwrap()
}

#[test]
fn r02_a_spelling_that_lenient_servers_take_for_a_guarded_path_does_not_get_round_its_guard() {
    type Change = fn(&mut RouteDoc);
    let rate = |per_minute| Rate { per_minute, burst: 1, by: RateKey::Address };
    let limited: Change = |route| {
        route.limits = RouteLimits { body_max: Some(1024), rate: None };
    };
    let rated: Change = |route| {
        route.limits.rate = Some(Rate { per_minute: 10, burst: 1, by: RateKey::Address });
    };
    let closed: Change = |route| {
        let maintenance = Maintenance { message: "Soon.".to_owned(), retry_after_s: None };
        route.rules =
            RouteRules { answer: Some(EdgeAnswer::Maintenance(maintenance)), ..RouteRules::default() };
    };
    let stripped: Change = |route| {
        route.rules.request_headers =
            HeaderRules { remove: vec!["x-debug".to_owned()], ..HeaderRules::default() };
    };
    let hidden: Change = |route| {
        route.rules.response_headers =
            HeaderRules { remove: vec!["server".to_owned()], ..HeaderRules::default() };
    };
    let shared: Change = |route| {
        let origins = vec![Origin::parse("https://app.example").unwrap()];
        route.rules.cors = Some(CorsRule { origins, ..CorsRule::default() });
    };
    let near: Change = |route| route.networks = vec!["10.0.0.0/8".parse().unwrap()];
    let told: Change = |route| route.identity.profiles = vec![IdentityProfile::RemoteUser];
    let nothing: Change = |_| {};
    for (what, guard) in [
        ("body", limited),
        ("rate", rated),
        ("maintenance", closed),
        ("request header", stripped),
        ("response header", hidden),
        ("network", near),
        ("identity", told),
    ] {
        assert_eq!(find(&guarded(nothing, guard), "/GUARDED"), REFUSED, "{what}");
        assert_eq!(find(&guarded(nothing, guard), "/guarded/"), REFUSED, "{what}");
        assert_eq!(find(&guarded(nothing, guard), "/guarded"), Ok(2), "{what}");
        assert_eq!(find(&guarded(nothing, guard), "/Other"), Ok(1), "{what}");
        assert_eq!(
            find(&guarded(guard, guard), "/GUARDED"),
            Ok(1),
            "{what}: what guards both is not got round"
        );
        assert_eq!(find(&guarded(guard, nothing), "/GUARDED"), Ok(1), "{what}: more of it opens nothing");
    }
    // Other origins may read `/*`, and nothing was said of them for `/guarded`; the other way round nothing is gained.
    assert_eq!(find(&guarded(shared, nothing), "/GUARDED"), REFUSED);
    assert_eq!(find(&guarded(nothing, shared), "/GUARDED"), Ok(1));
    let nearer = |route: &mut RouteDoc| route.networks = vec!["10.1.0.0/16".parse().unwrap()];
    assert_eq!(find(&guarded(nearer, near), "/GUARDED"), Ok(1));
    assert_eq!(find(&guarded(near, nearer), "/GUARDED"), REFUSED);
    let dry = |route: &mut RouteDoc| {
        near(route);
        route.enforce = false;
    };
    assert_eq!(find(&guarded(dry, near), "/GUARDED"), REFUSED, "a dry run keeps nobody out");
    assert_eq!(find(&guarded(nothing, dry), "/GUARDED"), Ok(1));
    let smaller = |route: &mut RouteDoc| route.limits.body_max = Some(512);
    assert_eq!(find(&guarded(smaller, limited), "/GUARDED"), Ok(1));
    let other_rate = |route: &mut RouteDoc| route.limits.rate = Some(rate(20));
    assert_eq!(find(&guarded(other_rate, rated), "/GUARDED"), REFUSED);
}
