//! Service accounts' API keys.

use std::time::Duration;

use mezusphere_identity::service_account::{
    self, CreatedKey, KeyError, KeyRefusal, NewKey, VerifiedKey, create_key, revoke_key, rotate_key,
};
use mezusphere_model::document::Status;
use mezusphere_model::id::{ProjectId, ServiceAccountId};
use mezusphere_model::slug::Name;
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_store::primary::service_account::{self as rows, ServiceAccountRow};
use mezusphere_store::{StoreError, WriteError};

use crate::world::World;

async fn machine(world: &World) -> ServiceAccountId {
    let id = ServiceAccountId::random(&world.entropy);
    let row = ServiceAccountRow {
        id,
        project: world.project,
        name: "warpgates".to_owned(),
        description: String::new(),
        status: Status::Active,
        version: 1,
        created_at: world.now(),
    };
    world.write(async |tx| rows::insert(tx, &row).await).await.unwrap();
    id
}

fn new_key(scopes: &[&str], life: Option<Duration>, world: &World) -> NewKey {
    NewKey {
        scopes: scopes.iter().map(|text| Name::parse(text).unwrap()).collect(),
        environment: Some(world.environment),
        expires_at: life.map(|life| world.now().after(life)),
    }
}

async fn create(world: &World, account: ServiceAccountId, new: NewKey) -> Result<CreatedKey, KeyError> {
    world.write(async |tx| create_key(tx, &world.entropy, world.project, account, new).await).await
}

async fn verify(world: &World, token: &ApiKeyToken) -> Result<VerifiedKey, KeyRefusal> {
    let found: Result<_, StoreError> =
        world.primary.read(async |tx| service_account::verify(tx, token).await).await;
    found.unwrap()
}

#[tokio::test]
async fn r21_a_key_is_known_by_its_hash_and_verifies_to_its_project() {
    let world = World::new().await;
    let account = machine(&world).await;
    let made =
        create(&world, account, new_key(&["request", "connect", "connect"], None, &world)).await.unwrap();
    let text = made.token.reveal();
    assert!(text.ends_with(&made.row.hint) && made.row.hint.len() == 4);
    assert_eq!(made.row.secret_hash, made.token.secret.hash());
    let found = verify(&world, &text.parse().unwrap()).await.unwrap();
    assert_eq!((found.key.project, found.account.id), (world.project, account));
    let scopes: Vec<&str> = found.key.scopes.iter().map(Name::as_str).collect();
    assert_eq!(scopes, ["connect", "request"]);
}

#[tokio::test]
async fn r21_an_unknown_key_and_a_wrong_secret_get_the_same_answer() {
    let world = World::new().await;
    let account = machine(&world).await;
    let made = create(&world, account, new_key(&["connect"], None, &world)).await.unwrap();
    let wrong = ApiKeyToken { id: made.token.id, secret: Token::random(&world.entropy) };
    assert_eq!(verify(&world, &wrong).await.unwrap_err(), KeyRefusal::Unknown);
    revoke(&world, &made).await.unwrap();
    assert_eq!(
        verify(&world, &wrong).await.unwrap_err(),
        KeyRefusal::Unknown,
        "revocation is told to its holder only"
    );
    let at = world.now();
    assert_eq!(verify(&world, &made.token).await.unwrap_err(), KeyRefusal::Revoked(at));
}

async fn revoke(world: &World, made: &CreatedKey) -> Result<(), WriteError> {
    world.write(async |tx| revoke_key(tx, world.project, made.row.id).await).await
}

#[tokio::test]
async fn r21_two_live_keys_make_room_for_rotation_and_no_more() {
    let world = World::new().await;
    let account = machine(&world).await;
    let day = Duration::from_hours(24);
    let old = create(&world, account, new_key(&["connect"], Some(day), &world)).await.unwrap();
    world.hand.advance(day / 2);
    let rotate = async |key: &CreatedKey| {
        world.write(async |tx| rotate_key(tx, &world.entropy, world.project, key.row.id).await).await
    };
    let new = rotate(&old).await.unwrap();
    assert_eq!((&new.row.scopes, new.row.environment), (&old.row.scopes, old.row.environment));
    assert_eq!(new.row.expires_at, Some(world.now().after(day)), "as long a life as the old one had");
    assert!(verify(&world, &old.token).await.is_ok() && verify(&world, &new.token).await.is_ok());
    assert!(matches!(rotate(&new).await, Err(KeyError::TooMany)));
    revoke(&world, &old).await.unwrap();
    assert!(matches!(rotate(&old).await, Err(KeyError::NotLive)));
    assert!(rotate(&new).await.is_ok());
}

#[tokio::test]
async fn an_expired_key_is_refused_and_makes_room() {
    let world = World::new().await;
    let account = machine(&world).await;
    let hour = Duration::from_hours(1);
    let short = create(&world, account, new_key(&["connect"], Some(hour), &world)).await.unwrap();
    create(&world, account, new_key(&["connect"], None, &world)).await.unwrap();
    world.hand.advance(hour);
    let end = world.now();
    assert_eq!(verify(&world, &short.token).await.unwrap_err(), KeyRefusal::Expired(end));
    assert!(create(&world, account, new_key(&["connect"], None, &world)).await.is_ok());
}

#[tokio::test]
async fn a_key_that_could_do_nothing_or_too_much_or_has_ended_is_not_made() {
    let world = World::new().await;
    let account = machine(&world).await;
    assert!(matches!(create(&world, account, new_key(&[], None, &world)).await, Err(KeyError::Scopes)));
    let many: Vec<String> = (0..=service_account::SCOPES_MAX).map(|n| format!("scope:{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(create(&world, account, new_key(&many, None, &world)).await, Err(KeyError::Scopes)));
    let past = new_key(&["connect"], Some(Duration::ZERO), &world);
    assert!(matches!(create(&world, account, past).await, Err(KeyError::Past)));
}

#[tokio::test]
async fn r22_a_key_of_another_project_cannot_be_made_rotated_or_revoked() {
    let world = World::new().await;
    let account = machine(&world).await;
    let made = create(&world, account, new_key(&["connect"], None, &world)).await.unwrap();
    let foreign = ProjectId::from_bits(7);
    let entropy = &world.entropy;
    let new = new_key(&["connect"], None, &world);
    let attempts = [
        world.write(async |tx| create_key(tx, entropy, foreign, account, new).await).await.err(),
        world.write(async |tx| rotate_key(tx, entropy, foreign, made.row.id).await).await.err(),
        world.write(async |tx| revoke_key(tx, foreign, made.row.id).await).await.err().map(KeyError::from),
    ];
    for error in attempts {
        assert!(matches!(error, Some(KeyError::Write(WriteError::NotFound { .. }))), "{error:?}");
    }
    assert!(verify(&world, &made.token).await.is_ok());
}

#[tokio::test]
async fn the_keys_of_a_suspended_account_are_refused() {
    let world = World::new().await;
    let account = machine(&world).await;
    let made = create(&world, account, new_key(&["connect"], None, &world)).await.unwrap();
    world
        .write(async |tx| rows::set_status(tx, world.project, account, Status::Suspended).await)
        .await
        .unwrap();
    assert_eq!(verify(&world, &made.token).await.unwrap_err(), KeyRefusal::Suspended);
}
