//! Users over the admin API: finding and changing them, their sessions and history, invitations and imports.

use std::collections::BTreeSet;

use mezusphere_store::primary::{PageRequest, mail};

use super::session::{client, session};
use super::*;
use crate::mail::{MailConfig, MailFigures, MailWay};

const USERS: &str = "/projects/shop/users";

async fn emails(world: &World, query: &str) -> BTreeSet<String> {
    let page = world.get(&format!("{USERS}{query}")).await.ok();
    assert_eq!(page["next"], Value::Null, "{page}");
    page["items"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect()
}

fn set<const N: usize>(emails: [&str; N]) -> BTreeSet<String> {
    emails.map(str::to_owned).into()
}

#[tokio::test]
async fn users_are_found_by_text_status_and_role() {
    let world = World::new().await;
    world.project("shop").await;
    world.local(Method::PUT, "/projects/shop/roles/editor", Some(json!({}))).await.ok();
    for (email, name, roles) in [
        ("ada@shop.example", "Ada Lovelace", json!(["editor"])),
        ("bob+x@shop.example", "Bob Adams", json!([])),
        ("cy@shop.example", "Cy", json!(["editor"])),
    ] {
        world.post(USERS, json!({ "email": email, "name": name, "roles": roles })).await.ok();
    }
    world.post(&format!("{USERS}/cy@shop.example/deactivate"), json!({})).await.ok();
    assert_eq!(emails(&world, "?search=ada").await, set(["ada@shop.example", "bob+x@shop.example"]));
    assert_eq!(emails(&world, "?search=bob%2Bx").await, set(["bob+x@shop.example"]));
    assert_eq!(emails(&world, "?role=editor").await, set(["ada@shop.example", "cy@shop.example"]));
    assert_eq!(emails(&world, "?role=editor&status=active&search=love").await, set(["ada@shop.example"]));
    assert_eq!(emails(&world, "?status=deactivated").await, set(["cy@shop.example"]));
    for bad in ["?searhc=ada", "?status=gone", "?limit=0", "?role=a%20b"] {
        world.get(&format!("{USERS}{bad}")).await.refused(400, "request.invalid");
    }
    let long = "x".repeat(201);
    world.get(&format!("{USERS}?search={long}")).await.refused(400, "request.invalid");
    let one = world.get(&format!("{USERS}?limit=1&search=a")).await.ok();
    let next = one["next"].as_str().unwrap().replace(' ', "%20").replace('+', "%2B");
    let two = world.get(&format!("{USERS}?limit=1&search=a&after={next}")).await.ok();
    assert_ne!(one["items"][0]["email"], two["items"][0]["email"]);
}

#[tokio::test]
async fn a_change_of_a_user_is_whole_audited_and_checked() {
    let world = World::new().await;
    world.project("shop").await;
    let ada = format!("{USERS}/ada@shop.example");
    let made = world.post(USERS, json!({ "email": "ada@shop.example", "verified": true })).await.ok();
    assert_eq!((&made["verified"], &made["signed_in_at"]), (&json!(true), &Value::Null));
    let claims = json!({ "plan": "pro", "seats": 3 });
    let changed =
        world.local(Method::PATCH, &ada, Some(json!({ "name": "Ada", "claims": claims }))).await.ok();
    assert_eq!(
        (&changed["name"], &changed["claims"], &changed["verified"]),
        (&json!("Ada"), &claims, &json!(true))
    );
    assert_eq!(changed["display_name"], "", "none until one is set");
    for called in ["Countess", ""] {
        let set = json!({ "display_name": called });
        let changed = world.local(Method::PATCH, &ada, Some(set)).await.ok();
        assert_eq!((&changed["display_name"], &changed["name"]), (&json!(called), &json!("Ada")));
    }
    let moved = world.local(Method::PATCH, &ada, Some(json!({ "email": "ada@new.example" }))).await.ok();
    assert_eq!((&moved["email"], &moved["verified"]), (&json!("ada@new.example"), &json!(false)));
    let ada = format!("{USERS}/ada@new.example");
    let known = world.local(Method::PATCH, &ada, Some(json!({ "verified": true }))).await.ok();
    assert_eq!(known["verified"], true);
    for (body, code) in [
        (json!({ "claims": { "sub": "usr_x" } }), "claims.invalid"),
        (json!({ "claims": { "a": null } }), "claims.invalid"),
        (json!({ "email": "nobody" }), "email.invalid"),
        (json!({ "name": "" }), "name.invalid"),
        (json!({ "display_name": "two\nlines" }), "name.invalid"),
    ] {
        world.local(Method::PATCH, &ada, Some(body)).await.refused(422, code);
    }
    let create = json!({ "email": "eve@shop.example", "claims": { "roles": ["admin"] } });
    world.post(USERS, create).await.refused(422, "claims.invalid");
    let log = world.get("/projects/shop/audit").await.ok().to_string();
    assert_eq!(log.matches("user.set\"").count(), 5, "{log}");
    assert!(log.contains("\"display_name\":\"Countess\"") && log.contains("\"display_name\":\"\""), "{log}");
    assert!(
        log.contains("ada@new.example") && !log.contains("\"pro\""),
        "values of claims are not for the log: {log}"
    );
}

#[tokio::test]
async fn r12_an_operator_sees_where_a_user_is_signed_in_and_ends_it() {
    let world = World::new().await;
    let client = client(&world, "shop").await;
    let doc = session(&world, &client).await.found.session;
    let sessions = format!("{USERS}/ada@shop.example/sessions");
    let listed = world.get(&sessions).await.ok();
    let one = &listed["items"][0];
    assert_eq!((&one["hosts"], &one["methods"]), (&json!(["shop.localhost"]), &json!(["pwd"])));
    assert_eq!(one["address"], "203.0.113.7");
    let published = async || {
        let documents = world.documents(Partition::Project(doc.project)).await;
        documents.iter().any(|one| matches!(one, Document::Session(one) if one.id == doc.id))
    };
    assert!(published().await);
    world.delete(&format!("{sessions}/{}", one["id"].as_str().unwrap())).await.ok();
    assert!(!published().await, "no edge lets it in any more");
    assert_eq!(world.get(&sessions).await.ok()["items"], json!([]));
    assert_eq!(world.delete(&sessions).await.ok(), json!({ "ended": 0 }));
    let history = world.get(&format!("{USERS}/ada@shop.example/history")).await.ok();
    let newest = &history["items"][0];
    assert_eq!((&newest["outcome"], &newest["agent"]), (&json!("session_ended"), &json!("operator")));
    let user = world.get(&format!("{USERS}/ada@shop.example")).await.ok();
    assert_eq!(user["signed_in_at"], BEGIN.to_string());
    let log = world.get("/projects/shop/audit").await.ok().to_string();
    assert!(log.contains("user.end_session") && log.contains("user.sign_out"), "{log}");
}

#[tokio::test]
async fn people_are_invited_by_mail_or_not_at_all() {
    let invitations = "/projects/shop/invitations";
    let world = World::new().await;
    world.project("shop").await;
    world.post(invitations, json!({ "email": "ada@shop.example" })).await.refused(409, "mail.off");
    let sender = "Shop <no-reply@shop.example>".parse().unwrap();
    let config = MailConfig { sender, way: MailWay::Log, figures: MailFigures::default() };
    let world = world.restart(ControlConfig { mail: Some(config), ..development() }).await;
    world.local(Method::PUT, "/projects/shop/roles/editor", Some(json!({}))).await.ok();
    let asked = json!({ "email": "ada@shop.example", "roles": ["editor"], "by": "Grace" });
    let closed = world.post(invitations, asked.clone()).await;
    closed.refused(422, "directory.invalid");
    assert!(closed.text("/next").contains("--sign-up invitation"));
    let open = json!({ "sign_up": "invitation" });
    world.local(Method::PATCH, "/projects/shop/directory", Some(open)).await.ok();
    world
        .post(invitations, json!({ "email": "a@b.example", "roles": ["ghost"] }))
        .await
        .refused(422, "role.unknown");
    let made = world.post(invitations, asked.clone()).await.ok();
    assert_eq!((&made["by"], &made["roles"]), (&json!("Grace"), &json!(["editor"])));
    assert_eq!(world.get(invitations).await.ok()["items"], json!([made]));
    let waiting =
        world.primary.read(async |tx| mail::list(tx, None, &PageRequest::first()).await).await.unwrap();
    assert_eq!(waiting.rows.len(), 1, "its mail is queued");
    let again = world.post(invitations, asked).await.ok();
    assert_eq!(world.get(invitations).await.ok()["items"], json!([again]), "the newer replaces the older");
    world.delete(&format!("{invitations}/{}", again["id"].as_str().unwrap())).await.ok();
    assert_eq!(world.get(invitations).await.ok()["items"], json!([]));
    world
        .delete(&format!("{invitations}/{}", again["id"].as_str().unwrap()))
        .await
        .refused(404, "object.not_found");
    let log = world.get("/projects/shop/audit").await.ok().to_string();
    assert!(log.contains("user.invite") && log.contains("user.uninvite"), "{log}");
}

#[tokio::test]
async fn a_new_password_that_an_operator_sets_is_told_to_its_user() {
    let sender = "Shop <no-reply@shop.example>".parse().unwrap();
    let config = MailConfig { sender, way: MailWay::Log, figures: MailFigures::default() };
    let world = World::with(ControlConfig { mail: Some(config), ..development() }).await;
    world.project("shop").await;
    world.post(USERS, json!({ "email": "ada@shop.example", "password": PASSWORD })).await.ok();
    let set = json!({ "password": "a quite different gouda battery" });
    world.local(Method::PUT, &format!("{USERS}/ada@shop.example/password"), Some(set)).await.ok();
    let waiting =
        world.primary.read(async |tx| mail::list(tx, None, &PageRequest::first()).await).await.unwrap();
    let [told] = &waiting.rows[..] else { panic!("{} mails", waiting.rows.len()) };
    assert_eq!((told.recipient.as_str(), told.kind.as_str()), ("ada@shop.example", "password_changed"));
    let history = world.get(&format!("{USERS}/ada@shop.example/history")).await.ok();
    let newest = &history["items"][0];
    assert_eq!((&newest["outcome"], &newest["agent"]), (&json!("password_changed"), &json!("operator")));
}

async fn import(world: &World, query: &str, kind: &str, file: &str) -> Got {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/api/v1/projects/shop/user-imports{query}"))
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(file.to_owned()))
        .unwrap();
    send(world.control.local_admin(), request).await
}

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AQEBAQEBAQEBAQEBAQEBAQ$AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";

async fn shop() -> World {
    let world = World::new().await;
    world.project("shop").await;
    for role in ["editor", "reader"] {
        world.local(Method::PUT, &format!("/projects/shop/roles/{role}"), Some(json!({}))).await.ok();
    }
    world
}

#[tokio::test]
async fn a_file_of_users_is_tried_then_added_in_both_forms() {
    let world = shop().await;
    let csv = format!(
        "\u{feff}email,name,display_name,roles,status,verified,claims,password_hash\r\n\
         ada@shop.example,\"Lovelace, Ada\",Countess,editor;reader,active,true,\"{{\"\"plan\"\": \"\"pro\"\"}}\",\"{HASH}\"\r\n\
         \r\n\
         bob@shop.example,,,,,,,\n"
    );
    let tried = import(&world, "?dry_run=true", "text/csv", &csv).await.ok();
    let expected = json!({ "applied": false, "users": 2, "skipped": 0, "errors": 0, "problems": [] });
    assert_eq!(tried, expected);
    assert_eq!(emails(&world, "").await, set([]));
    let done = import(&world, "", "text/csv; charset=utf-8", &csv).await.ok();
    assert_eq!((&done["applied"], &done["users"]), (&json!(true), &json!(2)));
    let ada = world.get(&format!("{USERS}/ada@shop.example")).await.ok();
    for (field, value) in [
        ("name", json!("Lovelace, Ada")),
        ("display_name", json!("Countess")),
        ("roles", json!(["editor", "reader"])),
        ("verified", json!(true)),
        ("claims", json!({ "plan": "pro" })),
        ("has_password", json!(true)),
    ] {
        assert_eq!(ada[field], value, "{field}");
    }
    assert_eq!(world.get(&format!("{USERS}/bob@shop.example")).await.ok()["name"], "bob");
    assert_eq!(emails(&world, "?search=countess").await, set(["ada@shop.example"]));

    let array = r#"[ {"email": "cy@shop.example", "roles": ["reader"], "status": "suspended"},
                     {"email": "di@shop.example", "name": "Di \"}\" Q", "display_name": " Dee "} ]"#;
    assert_eq!(import(&world, "", "application/json", array).await.ok()["users"], 2);
    assert_eq!(world.get(&format!("{USERS}/di@shop.example")).await.ok()["display_name"], "Dee");
    let lines = "{\"email\":\"ed@shop.example\"}\n{\"email\":\"ada@shop.example\"}\n";
    let held = import(&world, "", "application/json", lines).await.ok();
    assert_eq!(
        (&held["applied"], &held["errors"], &held["problems"][0]["line"]),
        (&json!(false), &json!(1), &json!(2))
    );
    let some = import(&world, "?skip_existing=true", "application/json", lines).await.ok();
    assert_eq!((&some["applied"], &some["users"], &some["skipped"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!(emails(&world, "?search=q").await, set(["di@shop.example"]));
    assert_eq!(emails(&world, "?status=suspended").await, set(["cy@shop.example"]));
    assert_eq!(emails(&world, "").await.len(), 5);
    let log = world.get("/projects/shop/audit").await.ok().to_string();
    assert_eq!(log.matches("user.import").count(), 3, "{log}");
    assert!(!log.contains("argon2"), "{log}");
}

#[tokio::test]
async fn every_mistake_is_told_with_its_line_and_nobody_is_added() {
    let world = shop().await;
    let csv = "email,name,roles,status,verified,claims,password_hash\n\
               good@shop.example,,,,,,\n\
               nobody,,,,,,\n\
               Good@shop.example,,,,,,\n\
               a@shop.example,,ghost,,,,\n\
               b@shop.example,,,gone,,,\n\
               c@shop.example,,,,maybe,,\n\
               d@shop.example,,,,,[1],\n\
               e@shop.example,,,,,\"{\"\"sub\"\": 1}\",\n\
               f@shop.example,,,,,,hunter2\n\
               g@shop.example,\"two\nlines\",,,,,\n\
               h@shop.example,,\n";
    for query in ["?dry_run=true", "", "?skip_existing=true"] {
        let got = import(&world, query, "text/csv", csv).await.ok();
        assert_eq!((&got["applied"], &got["users"], &got["errors"]), (&json!(false), &json!(1), &json!(10)));
        let told: Vec<_> = got["problems"].as_array().unwrap().iter().collect();
        let told: Vec<_> =
            told.iter().map(|one| (one["line"].as_u64().unwrap(), one["reason"].as_str().unwrap())).collect();
        let expected = [
            (3, "email"),
            (4, "email: the same address as on line 2"),
            (5, "roles"),
            (6, "status"),
            (7, "verified"),
            (8, "claims"),
            (9, "claims"),
            (10, "password_hash"),
            (11, "name"),
            (13, "3 columns"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for ((line, reason), (at, begins)) in told.iter().zip(expected) {
            assert!(*line == at && reason.starts_with(begins), "{line} {reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }
    assert_eq!(emails(&world, "").await, set([]));
}

#[tokio::test]
async fn a_file_that_is_none_is_refused_where_that_shows() {
    let world = shop().await;
    let long = format!("email\n\"{}", "x".repeat(70_000));
    for (kind, file, line, reason) in [
        ("text/csv", "email,password\na@b.example,secret\n", 1, "plain passwords are not taken"),
        ("text/csv", "mail\na@b.example\n", 1, "the first line must name"),
        ("text/csv", "name\nAda\n", 1, "the first line must name"),
        ("text/csv", "email,email\na,b\n", 1, "the first line must name"),
        ("text/csv", &long, 2, "longer than"),
        ("application/json", "hello", 1, "not an array"),
        ("application/json", "\n[1]", 2, "not an array"),
        ("application/json", "[{\"email\": \"a@b.example\"}", 1, "the file breaks off"),
        ("application/json", "[] {\"email\": \"a@b.example\"}", 1, "not an array"),
        ("application/json", "\n{\"email\": \"a@b.example\", \"password\": \"x\"}", 2, "plain passwords"),
        ("application/json", "{\"email\": \"a@b.example\", \"admin\": true}", 1, "unknown field `admin`"),
    ] {
        let got = import(&world, "", kind, file).await.ok();
        let first = &got["problems"][0];
        assert_eq!((&got["applied"], first["line"].as_u64()), (&json!(false), Some(line)), "{file}: {got}");
        assert!(first["reason"].as_str().unwrap().starts_with(reason), "{file}: {got}");
    }
    import(&world, "", "text/plain", "email\n").await.refused(415, "request.media_type");
    import(&world, "?dry-run=true", "text/csv", "email\n").await.refused(400, "request.invalid");
    assert_eq!(emails(&world, "").await, set([]));
}
