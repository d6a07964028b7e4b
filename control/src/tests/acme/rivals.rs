//! Several control nodes: one orders at a time, and who is no more at it changes nothing.

use super::super::cluster::join;
use super::authority::Mischief;
use super::*;
use crate::acme::job::Worker;

impl Scene {
    /// Another control node of the installation.
    async fn another_node(&self) -> Control {
        let mut config = ordered(acme_config());
        config.node.id = ControlId::from_bits(2);
        config.edge = None;
        join(&self.world, config).await
    }
}

#[tokio::test]
async fn of_two_control_nodes_one_orders() {
    let scene = Scene::new().await;
    let other = scene.another_node().await;
    let workers = [scene.engine(), scene.engine_of(&other, PACE)];
    let mut workers = workers.map(|engine| Worker::new(Arc::new(engine)));
    until("both are valid", async || {
        for worker in &mut workers {
            worker.look().await.unwrap();
        }
        scene.row(SHOP).await.state == CertificateState::Valid
            && scene.row(CONSOLE).await.state == CertificateState::Valid
    })
    .await;
    assert_eq!(scene.authority.orders(), 2, "one for the shop, one for the platform");
    assert_eq!(scene.authority.accounts(), 1);
}

#[tokio::test]
async fn who_lost_the_lease_writes_nothing_any_more() {
    let scene = Scene::new().await;
    let lease = scene.lease().await;
    let stale = Lease { token: lease.token + 1, ..lease };
    let why = scene.engine().work(&stale, SHOP).await.unwrap_err();
    assert!(matches!(why, Stopped::Fenced), "{why}");
    assert_eq!(scene.authority.orders(), 0);
    assert_eq!(scene.row(SHOP).await.state, CertificateState::Waiting);
}

#[tokio::test]
async fn who_takes_over_goes_on_with_the_order_and_who_comes_back_late_changes_nothing() {
    let scene = Scene::new().await;
    let other = scene.another_node().await;
    // The authority falls silent in the middle of the first node's order, longer than its lease is good.
    scene.authority.misbehave(Mischief { silent_after: Some(7), ..Mischief::default() });
    let (lease, slow) =
        (scene.lease().await, scene.engine_at(Pace { answer: Duration::from_secs(2), ..PACE }));
    let late = tokio::spawn(async move { slow.work(&lease, SHOP).await });
    scene.authority.went_silent().await;
    scene.authority.misbehave(Mischief::default());
    scene.world.hand.advance(LEASE_TTL);
    let taken = scene.lease_of(&other).await;
    scene.engine_of(&other, PACE).work(&taken, SHOP).await.unwrap();
    let (row, served) = (scene.row(SHOP).await, scene.served().await);
    assert_eq!(row.state, CertificateState::Valid);
    let why = late.await.unwrap().unwrap_err();
    assert!(matches!(why, Stopped::Fenced), "{why}");
    assert_eq!((scene.row(SHOP).await, scene.served().await), (row, served));
    assert_eq!((scene.authority.orders(), scene.challenges().await), (1, 0));
}
