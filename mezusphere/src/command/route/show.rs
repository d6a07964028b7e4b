//! How routes are shown: one line each in a list, one in full, and the steps of a request.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mezusphere_control::api::types::{Explained, HeaderRule, Place, Route};
use mezusphere_model::route::AuthMode;
use mezusphere_model::rules::Rate;
use serde_json::Value;

use super::value::{in_octets, in_time};
use crate::command::Context;
use crate::failure::Failure;

/// Most characters of a text in a list.
const SHORT: usize = 30;

/// A table of routes.
pub(super) fn list(context: &Context, project: &str, items: &[Value]) -> Result<(), Failure> {
    let columns = [
        ("PATH", "/path"),
        ("METHODS", "/methods"),
        ("AUTH", "/auth"),
        ("NEEDS", "/needs"),
        ("UPSTREAM", "/upstream"),
        ("DOES", "/does"),
        ("ID", "/id"),
    ];
    let empty = format!("No routes yet. Add one: mezusphere route add {project} '/*' --auth required");
    Ok(context.output.list_as(items, row, &columns, &empty)?)
}

/// One route with all that it does.
pub(super) fn whole(context: &Context, route: &Value) -> Result<(), Failure> {
    context.output.json(route)?;
    if context.output.is_json() {
        return Ok(());
    }
    match serde_json::from_value::<Route>(route.clone()) {
        Ok(route) => {
            let rows = rows(&route);
            let width = rows.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
            let mut text = plain(&format!("{}  {}", route.path, route.id));
            for (title, value) in rows {
                // A String takes whatever is written to it.
                let (Ok(()) | Err(_)) = write!(text, "\n  {title:<width$}  {}", plain(&value));
            }
            Ok(context.output.say(&text)?)
        }
        // Of a newer server: as it came is better than nothing.
        Err(_) => Ok(context.output.say(&format!("{route:#}"))?),
    }
}

/// What became of a route that was added or changed.
pub(super) fn published(context: &Context, answer: &Value, verb: &str) -> Result<(), Failure> {
    context.output.json(answer)?;
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let does = answer.pointer("/route").map(row).unwrap_or_default();
    let does = does.get("does").and_then(Value::as_str).filter(|does| !does.is_empty());
    let does = does.map(|does| format!(" · {does}")).unwrap_or_default();
    context.output.say(&format!(
        "{verb} {} ({}, {}{does})",
        text("/url"),
        text("/route/path"),
        text("/route/auth")
    ))?;
    let warnings = answer.get("warnings").and_then(Value::as_array).cloned().unwrap_or_default();
    for warning in warnings.iter().filter_map(Value::as_str) {
        context.output.say(&format!("  note: {warning}"))?;
    }
    Ok(())
}

/// The steps of a request.
pub(super) fn explained(context: &Context, told: &Value) -> Result<(), Failure> {
    context.output.json(told)?;
    if context.output.is_json() {
        return Ok(());
    }
    let Ok(told) = serde_json::from_value::<Explained>(told.clone()) else {
        return Ok(context.output.say(&format!("{told:#}"))?);
    };
    if let Some(why) = &told.refused {
        return Ok(context.output.say(&format!("It is refused. {}", plain(why)))?);
    }
    if let Some(route) = &told.route {
        context.output.say(&plain(&format!("{} takes it  {}", route.path, route.id)))?;
    }
    for step in &told.steps {
        let at = match step.at {
            Place::Edge => "edge",
            Place::Warpgate => "warpgate",
        };
        context.output.say(&format!("  {at:<8}  {}", plain(&step.what)))?;
    }
    Ok(())
}

/// A route as a line of the table: with its demands as a warpgate writes them, `role=a|b · from 10.0.0.0/8 · dry run`, and in a few words
/// what it does.
fn row(route: &Value) -> Value {
    let mut row = route.clone();
    let (Ok(route), Some(fields)) = (serde_json::from_value::<Route>(route.clone()), row.as_object_mut())
    else {
        return row;
    };
    if route.methods.is_empty() {
        fields.insert("methods".to_owned(), "all".into());
    }
    fields.insert("needs".to_owned(), route.demands().to_string().into());
    fields.insert("does".to_owned(), words(&route).join(" · ").into());
    row
}

/// What a route does, in a few words each.
fn words(route: &Route) -> Vec<String> {
    let rules = &route.rules;
    let mut words = Vec::new();
    if let Some(maintenance) = &rules.maintenance {
        words.push(format!("maintenance {:?}", short(&maintenance.message)));
    }
    if let Some(redirect) = &rules.redirect {
        words.push(format!("{} {}", redirect.status.unwrap_or_default(), short(&redirect.to)));
    }
    if let Some(path) = &rules.path {
        words.push(format!("{} → {}", path.prefix, path.with.as_deref().unwrap_or("/")));
    }
    if let Some(host) = &rules.upstream_host {
        words.push(format!("host {host}"));
    }
    for (side, headers) in [("request", &rules.request_headers), ("response", &rules.response_headers)] {
        match headers.len() {
            0 => {}
            1 => words.push(format!("1 {side} header")),
            many => words.push(format!("{many} {side} headers")),
        }
    }
    if rules.cors.is_some() {
        words.push("cors".to_owned());
    }
    if let Some(octets) = route.limits.body_max {
        words.push(format!("body ≤ {}", in_octets(octets)));
    }
    words.extend(route.limits.rate.map(|rate| Rate::from(rate).to_string()));
    if route.affinity {
        words.push("affinity".to_owned());
    }
    words.extend(route.identity.profiles.iter().map(|profile| profile.as_str().to_owned()));
    match route.identity.claims.as_slice() {
        [] => {}
        [claim] => words.push(format!("tells {claim}")),
        claims => words.push(format!("tells {} claims", claims.len())),
    }
    words
}

/// All that is to be said of a route, line by line; what it does not do is left out.
fn rows(route: &Route) -> Vec<(&'static str, String)> {
    let rules = &route.rules;
    let methods = if route.methods.is_empty() { "all".to_owned() } else { route.methods.join(", ") };
    let access = match route.auth {
        AuthMode::Public => "public",
        AuthMode::Optional => "optional",
        AuthMode::Required => "required",
    };
    let needs = route.demands().to_string();
    let times = [
        ("connect", route.timeouts.connect_ms),
        ("head", route.timeouts.head_ms),
        ("idle", route.timeouts.idle_ms),
        ("total", route.timeouts.total_ms),
    ];
    let times = times.iter().filter_map(|(name, ms)| Some(format!("{name} {}", in_time((*ms)?.into()))));
    let mut rows = vec![
        ("methods", methods),
        ("auth", if needs.is_empty() { access.to_owned() } else { format!("{access} · {needs}") }),
        ("upstream", route.upstream.to_string()),
        ("time-outs", times.collect::<Vec<_>>().join(" · ")),
    ];
    if !route.enforce {
        rows.push(("dry run", "demands beyond sign-in are written down and refuse nobody".to_owned()));
    }
    let profiles: Vec<&str> = route.identity.profiles.iter().map(|profile| profile.as_str()).collect();
    let told = [("headers for", profiles.join(", ")), ("tells claims", route.identity.claims.join(", "))];
    rows.extend(told.into_iter().filter(|(_, names)| !names.is_empty()));
    if let Some(maintenance) = &rules.maintenance {
        let retry = maintenance.retry_after_s;
        let retry =
            retry.map(|s| format!(" · retry after {}", in_time(u64::from(s) * 1000))).unwrap_or_default();
        rows.push(("maintenance", format!("{:?}{retry}", maintenance.message)));
    }
    if let Some(redirect) = &rules.redirect {
        rows.push(("redirect", format!("{} to {}", redirect.status.unwrap_or_default(), redirect.to)));
    }
    if let Some(path) = &rules.path {
        rows.push(("path", format!("{} becomes {}", path.prefix, path.with.as_deref().unwrap_or("/"))));
    }
    rows.extend(rules.upstream_host.clone().map(|host| ("upstream host", host)));
    rows.extend(header_rows("request header", &rules.request_headers));
    rows.extend(header_rows("response header", &rules.response_headers));
    if let Some(cors) = &rules.cors {
        let lists = [
            ("origins", &cors.origins),
            ("methods", &cors.methods),
            ("headers", &cors.headers),
            ("shown headers", &cors.expose),
        ];
        let lists = lists.iter().filter(|(_, list)| !list.is_empty());
        let mut parts: Vec<String> =
            lists.map(|(name, list)| format!("{name} {}", list.join(", "))).collect();
        if cors.credentials {
            parts.push("with cookies".to_owned());
        }
        if cors.max_age_s != 0 {
            parts.push(format!("remembered for {}", in_time(u64::from(cors.max_age_s) * 1000)));
        }
        rows.push(("cors", parts.join(" · ")));
    }
    rows.extend(route.limits.body_max.map(|octets| ("largest body", in_octets(octets))));
    rows.extend(route.limits.rate.map(|rate| ("rate", Rate::from(rate).to_string())));
    if route.affinity {
        rows.push(("affinity", "one warpgate for each session".to_owned()));
    }
    rows.push(("since", route.created_at.clone()));
    rows
}

fn header_rows(
    title: &'static str,
    headers: &BTreeMap<String, HeaderRule>,
) -> impl Iterator<Item = (&'static str, String)> {
    headers.iter().map(move |(name, rule)| {
        let text = match rule {
            HeaderRule::Set(value) => format!("{name}: {value}"),
            HeaderRule::Remove => format!("{name} is removed"),
        };
        (title, text)
    })
}

fn short(text: &str) -> String {
    if text.chars().count() <= SHORT {
        return text.to_owned();
    }
    text.chars().take(SHORT - 1).chain(['…']).collect()
}

/// Names are data: a control character must not move the reader's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(more: &Value) -> Value {
        let mut route = json!({
            "id": "rte_00000000000000000000000001", "position": 0, "path": "/api/*", "methods": [], "auth": "required",
            "require": {}, "upstream": "default", "timeouts": { "head_ms": 60_000 }, "created_at": "2026-01-01T00:00:00Z",
        });
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        route
    }

    #[test]
    fn a_list_of_routes_tells_every_requirement() {
        let rows = [
            (json!({}), ""),
            (json!({ "any_role": ["a", "b"] }), "role=a|b"),
            (
                json!({ "all_roles": ["admin", "customer"], "any_permission": ["x:y"], "all_permissions": ["p", "q"] }),
                "role=admin+customer · permission=x:y · permission=p+q",
            ),
        ];
        for (require, needs) in rows {
            assert_eq!(row(&route(&json!({ "require": require })))["needs"], needs);
        }
    }

    #[test]
    fn a_list_of_routes_tells_in_a_few_words_what_each_does() {
        for (more, does) in [
            (json!({}), ""),
            (json!({ "rules": { "path": { "prefix": "/api" } }, "affinity": true }), "/api → / · affinity"),
            (
                json!({ "rules": { "redirect": { "to": "https://new.example{path}{query}", "status": 308 } } }),
                "308 https://new.example{path}{que…",
            ),
            (
                json!({
                    "rules": { "upstream_host": "app", "request_headers": { "a": "remove", "b": { "set": "c" } }, "cors": {} },
                    "limits": { "body_max": 10_485_760, "rate": { "per_minute": 600, "burst": 100, "by": "caller" } },
                }),
                "host app · 2 request headers · cors · body ≤ 10 MiB · 600/min:100@caller",
            ),
        ] {
            assert_eq!(row(&route(&more))["does"], does);
        }
    }

    #[test]
    fn one_route_tells_everything_and_nothing_it_does_not_do() {
        let text = |more: &Value| {
            let route: Route = serde_json::from_value(route(more)).unwrap();
            rows(&route).iter().map(|(title, value)| format!("{title}: {value}")).collect::<Vec<_>>()
        };
        assert_eq!(text(&json!({})).len(), 5);
        let all = text(&json!({
            "timeouts": { "connect_ms": 5000, "head_ms": 60_000, "idle_ms": 300_000, "total_ms": 120_000 },
            "rules": {
                "path": { "prefix": "/api", "with": "/v2" }, "upstream_host": "app:80",
                "request_headers": { "x-a": { "set": "b" } }, "response_headers": { "server": "remove" },
                "maintenance": { "message": "Soon.", "retry_after_s": 600 },
                "cors": { "origins": ["https://a.example"], "methods": ["PUT"], "credentials": true, "max_age_s": 60 },
            },
        }));
        assert_eq!(
            all,
            [
                "methods: all",
                "auth: required",
                "upstream: default",
                "time-outs: connect 5 s · head 60 s · idle 5 min · total 2 min",
                "maintenance: \"Soon.\" · retry after 10 min",
                "path: /api becomes /v2",
                "upstream host: app:80",
                "request header: x-a: b",
                "response header: server is removed",
                "cors: origins https://a.example · methods PUT · with cookies · remembered for 60 s",
                "since: 2026-01-01T00:00:00Z",
            ]
        );
    }

    #[test]
    fn a_name_never_moves_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
