//! Changing one's password: knowing the old one, and everybody else is out.

use std::time::Duration;

use mezusphere_identity::flow::change_password::{self, CHANGE_TTL, ChangePassword, Chosen, Step};
use mezusphere_identity::flow::{Refusal, recovery};
use mezusphere_identity::message::MessageKind;
use mezusphere_identity::sign_in::{self, SignedIn, Welcome};
use mezusphere_model::document::Status;
use mezusphere_model::token::Token;

use crate::world::{GOOD, LIMITS, World, mailed, place, visit};

const NEW: &str = "another plum koala entirely";

async fn choose(
    world: &World,
    flow: &ChangePassword,
    signed_in: &SignedIn,
    current: &str,
    new: &str,
) -> Result<Chosen, Refusal> {
    let typed = (current.to_owned(), new.to_owned());
    flow.choose(&world.desk, &visit(2), signed_in, typed, vec![signed_in.user.email.clone()]).await
}

async fn change(
    world: &World,
    signed_in: &SignedIn,
    held: &Token,
    current: &str,
) -> Result<(change_password::Changed, Welcome), Refusal> {
    let flow = ChangePassword::begin(&world.entropy, signed_in, world.now());
    assert_eq!(flow.next_step(), Step::Choose);
    let chosen = choose(world, &flow, signed_in, current, NEW).await?;
    let held = [held.clone()];
    let done = world.write(async |tx| {
        let changed = change_password::complete(tx, signed_in, &chosen, &place()).await?;
        let welcome =
            sign_in::welcome(tx, signed_in.user.directory, &chosen.who, LIMITS, &place(), &held).await?;
        Ok::<_, Refusal>((changed, welcome))
    });
    done.await
}

#[tokio::test]
async fn r12_every_sign_in_ends_and_this_browser_begins_anew() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (_, elsewhere) = world.signed_in("ada@shop.example").await;
    let (signed_in, held) = world.signed_in("ada@shop.example").await;
    world.hand.advance(Duration::from_mins(1));
    let (changed, welcome) = change(&world, &signed_in, &held, GOOD).await.unwrap();
    assert!(!world.is_signed_in(&elsewhere).await && !world.is_signed_in(&held).await);
    let [token] = &welcome.tokens[..] else { panic!("one directory, one sign-in") };
    assert!(world.is_signed_in(token).await);
    assert!(world.authenticate("ada@shop.example", GOOD).await.is_err());
    assert!(world.authenticate("ada@shop.example", NEW).await.is_ok());
    let [told] = &changed.messages[..] else { panic!("{changed:?}") };
    assert!(matches!(told.kind, MessageKind::PasswordChanged { .. }));
}

#[tokio::test]
async fn whoever_found_a_browser_open_does_not_change_the_password() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (signed_in, held) = world.signed_in("ada@shop.example").await;
    for wrong in ["not the password", NEW] {
        assert!(matches!(change(&world, &signed_in, &held, wrong).await, Err(Refusal::Wrong)));
    }
    assert!(matches!(change(&world, &signed_in, &held, "").await, Err(Refusal::Incomplete)));
    let huge = "x".repeat(1024 * 1024);
    assert!(matches!(change(&world, &signed_in, &held, &huge).await, Err(Refusal::TooLong(_))));
    assert!(world.is_signed_in(&held).await);
}

#[tokio::test]
async fn the_old_password_is_no_new_one_and_that_is_told_to_who_knows_it() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (signed_in, held) = world.signed_in("ada@shop.example").await;
    let flow = ChangePassword::begin(&world.entropy, &signed_in, world.now());
    let same = choose(&world, &flow, &signed_in, GOOD, GOOD).await;
    assert!(matches!(same, Err(Refusal::SamePassword)));
    let guess = "a guess at it, twice";
    let guessed = choose(&world, &flow, &signed_in, guess, guess).await;
    assert!(matches!(guessed, Err(Refusal::Wrong)), "only its owner learns what it is");
    assert!(world.is_signed_in(&held).await);
}

#[tokio::test]
async fn r15_guessing_on_is_slowed_for_that_browser_and_not_for_its_owner() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let (stolen, held) = world.signed_in("ada@shop.example").await;
    for _ in 0..5 {
        assert!(matches!(change(&world, &stolen, &held, "a guess at it").await, Err(Refusal::Wrong)));
    }
    let refused = change(&world, &stolen, &held, GOOD).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(30)));
    let (owner, held) = world.signed_in("ada@shop.example").await;
    assert!(change(&world, &owner, &held, GOOD).await.is_ok());
}

#[tokio::test]
async fn a_form_left_open_in_another_tab_changes_nobody_elses_password() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    world.user("ben@shop.example", Some(GOOD)).await;
    let (ada, _) = world.signed_in("ada@shop.example").await;
    let (ben, _) = world.signed_in("ben@shop.example").await;
    let flow = ChangePassword::begin(&world.entropy, &ada, world.now());
    let sealed = serde_json::to_string(&flow).unwrap();
    assert_eq!(serde_json::from_str::<ChangePassword>(&sealed).unwrap(), flow);
    let other = choose(&world, &flow, &ben, GOOD, NEW).await;
    assert!(matches!(other, Err(Refusal::OtherPerson)));
    let chosen = choose(&world, &flow, &ada, GOOD, NEW).await.unwrap();
    let crossed = world.write(async |tx| change_password::complete(tx, &ben, &chosen, &place()).await).await;
    assert!(matches!(crossed, Err(Refusal::OtherPerson)));
    world.hand.advance(CHANGE_TTL);
    let late = choose(&world, &flow, &ada, GOOD, NEW).await;
    assert!(matches!(late, Err(Refusal::Expired)));
}

#[tokio::test]
async fn a_user_suspended_meanwhile_changes_nothing() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let (signed_in, held) = world.signed_in("ada@shop.example").await;
    let flow = ChangePassword::begin(&world.entropy, &signed_in, world.now());
    let chosen = choose(&world, &flow, &signed_in, GOOD, NEW).await.unwrap();
    world.set_status(&ada, Status::Suspended).await;
    let again = change(&world, &signed_in, &held, GOOD).await;
    assert!(matches!(again, Err(Refusal::Inactive)));
    let late =
        world.write(async |tx| change_password::complete(tx, &signed_in, &chosen, &place()).await).await;
    assert!(matches!(late, Err(Refusal::Inactive)));
    world.set_status(&ada, Status::Active).await;
    assert!(world.authenticate("ada@shop.example", GOOD).await.is_ok());
}

#[tokio::test]
async fn links_that_were_mailed_before_end_with_the_old_password() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let send = world.write(async |tx| recovery::send_to(tx, &ada).await);
    let token = mailed(&send.await.unwrap());
    let (signed_in, held) = world.signed_in("ada@shop.example").await;
    change(&world, &signed_in, &held, GOOD).await.unwrap();
    let opened = world.desk.open(&visit(9), &token.reveal(), recovery::open).await;
    assert!(matches!(opened, Err(Refusal::LinkDead)));
}
