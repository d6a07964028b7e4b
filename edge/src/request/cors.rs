//! Cross-origin requests (Fetch §3.2): which pages of other origins may read a route, by the route's own rule.
//!
//! Where a route has a rule, the edge speaks for it alone: it answers preflights, before anybody is asked who they are, because
//! browsers send them without credentials; and what an upstream says of CORS is replaced, on the edge's own answers too,
//! so that a page can read a 401.

use std::sync::Arc;

use ::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use ::http::{Method, StatusCode};
use mezusphere_model::route::RouteDoc;
use mezusphere_model::rules::CorsRule;

use super::inbound::Inbound;
use super::refusal::Refusal;
use super::respond::{self, Asker, Own};

/// Where every field of CORS begins.
const PREFIX: &str = "access-control-";

/// Methods that need no leave (Fetch §2.2.1); named all the same, for people who read along.
const ALWAYS: [&str; 3] = ["GET", "HEAD", "POST"];

/// The method that a preflight asks about; `None`: the request is none.
pub(crate) fn asks_about<'r>(method: &Method, headers: &'r HeaderMap) -> Option<&'r str> {
    if method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()
}

/// Answers a preflight for a route with this rule.
pub(crate) fn preflight(rule: &CorsRule, inbound: &Inbound<'_>, asker: Asker<'_>) -> Result<Own, Refusal> {
    let origin = inbound.headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    if !origin.is_some_and(|origin| rule.allows(origin)) {
        return Err(Refusal::OriginRefused);
    }
    let mut response = respond::empty(StatusCode::NO_CONTENT, asker);
    let headers = response.headers_mut();
    let mut methods = ALWAYS.to_vec();
    methods.extend(rule.methods.iter().map(String::as_str).filter(|method| !ALWAYS.contains(method)));
    respond::set(headers, ACCESS_CONTROL_ALLOW_METHODS, &methods.join(", "));
    if !rule.headers.is_empty() {
        respond::set(headers, ACCESS_CONTROL_ALLOW_HEADERS, &rule.headers.join(", "));
    }
    // Without it browsers keep an answer for 5 s.
    respond::set(headers, ACCESS_CONTROL_MAX_AGE, &rule.max_age_s.to_string());
    // The answer is the same whatever is asked about; who sees it cached by method (RFC 9110 §9.3.7) need not care.
    Ok(response)
}

/// What a route's rule says to the origin of one request, until it is written on the response.
pub(crate) struct Grant {
    route: Arc<RouteDoc>,
    /// The origin, if the rule allows it.
    origin: Option<HeaderValue>,
}

impl Grant {
    /// What the route's rule, if it has one, says to a request with these fields.
    pub(crate) fn of(route: &Arc<RouteDoc>, headers: &HeaderMap) -> Option<Self> {
        let rule = route.rules.cors.as_ref()?;
        let origin = headers.get(ORIGIN).filter(|origin| origin.to_str().is_ok_and(|text| rule.allows(text)));
        Some(Self { route: Arc::clone(route), origin: origin.cloned() })
    }

    /// Writes it on a response, in place of what is there.
    pub(crate) fn put(self, headers: &mut HeaderMap, is_preflight: bool) {
        let Some(rule) = &self.route.rules.cors else { return };
        if !is_preflight {
            let theirs: Vec<_> =
                headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
            for name in theirs {
                headers.remove(name);
            }
        }
        // With the origin or without: a cache must not give one origin what was meant for another.
        if !rule.is_any() {
            vary_by_origin(headers);
        }
        let Some(origin) = self.origin else { return };
        let any = HeaderValue::from_static("*");
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, if rule.is_any() { any } else { origin });
        if rule.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if !is_preflight && !rule.expose.is_empty() {
            respond::set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &rule.expose.join(", "));
        }
    }
}

fn vary_by_origin(headers: &mut HeaderMap) {
    let names = |field: &HeaderValue| {
        field.as_bytes().split(|byte| *byte == b',').any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(ORIGIN.as_str().as_bytes())
        })
    };
    if !headers.get_all(VARY).iter().any(names) {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezusphere_model::id::RouteId;
    use mezusphere_model::route::{AuthMode, PathMatch};
    use mezusphere_model::rules::Origin;
    use mezusphere_model::slug::Slug;

    fn route(rule: CorsRule) -> Arc<RouteDoc> {
        let path = PathMatch::parse("/*").unwrap();
        let mut route =
            RouteDoc::new(RouteId::from_bits(1), path, AuthMode::Public, Slug::parse("default").unwrap());
        route.rules.cors = Some(rule);
        Arc::new(route)
    }

    fn rule(origins: &[&str]) -> CorsRule {
        let origins = origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        CorsRule { origins, ..CorsRule::default() }
    }

    /// What a response with `fields` becomes for a request from `origin`.
    fn put(
        rule: CorsRule,
        origin: Option<&'static str>,
        fields: &[(&'static str, &'static str)],
    ) -> HeaderMap {
        let map = |fields: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, HeaderValue::from_static(value));
            }
            map
        };
        let asked = map(&origin.map(|origin| ("origin", origin)).into_iter().collect::<Vec<_>>());
        let mut response = map(fields);
        Grant::of(&route(rule), &asked).unwrap().put(&mut response, false);
        response
    }

    #[test]
    fn an_origin_of_the_rule_is_named_and_no_other() {
        let allowed = "https://app.example";
        let said = put(rule(&[allowed]), Some(allowed), &[]);
        assert_eq!(
            (&said["access-control-allow-origin"], &said["vary"]),
            (&allowed.parse().unwrap(), &"origin".parse().unwrap())
        );
        assert!(!said.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        for other in ["https://app.example:8443", "http://app.example", "https://x.app.example", "null", ""] {
            let said = put(rule(&[allowed]), Some(other), &[]);
            assert!(!said.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{other}");
            assert_eq!(said["vary"], "origin", "{other}: caches must tell them apart");
        }
        assert_eq!(put(rule(&[allowed]), None, &[])["vary"], "origin");
    }

    #[test]
    fn what_an_upstream_says_of_cors_is_replaced() {
        let theirs = [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("Access-Control-Expose-Headers", "x-secret"),
            ("access-control-allow-private-network", "true"),
        ];
        let theirs = theirs.map(|(name, value)| {
            (if name.starts_with('A') { "access-control-expose-headers" } else { name }, value)
        });
        let said = put(rule(&["https://app.example"]), Some("https://evil.example"), &theirs);
        assert!(said.keys().all(|name| !name.as_str().starts_with(PREFIX)), "{said:?}");
    }

    #[test]
    fn an_upstreams_vary_is_kept_and_origin_added_once() {
        let rows = [
            (vec![("vary", "accept-encoding")], vec!["accept-encoding", "origin"]),
            (vec![("vary", "Accept, Origin")], vec!["Accept, Origin"]),
            (vec![("vary", "*")], vec!["*"]),
        ];
        for (fields, wanted) in rows {
            let said = put(rule(&["https://app.example"]), None, &fields);
            assert_eq!(said.get_all(VARY).iter().collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn every_origin_gets_a_star_and_caches_need_not_tell_them_apart() {
        let said = put(rule(&["*"]), Some("https://any.example"), &[]);
        assert_eq!(said["access-control-allow-origin"], "*");
        assert!(!said.contains_key(VARY));
    }

    #[test]
    fn only_options_with_an_origin_and_a_method_is_a_preflight() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        assert_eq!(asks_about(&Method::OPTIONS, &headers), None);
        headers.insert(ORIGIN, HeaderValue::from_static("https://app.example"));
        assert_eq!(asks_about(&Method::OPTIONS, &headers), Some("PUT"));
        assert_eq!(asks_about(&Method::GET, &headers), None);
    }
}
