//! When things are not as they should be: a store that is away, huge fields, and cookies of nobody.

use mezusphere_model::token::Token;

use super::browser::{Browser, TO_SHOP};
use super::world::{GOOD, World};
use crate::login::cookie;

const ADA: &str = "ada@shop.example";

#[tokio::test]
async fn a_store_that_is_away_is_a_friendly_503_at_once() {
    let world = World::with_mail().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let base = format!("/account/{}", world.shop.directory);
    let form = browser.get(&format!("{TO_SHOP}&prompt=login")).await.form();
    world.primary.close().await;
    let link = format!("/recover/{}", Token::random(&world.entropy).reveal());
    let pages = [TO_SHOP, "/account", &base, "/sign-out", &link, &TO_SHOP.replace("/sign-in", "/recover")];
    let mut answers = Vec::new();
    for path in pages {
        answers.push((path.to_owned(), browser.get(path).await));
    }
    let fields = [("form", form.as_str()), ("email", ADA), ("password", GOOD)];
    answers.push(("POST".to_owned(), browser.post("/sign-in", &fields).await));
    for (path, answer) in answers {
        assert_eq!((answer.status, answer.code()), (503, "login.busy"), "{path}: {}", answer.body);
        assert_eq!(answer.header("retry-after"), "5", "{path}");
        assert!(!answer.body.contains("sqlx") && !answer.body.contains("SQLite"), "{path}");
    }
    assert_eq!(browser.get("/signed-out").await.status, 200, "what needs no store works");
    assert_eq!(browser.get(crate::page::asset::ALL[0].path()).await.status, 200);
}

#[tokio::test]
async fn r14_a_field_of_one_mebibyte_is_refused_on_every_form() {
    let world = World::with_mail().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let base = format!("/account/{}", world.shop.directory);
    let huge = "x".repeat(1024 * 1024);
    let verified = world.pool.verifications();
    for path in [
        "/sign-in",
        "/confirm",
        "/sign-up",
        "/recover",
        "/sign-out",
        "/recover/x",
        "/sign-up/x",
        "/invitation/x",
        "/verify/x",
        "/change-email/x",
        "/first-sign-in/x",
        &format!("{base}/name"),
        &format!("{base}/email"),
        &format!("{base}/verify"),
        &format!("{base}/password"),
        &format!("{base}/sessions"),
    ] {
        for field in ["form", "email", "password"] {
            let answer = browser.post(path, &[(field, &huge)]).await;
            assert_eq!((answer.status, answer.code()), (400, "login.too_large"), "{path} {field}");
        }
        let foreign = browser.post(path, &[("form", "x.y")]).await;
        assert!(matches!(foreign.status, 403 | 410 | 429), "{path}: {}", foreign.status);
    }
    assert_eq!(world.pool.verifications(), verified, "no work for any of it");
}

#[tokio::test]
async fn a_foreign_or_mutilated_cookie_is_nobody() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let good = browser.cookies[cookie::SIGN_IN].clone();
    for cookie in [
        Token::random(&world.entropy).reveal(),
        good[1..].to_owned(),
        format!("{good}A"),
        good.to_lowercase(),
        "..".to_owned(),
        "%00".to_owned(),
        "a".repeat(8000),
    ] {
        let mut other = Browser::new(&world);
        other.cookies.insert(cookie::SIGN_IN.to_owned(), cookie.clone());
        assert_eq!(other.get("/account").await.location(), "/sign-in", "{cookie}");
        assert_eq!(other.get(TO_SHOP).await.status, 200, "{cookie}: the form, no loop");
        assert_eq!(other.get("/sign-out").await.location(), "/signed-out");
    }
    assert_eq!(browser.get(TO_SHOP).await.status, 303);
}

#[tokio::test]
async fn r16_every_form_wants_a_token_and_its_own_site() {
    let world = World::with_mail().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let base = format!("/account/{}", world.shop.directory);
    for path in [
        "/confirm",
        "/sign-up",
        "/recover",
        &format!("{base}/name"),
        &format!("{base}/email"),
        &format!("{base}/password"),
    ] {
        let answer = browser.post(path, &[("email", ADA), ("password", GOOD)]).await;
        assert_eq!((answer.status, answer.code()), (403, "login.form_stale"), "{path}");
        browser.says = vec![("origin", "https://evil.example")];
        let answer = browser.post(path, &[("email", ADA)]).await;
        assert_eq!((answer.status, answer.code()), (403, "login.cross_site"), "{path}");
        browser.says = vec![("origin", super::world::ORIGIN)];
    }
}
