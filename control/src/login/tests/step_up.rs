//! The password once more, another account, and a second factor that nobody has.

use std::time::Duration;

use super::browser::{Answer, Browser, TO_SHOP};
use super::world::{GOOD, World};
use crate::login::cookie;

const ADA: &str = "ada@shop.example";

fn asking(what: &str) -> String {
    format!("{TO_SHOP}&{what}")
}

async fn confirm(browser: &mut Browser<'_>, page: &Answer, password: &str) -> Answer {
    let form = page.form();
    browser.post("/confirm", &[("form", &form), ("password", password)]).await
}

#[tokio::test]
async fn a_sign_in_that_is_too_old_is_confirmed_and_leads_to_the_same_place() {
    let world = World::with_mail().await;
    let mut browser = Browser::new(&world);
    let fresh = browser.sign_in(&asking("max_age=600"), ADA, GOOD).await;
    assert!(
        fresh.location().starts_with("https://shop.localhost:8443/.mezu/callback?code="),
        "fresh is enough"
    );
    assert_eq!(browser.get(&asking("max_age=600")).await.status, 303);
    world.hand.advance(Duration::from_secs(601));
    let page = browser.get(&asking("max_age=600")).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Confirm it’s you") && page.body.contains(ADA), "{}", page.body);
    assert!(!page.body.contains("type=\"email\""), "the account is settled");
    assert!(page.body.contains("prompt=login"), "the way to another account");
    let wrong = confirm(&mut browser, &page, "wrong").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.body.contains("That is not your password"));
    let held = browser.cookies[cookie::SIGN_IN].clone();
    let done = confirm(&mut browser, &wrong, GOOD).await;
    assert!(done.location().starts_with("https://shop.localhost:8443/.mezu/callback?code="));
    assert_ne!(browser.cookies[cookie::SIGN_IN], held, "a new token (R11)");
    assert_eq!(browser.get(&asking("max_age=600")).await.status, 303, "no second time");
    let mut old = Browser::new(&world);
    old.cookies.insert(cookie::SIGN_IN.to_owned(), held);
    assert!(old.get(TO_SHOP).await.body.contains("type=\"email\""), "the old token is dead");
    assert_eq!(world.audited().await, ["sign_in.begin", "sign_in.step_up"]);
}

#[tokio::test]
async fn a_confirmation_is_for_the_sign_in_it_was_opened_with() {
    let world = World::new().await;
    world.user(world.shop.directory, "eve@shop.example", Some(GOOD)).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    world.hand.advance(Duration::from_mins(20));
    let page = browser.get(&asking("max_age=600")).await;
    let form = browser.get(&asking("prompt=login")).await.form();
    let eve = [("form", form.as_str()), ("email", "eve@shop.example"), ("password", GOOD)];
    browser.post("/sign-in", &eve).await.location();
    let answer = confirm(&mut browser, &page, GOOD).await;
    assert_eq!((answer.status, answer.code()), (403, "login.other_account"));
    browser.cookies.remove(cookie::SIGN_IN);
    let answer = confirm(&mut browser, &page, GOOD).await;
    assert_eq!((answer.status, answer.code()), (403, "login.session_over"));
    assert!(answer.body.contains("href=\"/sign-in?host=shop.localhost&#38;"), "back to the same place");
    let stale = browser.post("/confirm", &[("form", "x.y"), ("password", GOOD)]).await;
    assert_eq!(stale.code(), "login.form_stale");
}

#[tokio::test]
async fn a_second_factor_that_nobody_has_is_told_calmly_with_a_way_back() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    // Whoever signs in is told after the password, not led round in a circle.
    let entered = browser.sign_in(&asking("acr=aal2&max_age=600"), ADA, GOOD).await;
    let next = entered.location().to_owned();
    assert!(next.starts_with("/sign-in?") && next.contains("acr=aal2"), "{next}");
    let page = browser.get(&next).await;
    assert_eq!(page.status, 403);
    for part in ["A second factor is needed", "href=\"https://shop.localhost:8443/\"", ADA, "prompt=login"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    assert_eq!(browser.get(&asking("acr=aal1")).await.status, 303, "what it has is enough for that");
}

#[tokio::test]
async fn another_account_can_be_chosen() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let page = browser.get(&asking("prompt=select_account")).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Choose an account") && page.body.contains(ADA), "{}", page.body);
    let links: Vec<String> = page
        .body
        .split("class=\"pick\" href=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().replace("&#38;", "&"))
        .collect();
    assert_eq!(browser.get(&links[0]).await.status, 303, "as they are");
    let form = browser.get(&links[1]).await;
    assert!(form.body.contains("type=\"email\"") && !form.body.contains(ADA), "an empty form");
}

#[tokio::test]
async fn nonsense_in_what_is_asked_for_is_refused() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    for what in [
        "max_age=x",
        "max_age=-1",
        "max_age=99999999999",
        "max_age=1&max_age=2",
        "acr=aal9",
        "acr=",
        "prompt=none",
        "directory=dir_x",
    ] {
        let answer = browser.get(&asking(what)).await;
        assert_eq!((answer.status, answer.code()), (400, "login.bad_return"), "{what}");
    }
}
