//! What an account's history tells, and what it costs to tell it.

use std::time::Duration;

use mezusphere_identity::desk::Visit;
use mezusphere_identity::flow::Refusal;
use mezusphere_identity::flow::login::{Login, Step};
use mezusphere_identity::message::MessageKind;
use mezusphere_identity::session;
use mezusphere_identity::sign_in::{self, Welcome};
use mezusphere_model::document::Status;
use mezusphere_store::primary::login_event::{self, LoginEvent};
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{PageRequest, audit};

use crate::world::{GOOD, LIMITS, World, visit};

async fn login(world: &World, visit: &Visit, email: &str, typed: &str) -> Result<Step, Refusal> {
    let mut flow = Login::begin(&world.entropy, world.directory, world.now());
    flow.password(&world.desk, visit, email, typed.to_owned()).await
}

async fn sign_in(world: &World, visit: &Visit, email: &str) -> Welcome {
    let step = login(world, visit, email, GOOD).await.unwrap();
    let Step::SignedIn(who) = step else { panic!("{step:?}") };
    let directory = world.directory;
    let place = visit.place();
    let begin = world.write(async |tx| sign_in::welcome(tx, directory, &who, LIMITS, &place, &[]).await);
    begin.await.unwrap()
}

async fn events(world: &World, user: &UserRow) -> Vec<LoginEvent> {
    let page = PageRequest::first();
    let list = world.read(async |tx| login_event::list(tx, user.directory, user.id, &page).await);
    list.await.unwrap().rows
}

async fn outcomes(world: &World, user: &UserRow) -> Vec<String> {
    events(world, user).await.into_iter().map(|event| event.outcome).collect()
}

#[tokio::test]
async fn r13_a_failed_attempt_writes_nothing_itself_and_is_told_after_the_next_batch() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    for email in ["ada@shop.example", "nobody@shop.example"] {
        let before = world.pool.verifications();
        assert!(matches!(login(&world, &visit(1), email, "a guess at it").await, Err(Refusal::Wrong)));
        assert_eq!(world.pool.verifications(), before + 1);
    }
    assert!(events(&world, &ada).await.is_empty());
    assert_eq!(
        world.desk.history.flush(&world.primary).await,
        Ok(1),
        "nothing of accounts that do not exist"
    );
    assert_eq!(world.desk.history.flush(&world.primary).await, Ok(0));
    let [event] = &events(&world, &ada).await[..] else { panic!("one attempt") };
    assert_eq!((event.outcome.as_str(), event.method.as_str()), ("wrong_password", "pwd"));
    assert_eq!((event.address.as_str(), event.agent.as_str()), ("192.0.1.7", "Browser/1"));
}

#[tokio::test]
async fn a_history_tells_sign_ins_refusals_and_ends() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let welcome = sign_in(&world, &visit(1), "ada@shop.example").await;
    world.hand.advance(Duration::from_secs(1));
    let end = world.write(async |tx| {
        let own = welcome.row.id;
        session::end_one(tx, &ada, own, Some(own), &visit(1).place()).await
    });
    end.await.unwrap();
    world.set_status(&ada, Status::Suspended).await;
    world.hand.advance(Duration::from_secs(1));
    let refused = login(&world, &visit(1), "ada@shop.example", GOOD).await;
    assert!(matches!(refused, Err(Refusal::Inactive)));
    world.desk.history.flush(&world.primary).await.unwrap();
    assert_eq!(outcomes(&world, &ada).await, ["refused", "signed_out", "signed_in"], "newest first");
}

#[tokio::test]
async fn a_sign_in_ended_from_elsewhere_is_told_apart_from_one_that_signed_out() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let mut rows = Vec::new();
    for _ in 0..4 {
        rows.push(sign_in(&world, &visit(1), "ada@shop.example").await.row.id);
    }
    let [own, other, by_operator, _] = rows[..] else { panic!("four sign-ins") };
    let place = visit(2).place();
    // Each at a moment of its own, so that they have an order.
    let later = || world.hand.advance(Duration::from_secs(1));
    let end = async |id, by| {
        later();
        world.write(async |tx| session::end_one(tx, &ada, id, by, &place).await).await.unwrap();
    };
    end(other, Some(own)).await;
    end(by_operator, None).await;
    later();
    let others = world.write(async |tx| session::end_others(tx, &ada, own, &place).await);
    assert_eq!(others.await, Ok(1));
    end(own, Some(own)).await;
    let told = outcomes(&world, &ada).await;
    assert_eq!(told[..4], ["signed_out", "session_ended", "session_ended", "session_ended"], "newest first");
    for (by_itself, outcome) in [(true, "signed_out"), (false, "session_ended")] {
        later();
        let own = sign_in(&world, &visit(1), "ada@shop.example").await.row.id;
        later();
        let by = by_itself.then_some(own);
        let all = world.write(async |tx| session::end_all(tx, &ada, by, &place).await);
        assert_eq!(all.await, Ok(1));
        assert_eq!(outcomes(&world, &ada).await[0], outcome);
    }
}

#[tokio::test]
async fn a_mail_tells_of_a_sign_in_from_a_new_place_and_of_no_other() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let at = async |network: u8, agent: &str| {
        world.hand.advance(Duration::from_secs(1));
        let visit = Visit { agent: agent.to_owned(), ..visit(network) };
        sign_in(&world, &visit, "ada@shop.example").await.messages
    };
    assert!(at(1, "Browser/1.0").await.is_empty(), "the first sign-in is from nowhere new");
    assert!(at(1, "Browser/1.0").await.is_empty());
    assert!(at(1, "Browser/27.3.1").await.is_empty(), "an update is no new browser");
    let [told] = &at(2, "Browser/1.0").await[..] else { panic!("another network") };
    assert!(matches!(&told.kind, MessageKind::NewSignIn { place, .. } if place.address == "192.0.2.7"));
    assert!(at(2, "Browser/1.0").await.is_empty(), "known now");
    assert_eq!(at(1, "Robot/1.0").await.len(), 1, "another browser");
}

#[tokio::test]
async fn r15_one_password_on_many_accounts_is_noticed_once_and_slows_who_takes_part() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    sign_in(&world, &visit(1), "ada@shop.example").await;
    let mut tried = 0;
    for n in 0..18_u8 {
        // Three networks, of which one is Ada's.
        let email = format!("user{n}@shop.example");
        let attempt = login(&world, &visit(n % 3), &email, "Spring2026 is here!").await;
        tried += u8::from(matches!(attempt, Err(Refusal::Wrong)));
    }
    assert_eq!(tried, 10 + 3, "then one per network and minute");
    world.desk.history.flush(&world.primary).await.unwrap();
    let organization = world.directory().await.organization;
    let page = PageRequest::first();
    let log = world.read(async |tx| audit::list(tx, organization, &page).await).await.unwrap();
    let told: Vec<_> = log.rows.iter().filter(|row| row.entry.action == "sign_in.spraying").collect();
    let [told] = &told[..] else { panic!("one entry per burst: {told:?}") };
    assert_eq!(told.entry.detail["kind"], "password");
    assert_eq!(
        (told.entry.detail["accounts"].as_u64(), told.entry.detail["networks"].as_u64()),
        (Some(10), Some(3))
    );
    let text = serde_json::to_string(&told.entry.detail).unwrap();
    assert!(!text.contains("Spring"), "and no password");
    sign_in(&world, &visit(1), "ada@shop.example").await;
    assert!(
        matches!(login(&world, &visit(1), "ben@shop.example", "x").await, Err(Refusal::Throttled(_))),
        "others of that network wait"
    );
    assert!(matches!(login(&world, &visit(7), "ben@shop.example", "x").await, Err(Refusal::Wrong)));
    world.hand.advance(Duration::from_mins(16));
    for network in 0..3 {
        for _ in 0..2 {
            let again = login(&world, &visit(network), "ben@shop.example", "y").await;
            assert!(matches!(again, Err(Refusal::Wrong)), "a quiet quarter of an hour ends it");
        }
    }
}
