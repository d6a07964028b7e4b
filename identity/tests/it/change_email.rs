//! Changing one's address: the password here, a button there, and a mail to the old address.

use std::time::Duration;

use mezusphere_identity::flow::change_email::{self, CHANGE_TTL, ChangeEmail, Changed, Opened, Step};
use mezusphere_identity::flow::{LINK_TTL, Refusal, recovery};
use mezusphere_identity::message::{Message, MessageKind};
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::document::Status;
use mezusphere_model::token::Token;

use crate::world::{GOOD, World, mailed, mutilated, place, visit};

async fn ask(
    world: &World,
    signed_in: &SignedIn,
    new: &str,
    password: &str,
) -> Result<Vec<Message>, Refusal> {
    let mut flow = ChangeEmail::begin(&world.entropy, signed_in, world.now());
    assert_eq!(flow.next_step(), Step::Address);
    let asked = flow.ask(&world.desk, &visit(2), signed_in, new, password.to_owned()).await?;
    assert_eq!(flow.next_step(), Step::Inbox);
    world.write(async |tx| change_email::send(tx, signed_in, &asked).await).await
}

async fn open(world: &World, text: &str) -> Result<Opened, Refusal> {
    world.desk.open(&visit(9), text, change_email::open).await.map(|(_, opened)| opened)
}

async fn complete(world: &World, token: &Token) -> Result<Changed, Refusal> {
    world.write(async |tx| change_email::complete(tx, token, &place()).await).await
}

async fn ada(world: &World) -> SignedIn {
    world.user("ada@shop.example", Some(GOOD)).await;
    world.signed_in("ada@shop.example").await.0
}

#[tokio::test]
async fn an_address_changes_when_its_mail_was_read_and_the_old_one_is_told() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let recover = world.write(async |tx| recovery::send_to(tx, &ada.user).await);
    let recover = mailed(&recover.await.unwrap());
    let messages = ask(&world, &ada, "ada@new.example", GOOD).await.unwrap();
    assert_eq!(messages[0].to.as_str(), "ada@new.example");
    assert_eq!(world.reload(&ada.user).await.email, "ada@shop.example", "nothing before");
    let token = mailed(&messages);
    let opened = open(&world, &token.reveal()).await.unwrap();
    assert_eq!((opened.user.id, opened.new.as_str()), (ada.user.id, "ada@new.example"));
    world.hand.advance(Duration::from_mins(1));
    let changed = complete(&world, &token).await.unwrap();
    assert_eq!(changed.user.email, "ada@new.example");
    assert_eq!(changed.user.email_verified_at, Some(world.now()));
    let [told] = &changed.messages[..] else { panic!("{changed:?}") };
    assert_eq!(told.to.as_str(), "ada@shop.example");
    assert!(matches!(&told.kind, MessageKind::EmailChanged { new } if new.as_str() == "ada@new.example"));
    assert!(world.authenticate("ada@new.example", GOOD).await.is_ok());
    assert!(world.authenticate("ada@shop.example", GOOD).await.is_err());
    let opened = world.desk.open(&visit(9), &recover.reveal(), recovery::open).await;
    assert!(matches!(opened, Err(Refusal::LinkDead)), "who reads the old mailbox has no way back in");
}

#[tokio::test]
async fn r13_an_address_that_has_an_account_sees_no_difference_and_gets_no_mail() {
    let world = World::new().await;
    let ada = ada(&world).await;
    world.user("ben@shop.example", None).await;
    let messages = ask(&world, &ada, "Ben@shop.example", GOOD).await.unwrap();
    assert!(messages[0].is_decoy);
    let token = mailed(&messages);
    assert!(matches!(complete(&world, &token).await, Err(Refusal::Taken)), "nor would its token do");
    assert!(!ask(&world, &ada, "nobody@shop.example", GOOD).await.unwrap()[0].is_decoy);
}

#[tokio::test]
async fn an_address_taken_meanwhile_is_told_to_who_reads_its_mail() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let token = mailed(&ask(&world, &ada, "ada@new.example", GOOD).await.unwrap());
    world.user("ADA@new.example", None).await;
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::Taken)));
    assert!(matches!(complete(&world, &token).await, Err(Refusal::Taken)));
    assert_eq!(world.reload(&ada.user).await.email, "ada@shop.example");
}

#[tokio::test]
async fn another_spelling_is_a_change_and_the_same_address_is_none() {
    let world = World::new().await;
    let ada = ada(&world).await;
    assert!(matches!(ask(&world, &ada, " ada@shop.example ", GOOD).await, Err(Refusal::Unchanged)));
    let token = mailed(&ask(&world, &ada, "Ada@Shop.example", GOOD).await.unwrap());
    assert_eq!(complete(&world, &token).await.unwrap().user.email, "Ada@Shop.example");
}

#[tokio::test]
async fn the_password_is_asked_for_and_faults_are_told() {
    let world = World::new().await;
    let ada = ada(&world).await;
    assert!(matches!(ask(&world, &ada, "ada@new.example", "a guess at it").await, Err(Refusal::Wrong)));
    assert!(matches!(ask(&world, &ada, "ada@new.example", "").await, Err(Refusal::Incomplete)));
    assert!(matches!(ask(&world, &ada, "", GOOD).await, Err(Refusal::Field(_))));
    assert!(matches!(ask(&world, &ada, "a@b@c", GOOD).await, Err(Refusal::Field(_))));
}

#[tokio::test]
async fn a_form_left_open_or_of_another_account_is_refused() {
    let world = World::new().await;
    let ada = ada(&world).await;
    world.user("ben@shop.example", Some(GOOD)).await;
    let (ben, _) = world.signed_in("ben@shop.example").await;
    let mut flow = ChangeEmail::begin(&world.entropy, &ada, world.now());
    let sealed = serde_json::to_string(&flow).unwrap();
    assert_eq!(serde_json::from_str::<ChangeEmail>(&sealed).unwrap(), flow);
    let mut ask = async |who: &SignedIn| {
        flow.ask(&world.desk, &visit(2), who, "new@shop.example", GOOD.to_owned()).await
    };
    assert!(matches!(ask(&ben).await, Err(Refusal::OtherPerson)));
    let asked = ask(&ada).await.unwrap();
    let crossed = world.write(async |tx| change_email::send(tx, &ben, &asked).await).await;
    assert!(matches!(crossed, Err(Refusal::OtherPerson)));
    world.hand.advance(CHANGE_TTL);
    assert!(matches!(ask(&ada).await, Err(Refusal::Expired)));
}

#[tokio::test]
async fn r17_a_link_is_good_once_for_half_an_hour_and_a_newer_one_replaces_it() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let old = mailed(&ask(&world, &ada, "one@shop.example", GOOD).await.unwrap());
    let new = mailed(&ask(&world, &ada, "two@shop.example", GOOD).await.unwrap());
    assert!(matches!(complete(&world, &old).await, Err(Refusal::LinkDead)));
    for text in mutilated(&new) {
        assert!(matches!(open(&world, &text).await, Err(Refusal::LinkDead)), "{text}");
    }
    let both = tokio::join!(complete(&world, &new), complete(&world, &new));
    assert_eq!(u8::from(both.0.is_ok()) + u8::from(both.1.is_ok()), 1, "two tabs: {both:?}");
    let (two, _) = world.signed_in("two@shop.example").await;
    let late = mailed(&ask(&world, &two, "three@shop.example", GOOD).await.unwrap());
    world.hand.advance(LINK_TTL);
    assert!(matches!(complete(&world, &late).await, Err(Refusal::LinkDead)), "expired");
}

#[tokio::test]
async fn a_user_suspended_meanwhile_keeps_the_old_address() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let token = mailed(&ask(&world, &ada, "ada@new.example", GOOD).await.unwrap());
    world.set_status(&ada.user, Status::Suspended).await;
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::LinkDead)));
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)));
    assert_eq!(world.reload(&ada.user).await.email, "ada@shop.example");
}
