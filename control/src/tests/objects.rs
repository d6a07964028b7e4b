//! Every object's life through the admin API.

use mezusphere_model::connection_key::ConnectionKey;

use super::*;

#[tokio::test]
async fn an_organization_owns_projects() {
    let world = World::new().await;
    let made = world.post("/organizations", json!({ "slug": "acme", "name": "Acme Ltd." })).await.ok();
    assert_eq!(made["name"], "Acme Ltd.");
    let project = world.post("/projects", json!({ "slug": "shop", "organization": "acme" })).await.ok();
    assert_eq!(project["organization"], made["id"]);
    let listed = world.get("/organizations").await.ok();
    let slugs: Vec<_> = listed["items"].as_array().unwrap().iter().map(|row| row["slug"].clone()).collect();
    assert_eq!(slugs, ["acme", "default"]);
    assert_eq!(world.get("/organizations/acme").await.ok()["id"], made["id"]);
    let audit = world.get("/organizations/acme/audit").await.ok();
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions, ["environment.create", "project.create", "organization.create"]);
}

#[tokio::test]
async fn a_project_comes_with_production_its_endpoint_and_a_directory() {
    let world = World::new().await;
    let made = world.post("/projects", json!({ "slug": "shop" })).await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    assert_eq!(made["name"], "shop");
    assert_eq!(made["environments"][0]["slug"], "production");
    assert_eq!(made["environments"][0]["origin"], "https://shop.localhost:8443");
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/projects/{id}")).await.ok(), made, "by id as by slug");
    let directory = world.get("/projects/shop/directory").await.ok();
    assert_eq!((directory["name"].as_str(), directory["users"].as_u64()), (Some("shop"), Some(0)));
    let listed = world.get("/projects").await.ok();
    assert_eq!(listed["items"], json!([made]), "the operators' own project is not listed");
    world.local(Method::PATCH, "/projects/shop", Some(json!({ "name": "The shop" }))).await.ok();
    assert_eq!(world.get("/projects/shop").await.ok()["name"], "The shop");
    assert_eq!(world.delete("/projects/shop").await.status, 204);
    world.get("/projects/shop").await.refused(404, "object.not_found");
}

#[tokio::test]
async fn an_environment_has_its_own_endpoint_and_hosts() {
    let world = World::new().await;
    world.project("shop").await;
    let made = world.post("/projects/shop/environments", json!({ "slug": "staging" })).await.ok();
    assert_eq!(made["origin"], "https://shop--staging.localhost:8443");
    let hosts = "/projects/shop/environments/staging/hosts";
    let added = world.post(hosts, json!({ "host": "Staging.Shop.Example." })).await.ok();
    assert_eq!(added["host"], "staging.shop.example");
    let listed = world.get(hosts).await.ok();
    let rows: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["host"].clone(), row["endpoint"].clone()))
        .collect();
    assert_eq!(
        rows,
        [(json!("shop--staging.localhost"), json!(true)), (json!("staging.shop.example"), json!(false))]
    );
    world.delete(&format!("{hosts}/staging.shop.example")).await.ok();
    assert_eq!(world.delete("/projects/shop/environments/staging").await.status, 204);
    let left = world.get("/projects/shop/environments").await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_route_is_added_shown_changed_ordered_and_removed() {
    let world = World::new().await;
    world.project("shop").await;
    let routes = "/projects/shop/environments/production/routes";
    let asked = json!({
        "path": "/api/*", "methods": ["get", "POST"], "auth": "required",
        "require": { "any_role": ["customer"] }, "upstream": "api", "timeouts": { "head_ms": 5000 },
    });
    let added = world.post(routes, asked).await.ok();
    assert_eq!(added["url"], "https://shop.localhost:8443/api");
    assert_eq!(added["warnings"], json!(["no role customer exists in this project yet, so nobody holds it"]));
    let route = &added["route"];
    assert_eq!(route["path"], "/api/*");
    assert_eq!(route["methods"], json!(["GET", "POST"]));
    assert_eq!(route["timeouts"], json!({ "connect_ms": 5000, "head_ms": 5000, "idle_ms": 300_000 }));
    let id = route["id"].as_str().unwrap();
    let one = format!("{routes}/{id}");
    assert_eq!(world.get(&one).await.ok(), *route);

    let second =
        world.post(routes, json!({ "path": "~/v[0-9]+/.*", "auth": "public", "position": 0 })).await.ok();
    assert_eq!(second["route"]["position"], 0);
    let order = async || {
        let listed = world.get(routes).await.ok();
        listed["items"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(order().await, [second["route"]["id"].clone(), json!(id)]);
    let turned = json!({ "routes": [id, second["route"]["id"]] });
    world.local(Method::PUT, "/projects/shop/environments/production/route-order", Some(turned)).await.ok();
    assert_eq!(order().await, [json!(id), second["route"]["id"].clone()]);

    let changed =
        world.local(Method::PATCH, &one, Some(json!({ "path": "/v2/*", "timeouts": { "idle_ms": 1000 } })));
    let changed = changed.await.ok();
    assert_eq!(changed["route"]["path"], "/v2/*");
    assert_eq!(changed["route"]["require"]["any_role"], json!(["customer"]), "what is not named stays");
    assert_eq!(changed["route"]["timeouts"], json!({ "connect_ms": 5000, "head_ms": 5000, "idle_ms": 1000 }));
    let removed = world.delete(&one).await.ok();
    assert_eq!(removed["route"]["path"], "/v2/*");
    assert!(removed["now"].as_str().unwrap().starts_with("Requests for it "), "{removed}");
    world.get(&one).await.refused(404, "object.not_found");
    assert_eq!(order().await.len(), 1);
}

#[tokio::test]
async fn a_user_lives_from_creation_to_deletion() {
    let world = World::new().await;
    world.project("shop").await;
    let role = world.local(
        Method::PUT,
        "/projects/shop/roles/customer",
        Some(json!({ "permissions": ["b", "a", "a"] })),
    );
    assert_eq!(role.await.ok()["permissions"], json!(["a", "b"]));
    let users = "/projects/shop/users";
    let asked =
        json!({ "email": "Ada@shop.example", "name": "Ada", "password": PASSWORD, "roles": ["customer"] });
    let made = world.post(users, asked).await.ok();
    assert_eq!(made["roles"], json!(["customer"]));
    assert_eq!((made["status"].as_str(), made["has_password"].as_bool()), (Some("active"), Some(true)));
    assert!(!made.to_string().contains(PASSWORD));
    let by_email = world.get(&format!("{users}/ada@shop.example")).await.ok();
    assert_eq!(by_email, made, "by e-mail in any case as by id");
    let one = format!("{users}/{}", made["id"].as_str().unwrap());
    let link = world.post(&format!("{one}/sign-in-link"), json!({})).await.ok();
    assert!(link["url"].as_str().unwrap().contains("/first-sign-in/"));
    assert_eq!(world.post(&format!("{one}/suspend"), json!({})).await.ok()["status"], "suspended");
    assert_eq!(world.post(&format!("{one}/activate"), json!({})).await.ok()["status"], "active");
    let roles = world.local(Method::PUT, &format!("{one}/roles"), Some(json!({ "roles": [] }))).await.ok();
    assert_eq!(roles["roles"], json!([]));
    let password = json!({ "password": "another correct battery of cheese" });
    world.local(Method::PUT, &format!("{one}/password"), Some(password)).await.ok();
    assert_eq!(world.delete(&one).await.status, 204);
    world.get(&one).await.refused(404, "object.not_found");
    let audit = world.get("/projects/shop/audit?limit=7").await.ok();
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "user.delete",
            "user.set_password",
            "user.set_roles",
            "user.activate",
            "user.suspend",
            "user.sign_in_link",
            "user.create"
        ]
    );
    assert!(!audit.to_string().contains("battery"), "no password in the audit log");
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let world = World::new().await;
    world.project("shop").await;
    for name in ["a", "b", "c", "d", "e"] {
        world.post("/projects/shop/users", json!({ "email": format!("{name}@shop.example") })).await.ok();
    }
    let (mut seen, mut path) = (Vec::new(), "/projects/shop/users?limit=2".to_owned());
    loop {
        let page = world.get(&path).await.ok();
        assert!(page["items"].as_array().unwrap().len() <= 2);
        seen.extend(page["items"].as_array().unwrap().iter().map(|row| row["email"].clone()));
        match page["next"].as_str() {
            Some(next) => path = format!("/projects/shop/users?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(
        seen,
        ["a@shop.example", "b@shop.example", "c@shop.example", "d@shop.example", "e@shop.example"]
    );
}

#[tokio::test]
async fn r21_a_connection_key_is_shown_once_and_bound_to_its_environment() {
    let world = World::new().await;
    world.project("shop").await;
    let made = world.post("/projects/shop/api-keys", json!({ "scopes": ["connect"] })).await.ok();
    let secret = made["secret"].as_str().unwrap().to_owned();
    let key: ConnectionKey = secret.parse().unwrap();
    let environment = world.get("/projects/shop/environments/production").await.ok();
    assert_eq!(json!(key.environment), environment["id"]);
    assert_eq!((key.host.as_str(), key.port), ("connect.mezu.localhost", 8443));
    assert_eq!(made["key"]["account_name"], "connect-production");
    assert!(secret.ends_with(made["key"]["hint"].as_str().unwrap()));
    let id = made["key"]["id"].as_str().unwrap();
    let shown = world.get(&format!("/projects/shop/api-keys/{id}")).await.ok();
    assert_eq!(shown["state"], "live");
    assert_eq!(shown["hint"], made["key"]["hint"], "a list tells keys apart by what their holders see");
    for text in [shown.to_string(), world.get("/audit").await.ok().to_string()] {
        assert!(!text.contains(&secret) && !text.contains(&key.key.secret.reveal()));
    }
}

#[tokio::test]
async fn r21_a_rotation_keeps_two_live_keys_until_the_first_is_revoked() {
    let world = World::new().await;
    world.project("shop").await;
    let keys = "/projects/shop/api-keys";
    let first = world.post(keys, json!({ "scopes": ["routes:read"] })).await.ok();
    let id = first["key"]["id"].as_str().unwrap();
    world.advance(1);
    let second = world.post(&format!("{keys}/{id}/rotate"), json!({ "expires_in_s": 3600 })).await.ok();
    assert_eq!(second["key"]["scopes"], json!(["routes:read"]));
    let third = world.post(&format!("{keys}/{id}/rotate"), json!({})).await;
    third.refused(409, "limit.reached");
    assert!(third.text("/next").contains("revoke"));
    let try_it = async |key: &Value| {
        let routes = "/projects/shop/environments/production/routes";
        world.by_key(key["secret"].as_str().unwrap(), Method::GET, routes, None).await
    };
    try_it(&first).await.ok();
    try_it(&second).await.ok();
    world.delete(&format!("{keys}/{id}")).await.ok();
    try_it(&first).await.refused(401, "key.revoked");
    try_it(&second).await.ok();
    world.advance(3600);
    try_it(&second).await.refused(401, "key.expired");
    let states: Vec<_> =
        world.get(keys).await.ok()["items"].as_array().unwrap().iter().map(|k| k["state"].clone()).collect();
    assert_eq!(states, ["expired", "revoked"], "newest first");
}

#[tokio::test]
async fn an_operator_key_administers_every_tenant_as_far_as_its_permissions_go() {
    let world = World::new().await;
    world.project("shop").await;
    let body = json!({ "name": "ci", "permissions": ["projects:read", "routes:write"] });
    let made = world.post("/operator-keys", body).await.ok();
    let key = made["secret"].as_str().unwrap();
    world.by_key(key, Method::GET, "/projects/shop", None).await.ok();
    let routes = "/projects/shop/environments/production/routes";
    world.by_key(key, Method::POST, routes, Some(json!({ "path": "/*", "auth": "public" }))).await.ok();
    world.by_key(key, Method::GET, "/installation", None).await.refused(403, "caller.forbidden");
    let me = world.by_key(key, Method::GET, "/whoami", None).await.ok();
    assert_eq!(me["permissions"], json!(["projects:read", "routes:write"]));
    assert_eq!(me["project"], Value::Null);
    let all = world.post("/operator-keys", json!({ "name": "root" })).await.ok();
    world.by_key(all["secret"].as_str().unwrap(), Method::GET, "/installation", None).await.ok();
}

#[tokio::test]
async fn an_operator_gets_a_new_sign_in_link_by_address() {
    let world = World::new().await;
    let made = world.post("/operators/operator@mezu.localhost/sign-in-link", json!({})).await.ok();
    assert!(made["url"].as_str().unwrap().starts_with("https://login.mezu.localhost:8443/first-sign-in/"));
    world
        .post("/operators/nobody@mezu.localhost/sign-in-link", json!({}))
        .await
        .refused(404, "object.not_found");
}

#[tokio::test]
async fn the_console_sends_whoever_opens_it_to_the_account_page() {
    let world = World::new().await;
    let request = Request::builder().uri("/").body(Body::empty()).unwrap();
    let got = world.console(request).await;
    assert_eq!(got.status, 307);
    assert_eq!(got.headers[header::LOCATION], "https://login.mezu.localhost:8443/account");
}

#[tokio::test]
async fn r18_every_answer_of_the_api_carries_the_security_headers() {
    let world = World::new().await;
    for path in ["/installation", "/nothing", "/projects/none"] {
        let got = world.get(path).await;
        for name in [
            "strict-transport-security",
            "content-security-policy",
            "x-content-type-options",
            "cache-control",
        ] {
            assert!(got.headers.contains_key(name), "{name} of {path}");
        }
    }
}
