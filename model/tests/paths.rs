//! R2 from the outside: whatever the router lets through as public is public to the upstream, however it reads paths.
//!
//! The upstreams here are written from what real ones document, not from the router's own steps.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod shop;

use mezusphere_model::id::RouteId;
use mezusphere_model::path::{READINGS_MAX, Reading, RequestPath};
use mezusphere_model::route::{AuthMode, PathMatch, RouteDoc, Site};
use mezusphere_model::slug::Slug;
use proptest::collection::vec;
use proptest::prelude::*;

use shop::publishing;

fn route(id: u128, path: PathMatch, auth: AuthMode) -> RouteDoc {
    RouteDoc::new(RouteId::from_bits(id), path, auth, Slug::parse("web").unwrap())
}

fn site(routes: Vec<RouteDoc>) -> Site {
    Site::build(publishing(routes)).unwrap()
}

/// All is public but what lies under `/admin`.
fn open_but_admin() -> Site {
    site(vec![
        route(1, PathMatch::Prefix("/".to_owned()), AuthMode::Public),
        route(2, PathMatch::Prefix("/admin".to_owned()), AuthMode::Required),
    ])
}

/// All is protected but what lies under `/public`.
fn closed_but_public() -> Site {
    site(vec![
        route(1, PathMatch::Prefix("/".to_owned()), AuthMode::Required),
        route(2, PathMatch::Prefix("/public".to_owned()), AuthMode::Public),
    ])
}

/// Percent-decoding of whole octets, as C servers do it: what is no escape stays.
fn decode(path: &[u8]) -> Vec<u8> {
    let digit = |at: usize| path.get(at).and_then(|octet| char::from(*octet).to_digit(16));
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(octet) = path.get(at) {
        if let (b'%', Some(high), Some(low)) = (octet, digit(at + 1), digit(at + 2)) {
            out.push(u8::try_from(high * 16 + low).unwrap());
            at += 3;
        } else {
            out.push(*octet);
            at += 1;
        }
    }
    out
}

/// Segments with dots resolved and, if asked, empty ones dropped.
fn normalize(path: &[u8], keep_empty: bool) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for segment in path.split(|octet| *octet == b'/').skip(1) {
        match segment {
            b"." => {}
            b".." => {
                out.pop();
            }
            b"" if !keep_empty => {}
            name => out.push(name.to_vec()),
        }
    }
    out
}

/// Segments as they are.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|octet| *octet == b'/').skip(1).map(<[u8]>::to_vec).collect()
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut inside = false;
    for octet in path {
        inside = *octet == b';' || (inside && *octet != b'/');
        if !inside {
            out.push(*octet);
        }
    }
    out
}

fn backslashes_as_slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|octet| if *octet == b'\\' { b'/' } else { *octet }).collect()
}

/// Only escapes of unreserved characters are decoded: RFC 3986 §6.2.2.2 makes the two forms one path.
fn unreserved_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let escape = &path[at..path.len().min(at + 3)];
        match decode(escape).as_slice() {
            [octet] if escape.len() == 3 && (octet.is_ascii_alphanumeric() || b"-._~".contains(octet)) => {
                out.push(*octet);
                at += 3;
            }
            _ => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}

type Upstream = (&'static str, fn(&[u8]) -> Vec<Vec<u8>>);

/// How servers come from what is on the wire to what they serve.
const UPSTREAMS: [Upstream; 16] = [
    ("splits and nothing else", |path| split(&unreserved_decoded(path))),
    ("resolves dots without decoding", |path| normalize(&unreserved_decoded(path), true)),
    ("splits, then decodes each segment", |path| split(path).iter().map(|segment| decode(segment)).collect()),
    ("decodes, then resolves (nginx)", |path| normalize(&decode(path), false)),
    ("decodes, then resolves, keeps empty segments", |path| normalize(&decode(path), true)),
    ("decodes and does not resolve", |path| split(&decode(path))),
    ("resolves, then decodes", |path| {
        split(&decode(&{
            let segments = normalize(&unreserved_decoded(path), false);
            segments.iter().fold(Vec::new(), |mut all, segment| {
                all.push(b'/');
                all.extend_from_slice(segment);
                all
            })
        }))
    }),
    ("drops parameters, decodes, resolves (Tomcat)", |path| {
        normalize(&decode(&without_parameters(path)), false)
    }),
    ("decodes, drops parameters, resolves", |path| normalize(&without_parameters(&decode(path)), false)),
    ("takes backslashes for slashes (IIS)", |path| normalize(&backslashes_as_slashes(&decode(path)), false)),
    ("decodes twice", |path| normalize(&decode(&decode(path)), false)),
    ("decodes twice, on Windows, behind Tomcat", |path| {
        normalize(&backslashes_as_slashes(&decode(&decode(&without_parameters(path)))), false)
    }),
    ("decodes each segment and takes upper case for lower (Express)", |path| {
        in_lower_case(&split(path).iter().map(|segment| decode(segment)).collect::<Vec<_>>())
    }),
    ("drops parameters, decodes, resolves, on a file system that folds case", |path| {
        in_lower_case(&normalize(&decode(&without_parameters(path)), false))
    }),
    (
        "resolves, drops dots and blanks at ends, takes backslashes for slashes, folds case (Windows)",
        |path| in_lower_case(&without_ends(&normalize(&backslashes_as_slashes(&decode(path)), false))),
    ),
    ("drops blanks at ends, then resolves", |path| {
        let segments: Vec<Vec<u8>> =
            split(&decode(path)).iter().map(|it| it.trim_ascii_end().to_vec()).collect();
        normalize(&[b"/".as_slice(), &segments.join(&b'/')].concat(), false)
    }),
];

fn in_lower_case(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    segments.iter().map(|segment| segment.to_ascii_lowercase()).collect()
}

fn without_ends(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let is_end = |octet: &u8| *octet == b'.' || *octet == b' ';
    let kept =
        |segment: &Vec<u8>| segment.iter().rposition(|octet| !is_end(octet)).map_or(0, |last| last + 1);
    segments.iter().map(|segment| segment[..kept(segment)].to_vec()).collect()
}

/// Whether an upstream that has split a path serves it as something below `/name`.
fn below(segments: &[Vec<u8>], name: &str) -> bool {
    segments.iter().find(|segment| !segment.is_empty()).is_some_and(|first| first == name.as_bytes())
}

/// Whether the router lets a stranger through to it.
fn is_public(site: &Site, path: &str) -> bool {
    RequestPath::parse(path)
        .is_ok_and(|path| site.find(&path, "GET").is_ok_and(|route| route.auth == AuthMode::Public))
}

/// Paths out of the pieces that attacks are made of.
fn hostile() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(
        [
            "/",
            "/",
            "/",
            "//",
            "admin",
            "public",
            "admin",
            "public",
            "a",
            ".",
            "..",
            "..",
            "%2f",
            "%2F",
            "%5c",
            "%2e",
            "%2E%2e",
            ";",
            ";x=1",
            "%3b",
            "%252f",
            "%252e",
            "%255c",
            "%253b",
            "%61dmin",
            "%70ublic",
            "%2561dmin",
            "%25",
            "%2525",
            "+",
            "%20",
            "%c3%ab",
            "~",
            "%7e",
            "...",
            "..;",
            "ADMIN",
            "Public",
            "%41dmin",
            "Admin.",
            "admin%20",
            "..%20",
        ]
        .as_slice(),
    );
    vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn check(path: &str) -> Result<(), TestCaseError> {
    let (open, closed) = (open_but_admin(), closed_but_public());
    for (upstream, read) in UPSTREAMS {
        let segments = read(path.as_bytes());
        if is_public(&open, path) {
            prop_assert!(!below(&segments, "admin"), "{path} is public, but admin to one that {upstream}");
        }
        if is_public(&closed, path) {
            prop_assert!(below(&segments, "public"), "{path} is public, but not to one that {upstream}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn r02_what_the_router_calls_public_is_public_to_every_upstream(path in hostile()) {
        check(&path)?;
    }

    #[test]
    fn r24_no_text_makes_the_reader_panic_and_every_reading_is_sane(text in "/?\\PC{0,200}|[/%.;2ef5c]{0,60}") {
        if let Ok(path) = RequestPath::parse(&text) {
            let readings = path.readings();
            prop_assert!(!readings.is_empty() && readings.len() <= READINGS_MAX);
            for (at, reading) in readings.iter().enumerate() {
                prop_assert!(reading.as_str().starts_with('/'));
                prop_assert!(!reading.as_str().contains(char::is_control));
                prop_assert!(!readings[..at].contains(reading), "no reading twice");
            }
        }
    }

    #[test]
    fn r02_a_path_of_plain_characters_is_read_as_it_is(path in "(/[A-Za-z0-9_~!$&'()*+,=:@-]{1,10}){0,6}/") {
        let read = RequestPath::parse(&path).unwrap();
        prop_assert_eq!(read.readings().iter().map(Reading::as_str).collect::<Vec<_>>(), [path.as_str()]);
    }
}

#[test]
fn r02_attacks_that_worked_elsewhere_do_not_work_here() {
    // Each was once a way around a proxy's rule for /admin, or out of the one directory it let through.
    for path in [
        "/admin",
        "/admin/",
        "/admin/users",
        "//admin",
        "///admin",
        "/./admin",
        "/.//admin",
        "/a/../admin",
        "/a/%2e%2e/admin",
        "/a/.%2e/admin",
        "/a/%2e./admin",
        "/a/..%2fadmin",
        "/a%2f..%2fadmin",
        "/%2e/admin",
        "/%2fadmin",
        "/%2Fadmin",
        "/%5cadmin",
        "/a/..%5cadmin",
        "/%61dmin",
        "/%61%64%6d%69%6e",
        "/admin%2f",
        "/admin%2fusers",
        "/admin;",
        "/admin;a=b",
        "/admin;/users",
        "/;/admin",
        "/;a=b/admin",
        "/a/..;/admin",
        "/a/..;x/admin",
        "/..;/admin",
        "/admin%3b",
        "/admin%3b/users",
        "/%252fadmin",
        "/a/%252e%252e/admin",
        "/a/..%252fadmin",
        "/a%252f..%252fadmin",
        "/%2561dmin",
        "/%25%36%31dmin",
        "/admin%252fusers",
        "/admin%253b",
        "/a/%25252e%25252e/admin",
        "/public/..;/admin",
        "/public/../admin",
    ] {
        assert!(!is_public(&open_but_admin(), path), "{path}");
        check(path).unwrap();
    }
    for path in [
        "/",
        "/publicity",
        "/public/..",
        "/public/../",
        "/public/../x",
        "/public/%2e%2e/x",
        "/public/..%2fx",
        "/public%2f..%2fx",
        "/public/..%5cx",
        "/public/..;/x",
        "/public/;/../../x",
        "/public/%252e%252e/x",
        "/public/..%252fx",
        "/public%252f..%252fx",
        "/public/./../x",
        "/public//../../x",
        "/public/a/../../x",
        "/PUBLIC",
        "/public;/../x",
        "/public%00",
        "/public/..%00/x",
    ] {
        assert!(!is_public(&closed_but_public(), path), "{path}");
        check(path).unwrap();
    }
}

#[test]
fn paths_that_people_use_are_let_through() {
    for path in [
        "/",
        "/a",
        "/a/b.html",
        "/a%20b",
        "/zo%C3%AB",
        "/a/b%2fc",
        "/a//b",
        "/100%25",
        "/x;v=1",
        "/a/../b",
        "/~ada",
        "/a+b",
    ] {
        assert!(is_public(&open_but_admin(), path), "{path}");
    }
    for path in
        ["/public", "/public/", "/public/a%2fb", "/public/a;v=1", "/%70ublic", "/public//a", "/public/%25"]
    {
        assert!(is_public(&closed_but_public(), path), "{path}");
    }
}
