//! Rules and limits of a route: what a request changes about them, how they are shown, and what to do about one that
//! cannot be carried out.
//!
//! Pure, like `check`. Whether a rule holds is the model's to say; here its words become the API's, and its errors get a next step.

use std::collections::BTreeMap;

use mezusphere_model::rules::{
    CorsRule, EdgeAnswer, HeaderRules, HeaderValueRule, Maintenance, Origin, OriginError, PathRule, Redirect,
    RedirectStatus, RouteLimits, RouteRules, RuleError,
};

use crate::api::types as t;
use crate::api::types::Change;
use crate::problem::{self, Refusal};

/// Why a change of rules cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRule {
    /// The rules it leads to cannot be carried out.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A redirect and maintenance at once.
    #[error("a route answers with a redirect or with maintenance, not with both")]
    TwoAnswers,
    /// A status that does not redirect.
    #[error("redirect: {0} is not one of 301, 302, 303, 307 and 308")]
    Status(u16),
    /// Not an origin.
    #[error("CORS: {0:?}: {1}")]
    Origin(String, OriginError),
}

impl From<BadRule> for Refusal {
    fn from(bad: BadRule) -> Self {
        let refusal = Self::new(&problem::ROUTE_RULE, bad.to_string());
        match next(&bad) {
            Some(next) => refusal.with_next(next),
            None => refusal,
        }
    }
}

/// What to do about it, where the sentence does not say so already.
fn next(bad: &BadRule) -> Option<&'static str> {
    Some(match bad {
        BadRule::TwoAnswers => {
            "give --no-redirect together with --maintenance, or --no-maintenance with --redirect"
        }
        BadRule::Status(_) => {
            "leave --redirect-status out for 307, or give 308 if the address has changed for good"
        }
        BadRule::Origin(..) => "write each --cors-origin as in https://app.example or http://localhost:3000",
        BadRule::Rule(why) => match why {
            RuleError::Path(_) => {
                "write the prefix as in the route's own path: /api, decoded, without a slash at its end"
            }
            RuleError::Uncovered(_) => {
                "give a prefix that the route's path begins with, or publish the paths below it as a route of their own"
            }
            RuleError::PrefixOfRegex => "write the route's path as a prefix (/api/*) to strip or replace one",
            RuleError::UpstreamHost(_) => {
                "give --upstream-host a name such as app.internal or app.internal:8080, without scheme and path"
            }
            RuleError::HeaderName(_) => "use letters, digits and hyphens: x-tenant",
            RuleError::HeaderReserved(_) => {
                "choose another name; who is signed in is told to the upstream in mezu- headers without a rule"
            }
            RuleError::HeaderForbidden(name, _) if name == "host" => "use --upstream-host",
            RuleError::HeaderForbidden(..) => "leave this header out, and let the application set it",
            RuleError::HeaderTwice(_) => "either set a header, once, or remove it",
            RuleError::HeaderValue(_) => {
                "write other characters percent-encoded, as in Zo%C3%AB, and no line breaks"
            }
            RuleError::HeaderOfCors(_) => {
                "change the --cors-… settings of the route instead, or drop them with --no-cors"
            }
            RuleError::Redirect(_) => {
                "write a URL or a path, as in https://new.example{path}{query} or /elsewhere"
            }
            RuleError::CorsOrigins => "name who may read it with --cors-origin https://app.example",
            RuleError::CorsWildcard => {
                "name the origins, methods and headers one by one, or give --cors-credentials false"
            }
            RuleError::CorsToken(_) => "write names such as PUT or x-trace, one for each flag",
            RuleError::Rate => "write a rate as 600/min, 10/s:50 or 5000/min@caller",
            RuleError::Total { .. } => {
                "give a longer --total-timeout, a shorter --head-timeout, or --total-timeout none"
            }
            RuleError::ClaimName(_) => "write the claim's name as the user's record has it: plan, or team-id",
            RuleError::ClaimValues(_) => "write the accepted values one by one: plan=pro,team",
            RuleError::AuthAge => "write a time such as 15m; leave it out to accept any sign-in",
            RuleError::TooManyNetworks => {
                "write wider networks, or guard the application with a role instead"
            }
            RuleError::HeaderValueLength(_)
            | RuleError::HeaderListLength
            | RuleError::TooMany(_)
            | RuleError::TooManyClaims
            | RuleError::RedirectLength
            | RuleError::Maintenance
            | RuleError::RetryAfter
            | RuleError::CorsAge
            | RuleError::BodyMax
            | RuleError::Quota => return None,
        },
    })
}

/// `now` with what `change` changes. Whether the result holds is seen once it stands on its route.
pub(super) fn changed(now: RouteRules, change: &t::RuleChanges) -> Result<RouteRules, BadRule> {
    Ok(RouteRules {
        path: change.path.clone().try_map(|rewrite| Ok::<_, BadRule>(path_rule(rewrite)))?.applied(now.path),
        upstream_host: change
            .upstream_host
            .clone()
            .try_map(|host| Ok::<_, BadRule>(host.to_ascii_lowercase()))?
            .applied(now.upstream_host),
        request_headers: headers(now.request_headers, &change.request_headers)?,
        response_headers: headers(now.response_headers, &change.response_headers)?,
        answer: answer(now.answer, change)?,
        cors: match &change.cors {
            Change::Keep => now.cors,
            Change::Clear => None,
            Change::Set(fields) => Some(cors(now.cors.unwrap_or_default(), fields)?),
        },
    })
}

/// The same of limits.
pub(super) fn limits_changed(now: RouteLimits, change: &t::LimitChanges) -> RouteLimits {
    let rate = change.rate.applied(now.rate.map(Into::into));
    RouteLimits { body_max: change.body_max.applied(now.body_max), rate: rate.map(Into::into) }
}

fn path_rule(rewrite: t::Rewrite) -> PathRule {
    match rewrite.with {
        None => PathRule::Strip { prefix: rewrite.prefix },
        Some(with) => PathRule::Replace { prefix: rewrite.prefix, with },
    }
}

fn headers(now: HeaderRules, change: &Change<t::HeaderChanges>) -> Result<HeaderRules, BadRule> {
    let given = match change {
        Change::Keep => return Ok(now),
        Change::Clear => return Ok(HeaderRules::default()),
        Change::Set(given) => given,
    };
    let mut rules = by_name(now);
    let mut seen: Vec<String> = Vec::with_capacity(given.len());
    for (name, rule) in given {
        let name = name.to_ascii_lowercase();
        if seen.contains(&name) {
            return Err(RuleError::HeaderTwice(name).into());
        }
        match rule {
            Some(rule) => rules.insert(name.clone(), rule.clone()),
            None => rules.remove(&name),
        };
        seen.push(name);
    }
    let mut headers = HeaderRules::default();
    for (name, rule) in rules {
        match rule {
            t::HeaderRule::Set(value) => headers.set.push(HeaderValueRule { name, value }),
            t::HeaderRule::Remove => headers.remove.push(name),
        }
    }
    Ok(headers)
}

fn by_name(headers: HeaderRules) -> BTreeMap<String, t::HeaderRule> {
    let set = headers.set.into_iter().map(|rule| (rule.name, t::HeaderRule::Set(rule.value)));
    set.chain(headers.remove.into_iter().map(|name| (name, t::HeaderRule::Remove))).collect()
}

fn answer(now: Option<EdgeAnswer>, change: &t::RuleChanges) -> Result<Option<EdgeAnswer>, BadRule> {
    let (redirect, maintenance) = match now {
        None => (None, None),
        Some(EdgeAnswer::Redirect(redirect)) => (Some(redirect), None),
        Some(EdgeAnswer::Maintenance(maintenance)) => (None, Some(maintenance)),
    };
    let status = redirect.as_ref().map(|redirect| redirect.status);
    let asked = change.redirect.clone().try_map(|asked| {
        let status = match asked.status {
            Some(status) => RedirectStatus::try_from(status).map_err(|_| BadRule::Status(status))?,
            None => status.unwrap_or_default(),
        };
        Ok::<_, BadRule>(Redirect { to: asked.to, status })
    })?;
    let closed = change.maintenance.clone().try_map(|asked| {
        Ok::<_, BadRule>(Maintenance { message: asked.message, retry_after_s: asked.retry_after_s })
    })?;
    match (asked.applied(redirect), closed.applied(maintenance)) {
        (None, None) => Ok(None),
        (Some(redirect), None) => Ok(Some(EdgeAnswer::Redirect(redirect))),
        (None, Some(maintenance)) => Ok(Some(EdgeAnswer::Maintenance(maintenance))),
        (Some(_), Some(_)) => Err(BadRule::TwoAnswers),
    }
}

fn cors(mut rule: CorsRule, change: &t::CorsChanges) -> Result<CorsRule, BadRule> {
    let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
    if let Some(origins) = &change.origins {
        let read = |text: &String| Origin::parse(text).map_err(|why| BadRule::Origin(text.clone(), why));
        rule.origins = origins.iter().map(read).collect::<Result<_, _>>()?;
    }
    if let Some(methods) = &change.methods {
        rule.methods = methods.iter().map(|method| method.to_ascii_uppercase()).collect();
    }
    if let Some(names) = &change.headers {
        rule.headers = lower(names);
    }
    if let Some(names) = &change.expose {
        rule.expose = lower(names);
    }
    rule.credentials = change.credentials.unwrap_or(rule.credentials);
    rule.max_age_s = change.max_age_s.unwrap_or(rule.max_age_s);
    Ok(rule)
}

/// Rules as they are shown.
pub(super) fn view(rules: RouteRules) -> t::Rules {
    let (redirect, maintenance) = match rules.answer {
        None => (None, None),
        Some(EdgeAnswer::Redirect(Redirect { to, status })) => {
            (Some(t::Redirect { to, status: Some(status.into()) }), None)
        }
        Some(EdgeAnswer::Maintenance(Maintenance { message, retry_after_s })) => {
            (None, Some(t::Maintenance { message, retry_after_s }))
        }
    };
    t::Rules {
        path: rules.path.map(|rule| match rule {
            PathRule::Strip { prefix } => t::Rewrite { prefix, with: None },
            PathRule::Replace { prefix, with } => t::Rewrite { prefix, with: Some(with) },
        }),
        upstream_host: rules.upstream_host,
        request_headers: by_name(rules.request_headers),
        response_headers: by_name(rules.response_headers),
        redirect,
        maintenance,
        cors: rules.cors.map(|rule| t::Cors {
            origins: rule.origins.iter().map(ToString::to_string).collect(),
            methods: rule.methods,
            headers: rule.headers,
            expose: rule.expose,
            credentials: rule.credentials,
            max_age_s: rule.max_age_s,
        }),
    }
}

/// Limits as they are shown.
pub(super) fn limits_view(limits: RouteLimits) -> t::Limits {
    t::Limits { body_max: limits.body_max, rate: limits.rate.map(Into::into) }
}

/// Parts of header names that are usually followed by a secret.
const SECRETIVE: [&str; 6] = ["authorization", "token", "secret", "password", "api-key", "credential"];

/// Sentences about rules that are allowed but probably not meant.
pub(super) fn warnings(rules: &RouteRules) -> Vec<String> {
    let is_secretive = |name: &&str| SECRETIVE.iter().any(|part| name.contains(part));
    let set = rules.request_headers.set.iter().map(|rule| rule.name.as_str());
    let secret = set.filter(is_secretive).map(|name| {
        format!(
            "the value of {name} is no secret here: whoever may see routes sees it, and edges and warpgates keep it on disk"
        )
    });
    secret.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(json: serde_json::Value) -> t::RuleChanges {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_left_out_stays_and_null_clears() {
        let all = changes(serde_json::json!({
            "path": { "prefix": "/api" },
            "upstream_host": "App.Internal",
            "request_headers": { "X-Tenant": { "set": "shop" }, "referer": "remove" },
            "redirect": { "to": "/x", "status": 301 },
            "cors": { "origins": ["https://a.example"], "methods": ["put"], "max_age_s": 600 },
        }));
        let full = changed(RouteRules::default(), &all).unwrap();
        assert_eq!(full.upstream_host.as_deref(), Some("app.internal"));
        assert_eq!(changed(full.clone(), &t::RuleChanges::default()).unwrap(), full);
        // One header, one field of the CORS rule, the target without its status.
        let some = changes(serde_json::json!({
            "request_headers": { "x-tenant": null, "x-new": { "set": "1" } },
            "redirect": { "to": "/y" },
            "cors": { "credentials": true },
        }));
        let rules = changed(full.clone(), &some).unwrap();
        let names: Vec<_> = rules.request_headers.names().collect();
        assert_eq!(names, ["x-new", "referer"]);
        assert_eq!(
            rules.answer,
            Some(EdgeAnswer::Redirect(Redirect {
                to: "/y".to_owned(),
                status: RedirectStatus::MovedPermanently
            }))
        );
        let cors = rules.cors.unwrap();
        assert_eq!((cors.methods, cors.max_age_s, cors.credentials), (vec!["PUT".to_owned()], 600, true));
        let none = changes(serde_json::json!({
            "path": null, "upstream_host": null, "request_headers": null, "redirect": null, "cors": null,
        }));
        assert_eq!(changed(full, &none).unwrap(), RouteRules::default());
    }

    #[test]
    fn a_route_has_one_answer() {
        let redirect = changes(serde_json::json!({ "redirect": { "to": "/x" } }));
        let maintenance = changes(serde_json::json!({ "maintenance": { "message": "Soon." } }));
        let redirected = changed(RouteRules::default(), &redirect).unwrap();
        assert_eq!(changed(redirected.clone(), &maintenance), Err(BadRule::TwoAnswers));
        let both = changes(serde_json::json!({ "redirect": null, "maintenance": { "message": "Soon." } }));
        assert!(matches!(
            changed(redirected.clone(), &both).unwrap().answer,
            Some(EdgeAnswer::Maintenance(_))
        ));
        // To clear what is not there takes nothing else away.
        let open = changes(serde_json::json!({ "maintenance": null }));
        assert_eq!(changed(redirected.clone(), &open).unwrap(), redirected);
    }

    #[test]
    fn what_is_shown_may_be_sent_back() {
        let asked = changes(serde_json::json!({
            "path": { "prefix": "/a", "with": "/b" },
            "response_headers": { "server": "remove", "x-frame-options": { "set": "DENY" } },
            "maintenance": { "message": "Soon.", "retry_after_s": 60 },
            "cors": { "origins": ["*"] },
        }));
        let rules = changed(RouteRules::default(), &asked).unwrap();
        let shown = serde_json::to_value(view(rules.clone())).unwrap();
        assert_eq!(changed(RouteRules::default(), &changes(shown)).unwrap(), rules);
    }

    #[test]
    fn a_header_that_usually_holds_a_secret_is_warned_of() {
        let asked = changes(
            serde_json::json!({ "request_headers": { "x-api-key": { "set": "s" }, "x-a": { "set": "b" } } }),
        );
        let warnings = warnings(&changed(RouteRules::default(), &asked).unwrap());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("x-api-key"));
    }
}
