//! Directories over the admin API: their settings, sharing, and limits that become shorter.

use mezusphere_model::identity::Subject;

use super::session::{client, session};
use super::*;

const OWN: &str = "/projects/shop/directory";

/// A picture by its first octets.
const PNG: &str = "iVBORw0KGgpyZXN0";

async fn actions(world: &World, project: &str) -> Vec<(String, Value)> {
    let log = world.get(&format!("/projects/{project}/audit")).await.ok();
    let entries = log["items"].as_array().unwrap();
    entries.iter().map(|one| (one["action"].as_str().unwrap().to_owned(), one["detail"].clone())).collect()
}

#[tokio::test]
async fn settings_are_kept_shown_and_audited() {
    let world = World::new().await;
    world.project("shop").await;
    let plain = world.get(OWN).await.ok();
    assert_eq!((&plain["sign_up"], &plain["shared"]), (&json!("closed"), &json!(false)));
    assert_eq!((&plain["session_absolute_s"], &plain["projects"]), (&Value::Null, &json!(["shop"])));
    let changes = json!({
        "sign_up": "domains", "domains": ["@Shop.example", "b.example", "shop.EXAMPLE"],
        "session_absolute_s": 3600, "brand_name": " The Shop ", "colour": "#0A7C5B", "logo": PNG,
        "support": "https://shop.example/help", "mail_from_name": "Shop", "mail_reply_to": "help@shop.example",
    });
    let set = world.local(Method::PATCH, OWN, Some(changes)).await.ok();
    assert_eq!(world.get(OWN).await.ok(), set);
    for (field, value) in [
        ("sign_up", json!("domains")),
        ("domains", json!(["b.example", "shop.example"])),
        ("session_absolute_s", json!(3600)),
        ("session_idle_s", json!(3600)), // two hours, as the installation says, is longer than the whole
        ("brand_name", json!("The Shop")),
        ("colour", json!("#0a7c5b")),
        ("support", json!("https://shop.example/help")),
        ("mail_from_name", json!("Shop")),
        ("mail_reply_to", json!("help@shop.example")),
    ] {
        assert_eq!(set[field], value, "{field}");
    }
    assert_eq!(set["logo"]["media_type"], "image/png");
    // What is left out stays, what is null goes.
    let cleared =
        json!({ "logo": null, "colour": null, "session_absolute_s": null, "sign_up": "invitation" });
    let set = world.local(Method::PATCH, OWN, Some(cleared)).await.ok();
    for field in ["logo", "colour", "session_absolute_s", "session_idle_s"] {
        assert_eq!(set[field], Value::Null, "{field}");
    }
    assert_eq!((&set["brand_name"], &set["domains"]), (&json!("The Shop"), &json!([])));
    let log = actions(&world, "shop").await;
    let changes: Vec<_> = log.iter().filter(|(action, _)| action == "directory.set").collect();
    assert_eq!(changes.len(), 2);
    let newest = changes.iter().find(|(_, detail)| detail["changed"]["sign_up"]["mode"] == "invitation");
    assert_eq!(newest.unwrap().1["changed"]["sessions"], Value::Null);
}

#[tokio::test]
async fn a_setting_that_makes_no_sense_is_refused_by_name_and_nothing_changes() {
    let world = World::new().await;
    world.project("shop").await;
    let before = world.get(OWN).await.ok();
    let long = "x".repeat(61);
    let large = "A".repeat(64 * 1024 * 4 / 3 + 8);
    for (changes, field) in [
        (json!({ "sign_up": "domains" }), "domains"),
        (json!({ "sign_up": "domains", "domains": ["localhost"] }), "domains"),
        (json!({ "sign_up": "domains", "domains": ["exämple.de"] }), "domains"),
        (json!({ "sign_up": "open", "domains": ["a.example"] }), "domains"),
        (json!({ "session_absolute_s": 299 }), "session_absolute_s"),
        (json!({ "session_absolute_s": 400 * 24 * 3600 + 1 }), "session_absolute_s"),
        (json!({ "session_absolute_s": 3600, "session_idle_s": 59 }), "session_idle_s"),
        (json!({ "session_absolute_s": 3600, "session_idle_s": 3601 }), "session_idle_s"),
        (json!({ "session_absolute_s": null, "session_idle_s": 60 }), "session_idle_s"),
        (json!({ "brand_name": "a\r\nBcc: eve@evil.example" }), "brand_name"),
        (json!({ "brand_name": long }), "brand_name"),
        (json!({ "colour": "red" }), "colour"),
        (json!({ "colour": "#12345g" }), "colour"),
        (json!({ "logo": "PHN2Zz4=" }), "logo"),
        (json!({ "logo": "%" }), "logo"),
        (json!({ "logo": large }), "logo"),
        (json!({ "support": "javascript:alert(1)" }), "support"),
        (json!({ "support": "http://shop.example" }), "support"),
        (json!({ "mail_from_name": "Eve <eve@evil.example>" }), "mail_from_name"),
        (json!({ "mail_reply_to": "nobody" }), "mail_reply_to"),
    ] {
        let got = world.local(Method::PATCH, OWN, Some(changes.clone())).await;
        got.refused(422, "directory.invalid");
        assert!(got.text("/detail").starts_with(&format!("{field}: ")), "{changes}: {}", got.body);
    }
    assert_eq!(world.get(OWN).await.ok(), before);
    let operators = "/organizations/-/directories/operators";
    let open = world.local(Method::PATCH, operators, Some(json!({ "sign_up": "open" }))).await;
    open.refused(422, "directory.invalid");
}

#[tokio::test]
async fn r22_who_reaches_one_project_governs_no_account_that_others_share() {
    let world = World::new().await;
    world.post("/organizations/-/directories", json!({ "name": "people" })).await.ok();
    for slug in ["shop", "blog"] {
        world.post("/projects", json!({ "slug": slug, "directory": "people" })).await.ok();
        world.local(Method::PUT, &format!("/projects/{slug}/roles/editor"), Some(json!({}))).await.ok();
    }
    let ada = json!({ "email": "ada@shop.example", "roles": ["editor"] });
    world.post("/projects/shop/users", ada).await.ok();
    let seen = world.get("/projects/blog/users/ada@shop.example").await.ok();
    assert_eq!(seen["roles"], json!([]), "one account, roles in each project");
    let all = world.get("/organizations/-/directories/people").await.ok();
    assert_eq!((&all["projects"], &all["shared"]), (&json!(["blog", "shop"]), &json!(true)));

    let key = world.key("blog", &["users:read", "users:write", "projects:write"]).await;
    let ask = async |method, path: &str, body| {
        world.by_key(&key, method, &format!("/projects/blog{path}"), body).await
    };
    let own = ask(Method::GET, "/directory", None).await.ok();
    assert_eq!(own["projects"], json!(["blog"]), "which others there are is not told");
    ask(Method::GET, "/users/ada@shop.example", None).await.ok();
    let roles = json!({ "roles": ["editor"] });
    ask(Method::PUT, "/users/ada@shop.example/roles", Some(roles)).await.ok();
    for (method, path, body) in [
        (Method::PATCH, "/directory", Some(json!({ "sign_up": "open" }))),
        (Method::POST, "/users", Some(json!({ "email": "eve@evil.example" }))),
        (Method::PATCH, "/users/ada@shop.example", Some(json!({ "email": "eve@evil.example" }))),
        (Method::DELETE, "/users/ada@shop.example", None),
        (Method::POST, "/users/ada@shop.example/suspend", None),
        (Method::POST, "/users/ada@shop.example/activate", None),
        (Method::POST, "/users/ada@shop.example/deactivate", None),
        (Method::POST, "/users/ada@shop.example/sign-in-link", None),
        (Method::PUT, "/users/ada@shop.example/password", Some(json!({ "password": PASSWORD }))),
        (Method::DELETE, "/users/ada@shop.example/sessions", None),
        (Method::POST, "/user-imports", Some(json!([{ "email": "eve@evil.example" }]))),
        (Method::POST, "/invitations", Some(json!({ "email": "eve@evil.example" }))),
    ] {
        ask(method, path, body).await.refused(403, "directory.shared");
    }
    let users = world.get("/projects/shop/users").await.ok();
    assert_eq!(users["items"].as_array().unwrap().len(), 1);
    assert_eq!(users["items"][0]["status"], "active");
}

#[tokio::test]
async fn a_project_moves_to_a_shared_directory_while_nobody_is_lost_by_it() {
    let world = World::new().await;
    world.project("shop").await;
    world.post("/organizations/-/directories", json!({ "name": "people" })).await.ok();
    let twice = world.post("/organizations/-/directories", json!({ "name": "people" })).await;
    twice.refused(409, "object.exists");
    let to = |name: &str| Some(json!({ "directory": name }));
    world.post("/projects/shop/users", json!({ "email": "ada@shop.example" })).await.ok();
    world.local(Method::PUT, OWN, to("people")).await.refused(409, "object.in_use");
    world.delete("/projects/shop/users/ada@shop.example").await.ok();
    world.project("blog").await;
    world.local(Method::PUT, OWN, to("blog")).await.refused(422, "directory.invalid");
    world.local(Method::PUT, OWN, to("ghost")).await.refused(404, "object.not_found");
    world.local(Method::PUT, OWN, to("people")).await.ok();
    assert_eq!(world.get(OWN).await.ok()["name"], "people");
    let used = world.delete("/organizations/-/directories/people").await;
    used.refused(409, "object.in_use");
    assert!(used.text("/detail").contains("shop"));
    world.delete("/projects/shop").await.ok();
    world.delete("/organizations/-/directories/people").await.ok();
    world.get("/organizations/-/directories/people").await.refused(404, "object.not_found");
}

#[tokio::test]
async fn r12_shorter_limits_reach_sessions_that_exist() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let before = session(&world, &client).await.found.session;
    assert_eq!(before.expires_at, BEGIN.after(Duration::from_hours(12)));
    let limits = json!({ "session_absolute_s": 1800, "session_idle_s": 600 });
    world.local(Method::PATCH, OWN, Some(limits)).await.ok();
    world.control.shared.look_after_people().await.unwrap();
    let documents = world.documents(Partition::Project(before.project)).await;
    let now = documents.iter().find_map(|document| match document {
        Document::Session(doc) if doc.id == before.id => Some(doc),
        _ => None,
    });
    let now = now.unwrap();
    assert_eq!((now.expires_at, now.idle_s_max), (BEGIN.after(Duration::from_mins(30)), 600));
    assert!(
        documents
            .iter()
            .any(|one| matches!(one, Document::Principal(doc) if doc.subject == Subject::User(before.user)))
    );
}
