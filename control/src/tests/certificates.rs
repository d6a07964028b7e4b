//! Which public certificates are made, for which hosts, and when they are renewed.

use mezusphere_model::Host;
use mezusphere_model::document::CertificateDoc;
use mezusphere_pki::PublicCertificate as Verified;

use super::*;
use crate::{CertificateFiles, PublicCertificate};

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
    let platform = certificates(&world, Partition::Control).await;
    assert_eq!(platform.len(), 1);
    assert_eq!(certificates(&world, Partition::Platform).await, [], "no wildcard that browsers accept");
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
    let wildcard = certificates(&world, Partition::Platform).await;
    assert_eq!(wildcard.iter().map(|doc| doc.names.clone()).collect::<Vec<_>>(), [["*.apps.example"]]);
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
        let mut all = certificates(&world, Partition::Control).await;
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
pub(super) fn files(dir: &std::path::Path, names: &[&str]) -> CertificateFiles {
    use mezusphere_pki::{Issuing, Root, TrustDomain};
    let domain = TrustDomain::parse("other.example").unwrap();
    let root = Root::create(&domain, BEGIN, &entropy()).unwrap();
    let issuing = Issuing::create(&root, BEGIN, &entropy()).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let issued = issuing.issue_public(&names, BEGIN, Duration::from_hours(24)).unwrap();
    let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
    std::fs::write(&chain, issued.chain_pem).unwrap();
    std::fs::write(&key, issued.key_pem.as_bytes()).unwrap();
    CertificateFiles { chain, key }
}

#[tokio::test]
async fn files_replace_the_internal_certificate_where_they_cover_and_only_there() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["*.mezu.localhost", "shop.localhost"];
    let from_files = ControlConfig {
        public_certificate: PublicCertificate::Files(vec![files(dir.path(), &names)]),
        ..development()
    };
    let world = World::new().await;
    let project = world.project("shop").await;
    let other = world.project("blog").await;
    let world = world.restart(from_files.clone()).await;
    let platform = certificates(&world, Partition::Control).await;
    assert_eq!(platform.iter().map(|doc| doc.names.clone()).collect::<Vec<_>>(), [names]);
    assert_eq!(certificates(&world, Partition::Project(project)).await, [], "the file serves it");
    assert_eq!(certificates(&world, Partition::Project(other)).await.len(), 1, "the file does not");
    let world = world.restart(development()).await;
    let platform = certificates(&world, Partition::Control).await;
    assert_eq!(platform.len(), 1);
    assert_eq!(platform[0].names[0], "console.mezu.localhost");
    assert_eq!(certificates(&world, Partition::Project(project)).await.len(), 1);
}

#[tokio::test]
async fn files_that_cannot_serve_the_platform_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let hand = ManualClock::at(BEGIN);
    let CertificateFiles { chain, key } = files(dir.path(), &["console.mezu.localhost"]);
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let CertificateFiles { key: foreign, .. } = files(&other, &["a.example"]);
    let rows = [
        (chain.clone(), key.clone(), "does not name login.mezu.localhost"),
        (chain.clone(), foreign, "the files are not a pair"),
        (key, chain, "holds no certificate"),
    ];
    for (chain, key, words) in rows {
        let public_certificate = PublicCertificate::Files(vec![CertificateFiles { chain, key }]);
        let config = ControlConfig { public_certificate, ..development() };
        let data = tempfile::tempdir().unwrap();
        let why = open(data.path(), &hand, &entropy(), config, 7).await.unwrap_err();
        assert!(why.to_string().contains(words), "{why}");
    }
}

/// A directory with a subdirectory per certificate, and the certificates.
fn several(names: &[&[&str]]) -> (tempfile::TempDir, Vec<CertificateFiles>) {
    let dir = tempfile::tempdir().unwrap();
    let each = names.iter().enumerate().map(|(number, names)| {
        let dir = dir.path().join(number.to_string());
        std::fs::create_dir(&dir).unwrap();
        files(&dir, names)
    });
    let made = each.collect();
    (dir, made)
}

#[tokio::test]
async fn of_several_files_those_for_the_platforms_hosts_stay_in_control() {
    let (_dir, made) = several(&[&["*.mezu.localhost"], &["shop.localhost", "blog.localhost"]]);
    let public_certificate = PublicCertificate::Files(made);
    let world =
        World::with(ControlConfig { public_certificate, node_port_open: true, ..development() }).await;
    let names = async |partition| {
        let found = certificates(&world, partition).await.into_iter();
        found.flat_map(|doc| doc.names).collect::<Vec<_>>()
    };
    assert_eq!(names(Partition::Control).await, ["*.mezu.localhost"]);
    assert_eq!(names(Partition::Platform).await, ["shop.localhost", "blog.localhost"]);
    let project = world.project("shop").await;
    assert_eq!(names(Partition::Project(project)).await, [""; 0], "the second file serves it");
}

#[tokio::test]
async fn r20_one_key_for_platform_and_applications_is_refused_once_edges_can_link() {
    let both: &[&str] = &["*.mezu.localhost", "shop.localhost"];
    let (_dir, made) = several(&[both]);
    let public_certificate = PublicCertificate::Files(made);
    let alone = ControlConfig { public_certificate, ..development() };
    let data = tempfile::tempdir().unwrap();
    let hand = ManualClock::at(BEGIN);
    let open_port = ControlConfig { node_port_open: true, ..alone.clone() };
    let why = open(data.path(), &hand, &entropy(), open_port, 7).await.unwrap_err();
    assert!(matches!(why, OpenError::CertificateShared { .. }), "{why}");
    assert!(why.to_string().contains("shop.localhost"), "{why}");
    World::with(alone).await;
}

#[tokio::test]
async fn r20_a_platform_certificate_of_an_older_version_is_taken_back_from_edges() {
    use mezusphere_store::primary::setting;
    let world = World::new().await;
    let own = certificates(&world, Partition::Control).await.remove(0);
    // As version 0.1 left it.
    let old = json!({
        "filed_as": own.names[0],
        "names": own.names,
        "chain_sha256": crate::digest::sha256(own.chain_pem.as_bytes()),
        "internal": true,
        "not_after": own.not_after,
    });
    world
        .primary
        .write(async |tx| {
            tx.retract(Partition::Control, Document::Certificate(own.clone()).key())?;
            tx.publish(Partition::Platform, &Document::Certificate(own.clone()))?;
            setting::put(tx, "certificate/platform", &old).await
        })
        .await
        .unwrap();
    let world = world.restart(development()).await;
    assert_eq!(certificates(&world, Partition::Platform).await, []);
    let moved = certificates(&world, Partition::Control).await;
    assert_eq!(moved.iter().map(|doc| doc.names.clone()).collect::<Vec<_>>(), [own.names]);
}

#[tokio::test]
async fn a_renewed_file_is_taken_into_use_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["*.mezu.localhost", "shop.localhost"];
    let public_certificate = PublicCertificate::Files(vec![files(dir.path(), &names)]);
    let world = World::with(ControlConfig { public_certificate, ..development() }).await;
    let chain = async || certificates(&world, Partition::Control).await.remove(0).chain_pem;
    let look = async || world.control.shared.look_at_files().await.unwrap();
    let listed = async || world.get("/certificates/*.mezu.localhost").await.ok();
    let first = chain().await;
    look().await;
    assert_eq!(chain().await, first, "nothing has changed");
    assert_eq!((&listed().await["source"], &listed().await["state"]), (&json!("files"), &json!("valid")));

    // The new chain is there, its key not yet: no time to tell anybody.
    let old_key = std::fs::read(dir.path().join("key.pem")).unwrap();
    files(dir.path(), &names);
    let new_key = std::fs::read(dir.path().join("key.pem")).unwrap();
    std::fs::write(dir.path().join("key.pem"), &old_key).unwrap();
    look().await;
    assert_eq!(listed().await["state"], "valid");
    // It stays so: that is told, and what was there before goes on.
    look().await;
    let shown = listed().await;
    assert_eq!((&shown["state"], &shown["error"]["code"]), (&json!("failed"), &json!("certificate.files")));
    let detail = shown["error"]["detail"].as_str().unwrap();
    assert!(detail.contains("not a pair") && detail.contains("still used"), "{detail}");
    assert_eq!(chain().await, first);

    std::fs::write(dir.path().join("key.pem"), &new_key).unwrap();
    world.post("/certificates/*.mezu.localhost/retry", json!({})).await.ok();
    assert_ne!(chain().await, first, "the new pair is published");
    assert_eq!(listed().await["error"], Value::Null);
    // Gone altogether, and good for too few names: neither is used.
    let second = chain().await;
    std::fs::remove_file(dir.path().join("key.pem")).unwrap();
    look().await;
    files(dir.path(), &["console.mezu.localhost"]);
    look().await;
    assert_eq!(chain().await, second);
    assert!(
        listed().await["error"]["detail"].as_str().unwrap().contains("does not name login.mezu.localhost")
    );
}

#[tokio::test]
async fn what_is_wrong_with_one_pair_keeps_no_other_from_being_used_or_renewed() {
    let (dir, made) = several(&[&["*.mezu.localhost"], &["shop.localhost"], &["blog.localhost"]]);
    let broken = made[2].key.clone();
    let key = std::fs::read(&broken).unwrap();
    std::fs::remove_file(&broken).unwrap();
    let public_certificate = PublicCertificate::Files(made);
    let world = World::with(ControlConfig { public_certificate, ..development() }).await;
    let look = async || world.control.shared.look_at_files().await.unwrap();
    let published = async || certificates(&world, Partition::Platform).await;
    let names = async || published().await.into_iter().flat_map(|doc| doc.names).collect::<Vec<_>>();
    assert_eq!(names().await, ["shop.localhost"], "at the start it is left out");
    let listed = async |name: &str| world.get(&format!("/certificates/{name}")).await.ok();
    let told = listed("*.mezu.localhost").await["error"]["detail"].to_string();
    assert!(told.contains("2/key.pem") && told.contains("not used"), "{told}");
    assert_eq!(listed("shop.localhost").await["error"], Value::Null);

    // The shop's is broken too, and the platform's renewed beside it.
    let first = published().await;
    std::fs::write(dir.path().join("1/key.pem"), "no key").unwrap();
    let platform = certificates(&world, Partition::Control).await;
    files(&dir.path().join("0"), &["*.mezu.localhost"]);
    look().await;
    look().await;
    assert_ne!(certificates(&world, Partition::Control).await, platform);
    assert_eq!(published().await, first, "the one before goes on");
    let told = listed("shop.localhost").await["error"]["detail"].to_string();
    assert!(told.contains("1/key.pem") && told.contains("still used"), "{told}");

    std::fs::write(&broken, key).unwrap();
    files(&dir.path().join("1"), &["shop.localhost"]);
    look().await;
    assert_eq!(names().await, ["blog.localhost", "shop.localhost"]);
    assert_eq!(listed("*.mezu.localhost").await["error"], Value::Null);
}

#[tokio::test]
async fn operators_see_every_public_certificate_with_its_source() {
    let world = World::new().await;
    world.project("shop").await;
    world.project("blog").await;
    let listed = world.get("/certificates").await.ok();
    let rows: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["name"].as_str().unwrap(), row["source"].as_str().unwrap(), row["state"].as_str().unwrap())
        })
        .collect();
    let own = ["blog.localhost", "console.mezu.localhost", "shop.localhost"];
    assert_eq!(rows, own.map(|name| (name, "internal", "valid")));
    let page = world.get("/certificates?limit=2").await.ok();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let rest = world.get(&format!("/certificates?after={}", page["next"].as_str().unwrap())).await.ok();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1, "{rest}");
    world.post("/certificates/shop.localhost/retry", json!({})).await.refused(409, "certificate.own");
    world.get("/certificates/ghost.example").await.refused(404, "object.not_found");
    let hosts = world.get("/projects/shop/environments/production/hosts").await.ok();
    assert_eq!(hosts["items"][0]["certificate"]["source"], "internal");
}
