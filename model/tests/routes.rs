//! Finding the route for a request: order, methods, readings, and what is refused when a site is built.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shop;

use mezusphere_model::Host;
use mezusphere_model::id::{EnvironmentId, RouteId};
use mezusphere_model::path::RequestPath;
use mezusphere_model::route::{
    AuthMode, METHODS_MAX, NoRoute, PATTERN_LEN_MAX, PathMatch, PatternError, READER, ROUTES_MAX, RouteDoc,
    Site, SiteTable,
};
use mezusphere_model::slug::Slug;

use shop::publishing;

/// A route from `[METHOD,…] PATTERN`, known by its number.
fn route(id: u128, text: &str) -> RouteDoc {
    let (methods, pattern) = text.split_once(' ').unwrap_or(("", text));
    let path = PathMatch::parse(pattern).unwrap();
    RouteDoc {
        methods: methods.split(',').filter(|method| !method.is_empty()).map(str::to_owned).collect(),
        ..RouteDoc::new(RouteId::from_bits(id), path, AuthMode::Required, Slug::parse("web").unwrap())
    }
}

/// A site whose routes are numbered from 1 in the order given.
fn site(routes: &[&str]) -> Site {
    Site::build(publishing((1..).zip(routes).map(|(id, text)| route(id, text)).collect())).unwrap()
}

/// The number of the route for a request.
fn find(site: &Site, method: &str, path: &str) -> Result<u128, NoRoute> {
    site.find(&RequestPath::parse(path).unwrap(), method).map(|route| route.id.bits())
}

#[test]
fn an_exact_path_wins_over_a_prefix_and_a_longer_prefix_over_a_shorter() {
    let site = site(&["~/api/v[0-9]+", "/*", "/api/*", "/api/v1/*", "/api/v1"]);
    let rows = [
        ("/", 2),
        ("/apis", 2), // whole segments only
        ("/api", 3),
        ("/api/", 3),
        ("/api/v2", 3), // a prefix wins over a regular expression
        ("/api/v1", 5),
        ("/api/v1/", 4), // exact is exact
        ("/api/v1/orders", 4),
        ("/API", 2), // case matters
    ];
    for (path, id) in rows {
        assert_eq!(find(&site, "GET", path), Ok(id), "{path}");
    }
}

#[test]
fn r01_a_path_without_a_route_is_not_found() {
    let site = site(&["/api/*", "/exact", "~/r/[a-z]+"]);
    for path in ["/", "/ap", "/apis", "/exact/", "/exact/a", "/r/", "/r/a/b", "/r/a1", "/x/r/a"] {
        assert_eq!(find(&site, "GET", path), Err(NoRoute::NotFound), "{path}");
    }
    assert_eq!(find(&Site::build(publishing(vec![])).unwrap(), "GET", "/"), Err(NoRoute::NotFound));
}

#[test]
fn regular_expressions_match_the_whole_path_in_the_order_they_were_written() {
    let both = site(&["~/a/.*", "~/a/b"]);
    assert_eq!(find(&both, "GET", "/a/b"), Ok(1));
    let other = site(&["~/a|/b", "~/c.*"]);
    let rows = [("/a", Ok(1)), ("/b", Ok(1)), ("/c/d", Ok(2)), ("/ab", Err(NoRoute::NotFound))];
    for (path, expected) in rows {
        assert_eq!(find(&other, "GET", path), expected, "{path}");
    }
    // An expression that would close the bracket it is put in does not get around the anchors.
    assert!(matches!(PathMatch::parse("~/public)|(/.*"), Err(PatternError::Regex(_))));
    let lines = site(&["~(?m)^/a$"]);
    assert_eq!(find(&lines, "GET", "/a"), Ok(1));
    assert_eq!(find(&lines, "GET", "/a/b"), Err(NoRoute::NotFound));
}

#[test]
fn usual_regular_expressions_fit_their_limit() {
    for text in
        [r"~/api/v\d+/orders/[\w-]+", r"~/(en|de|fr)/.*\.(css|js|png)", r"~/u/[0-9a-f]{8}(-[0-9a-f]{4}){3}"]
    {
        assert!(PathMatch::parse(text).is_ok(), "{text}");
    }
    assert!(matches!(PathMatch::parse(r"~/(\w{100}){100}"), Err(PatternError::Regex(_))), "grows too large");
}

#[test]
fn a_route_takes_the_methods_it_lists_and_head_with_get() {
    let site = site(&["GET,POST /a", "/*", "get /b", "HEAD /c"]);
    let rows = [
        ("GET", "/a", 1),
        ("POST", "/a", 1),
        ("HEAD", "/a", 1),
        ("PUT", "/a", 2), // methods are part of the match: the next route that matches takes it
        ("get", "/a", 2), // RFC 9110 §9.1: methods are case-sensitive
        ("GET", "/b", 2),
        ("HEAD", "/b", 2),
        ("GET", "/c", 2), // HEAD alone does not open GET
        ("HEAD", "/c", 4),
    ];
    for (method, path, id) in rows {
        assert_eq!(find(&site, method, path), Ok(id), "{method} {path}");
    }
    assert_eq!(find(&self::site(&["GET /a"]), "POST", "/a"), Err(NoRoute::NotFound));
}

#[test]
fn r02_a_path_that_leads_to_two_routes_is_refused() {
    let site = site(&["/*", "/admin/*", "/files/*", "/exact"]);
    let refused = [
        "/files/../admin",
        "/files/%2e%2e/admin",
        "/files/..%2fadmin",
        "/files%2f..%2fadmin",
        "/files/..%5cadmin",
        "/files/..;/admin",
        "/..;/admin",
        "/admin;x",
        "/admin;/x",
        "/;x=1/admin",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/admin%2fusers",
        "/%2fadmin",
        "/%252e%252e/admin",
        "/files/%252e%252e/admin",
        "/files%252f..%252fadmin",
        "/admin%252fx",
        "/a%2f%2e%2e%2fadmin",
        "/files//../admin",
        "/files/..//admin",
        "/exact;",
        "/admin/..",
        "/admin/../",
        "/%5cadmin",
        "/admin%5c..%5c",
        "/%2561dmin",
        "/files/.%252e/admin",
        "/.;/admin",
    ];
    for path in refused {
        assert_eq!(find(&site, "GET", path), Err(NoRoute::Ambiguous), "{path}");
    }
    let same = [
        ("/files/a%2fb", 3), // both readings lead to the same route
        ("/files/a//b", 3),
        ("/files/a;v=1/b", 3),
        ("/a/../b", 1),
        ("/admin/a%252fb", 2),
        ("/admin/./x", 2),
        ("/%61dmin", 2), // no ambiguity: RFC 3986 §2.3 makes these the same
        ("/adm%69n/x", 2),
    ];
    for (path, id) in same {
        assert_eq!(find(&site, "GET", path), Ok(id), "{path}");
    }
}

#[test]
fn r02_a_reading_without_a_route_makes_a_path_ambiguous() {
    let site = site(&["/api/*"]);
    for path in ["/api/../x", "/x/../api", "//api", "/api%2fx", "/api;x"] {
        assert_eq!(find(&site, "GET", path), Err(NoRoute::Ambiguous), "{path}");
    }
    assert_eq!(find(&site, "GET", "/x/../y"), Err(NoRoute::NotFound));
}

#[test]
fn r02_the_query_never_chooses_a_route() {
    // Whoever hands a query in as part of the path is told at once.
    assert!(RequestPath::parse("/api?x=/admin").is_err());
}

#[test]
fn r01_a_route_for_a_newer_reader_is_closed_and_nothing_takes_its_place() {
    let mut newer = route(1, "/admin/*");
    newer.min_reader = READER + 1;
    let closed = Site::build(publishing(vec![newer, route(2, "/*")])).unwrap();
    assert_eq!(find(&closed, "GET", "/admin/x"), Err(NoRoute::TooNew));
    assert_eq!(find(&closed, "GET", "/x"), Ok(2));
    let mut site = publishing(vec![route(1, "/*")]);
    site.min_reader = READER + 1;
    assert_eq!(find(&Site::build(site).unwrap(), "GET", "/x"), Err(NoRoute::TooNew), "the whole site");
}

#[test]
fn r01_a_site_with_a_bad_route_is_refused_whole() {
    let with = |path: PathMatch| {
        Site::build(publishing(vec![route(1, "/*"), RouteDoc { path, ..route(2, "/x") }])).unwrap_err()
    };
    assert!(matches!(with(PathMatch::Regex("(".to_owned())), PatternError::Regex(_)));
    assert_eq!(with(PathMatch::Exact("x".to_owned())), PatternError::NotAbsolute);
    assert_eq!(with(PathMatch::Prefix("/a/../b".to_owned())), PatternError::NotCanonical("/b".to_owned()));
    let twice = Site::build(publishing(vec![route(1, "/a"), route(1, "/*")])).unwrap_err();
    assert_eq!(twice, PatternError::DuplicateId(RouteId::from_bits(1)), "two policies under one name");
    let mut methods = route(1, "/a");
    methods.methods = vec!["GET".to_owned(); METHODS_MAX + 1];
    assert_eq!(Site::build(publishing(vec![methods])).unwrap_err(), PatternError::TooMany);
    let many = |n: usize| publishing((1..).take(n).map(|id| route(id, "/a")).collect());
    assert!(Site::build(many(ROUTES_MAX)).is_ok());
    assert_eq!(Site::build(many(ROUTES_MAX + 1)).unwrap_err(), PatternError::TooMany);
}

#[test]
fn a_pattern_that_no_request_could_match_is_refused_with_the_one_that_was_meant() {
    let canonical = |text: &str| PatternError::NotCanonical(text.to_owned());
    let rows = [
        ("a", PatternError::NotAbsolute),
        ("", PatternError::NotAbsolute),
        ("*", PatternError::NotAbsolute),
        ("/a//b", canonical("/a/b")),
        ("/a/./b/*", canonical("/a/b")),
        ("/a/../b", canonical("/b")),
        ("/%61", canonical("/a")),
        ("/zo%C3%AB", canonical("/zoë")),
        ("/a%2Fb", canonical("/a/b")),
        ("/a;b", canonical("/a")),
        ("/a?b", canonical("the path holds a character that is never allowed")),
        ("/a#b", canonical("the path holds a character that is never allowed")),
        ("/a\\b", canonical("the path holds a character that is never allowed")),
        ("/a\nb", canonical("the path holds a character that is never allowed")),
    ];
    for (text, why) in rows {
        assert_eq!(PathMatch::parse(text), Err(why), "{text:?}");
    }
    let long = format!("/{}", "x".repeat(PATTERN_LEN_MAX));
    assert_eq!(PathMatch::parse(&long), Err(PatternError::TooLong));
}

#[test]
fn a_pattern_is_written_decoded() {
    let path = |text: &str| PathMatch::parse(text).unwrap();
    let texts = ["/zoë/*", "/100%", "/two words/*"];
    let routes =
        (1..).zip(texts).map(|(id, text)| RouteDoc { path: path(text), ..route(id, "/x") }).collect();
    let site = Site::build(publishing(routes)).unwrap();
    assert_eq!(find(&site, "GET", "/zo%C3%AB/x"), Ok(1));
    assert_eq!(find(&site, "GET", "/100%25"), Ok(2));
    assert_eq!(find(&site, "GET", "/two%20words"), Ok(3));
}

#[test]
fn a_pattern_survives_its_short_form() {
    for text in ["/", "/a", "/a/", "/*", "/a/*", "~/a/[0-9]+", "/100%"] {
        assert_eq!(PathMatch::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_table_finds_sites_by_host_and_the_first_claim_stands() {
    let named = |environment: u128, hosts: &[&str]| {
        let mut doc = publishing(vec![]);
        doc.environment = EnvironmentId::from_bits(environment);
        doc.hosts = hosts.iter().map(|host| Host::parse(host).unwrap()).collect();
        std::sync::Arc::new(Site::build(doc).unwrap())
    };
    let table =
        SiteTable::build([named(1, &["a.example", "b.example"]), named(2, &["b.example", "c.example"])]);
    let find = |host: &str| table.find(host).map(|site| site.doc.environment.bits());
    assert_eq!([find("a.example"), find("b.example"), find("c.example")], [Some(1), Some(1), Some(2)]);
    assert_eq!([find("d.example"), find("A.example"), find("")], [None, None, None]);
    assert_eq!(table.hosts().count(), 3);
}

#[test]
fn a_route_is_found_by_its_id() {
    let site = site(&["/a", "/*"]);
    assert_eq!(site.route(RouteId::from_bits(2)).map(|route| route.path.to_string()), Some("/*".to_owned()));
    assert_eq!(site.route(RouteId::from_bits(3)), None);
}
