//! Public certificates from an authority: with the first route, renewed in time, and whatever the authority, the disk and
//! other nodes do meanwhile.

mod authority;
mod limits;
mod rivals;
mod sources;
mod trouble;

use mezusphere_model::Host;
use mezusphere_model::document::CertificateDoc;
use mezusphere_store::feed::AppliedReport;
use mezusphere_store::primary::PageRequest;
use mezusphere_store::primary::acme::{self, CertificateRow, CertificateState};
use mezusphere_store::primary::lease::Lease;
use tokio::task::JoinHandle;

use self::authority::{Authority, DIRECTORY};
use super::cluster::until;
use super::*;
use crate::acme::dns::{DnsFuture, DnsHook, DnsRecord};
use crate::acme::engine::{Engine, Pace, Stopped};
use crate::lease::{Job, LEASE_TTL};
use crate::{AcmeConfig, PublicCertificate};

/// The endpoint of the project that has a route.
const SHOP: &str = "shop.apps.example";

/// The certificate of the platform's hosts is filed under this one.
const CONSOLE: &str = "console.mezu.example";

/// Fast enough for tests, with room for a busy machine.
const PACE: Pace = Pace {
    answer: Duration::from_secs(20),
    look_min: Duration::from_millis(5),
    look_max: Duration::from_millis(50),
    order: Duration::from_secs(10),
    attempt: Duration::from_mins(1),
    edges: Duration::from_secs(20),
    edges_look: Duration::from_millis(5),
};

fn acme_config() -> AcmeConfig {
    AcmeConfig::new(DIRECTORY.parse().unwrap())
}

/// An installation on the internet, whose certificates come from an authority.
fn ordered(acme: AcmeConfig) -> ControlConfig {
    let mut config = development();
    config.platform.base = Host::parse("mezu.example").unwrap();
    config.platform.apps = Host::parse("apps.example").unwrap();
    config.public_certificate = PublicCertificate::Acme(Box::new(acme));
    config
}

/// The edge of the installation, as far as challenges go: it takes everything at once.
struct Edge(JoinHandle<()>);

impl Edge {
    fn of(world: &World) -> Self {
        let (primary, follower) = (world.primary.clone(), world.control.edge_id().unwrap().to_string());
        let clock = world.hand.clock();
        Self(tokio::spawn(async move {
            loop {
                if let Ok(heads) = primary.heads().await {
                    let reports = heads.into_iter().map(|head| AppliedReport {
                        follower: follower.clone(),
                        partition: head.partition,
                        cursor: head.cursor,
                        at: clock.now(),
                    });
                    drop(primary.applied(reports.collect()).await);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }))
    }
}

impl Edge {
    /// Ends it for sure: it holds the database open.
    async fn stop(mut self) {
        self.0.abort();
        drop((&mut self.0).await);
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An installation, its authority and its edge.
struct Scene {
    world: World,
    authority: Authority,
    project: ProjectId,
    edge: Edge,
}

impl Scene {
    /// With a project that has a route.
    async fn new() -> Self {
        Self::with(acme_config()).await
    }

    async fn with(acme: AcmeConfig) -> Self {
        let world = World::with(ordered(acme)).await;
        let authority = Authority::new(&world);
        let edge = Edge::of(&world);
        let project = world.project("shop").await;
        let scene = Self { world, authority, project, edge };
        scene.add_route("production").await;
        scene
    }

    /// The process ends, and starts again with `config`; the authority forgets everything meanwhile.
    async fn restart(self, config: ControlConfig) -> Self {
        let Self { world, authority, project, edge } = self;
        drop(authority);
        edge.stop().await;
        let world = world.restart(config).await;
        Self { authority: Authority::new(&world), project, edge: Edge::of(&world), world }
    }

    async fn add_route(&self, environment: &str) {
        let path = format!("/projects/shop/environments/{environment}/routes");
        self.world.post(&path, json!({ "path": "/*", "auth": "public", "upstream": "web" })).await.ok();
    }

    fn engine(&self) -> Engine {
        self.engine_at(PACE)
    }

    fn engine_at(&self, pace: Pace) -> Engine {
        self.engine_of(&self.world.control, pace)
    }

    fn engine_of(&self, control: &Control, pace: Pace) -> Engine {
        let PublicCertificate::Acme(config) = &control.shared.config.public_certificate else {
            panic!("no authority");
        };
        let hook =
            config.dns_hook.as_ref().map(|_| Arc::new(Zone(self.authority.clone())) as Arc<dyn DnsHook>);
        Engine::over(&control.shared, config, Arc::new(self.authority.clone()), hook, pace)
    }

    async fn lease(&self) -> Lease {
        self.lease_of(&self.world.control).await
    }

    async fn lease_of(&self, control: &Control) -> Lease {
        let shared = &control.shared;
        let taken = shared.primary.write(async |tx| shared.take_lease(tx, Job::Acme).await).await;
        taken.unwrap().expect("nobody else holds it")
    }

    /// Works once at a certificate.
    async fn work(&self, name: &str) -> Result<(), Stopped> {
        let lease = self.lease().await;
        self.engine().work(&lease, name).await
    }

    async fn row(&self, name: &str) -> CertificateRow {
        self.found(name).await.expect("a certificate that is wanted")
    }

    async fn found(&self, name: &str) -> Option<CertificateRow> {
        self.world.primary.read(async |tx| acme::get(tx, name).await).await.unwrap()
    }

    /// What edges serve the shop with.
    async fn served(&self) -> Option<CertificateDoc> {
        self.certificates(Partition::Project(self.project)).await.into_iter().find(|doc| doc.names == [SHOP])
    }

    async fn certificates(&self, partition: Partition) -> Vec<CertificateDoc> {
        let documents = self.world.documents(partition).await.into_iter();
        let certificates = documents.filter_map(|document| match document {
            Document::Certificate(doc) => Some(doc),
            _ => None,
        });
        certificates.collect()
    }

    /// Challenges that edges answer.
    async fn challenges(&self) -> usize {
        let documents = self.world.documents(Partition::Platform).await;
        documents.iter().filter(|document| matches!(document, Document::AcmeChallenge(_))).count()
    }

    /// The time-line's kinds, oldest first.
    async fn events(&self, name: &str) -> Vec<String> {
        let rows = self.world.primary.read(async |tx| acme::events(tx, name).await).await.unwrap();
        rows.into_iter().map(|row| row.kind).collect()
    }

    /// The code of the last failure.
    async fn code(&self) -> String {
        self.row(SHOP).await.error.expect("a failure").code
    }

    /// Lets time go on until the certificate is due, and works at it.
    async fn work_when_due(&self, name: &str) -> CertificateRow {
        let now = self.world.hand.clock().now();
        self.world.hand.advance(self.row(name).await.next_at.since(now));
        self.work(name).await.unwrap();
        self.row(name).await
    }
}

/// A zone that the authority reads.
struct Zone(Authority);

impl DnsHook for Zone {
    fn present<'a>(&'a self, record: &'a DnsRecord) -> DnsFuture<'a> {
        self.0.set_record(&record.name, &record.value, true);
        Box::pin(std::future::ready(Ok("set".to_owned())))
    }

    fn cleanup<'a>(&'a self, record: &'a DnsRecord) -> DnsFuture<'a> {
        self.0.set_record(&record.name, &record.value, false);
        Box::pin(std::future::ready(Ok(String::new())))
    }
}

#[tokio::test]
async fn a_host_gets_its_certificate_with_its_first_route() {
    let world = World::with(ordered(acme_config())).await;
    let project = world.project("shop").await;
    let authority = Authority::new(&world);
    let scene = Scene { authority, project, edge: Edge::of(&world), world };
    assert_eq!(scene.found(SHOP).await, None, "nothing is published yet");
    assert_eq!(
        scene.served().await,
        None,
        "and nothing is served, least of all with a certificate of our own"
    );
    scene.add_route("production").await;
    let row = scene.row(SHOP).await;
    assert_eq!((row.state, row.project), (CertificateState::Waiting, Some(project)));
    scene.work(SHOP).await.unwrap();
    let row = scene.row(SHOP).await;
    assert_eq!((row.state, row.attempts, row.order_url), (CertificateState::Valid, 0, None));
    let served = scene.served().await.expect("a certificate");
    assert_eq!(served.not_after, BEGIN.after(Duration::from_hours(90 * 24)));
    assert_eq!(scene.challenges().await, 0, "what was asked is answered no more");
    let events = scene.events(SHOP).await;
    assert_eq!(events, ["order", "challenge", "request", "certificate"]);
    let audit = scene.world.get("/organizations/default/audit").await.ok();
    assert!(audit.to_string().contains("certificate.issue"), "{audit}");
}

#[tokio::test]
async fn the_platforms_hosts_share_a_certificate_that_never_leaves_control() {
    let scene = Scene::new().await;
    let row = scene.row(CONSOLE).await;
    assert_eq!(row.names, [CONSOLE, "login.mezu.example", "connect.mezu.example"]);
    assert_eq!(scene.certificates(Partition::Control).await, [], "and until then there is none");
    scene.work(CONSOLE).await.unwrap();
    let own = scene.certificates(Partition::Control).await;
    assert_eq!(own.iter().map(|doc| doc.names.clone()).collect::<Vec<_>>(), [row.names]);
    assert_eq!(scene.certificates(Partition::Platform).await, []);
    // The same is served after a restart, and nothing is ordered again.
    let scene = scene.restart(ordered(acme_config())).await;
    assert_eq!(scene.certificates(Partition::Control).await, own);
    assert_eq!(scene.row(CONSOLE).await.state, CertificateState::Valid);
}

#[tokio::test]
async fn a_certificate_goes_with_its_host() {
    let scene = Scene::new().await;
    let hosts = "/projects/shop/environments/production/hosts";
    scene.world.post(hosts, json!({ "host": "www.shop.example" })).await.ok();
    let row = scene.row("www.shop.example").await;
    assert_eq!(row.state, CertificateState::Waiting, "the environment has a route");
    scene.work("www.shop.example").await.unwrap();
    assert_eq!(scene.certificates(Partition::Project(scene.project)).await.len(), 1);
    scene.world.delete(&format!("{hosts}/www.shop.example")).await.ok();
    assert_eq!(scene.found("www.shop.example").await, None);
    assert_eq!(scene.certificates(Partition::Project(scene.project)).await, []);
    assert!(scene.work("www.shop.example").await.is_ok(), "nobody misses it");
}

#[tokio::test]
async fn names_under_localhost_are_not_asked_for() {
    let mut config = development();
    config.public_certificate = PublicCertificate::Acme(Box::new(acme_config()));
    let world = World::with(config).await;
    let project = world.project("shop").await;
    let path = "/projects/shop/environments/production/routes";
    world.post(path, json!({ "path": "/*", "auth": "public", "upstream": "web" })).await.ok();
    let rows = world.primary.read(async |tx| acme::list(tx, &PageRequest::first()).await).await.unwrap();
    assert_eq!(rows.rows, []);
    for (partition, certificates) in [(Partition::Control, 1), (Partition::Project(project), 1)] {
        let documents = world.documents(partition).await;
        let found = documents.iter().filter(|document| matches!(document, Document::Certificate(_)));
        assert_eq!(found.count(), certificates, "{partition:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_at_a_third_left_and_swapped_in_place() {
    let scene = Scene::new().await;
    scene.work(SHOP).await.unwrap();
    let first = scene.served().await.unwrap();
    let row = scene.row(SHOP).await;
    assert_eq!(row.next_at, BEGIN, "asked at once whether the authority wants it renewed at some time");
    let row_after = scene.work_when_due(SHOP).await;
    assert_eq!(row_after.next_at, BEGIN.after(Duration::from_hours(60 * 24)), "it has no such wish");
    let renewed = scene.work_when_due(SHOP).await;
    assert_eq!((renewed.state, scene.authority.orders()), (CertificateState::Valid, 2));
    let second = scene.served().await.unwrap();
    assert!(second.not_after > first.not_after && second.key_pem != first.key_pem);
    assert_eq!(
        scene.certificates(Partition::Project(scene.project)).await.len(),
        1,
        "in the place of the first"
    );
    assert_eq!(scene.authority.accounts(), 1);
}

#[tokio::test]
async fn the_authority_may_want_a_certificate_renewed_sooner() {
    let scene = Scene::new().await;
    scene.authority.wants_renewal(
        BEGIN.after(Duration::from_hours(60 * 24)),
        BEGIN.after(Duration::from_hours(61 * 24)),
    );
    scene.work(SHOP).await.unwrap();
    let row = scene.work_when_due(SHOP).await;
    let facts = row.certificate.unwrap();
    let day = |at: Timestamp| at.since(BEGIN).as_secs() / 86_400;
    assert_eq!(day(facts.renew_at), 60);
    assert_eq!(row.next_at, BEGIN.after(Duration::from_hours(6)), "and asks again when the authority says");
    // It has to revoke the certificate: the window is now.
    scene.authority.wants_renewal(BEGIN, BEGIN.after(Duration::from_hours(1)));
    let row = scene.work_when_due(SHOP).await;
    assert!(row.next_at <= BEGIN.after(Duration::from_hours(6)), "{}", row.next_at);
    scene.work_when_due(SHOP).await;
    assert_eq!(scene.authority.orders(), 2);
    assert!(scene.events(SHOP).await.contains(&"window".to_owned()));
}

#[tokio::test]
async fn a_wildcard_is_proved_by_dns_and_serves_every_endpoint() {
    let acme = AcmeConfig { dns_hook: Some("/bin/hook".into()), wildcard: true, ..acme_config() };
    let scene = Scene::with(acme).await;
    assert_eq!(scene.found(SHOP).await, None, "the wildcard is for it too");
    scene.work("*.apps.example").await.unwrap();
    let documents = scene.certificates(Partition::Platform).await;
    assert_eq!(documents.iter().map(|doc| doc.names.clone()).collect::<Vec<_>>(), [["*.apps.example"]]);
    assert_eq!(scene.authority.records(), [], "the record was removed");
    let hooked = scene.events("*.apps.example").await.iter().filter(|kind| *kind == "hook").count();
    assert_eq!(hooked, 2);
}

#[tokio::test]
async fn another_authority_issues_anew_while_the_old_certificate_goes_on() {
    let scene = Scene::new().await;
    scene.work(SHOP).await.unwrap();
    let first = scene.served().await.unwrap();
    let other = AcmeConfig::new("https://other.example/directory".parse().unwrap());
    let scene = scene.restart(ordered(other)).await;
    assert_eq!(scene.served().await, Some(first), "nothing was taken away");
    let row = scene.row(SHOP).await;
    assert_eq!(row.directory, "https://other.example/directory");
    assert!(row.next_at <= scene.world.hand.clock().now(), "it is due");
}
