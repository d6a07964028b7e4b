//! R2 row by row: how each path is read, and which are refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mezusphere_model::path::{PathError, RequestPath, URI_LEN_MAX};

fn readings(raw: &str) -> Vec<String> {
    RequestPath::parse(raw).unwrap().readings().iter().map(|reading| reading.as_str().to_owned()).collect()
}

#[test]
fn a_plain_path_has_one_reading() {
    let rows = [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b.html", "/a/b.html"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/...", "/a/..."),
        ("/a/..b", "/a/..b"),
        ("/a+b", "/a+b"),
        ("/a%20b", "/a b"),
        ("/a:b@c,d=e&f$g!h*i'j(k)", "/a:b@c,d=e&f$g!h*i'j(k)"),
        ("/%61dmin", "/admin"),
        ("/%41DMIN", "/ADMIN"),
        ("/zo%C3%AB", "/zoë"),
        ("/%3Fa", "/?a"),
        ("/100%25", "/100%"),
        ("/a%2Bb", "/a+b"),
    ];
    for (raw, reading) in rows {
        assert_eq!(readings(raw), [reading], "{raw}");
    }
}

#[test]
fn r02_a_path_that_servers_read_differently_has_all_their_readings() {
    let rows: [(&str, &[&str]); 26] = [
        // Escaped slashes.
        ("/a%2fb", &["/a%2Fb", "/a/b"]),
        ("/a%2Fb", &["/a%2Fb", "/a/b"]),
        ("/a%2f%2561", &["/a%2F%61", "/a/%61", "/a/a"]),
        ("/a%2f%252e%252e", &["/a%2F%2e%2e", "/a/%2e%2e", "/a/..", "/"]),
        // Escaped backslashes.
        ("/a%5cb", &["/a\\b", "/a/b"]),
        ("/a/..%5cb", &["/a/..\\b", "/a/../b", "/b"]),
        // Dot segments, plain and escaped.
        ("/a/../b", &["/a/../b", "/b"]),
        ("/a/./b", &["/a/./b", "/a/b"]),
        ("/a/%2e%2E/b", &["/a/../b", "/b"]),
        ("/a/.%2e/b", &["/a/../b", "/b"]),
        ("/..", &["/..", "/"]),
        ("/a/..", &["/a/..", "/"]),
        ("/a/.", &["/a/.", "/a/"]),
        ("/../../b", &["/../../b", "/b"]),
        // Empty segments.
        ("//a", &["//a", "/a"]),
        ("/a///b", &["/a///b", "/a/b"]),
        ("/a//../b", &["/a//../b", "/a/b", "/a/../b", "/b"]),
        // Path parameters.
        ("/admin;x", &["/admin;x", "/admin"]),
        ("/admin;x=1;y/b", &["/admin;x=1;y/b", "/admin/b"]),
        ("/admin%3Bx/b", &["/admin;x/b", "/admin/b"]),
        ("/a/..;/b", &["/a/..;/b", "/a/../b", "/b"]),
        ("/;/b", &["/;/b", "//b", "/b"]),
        // Escapes of escapes.
        ("/a%252fb", &["/a%2fb", "/a/b"]),
        ("/a%25252fb", &["/a%252fb", "/a%2fb", "/a/b"]),
        ("/%252561", &["/%2561", "/%61", "/a"]),
        ("/a/%252e%252e/b", &["/a/%2e%2e/b", "/a/../b", "/b"]),
    ];
    for (raw, all) in rows {
        assert_eq!(readings(raw), all, "{raw}");
    }
}

#[test]
fn r02_dots_and_escaped_slashes_meet_in_every_order() {
    // Resolved before decoding, after it, and never.
    let all = readings("/a/../b%2f..%2fc");
    for reading in ["/a/../b%2F..%2Fc", "/b%2F..%2Fc", "/a/../b/../c", "/b/../c", "/c"] {
        assert!(all.contains(&reading.to_owned()), "{reading} in {all:?}");
    }
    assert_eq!(all.len(), 5);
}

#[test]
fn r02_what_is_never_allowed_is_refused() {
    use PathError::{BadCharacter, BadPercent, NotAbsolute, NotUtf8, TooLong, TooManyReadings};
    let long = format!("/{}", "x".repeat(URI_LEN_MAX));
    let many = "/a;b//%2f../%5c.%252f/c";
    let rows = [
        ("", NotAbsolute),
        ("*", NotAbsolute),
        ("a", NotAbsolute),
        ("http://shop.example/", NotAbsolute),
        ("%2fa", NotAbsolute),
        (&long, TooLong),
        ("/%", BadPercent),
        ("/%2", BadPercent),
        ("/%zz", BadPercent),
        ("/%2 f", BadCharacter),
        ("/%%32%66", BadPercent),
        ("/%u002f", BadPercent),
        ("/%+1", BadPercent),
        ("/%00", BadCharacter),
        ("/a%00.png", BadCharacter),
        ("/%0a", BadCharacter),
        ("/%0D%0a", BadCharacter),
        ("/%7f", BadCharacter),
        ("/%C2%80", BadCharacter),
        ("/%2500", BadCharacter),
        ("/%250d", BadCharacter),
        ("/%25250a", BadCharacter),
        ("/a\\b", BadCharacter),
        ("/a#b", BadCharacter),
        ("/a?b", BadCharacter),
        ("/a b", BadCharacter),
        ("/a\tb", BadCharacter),
        ("/a\0b", BadCharacter),
        ("/a\u{7f}", BadCharacter),
        ("/zoë", BadCharacter),
        ("/%ff", NotUtf8),
        ("/%c0%af", NotUtf8), // an overlong slash
        ("/%e0%80%af", NotUtf8),
        ("/%c0%ae%c0%ae/a", NotUtf8), // overlong dots
        ("/%ed%a0%80", NotUtf8),      // a surrogate
        ("/%c3", NotUtf8),
        (many, TooManyReadings),
    ];
    for (raw, why) in rows {
        assert_eq!(RequestPath::parse(raw), Err(why), "{raw:?}");
    }
}

#[test]
fn r23_the_longest_hostile_path_is_read_in_bounded_time() {
    let start = std::time::Instant::now();
    for piece in ["%252f", "/..", "..%2f", ";/", "%5c..", "//.", "%25", "%2525252f"] {
        let raw = format!("/{}", piece.repeat((URI_LEN_MAX - 1) / piece.len()));
        let _read = RequestPath::parse(&raw);
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
}
