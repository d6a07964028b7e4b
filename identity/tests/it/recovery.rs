//! Recovery: the same for everybody who asks, and a new password for who reads the mail.

use std::time::Duration;

use mezusphere_identity::account;
use mezusphere_identity::flow::by_mail::{self, ASK_TTL, ByMail, Cause, Step};
use mezusphere_identity::flow::recovery::{self, Completed, Opened};
use mezusphere_identity::flow::{LINK_TTL, Refusal};
use mezusphere_identity::message::{Message, MessageKind};
use mezusphere_model::document::Status;
use mezusphere_model::token::Token;
use mezusphere_store::primary::user::{self, UserChange, UserRow};
use mezusphere_store::primary::{PageRequest, login_event, one_time_link};

use crate::world::{GOOD, World, mailed, mutilated, onward, place, visit};

const NEW: &str = "another plum koala entirely";

async fn ask(world: &World, network: u8, email: &str) -> Result<Vec<Message>, Refusal> {
    let directory = world.directory().await;
    let mut flow = ByMail::begin(Cause::Recovery, &world.entropy, &directory, world.now())?;
    assert_eq!(flow.next_step(), Step::Address);
    let asked = flow.ask(&world.desk, &visit(network), &directory, email)?;
    assert_eq!(flow.next_step(), Step::Inbox);
    let send = world.write(async |tx| by_mail::send(tx, &asked, Some(&onward())).await);
    Ok(send.await?)
}

async fn open(world: &World, text: &str) -> Result<Opened, Refusal> {
    world.desk.open(&visit(9), text, recovery::open).await.map(|(_, opened)| opened)
}

async fn complete(world: &World, token: &Token) -> Result<Completed, Refusal> {
    let hash = world.desk.new_password(NEW.to_owned(), Vec::new()).await?;
    world.write(async |tx| recovery::complete(tx, token, hash, &place()).await).await
}

async fn ada(world: &World) -> UserRow {
    world.user("ada@shop.example", Some(GOOD)).await
}

#[tokio::test]
async fn r17_a_recovery_sets_the_password_ends_every_sign_in_and_signs_nobody_in() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let (_, held) = world.sign_in("ada@shop.example", None).await;
    world.hand.advance(Duration::from_mins(1));
    let token = mailed(&ask(&world, 1, " ADA@shop.example ").await.unwrap());
    let other = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    let opened = open(&world, &token.reveal()).await.unwrap();
    assert_eq!((opened.user.id, opened.onward), (ada.id, Some(onward())));
    assert!(world.is_signed_in(&held).await, "looking changes nothing");
    let done = complete(&world, &token).await.unwrap();
    assert!(!world.is_signed_in(&held).await);
    assert!(world.authenticate("ada@shop.example", GOOD).await.is_err());
    assert!(world.authenticate("ada@shop.example", NEW).await.is_ok());
    assert_eq!(world.reload(&ada).await.email_verified_at, Some(world.now()), "they read its mail");
    assert!(matches!(open(&world, &other.reveal()).await, Err(Refusal::LinkDead)), "every other link ends");
    let [told] = &done.messages[..] else { panic!("{done:?}") };
    assert_eq!(told.to.as_str(), "ada@shop.example");
    assert_eq!(told.kind, MessageKind::PasswordChanged { at: world.now(), place: place() });
    let page = PageRequest::first();
    let events = world.read(async |tx| login_event::list(tx, ada.directory, ada.id, &page).await);
    assert_eq!(events.await.unwrap().rows[0].outcome, "recovered");
}

#[tokio::test]
async fn r13_unknown_and_unusable_accounts_cost_the_same_and_get_no_mail() {
    let world = World::new().await;
    ada(&world).await;
    let sus = world.user("sus@shop.example", Some(GOOD)).await;
    world.set_status(&sus, Status::Suspended).await;
    let purpose = mezusphere_model::slug::Name::parse("recovery").unwrap();
    let page = PageRequest::first();
    let rows = [("ada@shop.example", false), ("nobody@shop.example", true), ("sus@shop.example", true)];
    for (n, (email, is_decoy)) in (1..).zip(rows) {
        let messages = ask(&world, 1, email).await.unwrap();
        assert_eq!((messages.len(), messages[0].is_decoy), (1, is_decoy), "{email}");
        assert!(matches!(messages[0].kind, MessageKind::Recovery { .. }));
        let list = world.read(async |tx| one_time_link::list(tx, world.directory, &purpose, &page).await);
        assert_eq!(list.await.unwrap().rows.len(), n, "a link is written for {email}");
        let token = mailed(&messages);
        assert_eq!(open(&world, &token.reveal()).await.is_err(), is_decoy, "{email}");
        assert_eq!(complete(&world, &token).await.is_err(), is_decoy, "{email}");
        // Completing removes the rows of one user; put the count back.
        if !is_decoy {
            ask(&world, 1, email).await.unwrap();
        }
    }
}

#[tokio::test]
async fn r17_a_link_is_good_once_for_half_an_hour_and_not_when_mutilated() {
    let world = World::new().await;
    ada(&world).await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    for text in mutilated(&token) {
        assert!(matches!(open(&world, &text).await, Err(Refusal::LinkDead)), "{text}");
    }
    complete(&world, &token).await.unwrap();
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)), "replayed");
    let late = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    world.hand.advance(LINK_TTL);
    assert!(matches!(open(&world, &late.reveal()).await, Err(Refusal::LinkDead)));
    assert!(matches!(complete(&world, &late).await, Err(Refusal::LinkDead)), "expired");
}

#[tokio::test]
async fn a_user_suspended_or_moved_meanwhile_has_no_link_any_more() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    world.set_status(&ada, Status::Suspended).await;
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::LinkDead)));
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)));
    world.set_status(&ada, Status::Active).await;
    let change = UserChange { email: Some("ada@elsewhere.example".to_owned()), ..UserChange::default() };
    world.write(async |tx| user::update(tx, ada.directory, ada.id, &change).await).await.unwrap();
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)), "who reads the old mailbox");
    assert!(world.authenticate("ada@elsewhere.example", GOOD).await.is_ok());
}

#[tokio::test]
async fn a_new_password_by_an_operator_leaves_recovery_possible_and_a_deleted_user_has_none() {
    let world = World::new().await;
    let ada = ada(&world).await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    let hash = world.hash(NEW).await;
    world.write(async |tx| account::set_password(tx, &ada, hash, &place()).await).await.unwrap();
    assert!(open(&world, &token.reveal()).await.is_ok());
    world.write(async |tx| user::delete(tx, ada.directory, ada.id).await).await.unwrap();
    assert!(matches!(complete(&world, &token).await, Err(Refusal::LinkDead)));
}

#[tokio::test]
async fn two_tabs_recover_once() {
    let world = World::new().await;
    ada(&world).await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    let both = tokio::join!(complete(&world, &token), complete(&world, &token));
    assert_eq!(u8::from(both.0.is_ok()) + u8::from(both.1.is_ok()), 1, "{both:?}");
}

#[tokio::test]
async fn a_form_left_open_is_stale_and_a_flow_can_be_kept() {
    let world = World::new().await;
    let directory = world.directory().await;
    let mut flow = ByMail::begin(Cause::Recovery, &world.entropy, &directory, world.now()).unwrap();
    let sealed = serde_json::to_string(&flow).unwrap();
    assert_eq!(serde_json::from_str::<ByMail>(&sealed).unwrap(), flow);
    let mut ask = |email: &str| flow.ask(&world.desk, &visit(1), &directory, email);
    assert!(matches!(ask(""), Err(Refusal::Incomplete)));
    assert!(matches!(ask("nobody"), Err(Refusal::Field(_))));
    world.hand.advance(ASK_TTL);
    assert!(matches!(ask("ada@shop.example"), Err(Refusal::Expired)));
}

#[tokio::test]
async fn r15_three_mails_to_an_address_then_one_in_ten_minutes_whether_it_has_an_account_or_not() {
    let world = World::new().await;
    ada(&world).await;
    for email in ["ada@shop.example", "nobody@shop.example"] {
        for network in 1..=3 {
            ask(&world, network, email).await.unwrap();
        }
        let refused = ask(&world, 4, email).await.unwrap_err();
        assert_eq!(refused.retry_after(), Some(Duration::from_mins(10)), "{email}");
    }
    world.hand.advance(Duration::from_mins(10));
    assert!(ask(&world, 4, "ada@shop.example").await.is_ok());
}

#[tokio::test]
async fn an_operator_can_send_a_recovery_whatever_strangers_have_used_up() {
    let world = World::new().await;
    let ada = ada(&world).await;
    while ask(&world, 1, "ada@shop.example").await.is_ok() {}
    let send = world.write(async |tx| recovery::send_to(tx, &ada).await);
    complete(&world, &mailed(&send.await.unwrap())).await.unwrap();
}
