//! R2 for servers that tell less apart: case, dots and blanks at the end of a segment, a slash at the end of a path.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shop;

use std::sync::LazyLock;

use mezusphere_model::id::RouteId;
use mezusphere_model::path::RequestPath;
use mezusphere_model::route::{AuthMode, NoRoute, PathMatch, READER, Requirement, RouteDoc, Site};
use mezusphere_model::slug::{Name, Slug};
use proptest::prelude::*;

use shop::publishing;

/// A route from `[METHOD] PATTERN -> public|optional|required|ROLE`.
fn route(id: u128, text: &str) -> RouteDoc {
    let (pattern, policy) = text.split_once(" -> ").unwrap();
    let listed = pattern.split_once(' ').filter(|(method, _)| !method.contains('/'));
    let (method, pattern) = listed.unwrap_or(("", pattern));
    let mut require = Requirement::default();
    let auth = match policy {
        "public" => AuthMode::Public,
        "optional" => AuthMode::Optional,
        "required" => AuthMode::Required,
        role => {
            require.any_role.push(Name::parse(role).unwrap());
            AuthMode::Required
        }
    };
    let path = PathMatch::parse(pattern).unwrap();
    RouteDoc {
        methods: if method.is_empty() { vec![] } else { vec![method.to_owned()] },
        require,
        ..RouteDoc::new(RouteId::from_bits(id), path, auth, Slug::parse("web").unwrap())
    }
}

fn built(routes: Vec<RouteDoc>) -> Site {
    Site::build(publishing(routes)).unwrap()
}

/// A site whose routes are numbered from 1 in the order given.
fn site(routes: &[&str]) -> Site {
    built((1..).zip(routes).map(|(id, text)| route(id, text)).collect())
}

fn find(site: &Site, path: &str) -> Result<u128, NoRoute> {
    site.find(&RequestPath::parse(path).unwrap(), "GET").map(|route| route.id.bits())
}

#[track_caller]
fn check(routes: &[&str], rows: &[(&str, Result<u128, NoRoute>)]) {
    let site = site(routes);
    for (path, expected) in rows {
        assert_eq!(find(&site, path), *expected, "{path} in {routes:?}");
    }
}

/// What a path is that a lenient server would take for a route that asks more.
const REFUSED: Result<u128, NoRoute> = Err(NoRoute::Ambiguous);

#[test]
fn r02_a_spelling_that_lenient_servers_take_for_a_protected_path_is_not_public() {
    let site = site(&["/* -> public", "/account/* -> required"]);
    for spelling in [
        "/ACCOUNT",
        "/Account/x",
        "/accounT",
        "/%41ccount",
        "/%2541ccount",
        "/account.",
        "/account.../x",
        "/account%2e/x",
        "/account%20",
        "/account%20/x",
        "/account%20%20.%20/x",
        "/account%c2%a0",
        "/ACCOUNT./x",
        "/account;a=b/x",
        "/account%3ba=b/x",
        "/ACCOUNT;a",
        "/account.;a/x",
        "/account%20;a/x",
        "//ACCOUNT",
        "/x/../ACCOUNT",
        "/x/..%20/account",
        "/x/..%20/ACCOUNT",
        "/.%20/account",
        "/x%2f..%2fACCOUNT",
        "/x/..%5cAccount",
        "/account%20%2fx",
        "/account%2520/x",
        "/account%252e",
        "/.../account",
    ] {
        assert_eq!(find(&site, spelling), REFUSED, "{spelling}");
    }
    for (path, id) in [("/account", 2), ("/account/X", 2), ("/account/x.", 2), ("/account/A%20/", 2)] {
        assert_eq!(find(&site, path), Ok(id), "{path}");
    }
}

#[test]
fn r02_letters_outside_ascii_are_folded_too() {
    check(
        &["/* -> public", "/zoë/* -> required", "/desk/* -> required"],
        &[
            ("/zo%C3%AB", Ok(2)),
            ("/ZO%C3%8B", REFUSED),
            ("/des%E2%84%AA", REFUSED), // the sign of the kelvin
            ("/de%C5%BFk", REFUSED),    // the long s
            ("/zo%C3%AA", Ok(1)),       // another letter
        ],
    );
}

#[test]
fn what_differs_harmlessly_goes_on_to_the_route_it_spells() {
    check(
        &["/* -> required", "/api/* -> required", "/open/* -> public", "/files/* -> public"],
        &[
            ("/Any/Thing", Ok(1)),
            ("/orders/AbC.PDF", Ok(1)),
            ("/report.", Ok(1)),
            ("/My%20Folder%20/x", Ok(1)),
            ("/API/x", Ok(1)),  // another route that asks the same
            ("/OPEN/x", Ok(1)), // asks more than what a lenient server takes it for
            ("/open/X.", Ok(3)),
            ("/files/README.MD", Ok(4)),
        ],
    );
}

#[test]
fn r02_a_role_is_not_got_around_by_another_ones_route() {
    check(
        &["/* -> staff", "/admin/* -> admin", "/me/* -> required"],
        &[("/ADMIN", REFUSED), ("/admin./x", REFUSED), ("/ME", Ok(1)), ("/admin/X", Ok(2))],
    );
}

#[test]
fn a_routes_own_spelling_is_decided_by_it_and_others_are_refused() {
    let routes = ["/* -> public", "/Account/* -> required", "/v1./* -> required", "/a b/* -> required"];
    check(
        &routes,
        &[
            ("/Account/x", Ok(2)),
            ("/Account", Ok(2)),
            ("/account/x", REFUSED),
            ("/ACCOUNT/x", REFUSED),
            ("/v1./x", Ok(3)),
            ("/v1/x", REFUSED),
            ("/V1./x", REFUSED),
            ("/a%20b/x", Ok(4)),
            ("/a%20B/x", REFUSED),
            ("/other", Ok(1)),
        ],
    );
    // Opened by its own spelling, too: nothing protected is meant by it.
    check(
        &["/* -> required", "/Public/* -> public", "/v1./* -> public"],
        &[("/Public/x", Ok(2)), ("/public/x", Ok(1)), ("/v1./x", Ok(3)), ("/v1/x", Ok(1))],
    );
}

#[test]
fn routes_that_differ_only_in_case_are_each_decided_by_their_own_spelling() {
    let routes = ["/A/* -> public", "/a/* -> required", "/* -> public"];
    check(
        &routes,
        &[
            ("/A/x", Ok(1)),
            ("/a/x", Ok(2)),
            ("/a/X", Ok(2)),
            // Neither's spelling, but with its end dropped it is.
            ("/a./x", REFUSED),
            ("/A./x", Ok(3)),
            ("/a%20/x", REFUSED),
        ],
    );
}

#[test]
fn r02_a_spelling_of_neither_of_two_routes_is_held_to_the_one_that_asks_more() {
    check(&["/AB/* -> public", "/ab/* -> required", "/* -> public"], &[("/Ab/x", REFUSED), ("/AB/x", Ok(1))]);
}

#[test]
fn r02_a_spelling_reached_only_by_trimming_is_held_to_the_exact_route() {
    let site = site(&["/a/* -> public", "/A/* -> required"]);
    // What trims blanks and then resolves dots, and does not fold case, serves /A/y.
    assert_eq!(find(&site, "/a/x/..%20/..%20/A/y"), REFUSED);
    assert_eq!(find(&site, "/a/x/..%20/y"), Ok(1));
}

#[test]
fn r02_a_slash_at_the_end_does_not_get_around_an_exact_path() {
    check(
        &["/* -> public", "/admin -> required", "/docs/ -> required"],
        &[
            ("/admin", Ok(2)),
            ("/admin/", REFUSED),
            ("/Admin/", REFUSED),
            ("/admin/x", Ok(1)),
            ("/docs/", Ok(3)),
            ("/docs", REFUSED),
            ("/", Ok(1)),
            ("/x/", Ok(1)),
        ],
    );
    check(&["/* -> required", "/ -> public"], &[("/", Ok(2)), ("/x", Ok(1)), ("/x/", Ok(1))]);
}

#[test]
fn r02_regular_expressions_are_matched_without_regard_to_case() {
    check(
        &["~/(admin|root)(/.*)? -> required", "~/[a-z]+/.* -> public", "~/.* -> public"],
        &[
            ("/admin/x", Ok(1)),
            ("/ADMIN/x", REFUSED),
            ("/admin./x", REFUSED),
            ("/root/", Ok(1)),
            ("/Root/", REFUSED),
            ("/shop/X", Ok(2)),
            ("/Shop/x", Ok(3)), // both are public
        ],
    );
    check(
        &["~/Reports/[A-Z]+ -> required", "~/.* -> public"],
        &[("/Reports/Q", Ok(1)), ("/reports/q", REFUSED), ("/Reports/q", REFUSED), ("/other", Ok(2))],
    );
    // An expression that tells case apart by its own words is taken by them.
    check(
        &["~(?-i:/[a-z]+) -> required", "~/.* -> public"],
        &[("/abc", Ok(1)), ("/ABC", Ok(2)), ("/abc.", REFUSED)],
    );
    check(&["~/[^A-Z]+ -> required", "~/.* -> public"], &[("/abc", Ok(1)), ("/ABC", Ok(2))]);
}

#[test]
fn r01_a_lenient_server_is_not_led_to_what_is_not_published() {
    check(
        &["/api/* -> public"],
        &[
            ("/api/x", Ok(1)),
            ("/api/X/", Ok(1)),
            ("/API/x", Err(NoRoute::NotFound)),
            ("/api./x", Err(NoRoute::NotFound)),
            ("/api/..%20/x", REFUSED),
        ],
    );
}

#[test]
fn r01_a_lenient_match_of_a_route_for_a_newer_reader_is_refused() {
    let mut newer = route(2, "/admin/* -> public");
    newer.min_reader = READER + 1;
    let site = built(vec![route(1, "/* -> required"), newer]);
    assert_eq!(find(&site, "/ADMIN"), REFUSED);
    assert_eq!(find(&site, "/x"), Ok(1));
}

#[test]
fn a_method_that_a_route_does_not_take_is_no_match_of_it() {
    let site = site(&["POST /admin/* -> required", "/* -> public"]);
    let post =
        |path: &str| site.find(&RequestPath::parse(path).unwrap(), "POST").map(|route| route.id.bits());
    assert_eq!(post("/ADMIN"), REFUSED);
    assert_eq!(find(&site, "/ADMIN"), Ok(2));
}

#[test]
fn patterns_that_lenient_servers_cannot_tell_apart_are_known() {
    let alike =
        |one: &str, two: &str| PathMatch::parse(one).unwrap().reads_like(&PathMatch::parse(two).unwrap());
    for (one, two) in [("/a/*", "/A/*"), ("/a/*", "/a./*"), ("/a", "/A"), ("/a", "/a/"), ("/a /x", "/A/X")] {
        assert!(alike(one, two) && alike(two, one), "{one} {two}");
    }
    for (one, two) in [("/a/*", "/b/*"), ("/a", "/a/*"), ("/a/*", "/ab/*"), ("~/a", "~/A")] {
        assert!(!alike(one, two), "{one} {two}");
    }
}

#[test]
fn an_expression_that_fits_to_the_letter_fits_without_regard_to_case() {
    // `k` and `s` have three forms each, so they grow most.
    for unit in ["k", "s", "[ks]", r"\w", r"\p{Ll}", "(?:k|s)", "K?"] {
        let fits = |count: u32| PathMatch::parse(&format!("~/{unit}{{{count}}}"));
        let mut most = 1;
        let grows = |count: u32| {
            // Only the size of what was written may refuse it.
            let literal = regex::RegexBuilder::new(&format!(r"\A(?:/{unit}{{{count}}})\z"))
                .size_limit(mezusphere_model::route::REGEX_SIZE_MAX)
                .build();
            literal.is_ok()
        };
        while most < 4096 && grows(most * 2) {
            most *= 2;
        }
        assert!(fits(most).is_ok(), "{unit} {most} times: {:?}", fits(most));
    }
}

/// Spellings of `/account/orders` that one lenient server or another takes for it.
fn spelling() -> impl Strategy<Value = String> {
    const ENDS: [&str; 11] = ["", "", ".", "%2e", "%20", "%20.", "..%20", ";a=b", "%3b", "%c2%a0", ".;x"];
    let letter = |letter: char| {
        let upper = letter.to_ascii_uppercase();
        let forms = vec![
            letter.to_string(),
            letter.to_string(),
            upper.to_string(),
            format!("%{:02x}", u32::from(letter)),
            format!("%{:02X}", u32::from(upper)),
        ];
        proptest::sample::select(forms)
    };
    let word = |word: &str| word.chars().map(letter).collect::<Vec<_>>().prop_map(|letters| letters.concat());
    let end = || proptest::sample::select(ENDS.as_slice());
    let slash = || proptest::sample::select(["/", "/", "/", "//", "/./", "/x/../", "/x/..%20/"].as_slice());
    (slash(), word("account"), end(), slash(), word("orders"), end())
        .prop_map(|(one, account, end, two, orders, last)| format!("{one}{account}{end}{two}{orders}{last}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn r02_no_lenient_spelling_of_a_protected_path_is_decided_by_a_public_route(spelling in spelling()) {
        for site in GUARDED.iter() {
            let found = RequestPath::parse(&spelling).ok().and_then(|path| site.find(&path, "GET").ok());
            if let Some(route) = found {
                prop_assert_ne!(route.auth, AuthMode::Public, "{} beside {}", spelling, site.doc.routes[0].path);
            }
        }
    }
}

/// Sites where `/account/orders` is protected under one spelling of it, and all else is public.
static GUARDED: LazyLock<Vec<Site>> = LazyLock::new(|| {
    let beside = |protected: &str, rest: &str| {
        site(&[format!("{protected} -> required").as_str(), format!("{rest} -> public").as_str()])
    };
    let protected = [
        "/account/*",
        "/Account/*",
        "/account/orders",
        "/ACCOUNT/ORDERS/",
        "/account./*",
        "/account/orders/*",
    ];
    let mut sites: Vec<Site> = protected.iter().map(|protected| beside(protected, "/*")).collect();
    sites.push(beside("~/ac+ount/.*", "~/.*"));
    sites
});
