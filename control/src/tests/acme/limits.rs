//! Whatever tenants, authorities and DNS hooks do: others get their certificates, and a try comes to an end.

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::authority::Mischief;
use super::*;
use crate::acme::job::Worker;

/// A custom domain of the project.
const WWW: &str = "www.shop.example";

/// Where hosts of the project are.
const HOSTS: &str = "/projects/shop/environments/production/hosts";

/// A hook that sets records and does not get done with removing them.
#[derive(Default)]
struct Stuck {
    called: Notify,
}

impl DnsHook for Stuck {
    fn present<'a>(&'a self, _: &'a DnsRecord) -> DnsFuture<'a> {
        Box::pin(std::future::ready(Ok(String::new())))
    }

    fn cleanup<'a>(&'a self, _: &'a DnsRecord) -> DnsFuture<'a> {
        self.called.notify_one();
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn r23_a_host_that_is_removed_and_added_again_waits_as_it_did() {
    let scene = Scene::new().await;
    let add = async || scene.world.post(HOSTS, json!({ "host": WWW })).await.ok();
    let remove = async || scene.world.delete(&format!("{HOSTS}/{WWW}")).await.ok();
    add().await;
    scene.authority.misbehave(Mischief { finds: Some("connection"), ..Mischief::default() });
    for _ in 0..3 {
        scene.work(WWW).await.unwrap();
    }
    let before = scene.row(WWW).await;
    assert_eq!(before.attempts, 3);
    remove().await;
    add().await;
    assert_eq!(scene.row(WWW).await.attempts, 0, "a new row");
    let asked = scene.authority.asked("directory");
    scene.work(WWW).await.unwrap();
    let after = scene.row(WWW).await;
    assert_eq!((after.attempts, after.next_at), (3, before.next_at));
    assert_eq!(after.error.unwrap().code, "acme.budget");
    assert_eq!(scene.authority.asked("directory"), asked, "nobody was asked");
    scene.authority.misbehave(Mischief::default());
    assert_eq!(scene.work_when_due(WWW).await.state, CertificateState::Valid);
    // What came to its end well is not remembered.
    remove().await;
    add().await;
    scene.work(WWW).await.unwrap();
    assert_eq!(scene.row(WWW).await.state, CertificateState::Valid);
}

#[tokio::test]
async fn an_authority_that_wants_everything_renewed_always_is_asked_once_an_hour() {
    let scene = Scene::new().await;
    scene.authority.wants_renewal(BEGIN.before(Duration::from_hours(2)), BEGIN);
    scene.work(SHOP).await.unwrap();
    let clock = scene.world.hand.clock();
    for _ in 0..6 {
        scene.work_when_due(SHOP).await;
    }
    let hours = clock.now().since(BEGIN).as_secs() / 3600;
    assert_eq!((hours, scene.authority.orders()), (3, 4), "a question and a renewal in turn");
}

#[tokio::test]
async fn r23_a_hook_that_does_not_get_done_with_cleaning_up_holds_nobody_up() {
    let wildcard = "*.apps.example";
    let acme = AcmeConfig { dns_hook: Some("/bin/hook".into()), wildcard: true, ..acme_config() };
    let scene = Scene::with(acme.clone()).await;
    // A node died once the order had come to its end, before the record was removed.
    scene.cut_off(wildcard, 7).await;
    assert_ne!(scene.authority.records(), [], "it is set");
    let mut row = scene.row(wildcard).await;
    row.next_at = BEGIN.after(Duration::from_hours(24));
    let ended = scene.world.primary.write(async |tx| {
        acme::end_order(tx, wildcard).await?;
        acme::update(tx, &row).await
    });
    ended.await.unwrap();
    scene.authority.misbehave(Mischief::default());

    let (hook, http) = (Arc::new(Stuck::default()), Arc::new(scene.authority.clone()));
    let stuck = Arc::clone(&hook) as Arc<dyn DnsHook>;
    let engine = Engine::over(&scene.world.control.shared, &acme, http, Some(stuck), PACE);
    let cancel = CancellationToken::new();
    let worker = tokio::spawn(Worker::new(Arc::new(engine)).run(cancel.clone()));
    hook.called.notified().await;
    until("the console has its certificate", async || {
        scene.row(CONSOLE).await.state == CertificateState::Valid
    })
    .await;
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(10), worker).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_try_ends_whatever_the_authority_does() {
    let scene = Scene::new().await;
    scene.authority.misbehave(Mischief { silent_after: Some(5), ..Mischief::default() });
    let lease = scene.lease().await;
    let engine = scene.engine_at(Pace { attempt: Duration::from_millis(500), ..PACE });
    let work = engine.work(&lease, SHOP);
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("it ends").unwrap();
    assert_eq!(scene.code().await, "acme.unreachable");
    let row = scene.row(SHOP).await;
    assert_eq!((row.state, row.attempts), (CertificateState::Failed, 1));
    scene.authority.misbehave(Mischief::default());
    scene.work(SHOP).await.unwrap();
    assert_eq!(scene.row(SHOP).await.state, CertificateState::Valid);
}

#[tokio::test]
async fn an_authority_that_asks_for_more_proofs_than_names_is_not_answered() {
    let scene = Scene::new().await;
    scene.fails_with(Mischief { asks_twice: true, ..Mischief::default() }, "acme.nonsense").await;
    assert_eq!(scene.authority.asked("challenge"), 0);
}
