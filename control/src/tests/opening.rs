//! The first start and the ones after it.

use std::path::PathBuf;
use std::time::Duration;

use mezusphere_identity::factor::password::PasswordHash;
use mezusphere_identity::flow::first_sign_in;
use mezusphere_model::Host;
use mezusphere_model::token::Token;
use mezusphere_store::primary::setting;

use super::*;
use crate::installation::SETTING;
use crate::{CertificateFiles, PublicCertificate};

#[tokio::test]
async fn the_first_start_makes_an_operator_and_one_sign_in_link() {
    let world = World::new().await;
    let link = world.control.sign_in_link().expect("a link").to_owned();
    assert!(link.starts_with("https://login.mezu.localhost:8443/first-sign-in/"), "{link}");
    let operators = world.get("/operators").await.ok();
    assert_eq!(operators["items"][0]["email"], "operator@mezu.localhost");
    assert_eq!(operators["items"][0]["can_sign_in"], false);
    let installation = world.get("/installation").await.ok();
    assert_eq!(installation["trust_domain"], "mezu.localhost");
    let audit = world.get("/audit").await.ok();
    let oldest = audit["items"].as_array().unwrap().last().unwrap();
    assert_eq!(oldest["action"], "installation.create");
}

#[tokio::test]
async fn a_later_start_finds_the_same_installation_and_gives_a_new_link() {
    let world = World::new().await;
    let before = (world.control.edge_id(), world.control.roots_pem());
    let link = world.control.sign_in_link().unwrap().to_owned();
    let world = world.restart(development()).await;
    assert_eq!((world.control.edge_id(), world.control.roots_pem()), before);
    assert_ne!(world.control.sign_in_link(), Some(link.as_str()));
    assert_eq!(world.get("/operators").await.ok()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn r17_the_sign_in_link_works_once_and_not_after_half_an_hour() {
    let world = World::new().await;
    let token = |link: &str| Token::parse(link.rsplit('/').next().unwrap()).unwrap();
    let first = token(world.control.sign_in_link().unwrap());
    let peek = async |world: &World, token: &Token| {
        world.primary.read(async |tx| first_sign_in::peek(tx, token).await).await.unwrap()
    };
    assert!(peek(&world, &first).await.is_some());
    world.advance(30 * 60);
    assert!(peek(&world, &first).await.is_none(), "after half an hour");
    let world = world.restart(development()).await;
    let second = token(world.control.sign_in_link().unwrap());
    let hash = || PasswordHash::from_stored("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned(), 1);
    let complete = async |token: &Token| {
        world.primary.write(async |tx| first_sign_in::complete(tx, token, hash()).await).await
    };
    assert!(complete(&first).await.is_err(), "replaced");
    assert!(complete(&second).await.is_ok());
    assert!(complete(&second).await.is_err(), "used");
    let world = world.restart(development()).await;
    assert_eq!(world.control.sign_in_link(), None, "the operator has a password now");
}

#[tokio::test]
async fn a_start_with_another_master_key_says_so_and_changes_nothing() {
    let world = World::new().await;
    let World { control, primary, hand, entropy, dir } = world;
    drop(control);
    primary.close().await;
    drop(primary);
    let why = open(dir.path(), &hand, &entropy, development(), 8).await.unwrap_err();
    assert!(matches!(why, OpenError::MasterKey(_) | OpenError::Authority(_)), "{why}");
    assert!(open(dir.path(), &hand, &entropy, development(), 7).await.is_ok());
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let hand = ManualClock::at(BEGIN);
    let missing = CertificateFiles { chain: PathBuf::from("/nowhere.pem"), key: PathBuf::from("/no.key") };
    let missing = PublicCertificate::Files(vec![missing]);
    let rows = [
        (
            ControlConfig { leaf_ttl: Duration::from_secs(59).into(), ..development() },
            "leaf certificates live from 1m to 1d, not 59s",
        ),
        (
            ControlConfig { trust_domain: Some("Mezu Example".to_owned()), ..development() },
            "\"Mezu Example\" cannot be the trust domain: a trust domain has 1 to 255 lower-case letters, digits, \
             dots, hyphens and underscores",
        ),
        (
            ControlConfig { operator_email: Some("nobody".to_owned()), ..development() },
            "\"nobody\" is not an e-mail address for the operator",
        ),
        (
            ControlConfig { public_certificate: missing, ..development() },
            "cannot read the certificate /nowhere.pem: No such file or directory (os error 2)",
        ),
    ];
    for (config, sentence) in rows {
        let seen_before = Control::check(&config, BEGIN).unwrap_err();
        assert_eq!(seen_before.to_string(), sentence, "before anything is made");
        let why = open(dir.path(), &hand, &entropy(), config, 7).await.unwrap_err();
        assert_eq!(why.to_string(), sentence);
    }
    // None of the refused starts left half an installation.
    let (control, primary) = open(dir.path(), &hand, &entropy(), development(), 7).await.unwrap();
    assert!(control.sign_in_link().is_some());
    let kept: Option<Value> = primary.read(async |tx| setting::get(tx, SETTING).await).await.unwrap();
    assert!(kept.is_some());
}

#[tokio::test]
async fn another_applications_domain_moves_every_endpoint() {
    let world = World::new().await;
    let project = world.project("shop").await;
    let mut config = development();
    config.platform.apps = Host::parse("apps.example").unwrap();
    let world = world.restart(config).await;
    let shown = world.get("/projects/shop").await.ok();
    assert_eq!(shown["environments"][0]["hosts"], json!(["shop.apps.example"]));
    let documents = world.documents(Partition::Project(project)).await;
    let sites: Vec<_> = documents
        .iter()
        .filter_map(|document| match document {
            Document::Site(site) => Some(site.hosts.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(sites, [[Host::parse("shop.apps.example").unwrap()]]);
    let own = documents.iter().any(|document| matches!(document, Document::Certificate(_)));
    assert!(!own, "the wildcard serves it now");
}
