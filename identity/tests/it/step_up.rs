//! Stepping up: the same account, a new token, a fresh proof.

use std::time::Duration;

use mezusphere_identity::flow::Refusal;
use mezusphere_identity::flow::login::Step;
use mezusphere_identity::flow::step_up::{self, Demand, Raised, StepUp};
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::document::Status;
use mezusphere_model::id::SessionId;
use mezusphere_model::identity::Assurance;
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::Token;
use mezusphere_store::primary::session;

use crate::world::{GOOD, World, place, visit};

const FIVE_MINUTES: Demand = Demand { assurance: Assurance::Aal1, max_age_s: Some(300) };

async fn raise(world: &World, signed_in: &SignedIn, typed: &str) -> Result<Raised, Refusal> {
    let mut flow = StepUp::begin(&world.entropy, signed_in, FIVE_MINUTES, world.now());
    let sealed = serde_json::to_string(&flow).unwrap();
    assert_eq!(serde_json::from_str::<StepUp>(&sealed).unwrap(), flow, "a caller can keep it");
    let step = flow.password(&world.desk, &visit(2), signed_in, typed.to_owned()).await?;
    let Step::SignedIn(who) = step else { panic!("one factor is enough: {step:?}") };
    world.write(async |tx| step_up::complete(tx, signed_in, &who, &place()).await).await
}

async fn ada(world: &World) -> (SignedIn, Token) {
    world.user("ada@shop.example", Some(GOOD)).await;
    world.signed_in("ada@shop.example").await
}

#[tokio::test]
async fn r11_a_fresh_proof_gives_the_same_sign_in_a_new_token_and_the_old_one_is_dead() {
    let world = World::new().await;
    let (signed_in, old) = ada(&world).await;
    assert!(FIVE_MINUTES.is_met(&signed_in.sign_in, world.now()));
    world.hand.advance(Duration::from_secs(301));
    assert!(!FIVE_MINUTES.is_met(&signed_in.sign_in, world.now()));
    let raised = raise(&world, &signed_in, GOOD).await.unwrap();
    assert_eq!((raised.row.id, raised.row.expires_at), (signed_in.sign_in.id, signed_in.sign_in.expires_at));
    assert_eq!(raised.row.authenticated_at, world.now());
    assert!(FIVE_MINUTES.is_met(&raised.row, world.now()));
    assert!(!world.is_signed_in(&old).await);
    assert!(world.is_signed_in(&raised.token).await);
}

#[tokio::test]
async fn r11_the_session_of_an_application_is_fresh_by_a_new_hand_off_only_and_the_old_one_ends() {
    let world = World::new().await;
    let (signed_in, _) = ada(&world).await;
    let session = async |signed_in: &mezusphere_store::primary::sign_in::SignInRow| {
        let doc = SessionDoc {
            id: SessionId::random(&world.entropy),
            token_hash: Token::random(&world.entropy).hash(),
            sign_in: signed_in.id,
            user: signed_in.user,
            project: world.project,
            host: world.destination().host,
            methods: signed_in.methods.clone(),
            assurance: signed_in.assurance,
            authenticated_at: signed_in.authenticated_at,
            issued_at: world.now(),
            expires_at: signed_in.expires_at,
            idle_s_max: 0,
            seen_at: world.now(),
        };
        world.write(async |tx| session::insert(tx, &doc).await).await.unwrap();
        doc
    };
    let live = async |doc: &SessionDoc| {
        let (project, id) = (doc.project, doc.id);
        let row = world.read(async |tx| session::get(tx, project, id).await).await.unwrap().unwrap();
        (row.ended_at.is_none(), row.doc.authenticated_at)
    };
    let (one, two) = (session(&signed_in.sign_in).await, session(&signed_in.sign_in).await);
    let began = world.now();
    world.hand.advance(Duration::from_mins(10));
    let raised = raise(&world, &signed_in, GOOD).await.unwrap();
    assert_eq!(live(&one).await, (true, began), "two tabs of one proof, and no fresher by itself");
    let fresh = session(&raised.row).await;
    assert_eq!(live(&fresh).await, (true, world.now()));
    assert_eq!((live(&one).await.0, live(&two).await.0), (false, false));
}

#[tokio::test]
async fn only_who_is_signed_in_steps_up() {
    let world = World::new().await;
    let (ada, held) = ada(&world).await;
    world.user("ben@shop.example", Some("another plum koala entirely")).await;
    assert!(matches!(raise(&world, &ada, "another plum koala entirely").await, Err(Refusal::Wrong)));
    assert!(matches!(raise(&world, &ada, "").await, Err(Refusal::Incomplete)));
    let who = world.authenticate("ben@shop.example", "another plum koala entirely").await.unwrap();
    let crossed = world.write(async |tx| step_up::complete(tx, &ada, &who, &place()).await).await;
    assert!(matches!(crossed, Err(Refusal::OtherPerson)));
    let (other, _) = world.signed_in("ada@shop.example").await;
    let mut flow = StepUp::begin(&world.entropy, &ada, FIVE_MINUTES, world.now());
    let elsewhere = flow.password(&world.desk, &visit(2), &other, GOOD.to_owned()).await;
    assert!(matches!(elsewhere, Err(Refusal::OtherPerson)), "another sign-in of the same account");
    assert!(world.is_signed_in(&held).await);
}

#[tokio::test]
async fn a_flow_left_open_is_stale_and_one_that_is_done_is_done() {
    let world = World::new().await;
    let (ada, _) = ada(&world).await;
    let mut flow = StepUp::begin(&world.entropy, &ada, FIVE_MINUTES, world.now());
    let mut late = flow.clone();
    flow.password(&world.desk, &visit(2), &ada, GOOD.to_owned()).await.unwrap();
    let again = flow.password(&world.desk, &visit(2), &ada, GOOD.to_owned()).await;
    assert!(matches!(again, Err(Refusal::Done)));
    world.hand.advance(mezusphere_identity::flow::login::LOGIN_TTL);
    let expired = late.password(&world.desk, &visit(2), &ada, GOOD.to_owned()).await;
    assert!(matches!(expired, Err(Refusal::Expired)));
}

#[tokio::test]
async fn a_demand_for_two_factors_is_not_met_by_one() {
    let world = World::new().await;
    let (ada, _) = ada(&world).await;
    let strong = Demand { assurance: Assurance::Aal2, max_age_s: None };
    assert!(!strong.is_met(&ada.sign_in, world.now()));
    let mut flow = StepUp::begin(&world.entropy, &ada, strong, world.now());
    let step = flow.password(&world.desk, &visit(2), &ada, GOOD.to_owned()).await.unwrap();
    assert!(matches!(step, Step::Prove(_)), "{step:?}");
}

#[tokio::test]
async fn two_tabs_that_step_up_leave_one_good_token() {
    let world = World::new().await;
    let (ada, _) = ada(&world).await;
    let (one, two) = (raise(&world, &ada, GOOD).await.unwrap(), raise(&world, &ada, GOOD).await.unwrap());
    assert!(!world.is_signed_in(&one.token).await && world.is_signed_in(&two.token).await);
}

#[tokio::test]
async fn a_sign_in_that_ended_or_a_user_suspended_meanwhile_is_not_raised() {
    let world = World::new().await;
    let (ada, _) = ada(&world).await;
    let who = world.authenticate("ada@shop.example", GOOD).await.unwrap();
    world.set_status(&ada.user, Status::Suspended).await;
    assert!(matches!(raise(&world, &ada, GOOD).await, Err(Refusal::Inactive)));
    world.set_status(&ada.user, Status::Active).await;
    let ended = world.write(async |tx| step_up::complete(tx, &ada, &who, &place()).await).await;
    assert!(matches!(ended, Err(Refusal::Inactive)), "suspension ended it for good");
}
