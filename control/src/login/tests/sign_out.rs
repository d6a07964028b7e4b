//! Signing out.

use std::time::Duration;

use mezusphere_model::id::SessionId;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::Token;
use mezusphere_store::StoreError;
use mezusphere_store::primary::{session, sign_in};

use super::browser::{Browser, TO_SHOP};
use super::world::{GOOD, World};
use crate::login::cookie;

const ADA: &str = "ada@shop.example";

/// A session of the shop, as the edge's redemption would make one; returns its token.
async fn session(world: &World, browser: &Browser<'_>) -> Token {
    let cookie = browser.cookies[cookie::SIGN_IN].split('.').next().unwrap().to_owned();
    let token = Token::random(&world.entropy);
    let make = world.primary.write(async |tx| {
        let held = Token::parse(&cookie).unwrap().hash();
        let row = sign_in::find(tx, &held).await?.unwrap();
        let doc = SessionDoc {
            id: SessionId::random(&world.entropy),
            token_hash: token.hash(),
            sign_in: row.id,
            user: row.user,
            project: world.shop.project,
            host: world.shop.host.clone(),
            methods: row.methods,
            assurance: row.assurance,
            authenticated_at: row.authenticated_at,
            issued_at: tx.now(),
            expires_at: row.expires_at,
            idle_s_max: 7200,
            seen_at: tx.now(),
        };
        session::insert(tx, &doc).await
    });
    make.await.unwrap();
    token
}

async fn is_live(world: &World, token: &Token) -> bool {
    let found: Result<_, StoreError> =
        world.primary.read(async |tx| session::find(tx, &token.hash()).await).await;
    found.unwrap().is_some_and(|row| row.ended_at.is_none())
}

#[tokio::test]
async fn r16_a_link_asks_and_only_the_form_signs_out_everywhere() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    let token = session(&world, &browser).await;
    let account = browser.get("/account").await;
    assert!(
        account.body.contains("<a href=\"https://shop.localhost:8443/\">shop.localhost</a>"),
        "{}",
        account.body
    );
    let asked = browser.get("/sign-out").await;
    assert_eq!(asked.status, 200);
    assert!(asked.body.contains(ADA));
    assert!(is_live(&world, &token).await, "a GET changes nothing");
    let form = asked.form();
    let answer = browser.post("/sign-out", &[("form", &form)]).await;
    let last = answer.location().to_owned();
    assert!(!is_live(&world, &token).await);
    assert!(!browser.cookies.contains_key(cookie::SIGN_IN));
    let again = "<a class=\"button\" href=\"https://shop.localhost:8443/\">";
    assert!(browser.get(&last).await.body.contains(again), "the way back to the application");
    let mut stranger = Browser::new(&world);
    assert!(!stranger.get(&last).await.body.contains(again), "its page is for this browser only");
    let forged = last.replacen("app=", "app=A", 1);
    assert!(forged != last && !browser.get(&forged).await.body.contains("class=\"button\""), "{last}");
    assert_eq!(browser.get(TO_SHOP).await.status, 200, "the form again");
    assert!(browser.get("/signed-out").await.body.contains("You are signed out"));
    assert_eq!(world.audited().await, ["sign_in.begin", "sign_in.end"]);
    world.hand.advance(Duration::from_hours(24));
    assert!(!browser.get(&last).await.body.contains(again), "nor for ever");
}

#[tokio::test]
async fn one_of_two_accounts_can_be_signed_out() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(TO_SHOP, ADA, GOOD).await.location();
    browser.sign_in("/sign-in", "operator@mezu.localhost", GOOD).await.location();
    let forms = browser.get("/account").await.forms();
    assert_eq!(forms.len(), 2);
    // The newest stands first: the operator.
    let answer = browser.post("/sign-out", &[("form", &forms[0])]).await;
    assert_eq!(answer.location(), "/account");
    let account = browser.get("/account").await;
    assert!(account.body.contains(ADA) && !account.body.contains("operator@"));
    let form = account.form();
    assert_eq!(browser.post("/sign-out", &[("form", &form)]).await.location(), "/signed-out");
    browser.sign_in("/sign-in", "operator@mezu.localhost", GOOD).await.location();
    let form = browser.get("/account").await.form();
    let answer = browser.post("/sign-out", &[("form", &form)]).await;
    assert_eq!(answer.location(), "/signed-out?again");
    assert!(browser.get("/signed-out?again").await.body.contains("href=\"/sign-in\""));
}

#[tokio::test]
async fn who_is_not_signed_in_has_nothing_to_sign_out_of() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.get("/sign-out").await.location(), "/signed-out");
    browser.cookies.insert(cookie::SIGN_IN.to_owned(), Token::random(&world.entropy).reveal());
    assert_eq!(browser.get("/sign-out").await.location(), "/signed-out");
    assert_eq!(browser.get("/account").await.location(), "/sign-in");
}
