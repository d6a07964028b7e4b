//! Where somebody is signed in, and ending it.

use std::time::Duration;

use mezusphere_identity::history::Outcome;
use mezusphere_identity::session::{self, Signed};
use mezusphere_identity::sign_in;
use mezusphere_model::id::{SessionId, SignInId};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::Token;
use mezusphere_store::WriteError;
use mezusphere_store::primary::session as rows;
use mezusphere_store::primary::sign_in::SignInRow;
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{PageRequest, login_event};

use crate::world::{GOOD, LIMITS, World, place, visit};

async fn list(world: &World, user: &UserRow, current: Option<SignInId>) -> Vec<Signed> {
    world.read(async |tx| session::list(tx, user, current).await).await.unwrap()
}

/// A session of this sign-in on the shop's host.
async fn app(world: &World, sign_in: &SignInRow) -> SessionDoc {
    let doc = SessionDoc {
        id: SessionId::random(&world.entropy),
        token_hash: Token::random(&world.entropy).hash(),
        sign_in: sign_in.id,
        user: sign_in.user,
        project: world.project,
        host: world.destination().host,
        methods: sign_in.methods.clone(),
        assurance: sign_in.assurance,
        authenticated_at: sign_in.authenticated_at,
        issued_at: world.now(),
        expires_at: sign_in.expires_at,
        idle_s_max: 0,
        seen_at: world.now(),
    };
    world.write(async |tx| rows::insert(tx, &doc).await).await.unwrap();
    doc
}

#[tokio::test]
async fn a_list_tells_where_since_when_and_which_one_is_this_browser() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let (first, _) = world.sign_in("ada@shop.example", None).await;
    let shop = app(&world, &first).await;
    world.hand.advance(Duration::from_mins(1));
    let (second, _) = world.sign_in("ada@shop.example", None).await;
    world.hand.advance(Duration::from_mins(1));
    let (third, _) = world.sign_in("ada@shop.example", None).await;
    let listed = list(&world, &ada, Some(second.id)).await;
    let ids: Vec<SignInId> = listed.iter().map(|signed| signed.sign_in.id).collect();
    assert_eq!(ids, [second.id, third.id, first.id], "this browser first, then the last used");
    assert_eq!(listed.iter().filter(|signed| signed.is_current).count(), 1);
    let apps: Vec<_> = listed[2].apps.iter().map(|row| row.doc.id).collect();
    assert_eq!((apps, listed[2].sign_in.address.as_str()), (vec![shop.id], "192.0.2.7"));
    assert_eq!(session::last_seen(&listed[2]), shop.seen_at);
    world.hand.advance(Duration::from_hours(2));
    assert!(list(&world, &ada, None).await.is_empty(), "what is idle is over");
}

#[tokio::test]
async fn r12_ending_one_ends_it_with_its_sessions_and_no_other() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let (one, held) = world.sign_in("ada@shop.example", None).await;
    let (two, kept) = world.sign_in("ada@shop.example", None).await;
    let (of_one, of_two) = (app(&world, &one).await, app(&world, &two).await);
    let end = world.write(async |tx| session::end_one(tx, &ada, one.id, None, &place()).await);
    assert_eq!(end.await, Ok(true));
    assert!(!world.is_signed_in(&held).await && world.is_signed_in(&kept).await);
    let project = world.project;
    let ended = async |id: SessionId| {
        let row = world.read(async |tx| rows::get(tx, project, id).await).await.unwrap();
        row.unwrap().ended_at.is_some()
    };
    assert_eq!((ended(of_one.id).await, ended(of_two.id).await), (true, false));
    let again = world.write(async |tx| session::end_one(tx, &ada, one.id, None, &place()).await);
    assert_eq!(again.await, Ok(false));
}

#[tokio::test]
async fn r12_all_others_or_all_end_at_once() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(world.sign_in("ada@shop.example", None).await);
    }
    let keep = tokens[1].0.id;
    let others = world.write(async |tx| session::end_others(tx, &ada, keep, &place()).await);
    assert_eq!(others.await, Ok(2));
    for (row, token) in &tokens {
        assert_eq!(world.is_signed_in(token).await, row.id == keep);
    }
    assert_eq!(world.write(async |tx| session::end_all(tx, &ada, None, &place()).await).await, Ok(1));
    assert_eq!(world.write(async |tx| session::end_all(tx, &ada, None, &place()).await).await, Ok(0));
    assert!(!world.is_signed_in(&tokens[1].1).await);
}

#[tokio::test]
async fn r12_a_sign_out_at_an_application_ends_the_sign_in_and_its_user_reads_of_it() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let (row, token) = world.sign_in("ada@shop.example", None).await;
    let last = async || {
        let found = world.read(async |tx| sign_in::resolve(tx, &token).await).await.unwrap()?;
        world.read(async |tx| session::last_app(tx, &found).await).await.unwrap()
    };
    assert_eq!(last().await, None);
    let first = app(&world, &row).await;
    world.hand.advance(Duration::from_secs(1));
    let host = mezusphere_model::Host::parse("blog.localhost").unwrap();
    let second = SessionDoc {
        id: SessionId::random(&world.entropy),
        token_hash: Token::random(&world.entropy).hash(),
        host: host.clone(),
        seen_at: world.now(),
        ..first
    };
    world.write(async |tx| rows::insert(tx, &second).await).await.unwrap();
    assert_eq!(last().await, Some(host), "the one that was used last");

    let (directory, id) = (ada.directory, row.id);
    let end = async || world.write(async |tx| session::end_at_app(tx, directory, id).await).await;
    assert_eq!((end().await, end().await), (Ok(true), Ok(false)));
    assert!(!world.is_signed_in(&token).await);
    let page = PageRequest::first();
    let events = world.read(async |tx| login_event::list(tx, directory, ada.id, &page).await).await.unwrap();
    let [event] = &events.rows[..] else { panic!("{} lines", events.rows.len()) };
    let told = (event.outcome.as_str(), event.agent.as_str(), event.address.as_str());
    assert_eq!(told, (Outcome::SignedOut.as_str(), "Browser/1", ""));
    let foreign = mezusphere_model::id::DirectoryId::from_bits(7);
    let other = world.write(async |tx| session::end_at_app(tx, foreign, id).await);
    assert!(matches!(other.await, Err(WriteError::NotFound { .. })));
}

#[tokio::test]
async fn r22_nobody_ends_what_is_anothers() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let eve = world.user("eve@shop.example", Some(GOOD)).await;
    let (row, token) = world.sign_in("ada@shop.example", None).await;
    let one = world.write(async |tx| session::end_one(tx, &eve, row.id, Some(row.id), &place()).await);
    assert!(matches!(one.await, Err(WriteError::NotFound { .. })));
    let others = world.write(async |tx| session::end_others(tx, &eve, row.id, &place()).await);
    assert!(matches!(others.await, Err(WriteError::NotFound { .. })));
    assert!(world.is_signed_in(&token).await);
}

#[tokio::test]
async fn a_browser_holds_one_sign_in_per_directory_and_so_many_in_all() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let who = world.authenticate("ada@shop.example", GOOD).await.unwrap();
    let welcome = async |held: &[Token]| {
        let directory = ada.directory;
        let begin =
            world.write(async |tx| sign_in::welcome(tx, directory, &who, LIMITS, &place(), held).await);
        begin.await.unwrap()
    };
    let first = welcome(&[]).await;
    let second = welcome(&first.tokens).await;
    assert_eq!(second.tokens.len(), 1);
    assert!(!world.is_signed_in(&first.tokens[0]).await, "replaced");
    assert_eq!(
        welcome(&[Token::random(&world.entropy)]).await.tokens.len(),
        1,
        "what opens nothing is dropped"
    );
}

#[tokio::test]
async fn a_program_that_signs_in_on_and_on_keeps_the_newest_sign_ins() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let who = world.authenticate("ada@shop.example", GOOD).await.unwrap();
    let directory = ada.directory;
    let mut tokens = Vec::new();
    for _ in 0..sign_in::LIVE_MAX + 3 {
        world.hand.advance(Duration::from_secs(1));
        let begin =
            world.write(async |tx| sign_in::welcome(tx, directory, &who, LIMITS, &place(), &[]).await);
        tokens.extend(begin.await.unwrap().tokens);
    }
    assert_eq!(list(&world, &ada, None).await.len(), sign_in::LIVE_MAX as usize);
    assert!(!world.is_signed_in(&tokens[2]).await && world.is_signed_in(&tokens[3]).await);
}

#[tokio::test]
async fn a_user_suspended_after_the_password_was_checked_is_not_signed_in() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let who = world.authenticate("ada@shop.example", GOOD).await.unwrap();
    world.set_status(&ada, mezusphere_model::document::Status::Suspended).await;
    let directory = ada.directory;
    let begin =
        world.write(async |tx| sign_in::welcome(tx, directory, &who, LIMITS, &visit(3).place(), &[]).await);
    assert!(matches!(begin.await, Err(mezusphere_identity::flow::Refusal::Inactive)));
}

#[test]
fn a_directorys_own_limits_come_before_the_installations() {
    use mezusphere_store::primary::directory::{SessionLimits, Settings};
    let sessions = Some(SessionLimits { absolute_s: 3600, idle_s: 0 });
    let own = sign_in::Limits::of(LIMITS, &Settings { sessions, ..Settings::default() });
    assert_eq!((own.absolute, own.idle), (Duration::from_hours(1), Duration::ZERO));
    let plain = sign_in::Limits::of(LIMITS, &Settings::default());
    assert_eq!((plain.absolute, plain.idle), (LIMITS.absolute, LIMITS.idle));
}
