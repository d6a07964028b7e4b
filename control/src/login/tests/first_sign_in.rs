//! The one-time link.

use std::time::Duration;

use mezusphere_identity::flow::first_sign_in as flow;
use mezusphere_store::WriteError;

use super::browser::{Answer, Browser};
use super::world::World;

const NEW: &str = "violet otter on nine stilts";

async fn link(world: &World) -> String {
    let user = world.user(world.home, "new@mezu.localhost", None).await;
    let now = world.hand.clock().now();
    let make = world
        .primary
        .write(async |tx| flow::create_link(tx, &world.entropy, user.directory, user.id, now).await);
    let token: Result<_, WriteError> = make.await;
    flow::path(&token.unwrap())
}

async fn choose(browser: &mut Browser<'_>, path: &str, password: &str, repeat: &str) -> Answer {
    let form = browser.get(path).await.form();
    browser.post(path, &[("form", &form), ("password", password), ("repeat", repeat)]).await
}

#[tokio::test]
async fn r17_a_link_sets_a_password_and_signs_in_once() {
    let world = World::new().await;
    let path = link(&world).await;
    let mut browser = Browser::new(&world);
    for _ in 0..3 {
        let page = browser.get(&path).await;
        assert_eq!(page.status, 200, "looking consumes nothing");
        assert!(
            page.body.contains("new@mezu.localhost") && page.body.contains("autocomplete=\"new-password\"")
        );
    }
    assert_eq!(choose(&mut browser, &path, NEW, NEW).await.location(), "/account");
    assert!(browser.get("/account").await.body.contains("new@mezu.localhost"));
    assert_eq!(world.audited().await, ["password.set", "sign_in.begin"]);
    let used = browser.get(&path).await;
    assert_eq!((used.status, used.code()), (410, "login.link_dead"));
    let mut elsewhere = Browser::new(&world);
    assert_eq!(elsewhere.sign_in("/sign-in", "new@mezu.localhost", NEW).await.location(), "/account");
}

#[tokio::test]
async fn r14_a_weak_or_mistyped_password_leaves_the_link_good() {
    let world = World::new().await;
    let path = link(&world).await;
    let mut browser = Browser::new(&world);
    let rows = [
        ("short", "short", "too short"),
        ("passwordpassword", "passwordpassword", "too easy"),
        ("new@mezu.localhost", "new@mezu.localhost", "too easy"),
        (NEW, "something else entirely", "not the same"),
    ];
    for (password, repeat, says) in rows {
        let answer = choose(&mut browser, &path, password, repeat).await;
        assert_eq!(answer.status, 400, "{password}");
        assert!(answer.body.contains(says), "{password}: {}", answer.body);
        assert!(!answer.body.contains(&format!("value=\"{password}\"")) || password.contains('@'));
    }
    let long = "x".repeat(129);
    assert!(choose(&mut browser, &path, &long, &long).await.body.contains("at most 128"));
    assert_eq!(choose(&mut browser, &path, NEW, NEW).await.location(), "/account");
}

#[tokio::test]
async fn r17_every_dead_link_gets_the_same_answer() {
    let world = World::new().await;
    let path = link(&world).await;
    let mut browser = Browser::new(&world);
    let form = browser.get(&path).await.form();
    world.hand.advance(Duration::from_mins(30));
    let unknown = format!("/first-sign-in/{}", "A".repeat(43));
    let mut bodies = Vec::new();
    for dead in [path.as_str(), &unknown, "/first-sign-in/short", "/first-sign-in/%00"] {
        let shown = browser.get(dead).await;
        assert_eq!(shown.status, 410, "{dead}");
        bodies.push(shown.body);
        let sent = browser.post(dead, &[("form", &form), ("password", NEW), ("repeat", NEW)]).await;
        assert_eq!(sent.status, 410, "{dead}");
        bodies.push(sent.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn r16_a_form_of_one_link_does_not_fit_another() {
    let world = World::new().await;
    let path = link(&world).await;
    let other = world.user(world.home, "other@mezu.localhost", None).await;
    let now = world.hand.clock().now();
    let token: Result<_, WriteError> = world
        .primary
        .write(async |tx| flow::create_link(tx, &world.entropy, other.directory, other.id, now).await)
        .await;
    let other = flow::path(&token.unwrap());
    let mut browser = Browser::new(&world);
    let form = browser.get(&path).await.form();
    let answer = browser.post(&other, &[("form", &form), ("password", NEW), ("repeat", NEW)]).await;
    assert_eq!((answer.status, answer.code()), (403, "login.form_stale"));
    assert_eq!(browser.get(&other).await.status, 200, "and is still good");
}
