//! What a route's rules make of a request on its way to the upstream, and of the response on its way back.
//!
//! Pure functions. They run after the second decision, on what it was made on, and change nothing about it. Control
//! refuses to store a rule that touches what is ours, or how messages are framed; here such a rule does nothing, so
//! that a mistake there opens nothing here (R4, R5, R9).

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use mezusphere_model::header as names;
use mezusphere_model::path::RequestPath;
use mezusphere_model::rules::{HeaderRules, PathRule, RouteRules};
use tunnel_proto::headers;

/// Fields that no rule touches, beside ours, those that tell the client's address and those of one connection: they
/// frame the message, say where it goes, or belong to a handshake.
const UNTOUCHABLE: [HeaderName; 12] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::TRAILER,
    header::EXPECT,
    header::RANGE,
    header::HOST,
    header::COOKIE,
    header::SET_COOKIE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_VERSION,
];

/// A target that the rule cannot be carried out on without the risk that the upstream reads it as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path cannot be rewritten: an upstream might read it as leading elsewhere")]
pub(super) struct Unsafe;

/// The target that the upstream is asked for. The query stays as it is.
pub(super) fn target(rule: &PathRule, raw: &str) -> Result<String, Unsafe> {
    let (path, query) = match raw.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    };
    let path = rule.apply(path).ok_or(Unsafe)?;
    let mut path: Cow<'_, str> = if path.starts_with('/') { path } else { format!("/{path}").into() };
    // It was readable before, so it is now, unless the rule made something new of it.
    RequestPath::parse(&path).map_err(|_| Unsafe)?;
    if let Some(query) = query {
        let path = path.to_mut();
        path.push('?');
        path.push_str(query);
    }
    Ok(path.into_owned())
}

/// Changes a request's fields, after ours were set.
pub(super) fn request(rules: &RouteRules, headers: &mut HeaderMap) {
    fields(&rules.request_headers, headers);
    if let Some(host) = &rules.upstream_host
        && let Ok(host) = HeaderValue::from_str(host)
    {
        headers.insert(header::HOST, host);
    }
}

/// Changes a response's fields, after the upstream's were stripped.
pub(super) fn response(rules: &RouteRules, headers: &mut HeaderMap) {
    fields(&rules.response_headers, headers);
}

fn fields(rules: &HeaderRules, headers: &mut HeaderMap) {
    for name in rules.remove.iter().filter_map(|name| allowed(name)) {
        headers.remove(name);
    }
    for rule in &rules.set {
        if let (Some(name), Ok(value)) = (allowed(&rule.name), HeaderValue::from_str(&rule.value)) {
            headers.insert(name, value);
        }
    }
}

/// The name, if a rule may touch it.
fn allowed(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let text = name.as_str();
    let is_ours = names::is_reserved(text) || names::is_forwarding(text);
    let is_framing = headers::is_hop_by_hop(text) || UNTOUCHABLE.contains(&name);
    (!is_ours && !is_framing && !names::is_ambiguous(text)).then_some(name)
}

#[cfg(test)]
mod tests {
    use mezusphere_model::rules::HeaderValueRule;
    use proptest::prelude::*;

    use super::*;

    fn strip(prefix: &str) -> PathRule {
        PathRule::Strip { prefix: prefix.to_owned() }
    }

    fn replace(prefix: &str, with: &str) -> PathRule {
        PathRule::Replace { prefix: prefix.to_owned(), with: with.to_owned() }
    }

    #[test]
    fn a_prefix_is_stripped_or_replaced_on_whole_segments_and_the_query_stays() {
        let rows = [
            (strip("/api"), "/api/v1/a?x=1&y=%2f", Ok("/v1/a?x=1&y=%2f")),
            (strip("/api"), "/api", Ok("/")),
            (strip("/api"), "/api?x", Ok("/?x")),
            (strip("/api"), "/api/", Ok("/")),
            (strip("/api"), "/api//evil.example/x", Ok("/evil.example/x")),
            (strip("/api"), "/apis/v1", Err(Unsafe)),
            (strip("/api"), "/api/../secret", Err(Unsafe)),
            (strip("/api"), "/api/%2e%2e/secret", Err(Unsafe)),
            (replace("/old", "/new/v2"), "/old/a%20b?", Ok("/new/v2/a%20b?")),
            (replace("/old", "/new"), "/old", Ok("/new")),
        ];
        for (rule, raw, wanted) in rows {
            assert_eq!(target(&rule, raw).as_deref().map_err(|why| *why), wanted, "{rule:?} {raw}");
        }
    }

    proptest! {
        #[test]
        fn r02_a_rewritten_path_is_one_path_and_climbs_nowhere(
            rest in "(/|//|\\.|\\.\\.|%2e|%2E|%2f|%5c|;a|a|%41|~| ){0,12}",
            query in proptest::option::of("[a-z=&%/?]{0,12}"),
            with in proptest::option::of("(/[a-z]{1,5}){1,2}"),
        ) {
            let rule = with.as_deref().map_or_else(|| strip("/api"), |with| replace("/api", with));
            let raw = format!("/api{rest}{}", query.as_ref().map(|query| format!("?{query}")).unwrap_or_default());
            if let Ok(made) = target(&rule, &raw) {
                let (path, made_query) = made.split_once('?').map_or((made.as_str(), None), |(p, q)| (p, Some(q)));
                prop_assert!(path.starts_with('/') && !path.starts_with("//"), "{made}");
                prop_assert_eq!(made_query, query.as_deref());
                let parsed = RequestPath::parse(path).unwrap();
                for reading in parsed.readings().iter().chain(parsed.lenient()) {
                    prop_assert!(!reading.as_str().split('/').any(|segment| segment == ".."), "{made}");
                    if let Some(with) = &with {
                        let below = reading.as_str().strip_prefix(with.as_str());
                        prop_assert!(below.is_some_and(|below| below.is_empty() || below.starts_with('/')), "{made}");
                    }
                }
            }
        }

        #[test]
        fn r04_r05_r10_no_rule_touches_what_is_ours_or_how_a_message_is_framed(
            touched in proptest::collection::vec(
                "mezu[-_.](user[-_]id|roles|x)?|MEZU-ASSERTION|x[-_]forwarded[-_]for|forwarded|host|connection|te|\
                 upgrade|keep-alive|transfer[-_]encoding|content[-_]length|set-cookie|cookie|x_y|x-[a-z]{1,4}|expect",
                0..12,
            ),
            value in "[ -~]{0,12}",
        ) {
            let rules = HeaderRules {
                set: touched.iter().map(|name| HeaderValueRule { name: name.clone(), value: value.clone() }).collect(),
                remove: touched.clone(),
            };
            let rules = RouteRules { request_headers: rules.clone(), response_headers: rules, ..RouteRules::default() };
            let mut before = HeaderMap::new();
            headers::set_identity(&mut before, None);
            before.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9"));
            before.insert("host", HeaderValue::from_static("shop.example"));
            before.insert("content-length", HeaderValue::from_static("5"));
            for apply in [request, response] {
                let mut after = before.clone();
                apply(&rules, &mut after);
                for (name, value) in &before {
                    prop_assert_eq!(after.get_all(name).iter().collect::<Vec<_>>(), [value]);
                }
                for name in after.keys().filter(|name| !before.contains_key(*name)) {
                    prop_assert!(name.as_str().starts_with("x-") && !names::is_forwarding(name.as_str()), "{name}");
                    prop_assert!(!names::is_ambiguous(name.as_str()), "{name}");
                }
            }
        }
    }

    #[test]
    fn fields_are_removed_then_set_and_the_host_is_the_upstreams() {
        let set =
            |name: &str, value: &str| HeaderValueRule { name: name.to_owned(), value: value.to_owned() };
        let rules = RouteRules {
            upstream_host: Some("app.internal:8080".to_owned()),
            request_headers: HeaderRules {
                set: vec![set("x-tier", "gold"), set("accept-language", "en")],
                remove: vec!["x-debug".to_owned()],
            },
            response_headers: HeaderRules { set: Vec::new(), remove: vec!["server".to_owned()] },
            ..RouteRules::default()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-debug", "1"), ("x-debug", "2"), ("accept-language", "de"), ("host", "shop.example")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        request(&rules, &mut headers);
        assert!(!headers.contains_key("x-debug"));
        assert_eq!(headers.get_all("accept-language").iter().collect::<Vec<_>>(), ["en"]);
        assert_eq!(
            (&headers["x-tier"], &headers["host"]),
            (&"gold".parse().unwrap(), &"app.internal:8080".parse().unwrap())
        );
        let mut headers = HeaderMap::new();
        headers.insert("server", HeaderValue::from_static("Werkzeug"));
        response(&rules, &mut headers);
        assert!(headers.is_empty());
    }
}
