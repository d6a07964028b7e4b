//! Requests that cannot be served: each gets its own code, one sentence, and a next step.

use super::*;

const ROUTES: &str = "/projects/shop/environments/production/routes";
const HOSTS: &str = "/projects/shop/environments/production/hosts";
const USERS: &str = "/projects/shop/users";
const KEYS: &str = "/projects/shop/api-keys";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of rows")]
async fn each_bad_value_has_its_code_and_its_sentence() {
    let world = World::new().await;
    world.project("shop").await;
    world.post(USERS, json!({ "email": "ada@shop.example" })).await.ok();
    world.post(ROUTES, json!({ "path": "/taken", "auth": "public" })).await.ok();
    let long = "a".repeat(40);
    let route = |path: &str| json!({ "path": path, "auth": "required" });
    let rows = [
        ("/projects", json!({ "slug": "Shop" }), 400, "request.invalid", "slug: use lower-case letters"),
        ("/projects", json!({ "slug": "shop" }), 409, "object.exists", "this project name is already in use"),
        ("/projects", json!({ "slug": "console" }), 422, "name.invalid", "reserved by the platform"),
        ("/projects", json!({ "slug": "x", "nmae": "y" }), 400, "request.invalid", "unknown field `nmae`"),
        ("/projects", json!({}), 400, "request.invalid", "missing field `slug`"),
        ("/projects", json!({ "slug": "x", "name": "a\nb" }), 422, "name.invalid", "no line breaks"),
        (
            "/projects",
            json!({ "slug": "x", "organization": "acme" }),
            404,
            "object.not_found",
            "no organization acme",
        ),
        ("/organizations", json!({ "slug": "default" }), 409, "object.exists", "organization name"),
        (
            "/projects/shop/environments",
            json!({ "slug": "production" }),
            409,
            "object.exists",
            "environment name",
        ),
        (
            "/projects/shop/environments",
            json!({ "slug": "a--b" }),
            400,
            "request.invalid",
            "not two in a row",
        ),
        (HOSTS, json!({ "host": "https://a.example/" }), 422, "host.invalid", "letters, digits"),
        (HOSTS, json!({ "host": "127.0.0.1" }), 422, "host.invalid", "an address is not a host name"),
        (HOSTS, json!({ "host": "evil.localhost" }), 422, "host.invalid", "a domain of the platform"),
        (HOSTS, json!({ "host": "login.mezu.localhost" }), 422, "host.invalid", "a domain of the platform"),
        (HOSTS, json!({ "host": "single" }), 422, "host.invalid", "not a full host name"),
        (ROUTES, route("api"), 422, "route.pattern", "a path starts with /"),
        (ROUTES, route("/a*"), 422, "route.pattern", "a * stands only at the end"),
        (ROUTES, route("~("), 422, "route.pattern", "regular expression"),
        (ROUTES, route("/taken"), 201, "", ""),
        (ROUTES, json!({ "path": "/x" }), 400, "request.invalid", "missing field `auth`"),
        (ROUTES, json!({ "path": "/x", "auth": "open" }), 400, "request.invalid", "unknown variant `open`"),
        (
            ROUTES,
            json!({ "path": "/x", "auth": "public", "require": { "any_role": ["admin"] } }),
            422,
            "route.contradiction",
            "auth public lets everybody in",
        ),
        (
            ROUTES,
            json!({ "path": "/x", "auth": "required", "methods": ["GET /"] }),
            422,
            "route.invalid",
            "is not an HTTP method",
        ),
        (
            ROUTES,
            json!({ "path": "/x", "auth": "required", "timeouts": { "head_ms": 1 } }),
            422,
            "route.invalid",
            "timeouts.head_ms: 1s to 30m",
        ),
        (USERS, json!({ "email": "ada" }), 422, "email.invalid", "not an e-mail address"),
        (USERS, json!({ "email": "ADA@shop.example" }), 409, "object.exists", "this e-mail address"),
        (
            USERS,
            json!({ "email": "b@shop.example", "roles": ["ghost"] }),
            422,
            "role.unknown",
            "there is no role ghost",
        ),
        (
            USERS,
            json!({ "email": "b@shop.example", "password": "short" }),
            422,
            "password.rejected",
            "at least 15",
        ),
        (
            USERS,
            json!({ "email": "b@shop.example", "password": "passwordpassword" }),
            422,
            "password.rejected",
            "too easy to guess",
        ),
        (
            USERS,
            json!({ "email": "b@shop.example", "password": "x".repeat(200) }),
            422,
            "password.rejected",
            "at most",
        ),
        (KEYS, json!({ "scopes": [] }), 422, "scope.invalid", "1 to 50 scopes"),
        (KEYS, json!({ "scopes": ["everything"] }), 422, "scope.invalid", "everything is not a scope"),
        (KEYS, json!({ "scopes": ["connect", "request"] }), 422, "scope.invalid", "connect stands alone"),
        (KEYS, json!({ "scopes": ["installation:read"] }), 422, "scope.invalid", "is for the installation"),
        (
            KEYS,
            json!({ "scopes": ["request"], "environment": "production" }),
            422,
            "scope.invalid",
            "only a connection",
        ),
        (
            KEYS,
            json!({ "scopes": ["connect"], "environment": "staging" }),
            404,
            "object.not_found",
            "no environment staging",
        ),
        (
            KEYS,
            json!({ "scopes": ["request"], "account": "ghost" }),
            404,
            "object.not_found",
            "no service account ghost",
        ),
        (KEYS, json!({ "scopes": ["request"], "expires_in_s": 0 }), 400, "request.invalid", "expires_in_s"),
        ("/operator-keys", json!({ "name": "Not A Slug" }), 422, "name.invalid", "name: use"),
        (
            "/operator-keys",
            json!({ "name": "ci", "permissions": ["connect"] }),
            422,
            "scope.invalid",
            "not a permission",
        ),
        ("/projects/shop/environments", json!({ "slug": long }), 201, "", ""),
    ];
    for (path, body, status, code, words) in rows {
        let got = world.post(path, body.clone()).await;
        if status == 201 {
            // Not an error: the row beside it shows where the limit lies.
            if code.is_empty() && path == ROUTES {
                got.refused(409, "object.exists");
            } else {
                assert_eq!(got.status, 201, "{path} {body} {}", got.body);
            }
            continue;
        }
        got.refused(status, code);
        assert!(got.text("/detail").contains(words), "{path} {body}: {}", got.text("/detail"));
    }
}

#[tokio::test]
async fn what_is_needed_is_not_taken_away() {
    let world = World::new().await;
    world.project("shop").await;
    for path in
        ["/projects/operators", "/projects/shop/environments/production", &format!("{HOSTS}/shop.localhost")]
    {
        world.delete(path).await.refused(409, "object.in_use");
    }
}

#[tokio::test]
async fn a_host_belongs_to_one_environment_in_the_whole_installation() {
    let world = World::new().await;
    world.project("shop").await;
    world.project("blog").await;
    world.post(HOSTS, json!({ "host": "www.example" })).await.ok();
    let other = "/projects/blog/environments/production/hosts";
    world.post(other, json!({ "host": "www.example" })).await.refused(409, "object.exists");
}

#[tokio::test]
async fn an_order_names_every_route_once() {
    let world = World::new().await;
    world.project("shop").await;
    let one = world.post(ROUTES, json!({ "path": "/a", "auth": "public" })).await.ok()["route"]["id"].clone();
    world.post(ROUTES, json!({ "path": "/b", "auth": "public" })).await.ok();
    let order = "/projects/shop/environments/production/route-order";
    for routes in [json!([]), json!([one]), json!([one, one])] {
        let got = world.local(Method::PUT, order, Some(json!({ "routes": routes }))).await;
        got.refused(422, "route.invalid");
    }
}

#[tokio::test]
async fn a_request_that_is_not_json_or_too_large_or_misplaced_is_told_so() {
    let world = World::new().await;
    let send = async |method: Method, path: &str, kind: &str, body: Body| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, kind)
            .body(body)
            .unwrap();
        send(world.control.local_admin(), request).await
    };
    let json = "application/json";
    let got = send(Method::POST, "/api/v1/projects", "text/plain", Body::from("{}")).await;
    got.refused(415, "request.media_type");
    let got = send(Method::POST, "/api/v1/projects", json, Body::from("{\"slug\": ")).await;
    got.refused(400, "request.invalid");
    let got = send(Method::POST, "/api/v1/projects", json, Body::from(vec![b' '; 256 * 1024 + 1])).await;
    got.refused(413, "request.too_large");
    let got = send(Method::PUT, "/api/v1/projects", json, Body::from("{}")).await;
    got.refused(405, "request.method");
    assert!(got.headers.contains_key(header::ALLOW));
    let got = send(Method::GET, "/api/v1/nothing", json, Body::empty()).await;
    got.refused(404, "object.not_found");
    let got = send(Method::GET, "/elsewhere", json, Body::empty()).await;
    got.refused(404, "object.not_found");
    let got = send(Method::GET, "/api/v1/projects?limit=0", json, Body::empty()).await;
    got.refused(400, "request.invalid");
    let got = send(Method::GET, "/api/v1/projects?lmit=5", json, Body::empty()).await;
    got.refused(400, "request.invalid");
    world.project("shop").await;
    for list in ["audit", "projects/shop/audit", "projects/shop/warpgates"] {
        let got = send(Method::GET, &format!("/api/v1/{list}?after=nonsense"), json, Body::empty()).await;
        got.refused(400, "request.invalid");
    }
}

#[tokio::test]
async fn a_key_that_is_no_key_is_told_from_one_that_is_unknown() {
    let world = World::new().await;
    let elsewhere = World::new().await;
    elsewhere.project("shop").await;
    world.project("shop").await;
    let bare = world.console(request(Method::GET, "/whoami", None)).await;
    bare.refused(401, "key.missing");
    assert_eq!(bare.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"mezusphere\"");
    let foreign = elsewhere.key("shop", &["projects:read"]).await;
    let good = world.key("shop", &["projects:read"]).await;
    let connect =
        world.post(KEYS, json!({ "scopes": ["connect"] })).await.ok()["secret"].as_str().unwrap().to_owned();
    let caller = world.key("shop", &["request"]).await;
    let rows = [
        ("nonsense", 401, "key.malformed"),
        (&good[..good.len() - 1], 401, "key.malformed"),
        (connect.as_str(), 401, "key.malformed"),
        (foreign.as_str(), 401, "key.unknown"),
        (caller.as_str(), 403, "key.scope"),
    ];
    for (key, status, code) in rows {
        world.by_key(key, Method::GET, "/whoami", None).await.refused(status, code);
    }
    world.by_key(&good, Method::GET, "/whoami", None).await.ok();
    // Two headers: which one counts would be anybody's guess.
    let mut twice = request(Method::GET, "/whoami", None);
    for _ in 0..2 {
        twice.headers_mut().append(header::AUTHORIZATION, format!("Bearer {good}").parse().unwrap());
    }
    world.console(twice).await.refused(401, "key.malformed");
}

#[tokio::test]
async fn r21_a_key_gives_no_more_than_its_maker_holds() {
    let world = World::new().await;
    world.project("shop").await;
    let maker = world.key("shop", &["keys:read", "keys:write", "routes:read"]).await;
    let ask = async |scopes: Value| {
        let account = world.entropy.below(u64::MAX).to_string();
        let accounts = "/projects/shop/service-accounts";
        world.by_key(&maker, Method::POST, accounts, Some(json!({ "name": account }))).await.ok();
        world.by_key(&maker, Method::POST, KEYS, Some(json!({ "account": account, "scopes": scopes }))).await
    };
    ask(json!(["routes:read", "request"])).await.ok();
    ask(json!(["connect"])).await.ok();
    ask(json!(["routes:write"])).await.refused(403, "caller.forbidden");
    let stronger = world.post(KEYS, json!({ "scopes": ["users:write"] })).await.ok();
    let rotate = format!("{KEYS}/{}/rotate", stronger["key"]["id"].as_str().unwrap());
    world.by_key(&maker, Method::POST, &rotate, Some(json!({}))).await.refused(403, "caller.forbidden");
}
