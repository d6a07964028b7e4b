//! What attackers can use up, and what they cannot.

use std::time::Duration;

use mezusphere_identity::desk::{Desk, Visit};
use mezusphere_identity::factor::password::{PasswordPool, Peppers, PoolLimits};
use mezusphere_identity::flow::by_mail::{self, ByMail, Cause};
use mezusphere_identity::flow::login::{LOGIN_TTL, Login, Step};
use mezusphere_identity::flow::{Refusal, recovery, sign_up};
use mezusphere_identity::throttle::AccountKey;
use mezusphere_model::token::Token;

use crate::world::{GOOD, World, mailed, visit};

async fn login(world: &World, visit: &Visit, email: &str, typed: &str) -> Result<Step, Refusal> {
    let mut flow = Login::begin(&world.entropy, world.directory, world.now());
    flow.password(&world.desk, visit, email, typed.to_owned()).await
}

#[tokio::test]
async fn r15_an_attacker_in_fifty_networks_locks_nobody_out() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    assert!(login(&world, &visit(200), "ada@shop.example", GOOD).await.is_ok(), "at home");
    let account = AccountKey::of(world.directory, "ada@shop.example");
    for round in 0..3 {
        for network in 0..50 {
            if network == round {
                assert!(login(&world, &visit(network), "ada@shop.example", "a guess").await.is_err());
            }
            // The rest without the work: what is begun and not handed back has failed.
            while world.desk.throttle.begin(account, visit(network).address).is_ok() {}
        }
        assert!(login(&world, &visit(200), "ada@shop.example", GOOD).await.is_ok(), "from home");
        let away = visit(210 + round);
        assert!(login(&world, &away, "ada@shop.example", GOOD).await.is_ok(), "from a new place");
        world.hand.advance(Duration::from_secs(20));
    }
}

#[tokio::test]
async fn r14_a_megabyte_as_a_password_costs_no_work() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let before = world.pool.verifications();
    let huge = "x".repeat(1024 * 1024);
    for _ in 0..100 {
        let refused = login(&world, &visit(1), "ada@shop.example", &huge).await;
        assert!(matches!(refused, Err(Refusal::TooLong(_))), "{refused:?}");
    }
    let emails = login(&world, &visit(1), &huge, GOOD).await;
    assert!(matches!(emails, Err(Refusal::Wrong)), "an address that cannot exist is one that does not");
    assert_eq!(world.pool.verifications(), before + 1);
}

#[tokio::test]
async fn a_flow_left_open_or_done_takes_no_password_and_costs_no_work() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let mut flow = Login::begin(&world.entropy, world.directory, world.now());
    let mut late = serde_json::from_str::<Login>(&serde_json::to_string(&flow).unwrap()).unwrap();
    assert_eq!(late, flow);
    let mut sign_in =
        async |typed: &str| flow.password(&world.desk, &visit(1), "ada@shop.example", typed.to_owned()).await;
    assert!(matches!(sign_in("").await, Err(Refusal::Incomplete)));
    assert!(matches!(sign_in("a guess at it").await, Err(Refusal::Wrong)));
    assert!(
        matches!(sign_in(GOOD).await, Ok(Step::SignedIn(_))),
        "a wrong answer leaves the flow where it is"
    );
    let before = world.pool.verifications();
    assert!(matches!(sign_in(GOOD).await, Err(Refusal::Done)));
    world.hand.advance(LOGIN_TTL);
    let stale = late.password(&world.desk, &visit(1), "ada@shop.example", GOOD.to_owned()).await;
    assert!(matches!(stale, Err(Refusal::Expired)));
    assert_eq!(world.pool.verifications(), before);
}

#[tokio::test]
async fn r14_a_full_queue_says_when_to_come_back_and_charges_nobody() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let limits = PoolLimits { threads: 1, queue_len_max: 0 };
    let full = PasswordPool::start(Peppers::new(1, [7; 32]), limits, &world.entropy).unwrap();
    let desk = Desk { passwords: full, ..world.desk.clone() };
    for _ in 0..20 {
        let mut flow = Login::begin(&world.entropy, world.directory, world.now());
        let busy = flow.password(&desk, &visit(1), "ada@shop.example", GOOD.to_owned()).await.unwrap_err();
        assert!(matches!(busy, Refusal::Busy { .. }), "{busy:?}");
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(5)));
    }
    let set = desk.new_password(GOOD.to_owned(), Vec::new()).await;
    assert!(matches!(set, Err(Refusal::Busy { .. })));
    assert!(login(&world, &visit(1), "ada@shop.example", GOOD).await.is_ok());
}

#[tokio::test]
async fn r15_trying_links_has_an_end_and_links_that_work_go_on_working() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    let directory = world.directory().await;
    let mut flow = ByMail::begin(Cause::Recovery, &world.entropy, &directory, world.now()).unwrap();
    let asked = flow.ask(&world.desk, &visit(1), &directory, "ada@shop.example").unwrap();
    let good = world.write(async |tx| by_mail::send(tx, &asked, None).await).await.unwrap();
    let good = mailed(&good).reveal();
    let dead = async || {
        let text = Token::random(&world.entropy).reveal();
        world.desk.open(&visit(9), &text, sign_up::open).await.map(drop).unwrap_err()
    };
    for _ in 0..20 {
        assert!(matches!(dead().await, Refusal::LinkDead));
    }
    assert!(matches!(dead().await, Refusal::Throttled(_)));
    assert!(world.desk.open(&visit(9), &good, recovery::open).await.is_ok());
    world.hand.advance(Duration::from_secs(10));
    assert!(matches!(dead().await, Refusal::LinkDead));
}

#[tokio::test]
async fn r15_mails_from_one_network_have_an_end_that_people_at_home_do_not_meet() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    assert!(login(&world, &visit(1), "ada@shop.example", GOOD).await.is_ok(), "at home");
    let directory = world.directory().await;
    let ask = |network: u8, email: &str| {
        let mut flow = ByMail::begin(Cause::Recovery, &world.entropy, &directory, world.now())?;
        flow.ask(&world.desk, &visit(network), &directory, email).map(drop)
    };
    let sent = (0..100).filter(|n| ask(1, &format!("user{n}@shop.example")).is_ok()).count();
    assert_eq!(sent, 20);
    assert!(ask(1, "ada@shop.example").is_ok(), "signed in from here before");
    assert!(ask(2, "ben@shop.example").is_ok(), "another network");
    let swarm = (10..=255).filter(|n| ask(*n, &format!("user{n}@shop.example")).is_ok()).count();
    assert_eq!(swarm, 100 - 20 - 1, "a hundred for everybody");
    assert!(ask(1, "ada@shop.example").is_ok());
}
