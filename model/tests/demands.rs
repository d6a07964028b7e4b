//! R1: networks, claims, strength and age of a sign-in, dry runs; and what holds of every decision.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use mezusphere_model::Timestamp;
use mezusphere_model::id::{RouteId, ServiceAccountId, UserId};
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::policy::{Circumstances, Denial, asks_no_less, decide};
use mezusphere_model::route::{
    AuthMode, Cidr, ClaimRule, IdentityForward, IdentityProfile, PathMatch, Requirement, RouteDoc, StepUp,
};
use mezusphere_model::slug::{Name, Slug};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

const HOUR: i64 = 3600;

fn route(id: u128, auth: AuthMode) -> RouteDoc {
    let everything = PathMatch::Prefix("/".to_owned());
    RouteDoc::new(RouteId::from_bits(id), everything, auth, Slug::parse("web").unwrap())
}

fn required() -> RouteDoc {
    route(1, AuthMode::Required)
}

fn user() -> Identity {
    Identity {
        subject: Subject::User(UserId::from_bits(1)),
        session: None,
        email: String::new(),
        name: String::new(),
        roles: Vec::new(),
        permissions: Vec::new(),
        methods: vec![Method::Password],
        assurance: Assurance::Aal1,
        authenticated_at: Timestamp::from_seconds(HOUR),
        claims: std::collections::BTreeMap::new(),
    }
}

fn machine() -> Identity {
    Identity { subject: Subject::ServiceAccount(ServiceAccountId::from_bits(1)), ..user() }
}

/// A request from `client`, so many seconds after the user signed in.
fn request(client: &str, age: i64) -> Circumstances {
    Circumstances { client: client.parse().unwrap(), now: Timestamp::from_seconds(HOUR + age) }
}

fn anywhere() -> Circumstances {
    request("198.51.100.7", 0)
}

fn networks(texts: &[&str]) -> Vec<Cidr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn claim(name: &str, any_of: Value) -> ClaimRule {
    ClaimRule { name: name.to_owned(), any_of: serde_json::from_value(any_of).unwrap() }
}

fn demanding(claims: Vec<ClaimRule>) -> RouteDoc {
    RouteDoc { require: Requirement { claims, ..Requirement::default() }, ..required() }
}

fn stepping(acr: Option<Assurance>, max_auth_age_s: Option<u32>) -> RouteDoc {
    RouteDoc { step_up: StepUp { acr, max_auth_age_s }, ..required() }
}

#[test]
fn r01_only_clients_of_the_routes_networks_pass_signed_in_or_not() {
    let office = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]);
    for auth in [AuthMode::Public, AuthMode::Optional, AuthMode::Required] {
        let route = RouteDoc { networks: office.clone(), ..route(1, auth) };
        for (client, inside) in [
            ("10.255.0.1", true),
            ("::ffff:10.255.0.1", true), // IPv4 however it is written
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("11.0.0.1", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::10.255.0.1", false), // another address (RFC 4291 §2.5.5.1)
        ] {
            let decided = decide(&route, Some(&user()), &request(client, 0));
            assert_eq!(decided.is_ok(), inside, "{auth:?} {client}");
            let stranger = decide(&route, None, &request(client, 0)).err();
            let expected = match (inside, auth) {
                (false, _) => Some(Denial::Network),
                (true, AuthMode::Required) => Some(Denial::SignInRequired),
                (true, _) => None,
            };
            assert_eq!(stranger, expected, "{auth:?} {client}");
        }
    }
}

#[test]
fn r01_a_claim_is_met_by_one_of_its_values_alone_or_in_a_list() {
    let route = demanding(vec![claim("plan", json!(["pro", 3, true]))]);
    for (value, met) in [
        (json!("pro"), true),
        (json!(3), true),
        (json!(3.0), true), // JSON has one kind of number
        (json!(true), true),
        (json!(["free", "pro"]), true),
        (json!("free"), false),
        (json!("3"), false),
        (json!("true"), false),
        (json!(1), false),
        (json!("PRO"), false),
        (json!(null), false),
        (json!([]), false),
        (json!([["pro"]]), false), // lists in lists are not looked into
        (json!({ "pro": true }), false),
    ] {
        let caller = Identity { claims: [("plan".to_owned(), value.clone())].into(), ..user() };
        let decided = decide(&route, Some(&caller), &anywhere()).map(|_| ());
        let expected = if met { Ok(()) } else { Err(Denial::Claim("plan".to_owned())) };
        assert_eq!(decided, expected, "{value}");
    }
    assert_eq!(decide(&route, Some(&user()), &anywhere()).unwrap_err(), Denial::Claim("plan".to_owned()));
    assert_eq!(decide(&route, None, &anywhere()).unwrap_err(), Denial::SignInRequired);
    // Large whole numbers that differ by one are two, though as fractions they would be the same.
    let large = demanding(vec![claim("id", json!([9_007_199_254_740_993_u64]))]);
    let other = json!(9_007_199_254_740_992_u64);
    let caller = Identity { claims: [("id".to_owned(), other)].into(), ..user() };
    assert!(decide(&large, Some(&caller), &anywhere()).is_err());
}

#[test]
fn r01_every_claim_must_be_met() {
    let route = demanding(vec![claim("plan", json!(["pro"])), claim("team", json!(["a", "b"]))]);
    let holds = |pairs: &[(&str, &str)]| {
        let claims = pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        decide(&route, Some(&Identity { claims, ..user() }), &anywhere()).err()
    };
    assert_eq!(holds(&[("plan", "pro"), ("team", "b")]), None);
    assert_eq!(holds(&[("plan", "pro")]), Some(Denial::Claim("team".to_owned())));
    assert_eq!(holds(&[("team", "b")]), Some(Denial::Claim("plan".to_owned())));
    assert_eq!(holds(&[("plan", "b"), ("team", "pro")]), Some(Denial::Claim("plan".to_owned())));
}

#[test]
fn r01_a_sign_in_must_be_strong_and_young_enough() {
    let strong = stepping(Some(Assurance::Aal2), None);
    let needs = Denial::Assurance { needs: Assurance::Aal2 };
    assert_eq!(decide(&strong, Some(&user()), &anywhere()).unwrap_err(), needs);
    let aal2 = Identity { assurance: Assurance::Aal2, ..user() };
    assert!(decide(&strong, Some(&aal2), &anywhere()).is_ok());
    assert!(decide(&stepping(Some(Assurance::Aal1), None), Some(&user()), &anywhere()).is_ok());
    assert_eq!(decide(&strong, Some(&machine()), &anywhere()).unwrap_err(), needs, "a key is one factor");

    let young = stepping(None, Some(900));
    let too_old = Some(Denial::TooOld { max_auth_age_s: 900 });
    for (age, denial) in [(0, None), (900, None), (901, too_old.clone()), (-60, None)] {
        let decided = decide(&young, Some(&user()), &request("192.0.2.1", age)).err();
        assert_eq!(decided, denial, "{age}");
    }
    // A machine presents its key with each request.
    assert!(decide(&young, Some(&machine()), &request("192.0.2.1", 100_000)).is_ok());
    for route in [strong, young] {
        assert_eq!(route.auth_in_force(), AuthMode::Required);
        let open = RouteDoc { auth: AuthMode::Public, ..route };
        assert_eq!(decide(&open, None, &anywhere()).unwrap_err(), Denial::SignInRequired);
    }
}

#[test]
fn r01_demands_are_told_in_one_order() {
    let mut route = RouteDoc {
        networks: networks(&["10.0.0.0/8"]),
        require: Requirement {
            all_roles: vec![Name::parse("admin").unwrap()],
            claims: vec![claim("plan", json!(["pro"]))],
            ..Requirement::default()
        },
        ..stepping(Some(Assurance::Aal2), Some(60))
    };
    let mut caller = user();
    let late = request("192.0.2.1", 61);
    assert_eq!(decide(&route, None, &late).unwrap_err(), Denial::Network);
    route.networks.clear();
    assert_eq!(decide(&route, None, &late).unwrap_err(), Denial::SignInRequired);
    assert_eq!(decide(&route, Some(&caller), &late).unwrap_err().code(), "assurance");
    caller.assurance = Assurance::Aal2;
    assert_eq!(decide(&route, Some(&caller), &late).unwrap_err().code(), "too_old");
    caller.authenticated_at = late.now;
    assert_eq!(decide(&route, Some(&caller), &late).unwrap_err().code(), "missing_role");
    caller.roles = vec![Name::parse("admin").unwrap()];
    assert_eq!(decide(&route, Some(&caller), &late).unwrap_err().code(), "claim");
    caller.claims = [("plan".to_owned(), json!("pro"))].into();
    assert!(decide(&route, Some(&caller), &late).unwrap().would_deny().is_none());
}

#[test]
fn r01_a_dry_run_tells_what_it_would_refuse_and_still_asks_for_sign_in() {
    let dry = |route: RouteDoc| RouteDoc { enforce: false, ..route };
    let guarded = dry(RouteDoc { networks: networks(&["10.0.0.0/8"]), ..stepping(None, Some(60)) });
    assert_eq!(decide(&guarded, None, &anywhere()).unwrap_err(), Denial::SignInRequired);
    let permit = decide(&guarded, Some(&user()), &anywhere()).unwrap();
    assert_eq!(permit.would_deny(), Some(&Denial::Network), "the first demand that is not met");
    assert!(permit.forwards_identity());
    let permit = decide(&guarded, Some(&user()), &request("10.0.0.1", 61)).unwrap();
    assert_eq!(permit.would_deny(), Some(&Denial::TooOld { max_auth_age_s: 60 }));
    assert_eq!(decide(&guarded, Some(&user()), &request("10.0.0.1", 60)).unwrap().would_deny(), None);
    let open = dry(RouteDoc { networks: networks(&["10.0.0.0/8"]), ..route(1, AuthMode::Public) });
    let permit = decide(&open, None, &anywhere()).unwrap();
    assert_eq!((permit.would_deny(), permit.forwards_identity()), (Some(&Denial::Network), false));
    let mut newer = dry(required());
    newer.min_reader = u32::MAX;
    assert_eq!(decide(&newer, Some(&user()), &anywhere()).unwrap_err(), Denial::TooNew);
}

#[test]
fn what_a_route_demands_is_told_in_a_few_words() {
    let route = RouteDoc {
        networks: networks(&["10.0.0.0/8", "2001:db8::/32"]),
        require: Requirement {
            any_role: vec![Name::parse("a").unwrap(), Name::parse("b").unwrap()],
            claims: vec![claim("plan", json!(["pro", "3", 3, "a b"]))],
            ..Requirement::default()
        },
        enforce: false,
        ..stepping(Some(Assurance::Aal2), Some(900))
    };
    assert_eq!(
        route.demands().to_string(),
        "role=a|b · claim plan=pro|\"3\"|3|\"a b\" · aal2 · signed in within 15 min · from 10.0.0.0/8|2001:db8::/32 · dry run"
    );
    assert_eq!(required().demands().to_string(), "");
}

const NETWORKS: [&str; 5] = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32"];
const CLIENTS: [&str; 5] = ["10.1.2.3", "10.2.0.1", "192.0.2.9", "2001:db8::1", "198.51.100.1"];
const AGES: [u32; 3] = [60, 120, 600];

fn some_names() -> impl Strategy<Value = Vec<Name>> {
    subsequence(vec!["a", "b", "c"], 0..=3)
        .prop_map(|texts| texts.into_iter().map(|text| Name::parse(text).unwrap()).collect())
}

fn some_claims() -> impl Strategy<Value = Vec<ClaimRule>> {
    let values = subsequence(vec![json!("pro"), json!("team"), json!(3)], 1..=3);
    vec((select(vec!["plan", "team"]), values), 0..3).prop_map(|rules| {
        rules.into_iter().map(|(name, any_of)| ClaimRule { name: name.to_owned(), any_of }).collect()
    })
}

prop_compose! {
    fn some_route(id: u128)(
        auth in select(vec![AuthMode::Public, AuthMode::Optional, AuthMode::Required]),
        (any_role, all_roles, any_permission, all_permissions) in (some_names(), some_names(), some_names(), some_names()),
        claims in some_claims(),
        acr in proptest::option::of(select(vec![Assurance::Aal1, Assurance::Aal2])),
        max_auth_age_s in proptest::option::of(select(AGES.as_slice())),
        nets in subsequence(NETWORKS.to_vec(), 0..=3),
        enforce in any::<bool>(),
        has_profile in any::<bool>(),
    ) -> RouteDoc {
        let profiles = if has_profile { vec![IdentityProfile::RemoteUser] } else { Vec::new() };
        RouteDoc {
            require: Requirement { any_role, all_roles, any_permission, all_permissions, claims },
            step_up: StepUp { acr, max_auth_age_s },
            networks: networks(&nets),
            enforce,
            identity: IdentityForward { profiles, claims: Vec::new() },
            ..route(id, auth)
        }
    }
}

/// A route that asks for little, so that many pairs of them are comparable.
fn some_light_route(id: u128) -> impl Strategy<Value = RouteDoc> {
    (some_route(id), 0..6_u8).prop_map(|(mut route, kept)| {
        let full = route.clone();
        route.require = Requirement::default();
        route.step_up = StepUp::default();
        route.networks.clear();
        match kept {
            0 => {}
            1 => route.require.any_role = full.require.any_role,
            2 => route.require.claims = full.require.claims,
            3 => route.step_up.acr = full.step_up.acr,
            4 => route.step_up.max_auth_age_s = full.step_up.max_auth_age_s,
            _ => route.networks = full.networks,
        }
        route
    })
}

prop_compose! {
    fn somebody()(
        roles in some_names(),
        permissions in some_names(),
        plan in select(vec![json!("pro"), json!("team"), json!(3), json!(["pro", 3]), json!(null)]),
        team in select(vec![json!("pro"), json!("team"), json!([])]),
        assurance in select(vec![Assurance::Aal1, Assurance::Aal2]),
        is_machine in any::<bool>(),
    ) -> Identity {
        let base = if is_machine { machine() } else { user() };
        let claims = [("plan".to_owned(), plan), ("team".to_owned(), team)].into();
        Identity { roles, permissions, claims, assurance, ..base }
    }
}

prop_compose! {
    fn some_request()(client in select(CLIENTS.as_slice()), age in 0..700_i64) -> Circumstances {
        request(client, age)
    }
}

/// `route` with the demands of `more` on top of its own.
fn with_more(route: &RouteDoc, more: &RouteDoc) -> RouteDoc {
    let mut both = route.clone();
    both.require.all_roles.extend(more.require.all_roles.clone());
    both.require.all_permissions.extend(more.require.all_permissions.clone());
    both.require.claims.extend(more.require.claims.clone());
    both.step_up.acr = both.step_up.acr.max(more.step_up.acr);
    let ages = both.step_up.max_auth_age_s.into_iter().chain(more.step_up.max_auth_age_s);
    both.step_up.max_auth_age_s = ages.min();
    if both.networks.is_empty() {
        both.networks.clone_from(&more.networks);
    }
    both
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn r01_a_demand_more_never_lets_more_in(
        (route, more) in (some_route(1), some_route(2)),
        caller in proptest::option::of(somebody()),
        request in some_request(),
    ) {
        let stricter = with_more(&route, &more);
        let lets_in = |route: &RouteDoc| decide(route, caller.as_ref(), &request).is_ok();
        prop_assert!(!lets_in(&stricter) || lets_in(&route), "{:?}", stricter);
    }

    #[test]
    fn r01_a_dry_run_asks_for_sign_in_and_for_nothing_else(
        route in some_route(1),
        caller in proptest::option::of(somebody()),
        request in some_request(),
    ) {
        let enforced = decide(&RouteDoc { enforce: true, ..route.clone() }, caller.as_ref(), &request);
        let dry = decide(&RouteDoc { enforce: false, ..route.clone() }, caller.as_ref(), &request);
        let needs_sign_in = route.auth_in_force() == AuthMode::Required && caller.is_none();
        match dry {
            Err(denial) => prop_assert!(needs_sign_in && denial == Denial::SignInRequired),
            Ok(permit) => {
                prop_assert!(!needs_sign_in);
                prop_assert_eq!(permit.would_deny(), enforced.as_ref().err());
                // An identity is told, or not, as if the route were enforced.
                let tells = caller.is_some() && route.auth_in_force() != AuthMode::Public;
                prop_assert_eq!(permit.forwards_identity(), tells);
            }
        }
        if let Ok(permit) = enforced {
            prop_assert!(permit.would_deny().is_none());
        }
    }

    #[test]
    fn r02_whoever_passes_a_route_that_asks_no_less_passes_the_other(
        (route, other) in prop_oneof![
            (some_light_route(1), some_light_route(2)),
            (some_route(1), some_light_route(2)),
            (some_route(1), some_route(2)).prop_map(|(route, mut other)| {
                other.require = route.require.clone();
                (route, other)
            }),
        ],
        caller in proptest::option::of(somebody()),
        request in some_request(),
    ) {
        if asks_no_less(&route, &other) && decide(&route, caller.as_ref(), &request).is_ok() {
            prop_assert!(decide(&other, caller.as_ref(), &request).is_ok(), "{:?}\n{:?}", route, other);
        }
        let same = RouteDoc { id: RouteId::from_bits(3), ..route.clone() };
        prop_assert!(asks_no_less(&route, &same));
    }

    #[test]
    fn r01_a_client_is_in_a_network_whichever_way_its_ipv4_address_is_written(octets: [u8; 4], len in 0..=32_u8) {
        let address = IpAddr::from(octets);
        let IpAddr::V4(v4) = address else { unreachable!() };
        let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
        let network = std::net::Ipv4Addr::from(v4.to_bits() & mask);
        for text in [format!("{network}/{len}"), format!("::ffff:{network}/{}", 96 + len)] {
            let cidr: Cidr = text.parse().unwrap();
            prop_assert!(cidr.contains(address) && cidr.contains(IpAddr::V6(v4.to_ipv6_mapped())));
        }
    }
}
