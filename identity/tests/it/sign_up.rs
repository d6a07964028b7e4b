//! Signing up: who may, what is mailed, and what a link is good for.

use std::time::Duration;

use mezusphere_identity::flow::by_mail::{self, ASK_TTL, ByMail, Cause, Step};
use mezusphere_identity::flow::sign_up::{self, Completed, Opened};
use mezusphere_identity::flow::{LINK_TTL, Onward, Refusal};
use mezusphere_identity::message::{Message, MessageKind};
use mezusphere_model::document::Status;
use mezusphere_model::identity::Subject;
use mezusphere_model::token::Token;
use mezusphere_store::primary::directory::SignUp as Policy;
use mezusphere_store::primary::role;

use crate::world::{GOOD, World, mailed, mutilated, onward, visit};

async fn begin(world: &World) -> Result<ByMail, Refusal> {
    ByMail::begin(Cause::SignUp, &world.entropy, &world.directory().await, world.now())
}

/// Asks with this address and sends; from a network of its own each time.
async fn ask(world: &World, network: u8, email: &str) -> Result<Vec<Message>, Refusal> {
    let mut flow = begin(world).await?;
    assert_eq!(flow.next_step(), Step::Address);
    let asked = flow.ask(&world.desk, &visit(network), &world.directory().await, email)?;
    assert_eq!(flow.next_step(), Step::Inbox);
    let send = world.write(async |tx| by_mail::send(tx, &asked, Some(&onward())).await);
    Ok(send.await?)
}

async fn open(world: &World, text: &str) -> Result<Opened, Refusal> {
    world.desk.open(&visit(9), text, sign_up::open).await.map(|(_, opened)| opened)
}

async fn complete(world: &World, token: &Token, name: &str) -> Result<Completed, Refusal> {
    let hash = world.desk.new_password(GOOD.to_owned(), Vec::new()).await?;
    world.write(async |tx| sign_up::complete(tx, token, name, hash).await).await
}

async fn open_world() -> World {
    let world = World::new().await;
    world.allow(Policy::Open).await;
    world
}

#[tokio::test]
async fn an_address_a_mail_a_password_and_signed_in() {
    let world = open_world().await;
    let messages = ask(&world, 1, "Ada@Shop.Example").await.unwrap();
    assert_eq!((messages[0].to.as_str(), messages[0].is_decoy), ("Ada@Shop.Example", false));
    assert!(world.find("ada@shop.example").await.is_none(), "nothing but the link is stored before");
    let token = mailed(&messages);
    assert_eq!(messages[0].kind.path().unwrap(), format!("/sign-up/{}", token.reveal()));
    let opened = open(&world, &token.reveal()).await.unwrap();
    assert_eq!((opened.email.as_str(), opened.onward), ("Ada@Shop.Example", Some(onward())));
    let done = complete(&world, &token, " Ada Lovelace ").await.unwrap();
    assert_eq!((done.user.name.as_str(), done.onward), ("Ada Lovelace", Some(onward())));
    assert_eq!(done.who.user(), done.user.id);
    let stored = world.find("ada@shop.example").await.unwrap();
    assert_eq!((stored.email_verified_at, stored.status), (Some(world.now()), Status::Active));
    let (project, subject) = (world.project, Subject::User(stored.id));
    let roles = world.read(async |tx| role::held_by(tx, project, subject).await).await.unwrap();
    assert!(roles.is_empty(), "who adds themselves holds no role");
    assert!(world.authenticate("ada@shop.example", GOOD).await.is_ok());
}

#[tokio::test]
async fn who_may_sign_up_is_the_directorys_choice_and_nobody_by_default() {
    let world = World::new().await;
    assert!(matches!(begin(&world).await, Err(Refusal::SignUpClosed)));
    assert!(!sign_up::is_offered(&world.directory().await.settings.sign_up));
    world.allow(Policy::Invitation).await;
    assert!(matches!(begin(&world).await, Err(Refusal::InvitationOnly)));
    world.allow(Policy::Domains(vec!["shop.example".to_owned(), "acme.example".to_owned()])).await;
    for email in ["ada@shop.example", "Ben@SHOP.Example", "cy@acme.example"] {
        assert!(ask(&world, 1, email).await.is_ok(), "{email}");
    }
    for email in [
        "eve@evil.example",
        "eve@sub.shop.example",
        "eve@shop.example.evil.example",
        "eve@notshop.example",
        "eve@example",
        "shop.example@evil.example",
    ] {
        assert!(matches!(ask(&world, 2, email).await, Err(Refusal::OtherDomain)), "{email}");
    }
}

#[tokio::test]
async fn r13_an_address_that_has_an_account_sees_no_difference_and_its_owner_is_told() {
    let world = open_world().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let known = ask(&world, 1, "ada@shop.example").await.unwrap();
    let unknown = ask(&world, 1, "bob@shop.example").await.unwrap();
    assert_eq!((known.len(), known[0].kind.clone()), (1, MessageKind::AlreadyRegistered));
    assert_eq!((unknown.len(), unknown[0].is_decoy, known[0].is_decoy), (1, false, false));
    assert_eq!(links(&world).await, 2, "a link is written in both cases");
}

/// How many links are live.
async fn links(world: &World) -> usize {
    let directory = world.directory;
    let purpose = mezusphere_model::slug::Name::parse("sign-up").unwrap();
    let page = mezusphere_store::primary::PageRequest::first();
    let list = world.read(async |tx| {
        mezusphere_store::primary::one_time_link::list(tx, directory, &purpose, &page).await
    });
    list.await.unwrap().rows.len()
}

#[tokio::test]
async fn a_form_with_faults_is_refused_and_the_flow_goes_on() {
    let world = open_world().await;
    let mut flow = begin(&world).await.unwrap();
    let directory = world.directory().await;
    let mut ask = |email: &str| flow.ask(&world.desk, &visit(1), &directory, email);
    assert!(matches!(ask("  "), Err(Refusal::Incomplete)));
    assert!(matches!(ask("no address"), Err(Refusal::Field(_))));
    assert!(matches!(ask(&"a".repeat(1024 * 1024)), Err(Refusal::Field(_))));
    assert!(ask("ada@shop.example").is_ok());
}

#[tokio::test]
async fn a_form_left_open_or_of_another_directory_is_stale() {
    let world = open_world().await;
    let mut flow = begin(&world).await.unwrap();
    let sealed = serde_json::to_string(&flow).unwrap();
    assert_eq!(serde_json::from_str::<ByMail>(&sealed).unwrap(), flow, "a caller can keep it");
    let mut foreign = world.directory().await;
    foreign.id = mezusphere_model::id::DirectoryId::from_bits(7);
    let refused = flow.ask(&world.desk, &visit(1), &foreign, "ada@shop.example");
    assert!(matches!(refused, Err(Refusal::Expired)));
    world.hand.advance(ASK_TTL);
    let directory = world.directory().await;
    let late = flow.ask(&world.desk, &visit(1), &directory, "ada@shop.example");
    assert!(matches!(late, Err(Refusal::Expired)));
}

#[tokio::test]
async fn r17_a_link_is_good_once_and_for_half_an_hour() {
    let world = open_world().await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    world.hand.advance(LINK_TTL.checked_sub(Duration::from_secs(1)).unwrap());
    for _ in 0..3 {
        assert!(open(&world, &token.reveal()).await.is_ok(), "looking changes nothing");
    }
    complete(&world, &token, "Ada").await.unwrap();
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::LinkDead)));
    assert!(matches!(complete(&world, &token, "Ada").await, Err(Refusal::LinkDead)), "replayed");
    let token = mailed(&ask(&world, 1, "ben@shop.example").await.unwrap());
    world.hand.advance(LINK_TTL);
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::LinkDead)));
    assert!(matches!(complete(&world, &token, "Ben").await, Err(Refusal::LinkDead)), "expired");
}

#[tokio::test]
async fn r17_a_mutilated_link_opens_nothing() {
    let world = open_world().await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    for text in mutilated(&token) {
        assert!(matches!(open(&world, &text).await, Err(Refusal::LinkDead)), "{text}");
    }
    assert!(open(&world, &token.reveal()).await.is_ok());
}

#[tokio::test]
async fn two_tabs_make_one_account() {
    let world = open_world().await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    let both = tokio::join!(complete(&world, &token, "Ada"), complete(&world, &token, "Ada"));
    let (won, lost): (Vec<_>, Vec<_>) = [both.0, both.1].into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1));
    assert!(matches!(lost[0], Err(Refusal::LinkDead)), "{:?}", lost[0]);
}

#[tokio::test]
async fn an_address_taken_meanwhile_or_a_directory_closed_meanwhile_is_told_to_who_reads_its_mail() {
    let world = open_world().await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    world.allow(Policy::Domains(vec!["other.example".to_owned()])).await;
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::OtherDomain)));
    world.allow(Policy::Closed).await;
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::SignUpClosed)));
    assert!(matches!(complete(&world, &token, "Ada").await, Err(Refusal::SignUpClosed)));
    world.allow(Policy::Open).await;
    world.user("ADA@shop.example", None).await;
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::Taken)));
    assert!(matches!(complete(&world, &token, "Ada").await, Err(Refusal::Taken)));
}

#[tokio::test]
async fn a_stranger_who_asks_in_somebodys_name_does_not_kill_their_link() {
    let world = open_world().await;
    let owners = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    let strangers = mailed(&ask(&world, 2, "ada@shop.example").await.unwrap());
    assert!(open(&world, &owners.reveal()).await.is_ok());
    complete(&world, &owners, "Ada").await.unwrap();
    assert!(matches!(open(&world, &strangers.reveal()).await, Err(Refusal::LinkDead)), "all end together");
}

#[tokio::test]
async fn a_weak_password_or_a_name_that_cannot_be_shown_leaves_the_link_good() {
    let world = open_world().await;
    let token = mailed(&ask(&world, 1, "ada@shop.example").await.unwrap());
    let about = vec!["ada@shop.example".to_owned()];
    for weak in ["short", "passwordpassword", "ada@shop.example"] {
        let refused = world.desk.new_password(weak.to_owned(), about.clone()).await;
        assert!(matches!(refused, Err(Refusal::Weak(_))), "{weak}");
    }
    let empty = world.desk.new_password(String::new(), about.clone()).await;
    assert!(matches!(empty, Err(Refusal::Incomplete)));
    let huge = world.desk.new_password("x".repeat(1024 * 1024), about).await;
    assert!(matches!(huge, Err(Refusal::TooLong(_))));
    assert!(matches!(complete(&world, &token, "a\nb").await, Err(Refusal::Field(_))));
    assert!(matches!(complete(&world, &token, "").await, Err(Refusal::Field(_))));
    assert!(complete(&world, &token, "Ada 🦉").await.is_ok());
}

#[tokio::test]
async fn where_somebody_wanted_to_go_comes_back_from_the_link_and_not_from_a_client() {
    let world = open_world().await;
    let long = Onward { return_to: format!("/{}", "a".repeat(8000)), ..onward() };
    let mut flow = begin(&world).await.unwrap();
    let asked = flow.ask(&world.desk, &visit(1), &world.directory().await, "ada@shop.example").unwrap();
    let send = world.write(async |tx| by_mail::send(tx, &asked, Some(&long)).await);
    let token = mailed(&send.await.unwrap());
    assert_eq!(open(&world, &token.reveal()).await.unwrap().onward, Some(long));
}
