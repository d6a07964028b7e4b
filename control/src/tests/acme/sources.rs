//! An installation whose certificates came from somewhere else before: nothing that works is taken away until the authority's is
//! there, and nothing of before stays in its way.

use super::super::certificates::files;
use super::*;

const SHOPS_OWN: &str = "www.shop.example";
const BLOGS_OWN: &str = "www.blog.example";

/// An installation with another source of certificates, a shop that has a route, and a blog that has none.
async fn before(source: PublicCertificate) -> World {
    let world = World::with(ControlConfig { public_certificate: source, ..ordered(acme_config()) }).await;
    for (project, host) in [("shop", SHOPS_OWN), ("blog", BLOGS_OWN)] {
        world.project(project).await;
        let hosts = format!("/projects/{project}/environments/production/hosts");
        world.post(&hosts, json!({ "host": host })).await.ok();
    }
    let routes = "/projects/shop/environments/production/routes";
    world.post(routes, json!({ "path": "/*", "auth": "public", "upstream": "web" })).await.ok();
    world
}

/// The same, once an authority is its source.
async fn after(world: World, acme: AcmeConfig) -> Scene {
    let world = world.restart(ordered(acme)).await;
    let project = project_of(&world, "shop").await;
    Scene { authority: Authority::new(&world), project, edge: Edge::of(&world), world }
}

async fn project_of(world: &World, slug: &str) -> ProjectId {
    let project = world.get(&format!("/projects/{slug}")).await.ok();
    project["id"].as_str().unwrap().parse().unwrap()
}

/// What is published there, by the names it is good for.
async fn names(scene: &Scene, partition: Partition) -> Vec<String> {
    scene.certificates(partition).await.into_iter().flat_map(|doc| doc.names).collect()
}

#[tokio::test]
async fn what_worked_goes_on_until_the_authoritys_own_is_there() {
    let world = before(PublicCertificate::Internal).await;
    let platform = [CONSOLE, "login.mezu.example", "connect.mezu.example"];
    let scene = after(world, acme_config()).await;
    let shop = Partition::Project(scene.project);
    let of_before = scene.certificates(Partition::Control).await;
    assert_eq!(names(&scene, Partition::Control).await, platform, "the internal CA's");
    assert_eq!(names(&scene, Partition::Platform).await, ["*.apps.example"], "the shop has no other");
    assert_eq!(names(&scene, shop).await, [SHOPS_OWN]);

    scene.work(CONSOLE).await.unwrap();
    assert_eq!(names(&scene, Partition::Control).await, platform);
    assert_ne!(scene.certificates(Partition::Control).await, of_before, "in the place of the first");
    let renew = async || scene.world.control.shared.renew_certificates().await.unwrap();
    renew().await;
    assert_eq!(names(&scene, Partition::Platform).await, ["*.apps.example"], "still");
    scene.work(SHOP).await.unwrap();
    renew().await;
    assert_eq!(names(&scene, Partition::Platform).await, [""; 0], "every host it stood for has its own");
    assert_eq!(names(&scene, shop).await, [SHOP, SHOPS_OWN]);
    let own = scene.certificates(shop).await;
    scene.work(SHOPS_OWN).await.unwrap();
    assert_ne!(scene.certificates(shop).await, own);
}

#[tokio::test]
async fn what_is_not_replaced_goes_when_it_ends() {
    let scene = after(before(PublicCertificate::Internal).await, acme_config()).await;
    let blog = Partition::Project(project_of(&scene.world, "blog").await);
    assert_eq!(names(&scene, blog).await, [BLOGS_OWN], "nothing is ordered for a host without a route");
    scene.world.advance(91 * 24 * 3600);
    scene.world.control.shared.renew_certificates().await.unwrap();
    for partition in [Partition::Control, Partition::Platform, Partition::Project(scene.project), blog] {
        assert_eq!(names(&scene, partition).await, [""; 0], "{partition:?}");
    }
}

#[tokio::test]
async fn a_hosts_own_certificate_goes_once_the_wildcard_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let source = PublicCertificate::Files(vec![files(dir.path(), &["*.mezu.example"])]);
    let acme = AcmeConfig { dns_hook: Some("/bin/hook".into()), wildcard: true, ..acme_config() };
    let scene = after(before(source).await, acme).await;
    let shop = Partition::Project(scene.project);
    assert_eq!(names(&scene, Partition::Control).await, ["*.mezu.example"], "the file's");
    assert_eq!(names(&scene, shop).await, [SHOP, SHOPS_OWN], "the internal CA's, as before");
    let renew = async || scene.world.control.shared.renew_certificates().await.unwrap();
    renew().await;
    assert_eq!(names(&scene, shop).await, [SHOP, SHOPS_OWN], "the wildcard is not there yet");
    scene.work("*.apps.example").await.unwrap();
    renew().await;
    assert_eq!(names(&scene, Partition::Platform).await, ["*.apps.example"]);
    assert_eq!(names(&scene, shop).await, [SHOPS_OWN], "nothing is shown in place of the wildcard");
}
