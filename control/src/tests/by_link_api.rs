//! What the JSON API does with a mailed link: signing up, and taking an invitation.

use super::sign_in_api::{ADA, Client, SHOP, mailed, refused, world};
use super::*;

const EVE: &str = "eve@shop.example";

async fn sign_up_policy(world: &World, policy: &str) {
    let change = json!({ "sign_up": policy });
    world.local(Method::PATCH, "/projects/shop/directory", Some(change)).await.ok();
}

async fn user(world: &World, email: &str) -> Value {
    world.get(&format!("/projects/shop/users/{email}")).await.ok()
}

#[tokio::test]
async fn somebody_signs_up_by_a_mailed_link_and_is_signed_in_where_they_wanted_to_go() {
    let world = world().await;
    sign_up_policy(&world, "open").await;
    let mut client = Client::new(&world);
    let begun = client.post("/sign-in", client.app("shop.localhost")).await.ok();
    assert_eq!(begun["sign_up"], true, "it is offered");
    let ask =
        |email: &str| json!({ "host": "shop.localhost", "email": email, "return_to": "/orders?page=2" });
    let (taken, free) = (client.post("/sign-up", ask(ADA)).await, client.post("/sign-up", ask(EVE)).await);
    assert_eq!((free.status, &free.body), (202, &json!({ "next": "inbox" })));
    assert_eq!((taken.status, taken.body, taken.headers), (free.status, free.body, free.headers), "r13");
    let link = mailed(&world, "sign_up").await;

    let open = client.post("/sign-up/link", json!({ "link": link })).await.ok();
    assert_eq!((&open["next"], &open["email"]), (&json!("choose"), &json!(EVE)));
    assert_eq!(open["onward"], format!("{SHOP}/orders?page=2"));
    refused(&client.post("/recovery/link", json!({ "link": link })).await, 410, "login.link_dead");
    let choose = |password: &str| json!({ "link": link, "name": "Eve", "password": password, "app": client.app("shop.localhost") });
    refused(&client.post("/sign-up/complete", choose("short")).await, 400, "login.password_too_short");
    let done = client.post("/sign-up/complete", choose(PASSWORD)).await.ok();
    assert_eq!((&done["next"], &done["account"]["email"]), (&json!("done"), &json!(EVE)));
    assert!(client.redeem(&done["hand_off"]["code"], "shop.localhost").await);
    refused(&client.post("/sign-up/complete", choose(PASSWORD)).await, 410, "login.link_dead");

    client.token = done["token"].as_str().map(str::to_owned);
    assert_eq!(client.get("/account").await.ok()["name"], "Eve");
    let made = user(&world, EVE).await;
    assert_eq!((&made["verified"], &made["roles"]), (&json!(true), &json!([])), "and may do nothing yet");
    Client::new(&world).sign_in("shop.localhost", EVE, PASSWORD).await.ok();
    let log = world.get("/projects/shop/audit").await.ok().to_string();
    assert!(log.contains("user.create") && !log.contains(&link), "{log}");
}

#[tokio::test]
async fn an_invitation_makes_an_account_with_its_roles_or_gives_them_to_the_one_that_is_there() {
    let world = world().await;
    sign_up_policy(&world, "invitation").await;
    world.local(Method::PUT, "/projects/shop/roles/editor", Some(json!({}))).await.ok();
    let invite = async |email: &str| {
        let asked = json!({ "email": email, "roles": ["editor"], "by": "Grace Hopper" });
        world.post("/projects/shop/invitations", asked).await.ok();
        mailed(&world, "invitation").await
    };
    let mut client = Client::new(&world);
    let link = invite(EVE).await;
    let open = client.post("/invitation/link", json!({ "link": link })).await.ok();
    assert_eq!(
        (&open["next"], &open["email"], &open["by"]),
        (&json!("choose"), &json!(EVE), &json!("Grace Hopper"))
    );
    refused(&client.post("/invitation/complete", json!({ "link": link })).await, 400, "login.incomplete");
    let accept =
        json!({ "link": link, "name": "Eve", "password": PASSWORD, "app": client.app("shop.localhost") });
    let done = client.post("/invitation/complete", accept.clone()).await.ok();
    assert_eq!((&done["next"], &done["account"]["email"]), (&json!("done"), &json!(EVE)));
    assert!(client.redeem(&done["hand_off"]["code"], "shop.localhost").await);
    client.token = done["token"].as_str().map(str::to_owned);
    assert_eq!(client.get("/account").await.status, 200);
    assert_eq!(user(&world, EVE).await["roles"], json!(["editor"]));
    refused(&client.post("/invitation/complete", accept).await, 410, "login.link_dead");

    // Who has an account joins with one word, and is not signed in by it: a link in a mail is no password (R17).
    let link = invite(ADA).await;
    let open = client.post("/invitation/link", json!({ "link": link })).await.ok();
    assert_eq!((&open["next"], &open["name"]), (&json!("join"), &json!("Ada Lovelace")));
    assert_eq!(user(&world, ADA).await["roles"], json!([]));
    let joined = client.post("/invitation/complete", json!({ "link": link })).await.ok();
    assert_eq!(joined, json!({ "next": "sign_in" }));
    assert_eq!(user(&world, ADA).await["roles"], json!(["editor"]));
    refused(&client.post("/invitation/complete", json!({ "link": link })).await, 410, "login.link_dead");
}

#[tokio::test]
async fn the_job_writes_down_attempts_while_it_runs_and_what_is_left_when_it_ends() {
    let world = world().await;
    let mut client = Client::new(&world);
    let history = async || {
        let listed = world.get(&format!("/projects/shop/users/{ADA}/history")).await.ok();
        let items = listed["items"].as_array().unwrap().clone();
        items.iter().filter(|item| item["outcome"] == "wrong_password").count()
    };
    client.sign_in("shop.localhost", ADA, "not the password at all").await;
    assert_eq!(history().await, 0, "noted, not written");
    let jobs = world.control.start_jobs();
    let written = async {
        while history().await < 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.expect("the job does not write");
    client.sign_in("shop.localhost", ADA, "nor this one, by the way").await;
    jobs.stop().await;
    assert_eq!(history().await, 2, "what is left is written at the end");
}
