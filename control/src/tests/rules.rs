//! Rules, limits and quotas from the administrator's hand to the documents that edges and warpgates read.

use super::feed::published;
use super::*;

const ROUTES: &str = "/projects/shop/environments/production/routes";
const EXPLAIN: &str = "/projects/shop/environments/production/explain";

/// Every rule there is, on a route for `/api/*`.
fn every_rule() -> Value {
    json!({
        "path": "/api/*", "auth": "required", "affinity": true,
        "timeouts": { "total_ms": 120_000 },
        "limits": { "body_max": 1_048_576, "rate": { "per_minute": 600, "burst": 100, "by": "caller" } },
        "rules": {
            "path": { "prefix": "/api", "with": "/v2" },
            "upstream_host": "app.internal:8080",
            "request_headers": { "X-Tenant": { "set": "shop" }, "referer": "remove" },
            "response_headers": { "server": "remove", "x-frame-options": { "set": "DENY" } },
            "maintenance": { "message": "Back soon.", "retry_after_s": 600 },
            "cors": {
                "origins": ["https://app.example"], "methods": ["put"], "headers": ["X-Trace"], "expose": ["etag"],
                "credentials": true, "max_age_s": 600,
            },
        },
    })
}

#[tokio::test]
async fn every_rule_is_stored_shown_and_published_to_edges_and_warpgates() {
    let world = World::new().await;
    let project = world.project("shop").await;
    let route = world.post(ROUTES, every_rule()).await.ok()["route"].clone();
    let expected = json!({
        "path": { "prefix": "/api", "with": "/v2" },
        "upstream_host": "app.internal:8080",
        "request_headers": { "referer": "remove", "x-tenant": { "set": "shop" } },
        "response_headers": { "server": "remove", "x-frame-options": { "set": "DENY" } },
        "maintenance": { "message": "Back soon.", "retry_after_s": 600 },
        "cors": {
            "origins": ["https://app.example"], "methods": ["PUT"], "headers": ["x-trace"], "expose": ["etag"],
            "credentials": true, "max_age_s": 600,
        },
    });
    assert_eq!(route["rules"], expected);
    assert_eq!(route["limits"], every_rule()["limits"]);
    assert_eq!((&route["affinity"], &route["timeouts"]["total_ms"]), (&json!(true), &json!(120_000)));
    assert_eq!(world.get(&format!("{ROUTES}/{}", route["id"].as_str().unwrap())).await.ok(), route);

    let (site, bundle) = published(&world, project).await;
    assert_eq!((site.revision, bundle.site.revision), (2, 2));
    let (edge, warpgate) = (&site.routes[0], &bundle.site.routes[0]);
    assert_eq!(
        (&edge.rules, edge.limits, edge.affinity),
        (&warpgate.rules, warpgate.limits, warpgate.affinity)
    );
    assert_eq!(edge.check(), Ok(()));
    assert_eq!((edge.min_reader, warpgate.min_reader, bundle.min_reader, site.min_reader), (2, 2, 1, 1));
}

#[tokio::test]
async fn an_old_edge_or_warpgate_closes_only_the_routes_that_it_would_get_wrong() {
    let world = World::new().await;
    let project = world.project("shop").await;
    for (path, rules) in [
        ("/plain", json!({})),
        ("/moved", json!({ "redirect": { "to": "/plain" } })),
        ("/tenant", json!({ "request_headers": { "x-tenant": { "set": "shop" } } })),
    ] {
        world.post(ROUTES, json!({ "path": path, "auth": "public", "rules": rules })).await.ok();
    }
    let (site, bundle) = published(&world, project).await;
    let readers = |site: &mezusphere_model::route::SiteDoc| {
        site.routes.iter().map(|route| route.min_reader).collect::<Vec<_>>()
    };
    assert_eq!((readers(&site), readers(&bundle.site)), (vec![1, 2, 1], vec![1, 1, 2]));
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_null_clears() {
    let world = World::new().await;
    let project = world.project("shop").await;
    let route = world.post(ROUTES, every_rule()).await.ok()["route"].clone();
    let one = format!("{ROUTES}/{}", route["id"].as_str().unwrap());
    let set = async |body: Value| world.local(Method::PATCH, &one, Some(body)).await.ok()["route"].clone();

    let changed = set(json!({ "rules": { "request_headers": { "x-tenant": { "set": "blog" } } } })).await;
    let mut expected = route.clone();
    expected["rules"]["request_headers"]["x-tenant"] = json!({ "set": "blog" });
    assert_eq!(changed, expected);

    let changed = set(json!({ "rules": { "cors": { "max_age_s": 60 } }, "limits": { "rate": null } })).await;
    expected["rules"]["cors"]["max_age_s"] = json!(60);
    expected["limits"] = json!({ "body_max": 1_048_576 });
    assert_eq!(changed, expected);

    let all = json!({
        "affinity": false,
        "timeouts": { "total_ms": 0 },
        "limits": { "body_max": null },
        "rules": {
            "path": null, "upstream_host": null, "request_headers": null, "response_headers": null,
            "maintenance": null, "cors": null,
        },
    });
    let cleared = set(all).await;
    assert_eq!((&cleared["rules"], &cleared["limits"]), (&json!({}), &json!({})));
    assert_eq!(cleared["affinity"], false);
    let (site, bundle) = published(&world, project).await;
    assert_eq!((site.revision, bundle.site.revision), (5, 5));
    assert_eq!(site.routes[0].min_reader, 1, "a route that uses nothing new is for every reader again");

    let audit = world.get("/projects/shop/audit").await.ok();
    let changed: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|row| row["detail"]["changed"].clone()).collect();
    assert_eq!(changed[2], json!(["rules.request_headers.x-tenant"]));
    assert_eq!(
        changed[1],
        json!(["limits.rate.burst", "limits.rate.by", "limits.rate.per_minute", "rules.cors.max_age_s"])
    );
    assert!(!audit.to_string().contains("blog"), "a header's value is not for the log");
}

#[tokio::test]
async fn each_bad_rule_is_refused_with_a_sentence_and_a_next_step() {
    let world = World::new().await;
    world.project("shop").await;
    let route = |rules: Value| json!({ "path": "/api/*", "auth": "public", "rules": rules });
    let limits = |limits: Value| json!({ "path": "/api/*", "auth": "public", "limits": limits });
    let header = |name: &str, value: &str| route(json!({ "request_headers": { name: { "set": value } } }));
    let cors = |cors: Value| route(json!({ "cors": cors }));
    for (body, said, next) in [
        (route(json!({ "path": { "prefix": "api" } })), "not a path in canonical form", "/api"),
        (route(json!({ "path": { "prefix": "/other" } })), "begins with /other", "a route of their own"),
        (
            json!({ "path": "~/api/.*", "auth": "public", "rules": { "path": { "prefix": "/api" } } }),
            "no prefix",
            "/api/*",
        ),
        (route(json!({ "upstream_host": "http://a/" })), "is not a host", "--upstream-host"),
        (header("mezu_user_id", "x"), "reserved", "choose another name"),
        (header("Content-Length", "1"), "framed", "leave this header out"),
        (header("host", "x"), "a rule of its own", "--upstream-host"),
        (header("x_a", "1"), "letters, digits and hyphens", "x-tenant"),
        (header("x-a", "a\r\nb: c"), "printable ASCII", "percent-encoded"),
        (route(json!({ "request_headers": { "X-A": "remove", "x-a": "remove" } })), "two rules", "once"),
        (
            route(json!({ "redirect": { "to": "//evil.example" } })),
            "leads to another site",
            "https://new.example",
        ),
        (
            route(json!({ "redirect": { "to": "/x", "status": 200 } })),
            "200 is not one of",
            "--redirect-status",
        ),
        (
            route(json!({ "redirect": { "to": "/x" }, "maintenance": { "message": "Soon." } })),
            "not with both",
            "--no-redirect",
        ),
        (
            route(json!({ "maintenance": { "message": "" } })),
            "1 to 500 characters",
            "docs/operations/routes.md",
        ),
        (cors(json!({ "origins": [] })), "at least one origin", "--cors-origin"),
        (
            cors(json!({ "origins": ["*"], "credentials": true })),
            "never allowed to every",
            "--cors-credentials false",
        ),
        (
            cors(json!({ "origins": ["https://app.example/"] })),
            "an origin is scheme://host",
            "https://app.example",
        ),
        (cors(json!({ "origins": ["https://a.example"], "headers": ["a b"] })), "not a name", "x-trace"),
        (
            route(
                json!({ "cors": { "origins": ["*"] }, "response_headers": { "access-control-allow-origin": "remove" } }),
            ),
            "the CORS rule of the route writes it",
            "--no-cors",
        ),
        (
            limits(json!({ "rate": { "per_minute": 0, "burst": 1 } })),
            "1 to 6000000 requests a minute",
            "600/min",
        ),
        (limits(json!({ "body_max": 1_u64 << 41 })), "at most", "docs/operations/routes.md"),
        (
            json!({ "path": "/x", "auth": "public", "timeouts": { "head_ms": 9000, "total_ms": 8000 } }),
            "shorter than head_ms",
            "--total-timeout",
        ),
    ] {
        let got = world.post(ROUTES, body.clone()).await;
        got.refused(422, "route.rule");
        assert!(got.text("/detail").contains(said), "{body}: {}", got.body);
        assert!(got.text("/next").contains(next), "{body}: {}", got.body);
    }
    for (body, said) in [
        (route(json!({ "cors": { "origin": "https://a.example" } })), "unknown field `origin`"),
        (route(json!({ "path": { "strip": "/api" } })), "unknown field `strip`"),
        (
            limits(json!({ "rate": { "per_minute": 1, "burst": 1, "by": "cookie" } })),
            "unknown variant `cookie`",
        ),
        (route(json!({ "request_headers": { "x-a": "add" } })), "unknown variant `add`"),
    ] {
        let got = world.post(ROUTES, body).await;
        got.refused(400, "request.invalid");
        assert!(got.text("/detail").contains(said), "{}", got.body);
    }
    let total = json!({ "path": "/x", "auth": "public", "timeouts": { "total_ms": 1 } });
    world.post(ROUTES, total).await.refused(422, "route.invalid");
    assert_eq!(world.get(ROUTES).await.ok()["items"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn a_rule_is_judged_with_the_path_that_the_route_has_in_the_end() {
    let world = World::new().await;
    world.project("shop").await;
    let route = world.post(
        ROUTES,
        json!({ "path": "/api/*", "auth": "public", "rules": { "path": { "prefix": "/api" } } }),
    );
    let route = route.await.ok()["route"].clone();
    let one = format!("{ROUTES}/{}", route["id"].as_str().unwrap());
    let patch = async |body: Value| world.local(Method::PATCH, &one, Some(body)).await;
    patch(json!({ "path": "/v2/*" })).await.refused(422, "route.rule");
    patch(json!({ "path": "/v2/*", "rules": { "path": { "prefix": "/v2" } } })).await.ok();
}

#[tokio::test]
async fn what_is_allowed_but_hardly_meant_is_told() {
    let world = World::new().await;
    world.project("shop").await;
    let warnings = async |body: Value| world.post(ROUTES, body).await.ok()["warnings"].to_string();
    let cors = json!({ "cors": { "origins": ["https://app.example"] } });
    let some = json!({ "path": "/some", "auth": "public", "methods": ["GET"], "rules": cors });
    assert!(warnings(some).await.contains("OPTIONS"));
    let all = json!({ "path": "/all", "auth": "public", "rules": cors });
    assert_eq!(warnings(all).await, "[]");
    let listed = json!({ "path": "/listed", "auth": "public", "methods": ["GET", "OPTIONS"], "rules": cors });
    assert!(!warnings(listed).await.contains("preflight"));
    for (path, to) in [
        ("/a/*", "/a/b"),
        ("/c/*", "https://{host}{path}"),
        ("/d", "/d?x=y"),
        ("~/e.*", "/e"),
        ("/k/*", "/k/v2{path}"),
    ] {
        let body = json!({ "path": path, "auth": "public", "rules": { "redirect": { "to": to } } });
        assert!(warnings(body).await.contains("leads back to this route"), "{path} to {to}");
    }
    for (path, to) in
        [("/f/*", "/g{path}"), ("/h/*", "https://new.example{path}"), ("/i", "/i/"), ("/j/*", "/jj")]
    {
        let body = json!({ "path": path, "auth": "public", "rules": { "redirect": { "to": to } } });
        assert_eq!(warnings(body).await, "[]", "{path} to {to}");
    }
}

#[tokio::test]
async fn a_quota_is_set_by_operators_alone_and_published_to_every_environment() {
    let world = World::new().await;
    let project = world.project("shop").await;
    let quota = "/projects/shop/quota";
    let set = async |body: Value| world.local(Method::PATCH, quota, Some(body)).await;
    let made = set(json!({ "requests_per_second": 100, "exchanges": 50 })).await.ok();
    assert_eq!(made["quota"], json!({ "requests_per_second": 100, "exchanges": 50 }));
    let made = set(json!({ "exchanges": null })).await.ok();
    assert_eq!(made["quota"], json!({ "requests_per_second": 100 }), "what is not named stays");
    assert_eq!(world.get("/projects/shop").await.ok()["quota"], made["quota"]);
    let (site, bundle) = published(&world, project).await;
    assert_eq!((site.quota.requests_per_second, site.quota.exchanges), (Some(100), None));
    assert_eq!((site.revision, bundle.site.revision, bundle.site.quota), (3, 3, site.quota));

    set(json!({ "requests_per_second": 0 })).await.refused(422, "quota.invalid");
    set(json!({ "per_second": 1 })).await.refused(400, "request.invalid");
    let audit = world.get("/projects/shop/audit").await.ok();
    assert_eq!(audit["items"][0]["action"], "project.quota");
    assert_eq!(
        audit["items"][0]["detail"],
        json!({
            "slug": "shop", "before": { "requests_per_second": 100, "exchanges": 50 }, "after": { "requests_per_second": 100 },
        })
    );
    // A tenant's own key, however much it may do, does not raise the tenant's quota.
    let all: Vec<&str> = crate::Permission::ALL
        .iter()
        .filter(|permission| !permission.is_installation_wide())
        .map(|permission| permission.as_str())
        .collect();
    let key = world.key("shop", &all).await;
    let got = world.by_key(&key, Method::PATCH, quota, Some(json!({ "exchanges": 999 }))).await;
    got.refused(403, "caller.forbidden");
}

#[tokio::test]
async fn what_becomes_of_a_request_is_told_step_by_step() {
    let world = World::new().await;
    world.project("shop").await;
    let mut rules = every_rule();
    rules["rules"].as_object_mut().unwrap().remove("maintenance");
    let route = world.post(ROUTES, rules).await.ok()["route"].clone();
    world.post(ROUTES, json!({ "path": "/old/*", "auth": "public", "rules": { "redirect": { "to": "/new{path}{query}" } } })).await.ok();
    world.post(ROUTES, json!({ "path": "/closed", "auth": "public", "rules": { "maintenance": { "message": "Soon." } } })).await.ok();
    let explain = async |path: &str| world.post(EXPLAIN, json!({ "path": path })).await.ok();
    let steps = |told: &Value| {
        let line =
            |step: &Value| format!("{}: {}", step["at"].as_str().unwrap(), step["what"].as_str().unwrap());
        told["steps"].as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    let told = explain("/api/orders?id=1").await;
    assert_eq!((&told["route"], &told["refused"]), (&route, &Value::Null));
    assert_eq!(
        steps(&told),
        [
            "edge: let pages of https://app.example read it, with cookies, and answer their preflights",
            "edge: ask for a sign-in or an API key",
            "edge: refuse a body of more than 1048576 bytes",
            "edge: count by caller: 600/min:100@caller",
            "edge: forward to a warpgate of the environment, the same one for the same session",
            "warpgate: ask upstream default for /v2/orders?id=1 as host app.internal:8080",
            "warpgate: set request headers x-tenant",
            "warpgate: remove request headers referer",
            "warpgate: cut it off after 120000 ms in total",
            "warpgate: set response headers x-frame-options",
            "warpgate: remove response headers server",
        ]
    );
    assert_eq!(
        steps(&explain("/old/x?y=z").await),
        ["edge: let everybody in", "edge: redirect (307) to /new/old/x?y=z"]
    );
    assert_eq!(steps(&explain("/closed").await), [r#"edge: answer 503 to everybody: "Soon.""#]);
    let refused = async |path: &str| explain(path).await["refused"].as_str().unwrap_or_default().to_owned();
    assert!(refused("/nothing").await.contains("no route matches"));
    assert!(refused("/API/x").await.contains("no route matches"));
    assert!(refused("/x%2f..%2fapi").await.contains("another route"));
    assert!(refused("/%zz").await.contains("400 Bad Request"));
}
