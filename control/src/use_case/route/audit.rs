//! What the audit log keeps of a route and of its changes.
//!
//! Names, not values: what a header is set to may be a secret, though it should not.

use mezusphere_model::route::{RouteDoc, RouteTimeouts};
use mezusphere_model::rules::HeaderRules;
use serde_json::{Value, json};

use super::{mode_text, rule};
use crate::api::types::HeaderRule;

/// What stands in the place of a header's value.
const HIDDEN: &str = "…";

/// A route as the log keeps it; what it does not have is left out.
pub(super) fn summary(doc: &RouteDoc) -> Value {
    let mut summary = json!({
        "path": doc.path.to_string(),
        "methods": doc.methods,
        "auth": mode_text(doc.auth),
        "require": doc.require,
        "upstream": doc.upstream,
    });
    let mut rules = rule::view(doc.rules.clone());
    for headers in [&mut rules.request_headers, &mut rules.response_headers] {
        for header in headers.values_mut() {
            if let HeaderRule::Set(value) = header {
                HIDDEN.clone_into(value);
            }
        }
    }
    let more = [
        ("step_up", !doc.step_up.is_empty(), json!(doc.step_up)),
        ("networks", !doc.networks.is_empty(), json!(doc.networks)),
        ("enforce", !doc.enforce, json!(false)),
        ("identity", !doc.identity.is_empty(), json!(doc.identity)),
        ("rules", !doc.rules.is_empty(), json!(rules)),
        ("limits", !doc.limits.is_empty(), json!(rule::limits_view(doc.limits))),
        ("affinity", doc.affinity, json!(true)),
        ("timeouts", doc.timeouts != RouteTimeouts::default(), json!(doc.timeouts)),
    ];
    if let Some(fields) = summary.as_object_mut() {
        fields.extend(more.into_iter().filter(|row| row.1).map(|(name, _, value)| (name.to_owned(), value)));
    }
    summary
}

/// A change: the route before and after it, and the names of what is different.
pub(super) fn change(before: &RouteDoc, after: &RouteDoc) -> Value {
    let mut changed = Vec::new();
    let (was, is) = (summary(before), summary(after));
    differences("", &was, &is, &mut changed);
    for (place, was, is) in [
        ("rules.request_headers", &before.rules.request_headers, &after.rules.request_headers),
        ("rules.response_headers", &before.rules.response_headers, &after.rules.response_headers),
    ] {
        changed.extend(values_changed(was, is).map(|name| format!("{place}.{name}")));
    }
    json!({ "before": was, "after": is, "changed": changed })
}

/// Headers that are set to another value: the summaries do not show it.
fn values_changed<'h>(was: &'h HeaderRules, is: &'h HeaderRules) -> impl Iterator<Item = &'h str> {
    let other = |name: &str, value: &str| was.set.iter().any(|rule| rule.name == name && rule.value != value);
    is.set.iter().filter(move |rule| other(&rule.name, &rule.value)).map(|rule| rule.name.as_str())
}

/// The dotted names of what is different, as far down as both sides have fields.
fn differences(place: &str, was: &Value, is: &Value, changed: &mut Vec<String>) {
    let (Some(before), Some(after)) = (was.as_object(), is.as_object()) else {
        if was != is {
            changed.push(place.to_owned());
        }
        return;
    };
    let nothing = Value::Object(serde_json::Map::new());
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        // What only one side has is told field by field as well, if it has fields.
        let side = |value: Option<&Value>, other: Option<&Value>| match (value, other) {
            (Some(value), _) => value.clone(),
            (None, Some(Value::Object(_))) => nothing.clone(),
            (None, _) => Value::Null,
        };
        let (was, is) = (before.get(name), after.get(name));
        differences(&place, &side(was, is), &side(is, was), changed);
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::id::RouteId;
    use mezusphere_model::route::{AuthMode, PathMatch};
    use mezusphere_model::rules::{HeaderValueRule, PathRule, RouteLimits, RouteRules};
    use mezusphere_model::slug::Slug;

    use super::*;

    fn route() -> RouteDoc {
        let path = PathMatch::parse("/api/*").unwrap();
        RouteDoc::new(RouteId::from_bits(1), path, AuthMode::Public, Slug::parse("web").unwrap())
    }

    fn set(value: &str) -> HeaderRules {
        let rule = HeaderValueRule { name: "x-key".to_owned(), value: value.to_owned() };
        HeaderRules { set: vec![rule], remove: Vec::new() }
    }

    #[test]
    fn r25_a_change_names_what_is_different_and_never_a_headers_value() {
        let before = RouteDoc {
            rules: RouteRules { request_headers: set("hunter2"), ..RouteRules::default() },
            ..route()
        };
        let rules = RouteRules {
            request_headers: set("hunter3"),
            path: Some(PathRule::Strip { prefix: "/api".to_owned() }),
            ..RouteRules::default()
        };
        let limits = RouteLimits { body_max: Some(1), rate: None };
        let after = RouteDoc { rules, limits, affinity: true, auth: AuthMode::Required, ..route() };
        let told = change(&before, &after);
        assert_eq!(
            told["changed"],
            json!([
                "affinity",
                "auth",
                "limits.body_max",
                "rules.path.prefix",
                "rules.request_headers.x-key"
            ])
        );
        assert!(!told.to_string().contains("hunter"), "{told}");
        assert_eq!(change(&after, &after)["changed"], json!([]));
        assert_eq!(summary(&route()).as_object().unwrap().len(), 5, "what a route does not have is left out");
    }
}
