//! What the words of `route add` and `route set` say to the API, and what a wrong one is told.

use clap::Parser;
use serde_json::json;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

fn parse(words: &[&str]) -> Result<Command, clap::Error> {
    Line::try_parse_from([&["route"], words].concat()).map(|line| line.command)
}

/// The body that a command line leads to.
fn body(words: &[&str]) -> Value {
    match parse(words).unwrap() {
        Command::Add { path, auth, settings, .. } => json!(settings.add(path, auth).unwrap()),
        Command::Set { path, auth, settings, clear, .. } => {
            json!(settings.update(path, auth, &clear).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

fn set(words: &[&str]) -> Value {
    body(&[&["set", "shop", "/api/*"], words].concat())
}

#[test]
fn every_rule_and_limit_says_one_thing_to_the_api() {
    for (words, expected) in [
        (&["--strip-prefix", "/api"][..], json!({ "rules": { "path": { "prefix": "/api" } } })),
        (
            &["--replace-prefix", "/api=/v2"],
            json!({ "rules": { "path": { "prefix": "/api", "with": "/v2" } } }),
        ),
        (&["--no-path-rule"], json!({ "rules": { "path": null } })),
        (&["--upstream-host", "app:80"], json!({ "rules": { "upstream_host": "app:80" } })),
        (&["--no-upstream-host"], json!({ "rules": { "upstream_host": null } })),
        (
            &[
                "--set-request-header",
                "x-a=b=c",
                "--remove-request-header",
                "x-b",
                "--keep-request-header",
                "x-c",
            ],
            json!({ "rules": { "request_headers": { "x-a": { "set": "b=c" }, "x-b": "remove", "x-c": null } } }),
        ),
        (&["--no-request-headers"], json!({ "rules": { "request_headers": null } })),
        (
            &[
                "--set-response-header",
                "x-a=",
                "--remove-response-header",
                "server",
                "--keep-response-header",
                "x-c",
            ],
            json!({ "rules": { "response_headers": { "server": "remove", "x-a": { "set": "" }, "x-c": null } } }),
        ),
        (&["--no-response-headers"], json!({ "rules": { "response_headers": null } })),
        (&["--redirect", "/x"], json!({ "rules": { "redirect": { "to": "/x" } } })),
        (
            &["--redirect", "/x", "--redirect-status", "308"],
            json!({ "rules": { "redirect": { "to": "/x", "status": 308 } } }),
        ),
        (&["--no-redirect"], json!({ "rules": { "redirect": null } })),
        (
            &["--maintenance", "Soon.", "--retry-after", "30m", "--no-redirect"],
            json!({ "rules": { "maintenance": { "message": "Soon.", "retry_after_s": 1800 }, "redirect": null } }),
        ),
        (&["--no-maintenance"], json!({ "rules": { "maintenance": null } })),
        (
            &[
                "--cors-origin",
                "https://a.example",
                "--cors-origin",
                "https://b.example",
                "--cors-max-age",
                "1h",
            ],
            json!({ "rules": { "cors": { "origins": ["https://a.example", "https://b.example"], "max_age_s": 3600 } } }),
        ),
        (
            &[
                "--cors-method",
                "PUT",
                "--cors-header",
                "none",
                "--cors-expose",
                "etag",
                "--cors-credentials",
                "true",
            ],
            json!({ "rules": { "cors": { "methods": ["PUT"], "headers": [], "expose": ["etag"], "credentials": true } } }),
        ),
        (&["--no-cors"], json!({ "rules": { "cors": null } })),
        (&["--body-max", "10MiB"], json!({ "limits": { "body_max": 10_485_760 } })),
        (&["--no-body-max"], json!({ "limits": { "body_max": null } })),
        (
            &["--rate", "600/min:50@caller"],
            json!({ "limits": { "rate": { "per_minute": 600, "burst": 50, "by": "caller" } } }),
        ),
        (&["--no-rate"], json!({ "limits": { "rate": null } })),
        (&["--affinity"], json!({ "affinity": true })),
        (&["--no-affinity"], json!({ "affinity": false })),
        (&["--head-timeout", "2000"], json!({ "timeouts": { "head_ms": 2000 } })),
        (
            &["--connect-timeout", "500ms", "--idle-timeout", "5m", "--total-timeout", "none"],
            json!({ "timeouts": { "connect_ms": 500, "idle_ms": 300_000, "total_ms": 0 } }),
        ),
        (&["--timeout-total", "1h"], json!({ "timeouts": { "total_ms": 3_600_000 } })),
    ] {
        assert_eq!(set(words), expected, "{words:?}");
    }
}

#[test]
fn every_demand_says_one_thing_to_the_api() {
    for (words, expected) in [
        (
            &["--all-methods", "--no-require"][..],
            json!({
                "methods": [],
                "require": {
                    "any_role": [], "all_roles": [], "any_permission": [], "all_permissions": [], "claims": [],
                },
            }),
        ),
        (&["--role", "a", "--role", "b"], json!({ "require": { "any_role": ["a", "b"] } })),
        (
            &["--require-claim", "plan=pro,team", "--require-claim", r#"level=3,"4",true"#],
            json!({ "require": { "claims": [
                { "name": "plan", "any_of": ["pro", "team"] }, { "name": "level", "any_of": [3, "4", true] },
            ] } }),
        ),
        (&["--no-require-claims"], json!({ "require": { "claims": [] } })),
        (
            &[
                "--network",
                "10.0.0.0/8",
                "--network",
                "2001:DB8::1",
                "--acr",
                "aal2",
                "--max-auth-age",
                "15m",
            ],
            json!({
                "networks": ["10.0.0.0/8", "2001:db8::1/128"],
                "step_up": { "acr": "aal2", "max_auth_age_s": 900 },
            }),
        ),
        (
            &["--no-networks", "--no-acr", "--no-max-auth-age"],
            json!({ "networks": [], "step_up": { "acr": null, "max_auth_age_s": null } }),
        ),
        (&["--dry-run-policy"], json!({ "enforce": false })),
        (&["--enforce", "true"], json!({ "enforce": true })),
        (
            &["--identity-profile", "remote-user", "--forward-claim", "plan"],
            json!({ "identity": { "profiles": ["remote-user"], "claims": ["plan"] } }),
        ),
        (
            &["--no-identity-profiles", "--no-forward-claims"],
            json!({ "identity": { "profiles": [], "claims": [] } }),
        ),
        (
            &["--method", "GET", "--path", "/b/*", "--auth", "public"],
            json!({ "methods": ["GET"], "path": "/b/*", "auth": "public" }),
        ),
    ] {
        assert_eq!(set(words), expected, "{words:?}");
    }
    let added =
        body(&["add", "shop", "/api/*", "--auth", "required", "--strip-prefix", "/api", "--affinity"]);
    assert_eq!(
        added,
        json!({
            "path": "/api/*", "auth": "required", "timeouts": {}, "affinity": true,
            "rules": { "path": { "prefix": "/api" } },
        })
    );
}

#[test]
fn a_wrong_value_is_told_with_what_to_write() {
    for (words, said) in [
        (&["--replace-prefix", "/api"][..], "write it as /old=/new"),
        (&["--set-request-header", "x-a"], "write it as NAME=VALUE"),
        (&["--body-max", "10 apples"], "10MiB"),
        (&["--rate", "often"], "600/min"),
        (&["--total-timeout", "soon"], "30s"),
        (&["--retry-after", "30m"], "--maintenance"),
        (&["--redirect-status", "308"], "--redirect"),
        (&["--redirect", "/x", "--redirect-status", "200"], "301, 302, 303, 307 or 308"),
        (&["--strip-prefix", "/a", "--replace-prefix", "/a=/b"], "cannot be used with"),
        (&["--strip-prefix", "/a", "--no-path-rule"], "cannot be used with"),
        (&["--redirect", "/x", "--maintenance", "Soon."], "cannot be used with"),
        (&["--cors-origin", "*", "--no-cors"], "cannot be used with"),
        (&["--affinity", "--no-affinity"], "cannot be used with"),
        (&["--network", "10.1.2.3/8"], "10.0.0.0/8"),
        (&["--network", "office"], "192.0.2.0/24"),
        (&["--require-claim", "plan"], "NAME=VALUE"),
        (&["--require-claim", "plan="], "plan"),
        (&["--acr", "aal3"], "aal2"),
        (&["--identity-profile", "remote"], "x-forwarded-user"),
        (&["--enforce", "true", "--dry-run-policy"], "cannot be used with"),
    ] {
        let why = parse(&[&["set", "shop", "r"], words].concat()).unwrap_err().to_string();
        assert!(why.contains(said), "{words:?}: {why}");
    }
    // One header with two rules is seen once the words are read.
    let twice = ["set", "shop", "r", "--set-request-header", "X-A=1", "--remove-request-header", "x-a"];
    let Command::Set { settings, clear, .. } = parse(&twice).unwrap() else { panic!() };
    let why = settings.update(None, None, &clear).unwrap_err().to_string();
    assert!(why.contains("x-a"), "{why}");
}

#[test]
fn a_route_that_is_added_has_nothing_to_take_back() {
    assert!(parse(&["add", "shop", "/*", "--auth", "public", "--no-cors"]).is_err());
    assert!(parse(&["update", "shop", "/*", "--no-cors"]).is_ok(), "the verb of before goes on");
}
