//! The first sign-in: one link, one password, once.

use std::time::Duration;

use mezusphere_identity::account;
use mezusphere_identity::flow::first_sign_in::{self, CompleteError, FirstSignIn, LINK_TTL};
use mezusphere_model::document::Status;
use mezusphere_model::identity::{Assurance, Method};
use mezusphere_model::token::Token;
use mezusphere_store::StoreError;
use mezusphere_store::primary::user::UserRow;

use crate::world::{GOOD, World};

async fn link(world: &World, user: &UserRow) -> Token {
    let now = world.now();
    let make = world
        .write(async |tx| first_sign_in::create_link(tx, &world.entropy, user.directory, user.id, now).await);
    make.await.unwrap()
}

async fn peek(world: &World, token: &Token) -> Option<FirstSignIn> {
    let found: Result<_, StoreError> =
        world.primary.read(async |tx| first_sign_in::peek(tx, token).await).await;
    found.unwrap()
}

async fn complete(world: &World, token: &Token) -> Result<(), CompleteError> {
    let hash = world.hash(GOOD).await;
    let done = world.write(async |tx| first_sign_in::complete(tx, token, hash).await);
    done.await.map(|(open, who)| {
        assert_eq!(open.user, who.user());
        assert_eq!((who.methods(), who.assurance()), (&[Method::Password][..], Assurance::Aal1));
    })
}

#[tokio::test]
async fn r17_looking_at_a_link_changes_nothing_and_using_it_uses_it_up() {
    let world = World::new().await;
    let operator = world.user("operator@mezu.localhost", None).await;
    let token = link(&world, &operator).await;
    for _ in 0..3 {
        assert_eq!(peek(&world, &token).await.unwrap().email, "operator@mezu.localhost");
    }
    complete(&world, &token).await.unwrap();
    assert!(world.authenticate("operator@mezu.localhost", GOOD).await.is_ok());
    assert_eq!(peek(&world, &token).await, None);
    assert!(matches!(complete(&world, &token).await, Err(CompleteError::Dead)));
}

#[tokio::test]
async fn r17_a_link_ends_after_half_an_hour_and_a_newer_one_replaces_it() {
    let world = World::new().await;
    let operator = world.user("operator@mezu.localhost", None).await;
    let old = link(&world, &operator).await;
    let new = link(&world, &operator).await;
    assert_eq!(peek(&world, &old).await, None);
    world.hand.advance(LINK_TTL.checked_sub(Duration::from_secs(1)).unwrap());
    assert!(peek(&world, &new).await.is_some());
    world.hand.advance(Duration::from_secs(1));
    assert_eq!(peek(&world, &new).await, None);
    assert!(matches!(complete(&world, &new).await, Err(CompleteError::Dead)));
}

#[tokio::test]
async fn a_link_of_a_suspended_user_opens_nothing() {
    let world = World::new().await;
    let operator = world.user("operator@mezu.localhost", None).await;
    let token = link(&world, &operator).await;
    let (directory, id) = (operator.directory, operator.id);
    world.write(async |tx| account::set_status(tx, directory, id, Status::Suspended).await).await.unwrap();
    assert_eq!(peek(&world, &token).await, None);
    assert!(matches!(complete(&world, &token).await, Err(CompleteError::Dead)));
}

#[tokio::test]
async fn r17_earlier_sign_ins_end_when_a_link_sets_a_new_password() {
    let world = World::new().await;
    let operator = world.user("operator@mezu.localhost", Some(GOOD)).await;
    let (_, token) = world.sign_in("operator@mezu.localhost", None).await;
    let fresh = link(&world, &operator).await;
    world.hand.advance(Duration::from_secs(1));
    complete(&world, &fresh).await.unwrap();
    assert!(!world.is_signed_in(&token).await);
}
