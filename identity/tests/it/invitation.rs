//! Invitations: whom an operator asks in, with which roles, and for how long.

use std::time::Duration;

use mezusphere_identity::account::Email;
use mezusphere_identity::flow::invitation::{self, Invite, Joined, Opened, Step};
use mezusphere_identity::flow::sign_up::Completed;
use mezusphere_identity::flow::{INVITATION_TTL, Refusal};
use mezusphere_identity::message::{Message, MessageKind};
use mezusphere_model::document::Status;
use mezusphere_model::id::ProjectId;
use mezusphere_model::identity::Subject;
use mezusphere_model::slug::Name;
use mezusphere_model::token::Token;
use mezusphere_store::primary::PageRequest;
use mezusphere_store::primary::directory::SignUp as Policy;
use mezusphere_store::primary::role::{self, RoleRow};
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::{StoreError, WriteError};

use crate::world::{GOOD, World, mailed, mutilated, onward, visit};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A world that invites, with two roles.
async fn inviting() -> World {
    let world = World::new().await;
    world.allow(Policy::Invitation).await;
    for role in ["editor", "viewer"] {
        let row = RoleRow {
            project: world.project,
            name: name(role),
            description: String::new(),
            permissions: Vec::new(),
            created_at: world.now(),
        };
        world.write(async |tx| role::insert(tx, &row).await).await.unwrap();
    }
    world
}

fn invite(world: &World, email: &str) -> Invite {
    Invite {
        directory: world.directory,
        email: Email::parse(email).unwrap(),
        name: "Ada".to_owned(),
        project: world.project,
        roles: vec![name("editor"), name("viewer")],
        by: "Olga".to_owned(),
        onward: Some(onward()),
    }
}

async fn send(world: &World, invite: &Invite) -> Result<Vec<Message>, Refusal> {
    world.write(async |tx| invitation::invite(tx, invite).await).await
}

async fn invited(world: &World, email: &str) -> Token {
    mailed(&send(world, &invite(world, email)).await.unwrap())
}

async fn open(world: &World, text: &str) -> Result<Opened, Refusal> {
    world.desk.open(&visit(9), text, invitation::open).await.map(|(_, opened)| opened)
}

async fn accept(world: &World, token: &Token) -> Result<Completed, Refusal> {
    let hash = world.desk.new_password(GOOD.to_owned(), Vec::new()).await?;
    world.write(async |tx| invitation::accept(tx, token, "Ada", hash).await).await
}

async fn join(world: &World, token: &Token) -> Result<Joined, Refusal> {
    world.write(async |tx| invitation::join(tx, token).await).await
}

async fn roles(world: &World, user: &UserRow) -> Vec<Name> {
    let (project, subject) = (world.project, Subject::User(user.id));
    world.read(async |tx| role::held_by(tx, project, subject).await).await.unwrap()
}

#[tokio::test]
async fn who_is_invited_chooses_a_password_and_has_the_roles() {
    let world = inviting().await;
    let messages = send(&world, &invite(&world, "ada@shop.example")).await.unwrap();
    let MessageKind::Invitation { token, by, project } = &messages[0].kind else { panic!("{messages:?}") };
    assert_eq!((by.as_str(), project.as_str(), messages[0].name.as_str()), ("Olga", "Shop", "Ada"));
    world.hand.advance(INVITATION_TTL.checked_sub(Duration::from_secs(1)).unwrap());
    let opened = open(&world, &token.reveal()).await.unwrap();
    assert_eq!((opened.email.as_str(), opened.next_step), ("ada@shop.example", Step::Choose));
    let done = accept(&world, token).await.unwrap();
    assert_eq!((done.who.user(), done.onward), (done.user.id, Some(onward())));
    assert_eq!(done.user.email_verified_at, Some(world.now()));
    assert_eq!(roles(&world, &done.user).await, [name("editor"), name("viewer")]);
    assert!(matches!(accept(&world, token).await, Err(Refusal::LinkDead)), "replayed");
}

#[tokio::test]
async fn an_address_that_has_an_account_meanwhile_joins_with_it() {
    let world = inviting().await;
    let token = invited(&world, "ada@shop.example").await;
    let ada = world.user("Ada@shop.example", Some(GOOD)).await;
    assert_eq!(open(&world, &token.reveal()).await.unwrap().next_step, Step::Join);
    assert!(matches!(accept(&world, &token).await, Err(Refusal::Taken)), "their password stays theirs");
    assert_eq!(join(&world, &token).await.unwrap().user.id, ada.id);
    assert_eq!(roles(&world, &ada).await, [name("editor"), name("viewer")]);
    assert!(world.authenticate("ada@shop.example", GOOD).await.is_ok());
    assert!(matches!(join(&world, &token).await, Err(Refusal::LinkDead)), "replayed");
}

#[tokio::test]
async fn a_suspended_account_does_not_come_back_by_an_invitation() {
    let world = inviting().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let token = invited(&world, "ada@shop.example").await;
    world.set_status(&ada, Status::Suspended).await;
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::Inactive)));
    assert!(matches!(join(&world, &token).await, Err(Refusal::Inactive)));
    assert!(matches!(accept(&world, &token).await, Err(Refusal::Inactive)));
    assert!(roles(&world, &ada).await.is_empty());
}

#[tokio::test]
async fn r17_an_invitation_ends_is_replaced_and_can_be_taken_back() {
    let world = inviting().await;
    let (old, new) = (invited(&world, "ada@shop.example").await, invited(&world, "ADA@shop.example").await);
    assert!(matches!(accept(&world, &old).await, Err(Refusal::LinkDead)), "replaced");
    for text in mutilated(&new) {
        assert!(matches!(open(&world, &text).await, Err(Refusal::LinkDead)), "{text}");
    }
    let directory = world.directory;
    let page = PageRequest::first();
    let list = async || {
        let found: Result<_, StoreError> =
            world.primary.read(async |tx| invitation::list(tx, directory, &page).await).await;
        found.unwrap().rows
    };
    let [listed] = &list().await[..] else { panic!("one is open") };
    assert_eq!((listed.email.as_str(), listed.by.as_str()), ("ADA@shop.example", "Olga"));
    let (id, foreign) = (listed.id, mezusphere_model::id::DirectoryId::from_bits(7));
    let revoke = world.write(async |tx| invitation::revoke(tx, foreign, id).await);
    assert!(matches!(revoke.await, Err(WriteError::NotFound { .. })), "another directory's");
    world.write(async |tx| invitation::revoke(tx, directory, id).await).await.unwrap();
    assert!(list().await.is_empty());
    assert!(matches!(accept(&world, &new).await, Err(Refusal::LinkDead)), "taken back");
    let late = invited(&world, "ada@shop.example").await;
    world.hand.advance(INVITATION_TTL);
    assert!(matches!(open(&world, &late.reveal()).await, Err(Refusal::LinkDead)));
    assert!(matches!(accept(&world, &late).await, Err(Refusal::LinkDead)), "expired");
}

#[tokio::test]
async fn a_closed_directory_invites_nobody_not_even_who_was_invited_before() {
    let world = inviting().await;
    let token = invited(&world, "ada@shop.example").await;
    world.allow(Policy::Closed).await;
    let refused = send(&world, &invite(&world, "ben@shop.example")).await;
    assert!(matches!(refused, Err(Refusal::SignUpClosed)));
    assert!(matches!(open(&world, &token.reveal()).await, Err(Refusal::SignUpClosed)));
    assert!(matches!(accept(&world, &token).await, Err(Refusal::SignUpClosed)));
    assert!(world.find("ada@shop.example").await.is_none());
}

#[tokio::test]
async fn r22_an_invitation_is_to_a_project_of_the_directory_with_roles_it_has() {
    let world = inviting().await;
    let foreign = Invite { project: ProjectId::from_bits(7), ..invite(&world, "ada@shop.example") };
    let refused = send(&world, &foreign).await;
    assert!(matches!(refused, Err(Refusal::Store(WriteError::NotFound { what: "project" }))), "{refused:?}");
    let unknown = Invite { roles: vec![name("owner")], ..invite(&world, "ada@shop.example") };
    let refused = send(&world, &unknown).await;
    assert!(matches!(refused, Err(Refusal::Store(WriteError::NotFound { what: "role" }))), "{refused:?}");
}

#[tokio::test]
async fn a_role_that_is_gone_is_left_out() {
    let world = inviting().await;
    let token = invited(&world, "ada@shop.example").await;
    let (project, editor) = (world.project, name("editor"));
    world.write(async |tx| role::delete(tx, project, &editor).await).await.unwrap();
    let done = accept(&world, &token).await.unwrap();
    assert_eq!(roles(&world, &done.user).await, [name("viewer")]);
}

#[tokio::test]
async fn two_tabs_accept_once() {
    let world = inviting().await;
    let token = invited(&world, "ada@shop.example").await;
    let both = tokio::join!(accept(&world, &token), accept(&world, &token));
    assert_eq!(u8::from(both.0.is_ok()) + u8::from(both.1.is_ok()), 1, "{both:?}");
}
