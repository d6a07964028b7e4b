//! What would become of a request, found by its address: what is told, and to whom.

use super::*;

async fn explain(world: &World, body: Value) -> Value {
    world.post("/explain", body).await.ok()
}

async fn shop() -> World {
    let world = World::new().await;
    world.project("shop").await;
    let roles = "/projects/shop/roles";
    let set = async |role: &str, permission: &str| {
        let body = json!({ "permissions": [permission] });
        world.local(Method::PUT, &format!("{roles}/{role}"), Some(body)).await.ok();
    };
    set("customer", "orders:read").await;
    set("manager", "orders:write").await;
    let route = async |body: Value| {
        world.post("/projects/shop/environments/production/routes", body).await.ok();
    };
    route(json!({ "path": "/*", "auth": "public" })).await;
    let require = json!({ "any_role": ["manager"], "all_permissions": ["orders:write"] });
    let networks = json!(["10.0.0.0/8"]);
    let closed = json!({ "path": "/admin/*", "auth": "required", "require": require, "networks": networks });
    route(closed).await;
    let ada = json!({ "email": "ada@shop.example", "name": "Ada", "roles": ["customer"] });
    world.post("/projects/shop/users", ada).await.ok();
    world
}

#[tokio::test]
async fn everything_that_is_lacking_is_told_with_what_would_change_it() {
    let world = shop().await;
    let url = "https://shop.localhost:8443/admin/x?a=1";
    let ada = json!({ "url": url, "user": "ada@shop.example", "from": "203.0.113.9" });
    let told = explain(&world, ada).await;
    assert_eq!((&told["verdict"]["status"], &told["verdict"]["reason"]), (&json!(403), &json!("network")));
    assert_eq!(told["lacks"].as_array().unwrap().len(), 3, "{told}");
    let changes: Vec<&str> =
        told["changes"].as_array().unwrap().iter().map(|change| change.as_str().unwrap()).collect();
    assert!(changes[0].contains("--network 10.0.0.0/8 --network 203.0.113.9"), "{changes:?}");
    let give = "mezusphere user set-roles shop ada@shop.example --role customer --role manager";
    assert!(changes.contains(&give), "{changes:?}");
    assert_eq!((&told["path"], &told["route"]["path"]), (&json!("/admin/x?a=1"), &json!("/admin/*")));
    assert_eq!(told["steps"], json!([]), "what is refused goes nowhere");
    // Without an address networks count as met.
    let told = explain(&world, json!({ "url": url, "user": "ada@shop.example" })).await;
    assert_eq!(told["verdict"]["reason"], "none_of_roles");
    let roles = json!({ "roles": ["customer", "manager"] });
    world.local(Method::PUT, "/projects/shop/users/ada@shop.example/roles", Some(roles)).await.ok();
    let told = explain(&world, json!({ "url": url, "user": "ada@shop.example", "from": "10.1.2.3" })).await;
    assert_eq!((&told["verdict"]["allowed"], &told["lacks"]), (&json!(true), &json!([])), "{told}");
    assert!(!told["steps"].as_array().unwrap().is_empty());
    let suspended = world.post("/projects/shop/users/ada@shop.example/suspend", json!({})).await;
    assert!(suspended.status < 300, "{}", suspended.body);
    let told = explain(&world, json!({ "url": url, "user": "ada@shop.example", "from": "10.1.2.3" })).await;
    assert_eq!(told["verdict"]["code"], "edge.sign_in_required");
    assert_eq!(told["changes"], json!(["mezusphere user activate shop ada@shop.example"]));
}

#[tokio::test]
async fn who_can_prove_themselves_again_is_told_apart_from_who_cannot() {
    let world = shop().await;
    let strong = json!({ "path": "/strong", "auth": "required", "step_up": { "acr": "aal2" } });
    world.post("/projects/shop/environments/production/routes", strong).await.ok();
    let robot = world.post("/projects/shop/service-accounts", json!({ "name": "robot" })).await.ok();
    for (user, status, code) in
        [(&json!("ada@shop.example"), 401, "edge.step_up_required"), (&robot["id"], 403, "edge.denied")]
    {
        let told = explain(&world, json!({ "url": "shop.localhost/strong", "user": user })).await;
        let verdict = (&told["verdict"]["status"], &told["verdict"]["code"], &told["verdict"]["reason"]);
        assert_eq!(verdict, (&json!(status), &json!(code), &json!("assurance")), "{told}");
    }
}

#[tokio::test]
async fn what_no_route_decides_is_told_too() {
    let world = shop().await;
    let rows = [
        ("nothing.localhost/", "edge.unknown_host", false),
        ("https://shop.localhost/.mezu/whoami", "", true),
        ("https://login.mezu.localhost/sign-in", "", true),
        ("https://shop.localhost/ADMIN/x", "edge.ambiguous_path", false),
        ("https://shop.localhost/a%00b", "edge.bad_path", false),
        ("http://shop.localhost/anything", "", true),
    ];
    for (url, code, allowed) in rows {
        let told = explain(&world, json!({ "url": url })).await;
        assert_eq!(
            (&told["verdict"]["code"], &told["verdict"]["allowed"]),
            (&json!(code), &json!(allowed)),
            "{url}"
        );
    }
    for url in ["", "ftp://shop.localhost/", "https://127.0.0.1/", "https://shop localhost/"] {
        world.post("/explain", json!({ "url": url })).await.refused(400, "request.invalid");
    }
    let bad = json!({ "url": "shop.localhost/", "at": "yesterday" });
    world.post("/explain", bad).await.refused(400, "request.invalid");
}

#[tokio::test]
async fn r22_another_projects_host_is_as_unknown_as_one_that_is_nobodys() {
    let world = shop().await;
    world.project("blog").await;
    let key = world.key("blog", &["routes:read", "users:read"]).await;
    let ask = async |url: &str| {
        let body = json!({ "url": url, "user": "ada@shop.example" });
        world.by_key(&key, Method::POST, "/explain", Some(body)).await.ok()
    };
    let (theirs, nobodys) = (ask("shop.localhost/").await, ask("shop.localhosh/").await);
    assert_eq!(theirs["verdict"], nobodys["verdict"]);
    for part in ["place", "caller", "route"] {
        assert_eq!((&theirs[part], &nobodys[part]), (&Value::Null, &Value::Null), "{part}");
    }
    let without_users = world.key("blog", &["routes:read"]).await;
    let body = json!({ "url": "blog.localhost/", "user": "ada@blog.example" });
    world.by_key(&without_users, Method::POST, "/explain", Some(body)).await.refused(403, "caller.forbidden");
}
