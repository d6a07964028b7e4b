//! What both ends strip, and what a workload sees in its place.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use mezusphere_model::Timestamp;
use mezusphere_model::header::{IDENTITY, REMOTE_USER, X_FORWARDED_USER};
use mezusphere_model::id::{EnvironmentId, ProjectId, SessionId, UserId};
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::slug::Name;
use proptest::prelude::*;
use tunnel_proto::assertion::{Audience, Claims};
use tunnel_proto::headers::{
    set_identity, strip_request, strip_request_trailers, strip_response, strip_response_trailers,
};

fn map(rows: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in rows {
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn claims() -> Claims {
    let identity = Identity {
        subject: Subject::User(UserId::from_bits(3)),
        session: Some(SessionId::from_bits(4)),
        email: "ada@shop.example".to_owned(),
        name: "Zoë, \r\nmezu-roles: admin".to_owned(),
        roles: vec![Name::parse("a").unwrap(), Name::parse("b").unwrap()],
        permissions: vec![],
        methods: vec![Method::Password, Method::OneTimeCode],
        assurance: Assurance::Aal2,
        authenticated_at: Timestamp::from_seconds(0),
        claims: std::collections::BTreeMap::new(),
    };
    let audience = Audience { project: ProjectId::from_bits(1), environment: EnvironmentId::from_bits(2) };
    Claims::from_identity(&identity, "spiffe://mezu.internal", audience, Timestamp::from_seconds(0))
}

#[test]
fn r04_the_workload_sees_one_identity_and_it_is_ours() {
    for forged in [
        "mezu-user-id",
        "Mezu-User-Id",
        "MEZU-USER-ID",
        "mezu_user_id",
        "mezu-user_id",
        "mezu.user.id",
        "mezu~user-id",
        "mezu-user-email",
        "mezu_roles",
        "mezu-permissions",
        "mezu-assertion",
        "mezu-session-id",
        "mezu-auth-method",
        "mezu-anything-new",
    ] {
        let mut headers = map(&[(forged, "evil"), (forged, "evil again"), ("accept", "*/*")]);
        strip_request(&mut headers);
        assert_eq!(names(&headers), ["accept"], "{forged}");
        set_identity(&mut headers, Some((&claims(), "j.w.s")));
        assert_eq!(headers.get_all("mezu-user-id").iter().count(), 1);
        assert!(!format!("{headers:?}").contains("evil"));
    }
}

#[test]
fn r04_what_other_proxies_call_the_caller_by_is_never_a_clients_word() {
    let rows: Vec<(&str, &str)> =
        REMOTE_USER.iter().chain(&X_FORWARDED_USER).map(|name| (*name, "evil")).collect();
    for strip in [strip_request, strip_request_trailers] {
        let mut headers = map(&rows);
        headers.append("Remote-User", HeaderValue::from_static("evil again"));
        headers.append("accept", HeaderValue::from_static("*/*"));
        strip(&mut headers);
        assert_eq!(names(&headers), ["accept"]);
    }
}

#[test]
fn r04_each_identity_header_is_set_even_for_nobody() {
    let mut headers = map(&[("mezu-roles", "admin")]);
    set_identity(&mut headers, None);
    for name in IDENTITY {
        assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [""], "{name}");
    }
}

#[test]
fn identity_headers_read_as_the_design_says() {
    let mut headers = HeaderMap::new();
    set_identity(&mut headers, Some((&claims(), "j.w.s")));
    let rows = [
        ("mezu-user-id", UserId::from_bits(3).to_string()),
        ("mezu-user-email", "ada@shop.example".to_owned()),
        ("mezu-user-name", "Zo%C3%AB%2C %0D%0Amezu-roles: admin".to_owned()),
        ("mezu-auth-method", "pwd+otp".to_owned()),
        ("mezu-auth-time", "1970-01-01T00:00:00Z".to_owned()),
        ("mezu-roles", "a,b".to_owned()),
        ("mezu-permissions", String::new()),
        ("mezu-session-id", SessionId::from_bits(4).to_string()),
        ("mezu-assertion", "j.w.s".to_owned()),
    ];
    assert_eq!(headers.len(), rows.len());
    for (name, value) in rows {
        assert_eq!(headers[name], value, "{name}");
    }
}

#[test]
fn r04_connection_cannot_remove_ours_or_what_gives_the_rest_its_meaning() {
    let rows = "mezu-user-id, host, content-length, cookie, authorization, origin, x-mine , \u{1f}, ,close";
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_bytes(rows.replace('\u{1f}', "\t").as_bytes()).unwrap());
    for name in ["host", "content-length", "cookie", "authorization", "origin", "x-mine", "x-other"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    strip_request(&mut headers);
    set_identity(&mut headers, None);
    assert!(!headers.contains_key("x-mine"));
    for name in ["host", "content-length", "cookie", "authorization", "origin", "x-other", "mezu-user-id"] {
        assert!(headers.contains_key(name), "{name}");
    }
}

#[test]
fn r09_hop_by_hop_fields_go_neither_way() {
    let hop = [
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-hop", "1"),
        ("x-kept", "1"),
    ];
    for strip in [strip_request, strip_response] {
        let mut headers = map(&hop);
        strip(&mut headers);
        assert_eq!(names(&headers), ["x-kept"]);
    }
}

#[test]
fn r09_a_workload_cannot_speak_with_our_headers() {
    let mut headers =
        map(&[("mezu-user-id", "x"), ("Mezu_Roles", "x"), ("set-cookie", "a=b"), ("x_own", "1")]);
    strip_response(&mut headers);
    assert_eq!(names(&headers), ["set-cookie", "x_own"]);
}

#[test]
fn r10_what_a_client_says_about_its_address_is_dropped() {
    let mut headers = map(&[
        ("forwarded", "for=1.2.3.4"),
        ("x-forwarded-for", "1.2.3.4"),
        ("X-Forwarded-Host", "evil"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "1"),
        ("x-real-ip", "1.2.3.4"),
        ("x-client-ip", "1.2.3.4"),
        ("accept", "*/*"),
    ]);
    strip_request(&mut headers);
    assert_eq!(names(&headers), ["accept"]);
}

#[test]
fn r05_a_name_a_workload_could_fold_to_another_is_dropped() {
    let mut headers =
        map(&[("x_forwarded_for", "1"), ("content_length", "1"), ("a.b", "1"), ("x-fine-2", "1")]);
    strip_request(&mut headers);
    assert_eq!(names(&headers), ["x-fine-2"]);
}

#[test]
fn r04_trailers_carry_neither_identity_nor_what_belongs_in_a_head() {
    let rows = [
        ("mezu-user-id", "evil"),
        ("x-forwarded-for", "1"),
        ("mezu_roles", "admin"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("host", "evil"),
        ("authorization", "x"),
        ("set-cookie", "x"),
        ("connection", "x"),
        ("grpc-status", "0"),
    ];
    let mut trailers = map(&rows);
    strip_request_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["grpc-status"]);
    let mut trailers = map(&rows);
    strip_response_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["grpc-status", "x-forwarded-for"]);
}

proptest! {
    #[test]
    fn r04_no_spelling_of_any_name_survives_that_folds_to_ours(
        prefix in "[mM][eE][zZ][uU]", separator in "[-_.!#$%&'*+^`|~]", rest in "[a-zA-Z0-9_.-]{0,20}",
    ) {
        let name = format!("{prefix}{separator}{rest}");
        for strip in [strip_request, strip_response, strip_request_trailers, strip_response_trailers] {
            let mut headers = map(&[(&name, "evil")]);
            strip(&mut headers);
            prop_assert!(headers.is_empty(), "{name}");
        }
    }
}
