//! Users: adding, passwords, standing.

use mezusphere_identity::account::{self, AccountError, Email, NewUser};
use mezusphere_identity::factor::password::{PasswordPool, Peppers, PoolLimits, ProveError, prove};
use mezusphere_identity::history::Outcome;
use mezusphere_identity::message::MessageKind;
use mezusphere_model::document::Status;
use mezusphere_store::WriteError;
use mezusphere_store::primary::user::UserRow;
use mezusphere_store::primary::{PageRequest, Taken, login_event, password};

use crate::world::{GOOD, World, conflict, place, typed};

#[tokio::test]
async fn an_address_is_taken_whatever_its_case() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", None).await;
    assert_eq!(ada.name, "ada", "named after the address");
    let again = NewUser {
        directory: world.directory,
        email: Email::parse("Ada@Shop.Example").unwrap(),
        name: "Ada".to_owned(),
        display_name: String::new(),
        claims: std::collections::BTreeMap::new(),
        password: None,
    };
    let now = world.now();
    match world.write(async |tx| account::create(tx, &world.entropy, now, again).await).await {
        Err(AccountError::Write(error)) => assert_eq!(conflict(&error), Some(Taken::Email)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn r13_every_wrong_attempt_gets_one_answer_and_one_verification() {
    let world = World::new().await;
    world.user("ada@shop.example", Some(GOOD)).await;
    world.user("link@shop.example", None).await;
    let rows = [
        ("ada@shop.example", "not the password"),
        ("nobody@shop.example", GOOD),
        ("link@shop.example", GOOD),
        ("", GOOD),
    ];
    for (n, (email, password)) in (1..).zip(rows) {
        let error = world.authenticate(email, password).await.unwrap_err();
        assert!(matches!(error, ProveError::Wrong), "{email}: {error:?}");
        assert_eq!(world.pool.verifications(), n, "{email}");
    }
    assert!(world.authenticate(" Ada@Shop.Example ", GOOD).await.is_ok());
}

#[tokio::test]
async fn only_whoever_knows_the_password_hears_that_an_account_is_suspended() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let (_, token) = world.sign_in("ada@shop.example", None).await;
    let suspend =
        world.write(async |tx| account::set_status(tx, ada.directory, ada.id, Status::Suspended).await);
    suspend.await.unwrap();
    let wrong = world.authenticate("ada@shop.example", "not the password").await;
    assert!(matches!(wrong, Err(ProveError::Wrong)));
    let right = world.authenticate("ada@shop.example", GOOD).await;
    assert!(matches!(right, Err(ProveError::Inactive)));
    assert!(!world.is_signed_in(&token).await, "and every sign-in is over");
    let resume = world.write(async |tx| account::set_status(tx, ada.directory, ada.id, Status::Active).await);
    resume.await.unwrap();
    assert!(!world.is_signed_in(&token).await, "for good");
    assert!(world.authenticate("ada@shop.example", GOOD).await.is_ok());
}

#[tokio::test]
async fn r12_a_new_password_ends_every_sign_in() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let (_, one) = world.sign_in("ada@shop.example", None).await;
    let (_, two) = world.sign_in("ada@shop.example", None).await;
    world.hand.advance(std::time::Duration::from_mins(1));
    let hash = world.hash("another plum koala entirely").await;
    let set = world.write(async |tx| account::set_password(tx, &ada, hash, &place()).await);
    let [told] = &set.await.unwrap()[..] else { panic!("one mail") };
    assert_eq!((told.to.as_str(), told.is_decoy), ("ada@shop.example", false));
    assert_eq!(told.kind, MessageKind::PasswordChanged { at: world.now(), place: place() });
    let page = PageRequest::first();
    let events =
        world.read(async |tx| login_event::list(tx, ada.directory, ada.id, &page).await).await.unwrap();
    assert_eq!(events.rows[0].outcome, Outcome::PasswordChanged.as_str());
    assert!(!world.is_signed_in(&one).await && !world.is_signed_in(&two).await);
    assert!(matches!(world.authenticate("ada@shop.example", GOOD).await, Err(ProveError::Wrong)));
    assert!(world.authenticate("ada@shop.example", "another plum koala entirely").await.is_ok());
}

#[tokio::test]
async fn r14_what_is_stored_is_argon2id_and_is_renewed_with_the_pepper() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let stored = async || {
        let row = world.primary.read(async |tx| password::get(tx, ada.directory, ada.id).await).await;
        row.unwrap().unwrap()
    };
    let before = stored().await;
    assert!(before.hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && before.pepper_version == 1);
    let peppers = Peppers::new(2, [8; 32]).with_older(1, [7; 32]);
    let pool = PasswordPool::start(peppers, PoolLimits::for_cores(1), &world.entropy).unwrap();
    let attempt = async |text: &str| {
        prove(&world.primary, &pool, ada.directory, "ada@shop.example", typed(text)).await.is_ok()
    };
    assert!(!attempt("not the password").await);
    assert_eq!(stored().await, before, "a wrong password renews nothing");
    assert!(attempt(GOOD).await);
    let after = stored().await;
    assert_eq!(after.pepper_version, 2);
    assert_ne!(after.hash, before.hash);
    assert!(attempt(GOOD).await);
}

#[tokio::test]
async fn r22_a_user_of_another_directory_cannot_be_touched() {
    let world = World::new().await;
    let ada = world.user("ada@shop.example", Some(GOOD)).await;
    let foreign = mezusphere_model::id::DirectoryId::from_bits(7);
    let suspend = world.write(async |tx| account::set_status(tx, foreign, ada.id, Status::Suspended).await);
    assert!(matches!(suspend.await, Err(WriteError::NotFound { .. })));
    let hash = world.hash("another plum koala entirely").await;
    let stranger = UserRow { directory: foreign, ..ada.clone() };
    let set = world.write(async |tx| account::set_password(tx, &stranger, hash, &place()).await);
    assert!(matches!(set.await, Err(WriteError::NotFound { .. })));
    assert!(world.authenticate("ada@shop.example", GOOD).await.is_ok());
}
