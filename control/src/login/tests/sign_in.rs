//! Signing in, and going on when signed in already.

use std::time::Duration;

use mezusphere_identity::account;
use mezusphere_model::document::Status;
use mezusphere_model::token::Token;
use mezusphere_store::StoreError;
use mezusphere_store::primary::hand_off::{self, HandOffRow, Redemption};
use mezusphere_store::primary::user;

use super::browser::{Answer, Browser, STATE, TO_BLOG, TO_SHOP};
use super::world::{GOOD, Site, World};
use crate::login::cookie;

const ADA: &str = "ada@shop.example";
const OPERATOR: &str = "operator@mezu.localhost";

/// The code in a redirect to the site's callback.
fn code(answer: &Answer, site: &Site) -> Token {
    let callback = format!("https://{}:8443/.mezu/callback?code=", site.host);
    let code = answer.location().strip_prefix(&callback).unwrap_or_else(|| panic!("{}", answer.location()));
    Token::parse(code).unwrap()
}

async fn redeem(world: &World, code: &Token, site: &Site) -> HandOffRow {
    let (code, host) = (code.hash(), site.host.clone());
    let redeem = world.primary.write(async |tx| hand_off::redeem(tx, &code, &host, STATE).await);
    let found: Result<_, StoreError> = redeem.await;
    match found.unwrap() {
        Redemption::Redeemed(row) => *row,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_right_password_leads_to_the_application_with_a_code() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.get(TO_SHOP).await;
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains("<h1>Sign in to Shop</h1>\n<p class=\"where\">shop.localhost</p>"),
        "{}",
        page.body
    );
    assert!(page.body.contains("Ask whoever runs Shop for a new one."));
    let answer = browser.sign_in(TO_SHOP, " Ada@Shop.Example ", GOOD).await;
    let row = redeem(&world, &code(&answer, &world.shop), &world.shop).await;
    assert_eq!((row.project, row.return_to.as_str()), (world.shop.project, "/orders?tab=2"));
    assert_eq!(world.audited().await, ["sign_in.begin"]);
}

#[tokio::test]
async fn who_is_signed_in_already_goes_on_at_once() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let first = browser.sign_in(TO_SHOP, ADA, GOOD).await;
    let first = redeem(&world, &code(&first, &world.shop), &world.shop).await;
    let again = browser.get(TO_SHOP).await;
    let again = redeem(&world, &code(&again, &world.shop), &world.shop).await;
    assert_eq!(first.sign_in, again.sign_in);
    world.hand.advance(Duration::from_hours(12));
    assert_eq!(browser.get(TO_SHOP).await.status, 200, "until it has ended");
}

#[tokio::test]
async fn an_account_is_good_in_its_own_directory_only() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.sign_in(TO_BLOG, ADA, GOOD).await.status, 401, "another project's user");
    assert_eq!(browser.sign_in("/sign-in", ADA, GOOD).await.status, 401, "not an operator");
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    assert_eq!(browser.get(TO_BLOG).await.status, 200, "the form, not the way in");
}

#[tokio::test]
async fn without_a_host_operators_sign_in_to_the_installation() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.get("/").await.location(), "/account");
    assert_eq!(browser.get("/account").await.location(), "/sign-in");
    assert_eq!(browser.sign_in("/sign-in", OPERATOR, GOOD).await.location(), "/account");
    let account = browser.get("/account").await;
    assert_eq!(account.status, 200);
    for part in ["Ada &#60;Lovelace&#62;", OPERATOR, "Operators", "21 November 2026, 20:59 UTC"] {
        assert!(account.body.contains(part), "{part}: {}", account.body);
    }
    assert_eq!(browser.get("/sign-in").await.location(), "/account");
}

#[tokio::test]
async fn signing_in_to_one_directory_leaves_the_others_signed_in() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("/sign-in", OPERATOR, GOOD).await.location();
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    browser.sign_in(TO_BLOG, "ada@blog.example", GOOD).await.location();
    code(&browser.get(TO_SHOP).await, &world.shop);
    code(&browser.get(TO_BLOG).await, &world.blog);
    let account = browser.get("/account").await;
    assert_eq!(account.forms().len(), 3);
    assert!(account.body.contains("<dd>Shop</dd>"), "the project's name, not its slug: {}", account.body);
}

#[tokio::test]
async fn a_browser_with_too_many_sign_ins_loses_the_oldest() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let oldest = browser.cookies[cookie::SIGN_IN].clone();
    for n in 0..cookie::SIGN_INS_MAX {
        let slug = format!("p{n}");
        world.another(&slug).await;
        let page = TO_SHOP.replace("shop", &slug);
        browser.sign_in(&page, &format!("ada@{slug}.example"), GOOD).await.location();
    }
    assert_eq!(browser.cookies[cookie::SIGN_IN].split('.').count(), cookie::SIGN_INS_MAX);
    assert_eq!(browser.get("/account").await.forms().len(), cookie::SIGN_INS_MAX);
    let mut held = Browser::new(&world);
    held.cookies.insert(cookie::SIGN_IN.to_owned(), oldest);
    assert_eq!(held.get(TO_SHOP).await.status, 200, "ended, not merely forgotten");
}

#[tokio::test]
async fn r11_a_cookie_planted_before_the_sign_in_is_dead_after_it() {
    let world = World::new().await;
    let mut eve = Browser::new(&world);
    eve.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let planted = eve.cookies[cookie::SIGN_IN].clone();
    let mut browser = Browser::new(&world);
    browser.get("/sign-in").await;
    browser.cookies.insert(cookie::SIGN_IN.to_owned(), planted.clone());
    let form = Browser::new(&world).get(TO_SHOP).await;
    assert_eq!(form.status, 200);
    world.hand.advance(Duration::from_secs(1));
    // Whoever is signed in is sent on, so the form is opened with the cookie away and sent with it there.
    let held = browser.cookies.remove(cookie::SIGN_IN).unwrap();
    let form = browser.get(TO_SHOP).await.form();
    browser.cookies.insert(cookie::SIGN_IN.to_owned(), held);
    let answer = browser.post("/sign-in", &[("form", &form), ("email", ADA), ("password", GOOD)]).await;
    code(&answer, &world.shop);
    let fresh = browser.cookies[cookie::SIGN_IN].clone();
    assert_ne!(fresh, planted);
    assert!(!fresh.contains(&planted));
    assert_eq!(eve.get(TO_SHOP).await.status, 200, "the planted token opens nothing any more");
    code(&browser.get(TO_SHOP).await, &world.shop);
}

#[tokio::test]
async fn r13_an_unknown_account_and_a_wrong_password_get_the_same_answer() {
    let world = World::new().await;
    world.user(world.shop.directory, "link@shop.example", None).await;
    let mut answers = Vec::new();
    for (email, password) in [(ADA, "wrong"), ("nobody@shop.example", GOOD), ("link@shop.example", GOOD)] {
        let before = world.pool.verifications();
        let answer = Browser::new(&world).sign_in(TO_SHOP, email, password).await;
        assert_eq!(world.pool.verifications(), before + 1, "{email}: one Argon2 computation");
        let body = answer.body.replace(&answer.form(), "FORM").replace(email, "EMAIL");
        let headers: Vec<_> = answer.headers.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        // The length differs by what was typed, and by nothing else.
        let headers: Vec<_> = headers.into_iter().filter(|(name, _)| name != "content-length").collect();
        answers.push((answer.status, headers, body));
    }
    assert_eq!(answers[0].0, 401);
    assert!(answers[0].2.contains("do not match"));
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert!(world.audited().await.is_empty(), "strangers write nothing");
}

#[tokio::test]
async fn a_failed_attempt_keeps_the_address_and_never_the_password() {
    let world = World::new().await;
    let answer = Browser::new(&world).sign_in(TO_SHOP, ADA, "hunter2-hunter2").await;
    assert!(answer.body.contains("value=\"ada@shop.example\""));
    assert!(!answer.body.contains("hunter2"));
    assert!(answer.body.contains("<title>Error: Sign in to Shop"));
    assert!(answer.header("www-authenticate").starts_with("Mezu-Form"));
}

#[tokio::test]
async fn r14_a_password_of_one_mebibyte_is_refused_fast_and_unhashed() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let answer = browser.sign_in(TO_SHOP, ADA, &"x".repeat(1024 * 1024)).await;
    assert_eq!((answer.status, answer.code()), (400, "login.too_large"));
    let answer = browser.sign_in(TO_SHOP, ADA, &"x".repeat(129)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("at most 128"));
    let answer = browser.sign_in(TO_SHOP, ADA, &"🔑".repeat(128)).await;
    assert_eq!(answer.status, 401, "the longest there is");
    assert_eq!(world.pool.verifications(), 1);
}

#[tokio::test]
async fn r15_guessing_is_slowed_for_the_guesser_alone() {
    let world = World::new().await;
    for email in [ADA, "nobody@shop.example"] {
        let mut eve = Browser::new(&world).from("198.51.100.1");
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(eve.sign_in(TO_SHOP, email, "wrong").await.status);
        }
        assert_eq!(statuses, [401, 401, 401, 401, 401, 429], "{email}");
        let verified = world.pool.verifications();
        let answer = eve.sign_in(TO_SHOP, email, GOOD).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, "30"), "{email}");
        assert!(answer.body.contains("Wait 30 seconds"), "{}", answer.body);
        assert_eq!(world.pool.verifications(), verified, "no work for it");
    }
    let mut ada = Browser::new(&world).from("192.0.2.7");
    ada.sign_in(TO_SHOP, ADA, GOOD).await.location();
    world.hand.advance(Duration::from_secs(30));
    let mut eve = Browser::new(&world).from("198.51.100.1");
    assert_eq!(eve.sign_in(TO_SHOP, ADA, "wrong").await.status, 401);
}

#[tokio::test]
async fn a_suspended_account_learns_why_and_its_sign_in_is_over() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let suspend = world.primary.write(async |tx| {
        let ada = user::find(tx, world.shop.directory, ADA).await?.unwrap();
        account::set_status(tx, ada.directory, ada.id, Status::Suspended).await
    });
    suspend.await.unwrap();
    let answer = browser.sign_in(TO_SHOP, ADA, GOOD).await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("not active"));
}

#[tokio::test]
async fn an_empty_field_is_asked_for() {
    let world = World::new().await;
    for (email, password) in [("", GOOD), (ADA, ""), ("  ", GOOD)] {
        let answer = Browser::new(&world).sign_in(TO_SHOP, email, password).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("Enter your e-mail address"), "{}", answer.body);
    }
    assert_eq!(world.pool.verifications(), 0);
}

#[tokio::test]
async fn a_page_left_open_too_long_offers_a_fresh_form_to_the_same_place() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let form = browser.get(TO_SHOP).await.form();
    world.hand.advance(Duration::from_mins(30));
    let stale = browser.post("/sign-in", &[("form", &form), ("email", ADA), ("password", GOOD)]).await;
    assert_eq!(stale.status, 403);
    assert!(stale.body.contains("open for too long") && stale.body.contains("Sign in to Shop"));
    let form = stale.form();
    let fresh = browser.post("/sign-in", &[("form", &form), ("email", ADA), ("password", GOOD)]).await;
    code(&fresh, &world.shop);
}

#[tokio::test]
async fn cookies_that_do_not_come_back_are_named() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let form = browser.get(TO_SHOP).await.form();
    browser.cookies.clear();
    let answer = browser.post("/sign-in", &[("form", &form), ("email", ADA), ("password", GOOD)]).await;
    assert_eq!((answer.status, answer.code()), (400, "login.no_cookies"));
}

#[tokio::test]
async fn r17_only_registered_hosts_and_paths_on_them_are_led_to() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let rows = [
        ("host=evil.example&return_to=/&state=STATE", 404, "login.unknown_host"),
        ("host=login.mezu.localhost&return_to=/&state=STATE", 404, "login.unknown_host"),
        ("host=shop.localhost.evil.example&return_to=/&state=STATE", 404, "login.unknown_host"),
        ("host=shop.localhost:443&return_to=/&state=STATE", 400, "login.bad_return"),
        ("host=shop.localhost&return_to=//evil.example&state=STATE", 400, "login.bad_return"),
        ("host=shop.localhost&return_to=%2F%5Cevil.example&state=STATE", 400, "login.bad_return"),
        ("host=shop.localhost&return_to=https://evil.example&state=STATE", 400, "login.bad_return"),
        ("host=shop.localhost&return_to=/", 400, "login.bad_return"),
        ("host=shop.localhost&host=evil.example&return_to=/&state=STATE", 400, "login.bad_return"),
    ];
    for (query, status, code) in rows {
        let query = query.replace("STATE", STATE);
        let answer = browser.get(&format!("/sign-in?{query}")).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{query}");
        assert!(!answer.body.contains("evil"), "what a stranger wrote is not shown: {query}");
    }
    // The same for somebody who is signed in: nothing sends them away.
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    for (query, status, _) in rows {
        let answer = browser.get(&format!("/sign-in?{}", query.replace("STATE", STATE))).await;
        assert_eq!(answer.status, status, "{query}");
        assert_eq!(answer.header("location"), "");
    }
}
