//! Sign-ins: their token, their limits, and the hand-off to an app host.

use std::time::Duration;

use mezusphere_identity::sign_in;
use mezusphere_store::primary::hand_off::{self, Redemption};
use mezusphere_store::primary::sign_in as rows;
use mezusphere_store::{StoreError, WriteError};

use crate::world::{GOOD, World};

#[tokio::test]
async fn r11_each_sign_in_has_a_new_token_and_the_one_held_before_is_dead() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (first, old) = world.sign_in("ada@shop.example", None).await;
    assert!(world.is_signed_in(&old).await);
    let (second, new) = world.sign_in("ada@shop.example", Some(&old)).await;
    assert_ne!((first.id, first.token_hash), (second.id, second.token_hash));
    assert!(!world.is_signed_in(&old).await);
    assert!(world.is_signed_in(&new).await);
}

#[tokio::test]
async fn r11_only_the_hash_of_a_token_is_stored() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (row, token) = world.sign_in("ada@shop.example", None).await;
    assert_eq!(row.token_hash, token.hash());
    assert_ne!(row.token_hash.as_bytes(), token.as_bytes());
    assert_eq!(row.agent, "Browser/1", "and no control character of what a browser says");
}

#[tokio::test]
async fn r12_a_sign_in_ends_when_idle_and_at_its_absolute_limit() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (row, token) = world.sign_in("ada@shop.example", None).await;
    let hour = Duration::from_hours(1);
    for _ in 0..11 {
        world.hand.advance(hour);
        assert!(world.is_signed_in(&token).await);
        let use_it =
            world.write(async |tx| sign_in::hand_off(tx, &world.entropy, &row, &world.destination()).await);
        use_it.await.unwrap();
    }
    world.hand.advance(hour);
    assert!(!world.is_signed_in(&token).await, "twelve hours, however busy");
    let (_, token) = world.sign_in("ada@shop.example", None).await;
    world.hand.advance(hour * 2);
    assert!(!world.is_signed_in(&token).await, "two hours idle");
}

#[tokio::test]
async fn a_hand_off_code_is_good_once_on_its_host_for_its_browser_and_a_minute() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (row, _) = world.sign_in("ada@shop.example", None).await;
    let make = async || {
        let destination = world.destination();
        let code = world.write(async |tx| sign_in::hand_off(tx, &world.entropy, &row, &destination).await);
        code.await.unwrap()
    };
    let redeem = async |code: &mezusphere_model::token::Token, state: &str| {
        let (host, hash) = (world.destination().host, code.hash());
        let done = world.write(async |tx| hand_off::redeem(tx, &hash, &host, state).await);
        done.await.unwrap()
    };
    let code = make().await;
    match redeem(&code, "state").await {
        Redemption::Redeemed(found) => {
            assert_eq!((found.sign_in, found.return_to.as_str()), (row.id, "/orders"));
            assert_eq!(found.expires_at, world.now().after(sign_in::HAND_OFF_TTL));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(redeem(&code, "state").await, Redemption::Used(row.id));
    assert_eq!(redeem(&make().await, "another browser").await, Redemption::Mismatch);
    let late = make().await;
    world.hand.advance(sign_in::HAND_OFF_TTL);
    assert_eq!(redeem(&late, "state").await, Redemption::Expired);
}

#[tokio::test]
async fn an_ended_sign_in_is_over_for_good() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (row, token) = world.sign_in("ada@shop.example", None).await;
    let end = world.write(async |tx| rows::end(tx, row.directory, row.id).await);
    assert_eq!(end.await, Ok::<_, WriteError>(true));
    assert!(!world.is_signed_in(&token).await);
    let found: Result<_, StoreError> =
        world.primary.read(async |tx| rows::find(tx, &token.hash()).await).await;
    assert_eq!(found.unwrap(), None);
}
