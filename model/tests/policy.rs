//! R1: who may pass. Every demand, met and unmet, and the documents that make no sense.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mezusphere_model::Timestamp;
use mezusphere_model::id::{RouteId, UserId};
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::policy::{Circumstances, Denial, Permit};
use mezusphere_model::route::{AuthMode, PathMatch, READER, Requirement, RouteDoc};
use mezusphere_model::slug::{Name, Slug};
use proptest::collection::vec;
use proptest::prelude::*;

/// The decision for somebody at an address and time that no demand of these tests minds.
fn decide(route: &RouteDoc, caller: Option<&Identity>) -> Result<Permit, Denial> {
    let circumstances =
        Circumstances { client: "192.0.2.1".parse().unwrap(), now: Timestamp::from_seconds(0) };
    mezusphere_model::policy::decide(route, caller, &circumstances)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| name(text)).collect()
}

fn route(auth: AuthMode, require: Requirement) -> RouteDoc {
    let everything = PathMatch::Prefix("/".to_owned());
    let route = RouteDoc::new(RouteId::from_bits(1), everything, auth, Slug::parse("web").unwrap());
    RouteDoc { require, ..route }
}

fn caller(roles: &[&str], permissions: &[&str]) -> Identity {
    Identity {
        subject: Subject::User(UserId::from_bits(1)),
        session: None,
        email: String::new(),
        name: String::new(),
        roles: names(roles),
        permissions: names(permissions),
        methods: vec![Method::Password],
        assurance: Assurance::Aal1,
        authenticated_at: Timestamp::from_seconds(0),
        claims: std::collections::BTreeMap::new(),
    }
}

const MODES: [AuthMode; 3] = [AuthMode::Public, AuthMode::Optional, AuthMode::Required];

/// One requirement of each kind.
fn demands() -> Vec<(Requirement, Denial)> {
    vec![
        (
            Requirement { any_role: names(&["a", "b"]), ..Requirement::default() },
            Denial::NoneOfRoles(names(&["a", "b"])),
        ),
        (
            Requirement { all_roles: names(&["a", "b"]), ..Requirement::default() },
            Denial::MissingRole(name("a")),
        ),
        (
            Requirement { any_permission: names(&["p", "q"]), ..Requirement::default() },
            Denial::NoneOfPermissions(names(&["p", "q"])),
        ),
        (
            Requirement { all_permissions: names(&["p", "q"]), ..Requirement::default() },
            Denial::MissingPermission(name("p")),
        ),
    ]
}

#[test]
fn r01_without_demands_the_mode_decides() {
    let ada = caller(&[], &[]);
    let rows = [
        (AuthMode::Public, None, Ok(false)),
        (AuthMode::Public, Some(&ada), Ok(false)), // no identity is forwarded on a public route
        (AuthMode::Optional, None, Ok(false)),
        (AuthMode::Optional, Some(&ada), Ok(true)),
        (AuthMode::Required, None, Err(Denial::SignInRequired)),
        (AuthMode::Required, Some(&ada), Ok(true)),
    ];
    for (mode, caller, expected) in rows {
        let decided =
            decide(&route(mode, Requirement::default()), caller).map(|permit| permit.forwards_identity());
        assert_eq!(decided, expected, "{mode:?} {}", caller.is_some());
    }
}

#[test]
fn r01_a_demand_is_never_met_by_nobody_whatever_the_mode_says() {
    for mode in MODES {
        for (require, denial) in demands() {
            let route = route(mode, require);
            assert_eq!(decide(&route, None).unwrap_err(), Denial::SignInRequired, "{mode:?}");
            assert_eq!(decide(&route, Some(&caller(&[], &[]))).unwrap_err(), denial, "{mode:?}");
            assert_eq!(route.auth_in_force(), AuthMode::Required, "{mode:?}");
        }
    }
}

#[test]
fn r01_each_demand_is_met_by_what_it_asks_for_and_nothing_else() {
    let require = Requirement {
        any_role: names(&["a", "b"]),
        all_roles: names(&["c", "d"]),
        any_permission: names(&["p", "q"]),
        all_permissions: names(&["r", "s"]),
        claims: Vec::new(),
    };
    let route = route(AuthMode::Required, require);
    assert!(decide(&route, Some(&caller(&["b", "c", "d"], &["q", "r", "s"]))).unwrap().forwards_identity());
    let rows = [
        (caller(&["c", "d"], &["q", "r", "s"]), Denial::NoneOfRoles(names(&["a", "b"]))),
        (caller(&["a", "d"], &["q", "r", "s"]), Denial::MissingRole(name("c"))),
        (caller(&["a", "c"], &["q", "r", "s"]), Denial::MissingRole(name("d"))),
        (caller(&["a", "c", "d"], &["r", "s"]), Denial::NoneOfPermissions(names(&["p", "q"]))),
        (caller(&["a", "c", "d"], &["p", "s"]), Denial::MissingPermission(name("r"))),
        (caller(&["a", "c", "d"], &["p", "r"]), Denial::MissingPermission(name("s"))),
        // A role is no permission of the same name, and the other way round.
        (caller(&["a", "c", "d", "p", "r", "s"], &[]), Denial::NoneOfPermissions(names(&["p", "q"]))),
        (caller(&[], &["a", "c", "d", "p", "r", "s"]), Denial::NoneOfRoles(names(&["a", "b"]))),
        // Names are compared whole and as they are.
        (caller(&["A", "c", "d"], &["p", "r", "s"]), Denial::NoneOfRoles(names(&["a", "b"]))),
        (caller(&["ab", "c", "d"], &["p", "r", "s"]), Denial::NoneOfRoles(names(&["a", "b"]))),
    ];
    for (caller, denial) in rows {
        assert_eq!(
            decide(&route, Some(&caller)).unwrap_err(),
            denial,
            "{:?} {:?}",
            caller.roles,
            caller.permissions
        );
    }
}

#[test]
fn r01_a_route_for_a_newer_reader_lets_nobody_pass() {
    for mode in MODES {
        let mut route = route(mode, Requirement::default());
        route.min_reader = READER + 1;
        for caller in [None, Some(&caller(&["admin"], &["everything"]))] {
            assert_eq!(decide(&route, caller).unwrap_err(), Denial::TooNew);
        }
    }
}

#[test]
fn r01_a_mode_that_is_missing_or_unknown_is_no_document() {
    let json = |auth: &str| {
        format!(
            r#"{{"min_reader":1,"id":"{}",{auth}"path":{{"prefix":"/"}},"upstream":"web"}}"#,
            RouteId::from_bits(1)
        )
    };
    let read = |auth: &str| serde_json::from_str::<RouteDoc>(&json(auth));
    assert_eq!(read(r#""auth":"required","#).unwrap(), route(AuthMode::Required, Requirement::default()));
    assert!(read("").is_err(), "nothing is public by omission");
    for auth in [r#""auth":"none","#, r#""auth":"","#, r#""auth":null,"#, r#""auth":"Public","#] {
        assert!(read(auth).is_err(), "{auth}");
    }
}

#[test]
fn a_denial_names_what_is_missing() {
    let texts: Vec<String> = demands().into_iter().map(|(_, denial)| denial.to_string()).collect();
    assert_eq!(
        texts,
        [
            "needs one of the roles a, b",
            "needs the role a",
            "needs one of the permissions p, q",
            "needs the permission p"
        ]
    );
    assert_eq!(Denial::NoneOfRoles(names(&["vip"])).to_string(), "needs the role vip");
}

fn some() -> impl Strategy<Value = Vec<Name>> {
    vec("[a-d]", 0..4).prop_map(|texts| texts.iter().map(|text| name(text)).collect())
}

proptest! {
    #[test]
    fn r01_the_decision_is_what_the_words_of_the_route_say(
        mode in proptest::sample::select(MODES.as_slice()),
        (any_role, all_roles, any_permission, all_permissions) in (some(), some(), some(), some()),
        held in proptest::option::of((some(), some())),
    ) {
        let identity = held.as_ref().map(|(roles, permissions)| Identity {
            roles: roles.clone(),
            permissions: permissions.clone(),
            ..caller(&[], &[])
        });
        let asks = [&any_role, &all_roles, &any_permission, &all_permissions].iter().any(|list| !list.is_empty());
        let expected = match (&held, mode) {
            (None, AuthMode::Required) => false,
            (None, _) => !asks,
            (Some((roles, permissions)), _) => {
                (any_role.is_empty() || any_role.iter().any(|role| roles.contains(role)))
                    && all_roles.iter().all(|role| roles.contains(role))
                    && (any_permission.is_empty() || any_permission.iter().any(|p| permissions.contains(p)))
                    && all_permissions.iter().all(|p| permissions.contains(p))
            }
        };
        let route = route(mode, Requirement { any_role, all_roles, any_permission, all_permissions, claims: Vec::new() });
        prop_assert_eq!(decide(&route, identity.as_ref()).is_ok(), expected);
    }
}
