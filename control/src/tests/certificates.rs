//! Which public certificates are made, for which hosts, and when they are renewed.

use mezusphere_model::Host;
use mezusphere_model::document::CertificateDoc;
use mezusphere_pki::PublicCertificate as Verified;

use super::*;
use crate::PublicCertificate;

async fn certificates(world: &World, partition: Partition) -> Vec<CertificateDoc> {
    let documents = world.documents(partition).await.into_iter();
    let certificates = documents.filter_map(|document| match document {
        Document::Certificate(doc) => Some(doc),
        _ => None,
    });
    certificates.collect()
}

fn verified(world: &World, doc: &CertificateDoc) -> Verified {
    Verified::from_pem(&doc.chain_pem, &doc.key_pem, world.hand.clock().now()).unwrap()
}

#[tokio::test]
async fn in_development_each_endpoint_gets_a_certificate_of_its_own() {
    let world = World::new().await;
    let platform = certificates(&world, Partition::Platform).await;
    assert_eq!(platform.len(), 1);
    assert_eq!(
        platform[0].names,
        ["console.mezu.localhost", "login.mezu.localhost", "connect.mezu.localhost"]
    );
    let project = world.project("shop").await;
    world.post("/projects/shop/environments", json!({ "slug": "staging" })).await.ok();
    let own = certificates(&world, Partition::Project(project)).await;
    let names: Vec<_> = own.iter().flat_map(|doc| doc.names.clone()).collect();
    assert_eq!(names, ["shop--staging.localhost", "shop.localhost"]);
    for doc in own.iter().chain(&platform) {
        let host = Host::parse(&doc.names[0]).unwrap();
        assert!(verified(&world, doc).covers(&host));
    }
    world.delete("/projects/shop/environments/staging").await.ok();
    assert_eq!(certificates(&world, Partition::Project(project)).await.len(), 1);
}

#[tokio::test]
async fn a_wildcard_serves_endpoints_and_a_custom_domain_gets_its_own() {
    let mut config = development();
    config.platform.apps = Host::parse("apps.example").unwrap();
    let world = World::with(config).await;
    let project = world.project("shop").await;
    assert_eq!(certificates(&world, Partition::Project(project)).await, []);
    let hosts = "/projects/shop/environments/production/hosts";
    world.post(hosts, json!({ "host": "www.shop.example" })).await.ok();
    let own = certificates(&world, Partition::Project(project)).await;
    assert_eq!(own[0].names, ["www.shop.example"]);
    world.delete(&format!("{hosts}/www.shop.example")).await.ok();
    assert_eq!(certificates(&world, Partition::Project(project)).await, []);
}

#[tokio::test]
async fn certificates_are_renewed_at_a_third_left_and_not_before() {
    let world = World::new().await;
    let project = world.project("shop").await;
    let ends = async || {
        let mut all = certificates(&world, Partition::Platform).await;
        all.extend(certificates(&world, Partition::Project(project)).await);
        all.into_iter().map(|doc| doc.not_after).collect::<Vec<_>>()
    };
    let first = ends().await;
    world.advance(59 * 24 * 3600);
    world.control.shared.renew_certificates().await.unwrap();
    assert_eq!(ends().await, first, "a third is left");
    world.advance(2 * 24 * 3600);
    world.control.shared.renew_certificates().await.unwrap();
    let second = ends().await;
    assert!(second.iter().zip(&first).all(|(new, old)| new > old), "{second:?}");
    world.control.shared.renew_certificates().await.unwrap();
    assert_eq!(ends().await, second, "once");
}

/// Certificate and key files for these names, from a CA of their own.
fn files(dir: &std::path::Path, names: &[&str]) -> PublicCertificate {
    use mezusphere_pki::{Issuing, Root, TrustDomain};
    let domain = TrustDomain::parse("other.example").unwrap();
    let root = Root::create(&domain, BEGIN, &entropy()).unwrap();
    let issuing = Issuing::create(&root, BEGIN, &entropy()).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let issued = issuing.issue_public(&names, BEGIN, Duration::from_hours(24)).unwrap();
    let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
    std::fs::write(&chain, issued.chain_pem).unwrap();
    std::fs::write(&key, issued.key_pem.as_bytes()).unwrap();
    PublicCertificate::Files { chain, key }
}

#[tokio::test]
async fn files_replace_the_internal_certificate_where_they_cover_and_only_there() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["*.mezu.localhost", "shop.localhost"];
    let from_files = ControlConfig { public_certificate: files(dir.path(), &names), ..development() };
    let world = World::new().await;
    let project = world.project("shop").await;
    let other = world.project("blog").await;
    let world = world.restart(from_files.clone()).await;
    let platform = certificates(&world, Partition::Platform).await;
    assert_eq!(platform.iter().map(|doc| doc.names.clone()).collect::<Vec<_>>(), [names]);
    assert_eq!(certificates(&world, Partition::Project(project)).await, [], "the file serves it");
    assert_eq!(certificates(&world, Partition::Project(other)).await.len(), 1, "the file does not");
    let world = world.restart(development()).await;
    let platform = certificates(&world, Partition::Platform).await;
    assert_eq!(platform.len(), 1);
    assert_eq!(platform[0].names[0], "console.mezu.localhost");
    assert_eq!(certificates(&world, Partition::Project(project)).await.len(), 1);
}

#[tokio::test]
async fn files_that_cannot_serve_the_platform_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let hand = ManualClock::at(BEGIN);
    let PublicCertificate::Files { chain, key } = files(dir.path(), &["console.mezu.localhost"]) else {
        panic!("files")
    };
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let PublicCertificate::Files { key: foreign, .. } = files(&other, &["a.example"]) else {
        panic!("files")
    };
    let rows = [
        (chain.clone(), key.clone(), "does not name login.mezu.localhost"),
        (chain.clone(), foreign, "the files are not a pair"),
        (key, chain, "holds no certificate"),
    ];
    for (chain, key, words) in rows {
        let public_certificate = PublicCertificate::Files { chain, key };
        let config = ControlConfig { public_certificate, ..development() };
        let data = tempfile::tempdir().unwrap();
        let why = open(data.path(), &hand, &entropy(), config, 7).await.unwrap_err();
        assert!(why.to_string().contains(words), "{why}");
    }
}
