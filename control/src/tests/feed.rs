//! What edges and warpgates are told after each change.

use mezusphere_model::bundle::Bundle;
use mezusphere_model::document::Status;
use mezusphere_model::route::SiteDoc;
use mezusphere_pki::{ExpectedRole, PeerError, Trust, verify_peer};

use super::*;

/// The project's one site and its opened bundle.
pub(super) async fn published(world: &World, project: ProjectId) -> (SiteDoc, Bundle) {
    let (mut site, mut bundle) = (None, None);
    for document in world.documents(Partition::Project(project)).await {
        match document {
            Document::Site(doc) => site = Some(*doc),
            Document::Bundle(signed) => bundle = Some(opened(world, &signed)),
            _ => {}
        }
    }
    (site.expect("a site"), bundle.expect("a bundle"))
}

/// Opens a bundle as a warpgate does.
fn opened(world: &World, signed: &mezusphere_model::bundle::SignedBundle) -> Bundle {
    let roots = world.control.roots_pem();
    let roots = roots.iter().map(String::as_str);
    let trust = Trust::from_pem(world.control.trust_domain(), roots, []).unwrap();
    let now = world.hand.clock().now();
    tunnel_proto::bundle::open(signed, |chain| {
        let chain: Vec<_> = chain.iter().cloned().map(Into::into).collect();
        verify_peer(&chain, &trust, now, ExpectedRole::AnyControl)?;
        // The leaf that was judged is the signer's, so its key is the one the signature must be of.
        let node = world.control.shared.signer.load();
        assert_eq!(chain[0], node.identity.chain()[0]);
        Ok::<_, PeerError>(node.key.public().key.clone())
    })
    .unwrap()
}

#[tokio::test]
async fn every_change_to_an_environment_raises_site_and_bundle_together() {
    let world = World::new().await;
    let project = world.project("shop").await;
    let (site, bundle) = published(&world, project).await;
    assert_eq!((site.revision, bundle.site.clone()), (1, site));
    assert_eq!(bundle.origin, "https://shop.localhost:8443");
    assert_eq!(bundle.edges.len(), 1);
    assert_eq!((bundle.edges[0].host.as_str(), bundle.edges[0].port), ("connect.mezu.localhost", 8443));

    let routes = "/projects/shop/environments/production/routes";
    let route = world.post(routes, json!({ "path": "/*", "auth": "required" })).await.ok();
    let id = route["route"]["id"].as_str().unwrap();
    let one = format!("{routes}/{id}");
    let steps = [
        (Method::PATCH, one.clone(), Some(json!({ "auth": "public" }))),
        (
            Method::PUT,
            "/projects/shop/environments/production/route-order".to_owned(),
            Some(json!({ "routes": [id] })),
        ),
        (
            Method::POST,
            "/projects/shop/environments/production/hosts".to_owned(),
            Some(json!({ "host": "shop.example" })),
        ),
        (Method::DELETE, "/projects/shop/environments/production/hosts/shop.example".to_owned(), None),
        (Method::PATCH, "/projects/shop".to_owned(), Some(json!({ "name": "The shop" }))),
        (Method::DELETE, one, None),
    ];
    let mut revision = 2;
    for (method, path, body) in steps {
        world.local(method, &path, body).await.ok();
        revision += 1;
        let (site, bundle) = published(&world, project).await;
        assert_eq!((site.revision, bundle.site.revision), (revision, revision), "{path}");
        assert_eq!(bundle.site, site, "{path}");
    }
}

#[tokio::test]
async fn the_platform_and_trust_documents_name_hosts_roots_and_keys() {
    let world = World::new().await;
    let documents = world.documents(Partition::Platform).await;
    let platform = documents.iter().find_map(|document| match document {
        Document::Platform(doc) => Some(doc),
        _ => None,
    });
    let platform = platform.expect("a platform document");
    assert_eq!(platform.cookie_keys.len(), 1);
    assert_eq!(platform.assertion_jwks["keys"].as_array().unwrap().len(), 1);
    assert!(platform.assertion_jwks["keys"][0].get("d").is_none(), "the public half only");
    assert_eq!(platform.controls, [], "no node port, so nowhere to reach it");
    let trust = world.trust().await;
    assert_eq!((trust.trust_domain.as_str(), trust.denied.len()), ("mezu.localhost", 0));
    assert_eq!(trust.roots_pem, world.control.roots_pem());
}

#[tokio::test]
async fn r21_a_revoked_key_leaves_the_feed() {
    let world = World::new().await;
    let project = world.project("shop").await;
    let keys = async || {
        let documents = world.documents(Partition::Project(project)).await;
        documents.iter().filter(|document| matches!(document, Document::ApiKey(_))).count()
    };
    let made = world.post("/projects/shop/api-keys", json!({ "scopes": ["request"] })).await.ok();
    assert_eq!(keys().await, 1);
    let id = made["key"]["id"].as_str().unwrap();
    world.delete(&format!("/projects/shop/api-keys/{id}")).await.ok();
    assert_eq!(keys().await, 0);
}

#[tokio::test]
async fn r12_a_change_of_a_role_raises_the_principal_of_who_holds_it() {
    let world = World::new().await;
    let project = world.project("shop").await;
    world
        .local(Method::PUT, "/projects/shop/roles/reader", Some(json!({ "permissions": ["orders:read"] })))
        .await
        .ok();
    world.post("/projects/shop/service-accounts", json!({ "name": "robot", "roles": ["reader"] })).await.ok();
    world.post("/projects/shop/api-keys", json!({ "account": "robot", "scopes": ["request"] })).await.ok();
    let principal = async || {
        let documents = world.documents(Partition::Project(project)).await;
        documents.into_iter().find_map(|document| match document {
            Document::Principal(doc) => Some(doc),
            _ => None,
        })
    };
    let before = principal().await.expect("a principal");
    assert_eq!(before.status, Status::Active);
    let role = json!({ "permissions": ["orders:read", "orders:write"] });
    world.local(Method::PUT, "/projects/shop/roles/reader", Some(role)).await.ok();
    let after = principal().await.unwrap();
    assert!(after.version > before.version);
    assert_eq!(after.permissions.len(), 2);
    world.delete("/projects/shop/roles/reader").await.ok();
    assert_eq!(principal().await.unwrap().roles.len(), 0);
}

#[tokio::test]
async fn a_deleted_project_leaves_nothing_on_the_feed() {
    let world = World::new().await;
    let project = world.project("shop").await;
    world.key("shop", &["request"]).await;
    assert!(!world.documents(Partition::Project(project)).await.is_empty());
    world.delete("/projects/shop").await.ok();
    let heads = world.primary.heads().await.unwrap();
    let left = heads.iter().any(|head| head.partition == Partition::Project(project));
    assert!(!left || world.documents(Partition::Project(project)).await.is_empty());
    world.get("/projects/shop").await.refused(404, "object.not_found");
}

#[tokio::test]
async fn bundles_are_signed_anew_before_their_signer_ends() {
    let world = World::with(ControlConfig { leaf_ttl: Duration::from_mins(1).into(), ..development() }).await;
    let project = world.project("shop").await;
    let (site, _) = published(&world, project).await;
    let before = world.documents(Partition::Project(project)).await;
    let jobs = world.control.start_jobs();
    let mut wake = world.primary.wake();
    world.advance(40); // past half-life ±10 %
    let renewed = async {
        loop {
            wake.woken().await;
            let (now, bundle) = published(&world, project).await;
            if now.revision > site.revision {
                return bundle;
            }
        }
    };
    let bundle = tokio::time::timeout(Duration::from_mins(1), renewed).await.expect("bundles signed anew");
    assert_eq!(bundle.issued_at, world.hand.clock().now());
    jobs.stop().await;
    let world =
        world.restart(ControlConfig { leaf_ttl: Duration::from_mins(1).into(), ..development() }).await;
    let certificates = world.documents(Partition::Project(project)).await;
    let certificate = certificates.iter().find(|document| matches!(document, Document::Certificate(_)));
    assert_eq!(certificate, before.iter().find(|document| matches!(document, Document::Certificate(_))));
    let (after, _) = published(&world, project).await;
    assert_eq!(after.revision, bundle.site.revision, "a restart with a good signer signs nothing anew");
}
