//! Verifying an address that an operator or an import put down.

use mezusphere_identity::flow::verify_email::{self, Opened};
use mezusphere_identity::flow::{
    LINK_TTL, Refusal, change_email, first_sign_in, invitation, recovery, sign_up,
};
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::document::Status;
use mezusphere_model::token::Token;
use mezusphere_store::primary::user::{self, UserChange};

use crate::world::{GOOD, World, mailed, mutilated, onward, visit};

async fn ask(world: &World, signed_in: &SignedIn) -> Result<Token, Refusal> {
    let asked = verify_email::ask(&world.desk, &visit(2), signed_in)?;
    let send = world.write(async |tx| verify_email::send(tx, &asked, Some(&onward())).await);
    Ok(mailed(&send.await?))
}

async fn open(world: &World, text: &str) -> Result<Opened, Refusal> {
    world.desk.open(&visit(9), text, verify_email::open).await.map(|(_, opened)| opened)
}

async fn complete(world: &World, token: &Token) -> Result<Opened, Refusal> {
    world.write(async |tx| verify_email::complete(tx, token).await).await
}

async fn ada(world: &World) -> SignedIn {
    world.user("ada@shop.example", Some(GOOD)).await;
    world.signed_in("ada@shop.example").await.0
}

#[tokio::test]
async fn a_button_behind_a_link_verifies_the_address_once() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let token = ask(&world, &ada).await.unwrap();
    assert_eq!(open(&world, &token.reveal()).await.unwrap().onward, Some(onward()));
    assert_eq!(world.reload(&ada.user).await.email_verified_at, None, "looking changes nothing");
    let done = complete(&world, &token).await.unwrap();
    assert_eq!(done.user.email_verified_at, Some(world.now()));
    assert_eq!(world.reload(&ada.user).await.email_verified_at, Some(world.now()));
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)), "replayed");
    let (again, _) = world.signed_in("ada@shop.example").await;
    assert!(matches!(ask(&world, &again).await, Err(Refusal::Unchanged)));
}

#[tokio::test]
async fn r17_a_link_that_is_mutilated_expired_or_overtaken_is_dead() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let token = ask(&world, &ada).await.unwrap();
    for text in mutilated(&token) {
        assert!(matches!(open(&world, &text).await, Err(Refusal::LinkDead)), "{text}");
    }
    world.set_status(&ada.user, Status::Suspended).await;
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)), "suspended");
    world.set_status(&ada.user, Status::Active).await;
    let change = UserChange { email: Some("ada@new.example".to_owned()), ..UserChange::default() };
    let (directory, id) = (ada.user.directory, ada.user.id);
    world.write(async |tx| user::update(tx, directory, id, &change).await).await.unwrap();
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)), "another address");
    let (ada, _) = world.signed_in("ada@new.example").await;
    let token = ask(&world, &ada).await.unwrap();
    world.hand.advance(LINK_TTL);
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)), "expired");
    assert_eq!(world.reload(&ada.user).await.email_verified_at, None);
}

#[tokio::test]
async fn r17_a_link_of_one_purpose_does_nothing_else() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let token = ask(&world, &ada).await.unwrap();
    let text = token.reveal();
    assert!(world.desk.open(&visit(9), &text, recovery::open).await.is_err());
    assert!(world.desk.open(&visit(9), &text, change_email::open).await.is_err());
    assert!(world.desk.open(&visit(9), &text, sign_up::open).await.is_err());
    assert!(world.desk.open(&visit(9), &text, invitation::open).await.is_err());
    assert!(world.desk.open(&visit(9), &text, first_sign_in::open).await.is_err());
    let hash = world.hash("another plum koala entirely").await;
    let crossed =
        world.write(async |tx| recovery::complete(tx, &token, hash, &crate::world::place()).await).await;
    assert!(matches!(crossed, Err(Refusal::LinkDead)));
    assert!(complete(&world, &token).await.is_ok());
}
