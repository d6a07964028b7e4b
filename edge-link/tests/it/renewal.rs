//! Certificates are renewed under questions, and no connection outlives the one it was made with (R20).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mezusphere_edge_link::client::{CERTIFICATE_REFUSED, LinkState};
use mezusphere_model::link::ControlLink;
use mezusphere_pki::{Issuing, NodeIdentity, NodeKey, Role};
use tokio::io::AsyncReadExt as _;

use crate::fake::Mood;
use crate::round_trip::about;
use crate::world::{World, until, within};

#[tokio::test]
async fn r20_a_certificate_is_renewed_without_dropping_a_question() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (link, stop, asked) = (Arc::clone(&edge.link), Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    link.about(about()).await?;
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, mezusphere_model::link::LinkError>(())
            })
        })
        .collect();
    for round in 2..=4 {
        edge.identity.replace(world.identity(Role::Edge(edge.id), Duration::from_hours(24)));
        until(|| edge.link.counts().connects == round).await;
        let before = asked.load(Ordering::Relaxed);
        until(|| asked.load(Ordering::Relaxed) > before + 20).await;
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        assert_eq!(within(asker).await.unwrap(), Ok(()));
    }
    // The old connections have gone, and nobody saw the edge leave in between.
    until(|| node.port.counts().links == 1).await;
    assert!(edge.link.last_problem().is_none(), "{:?}", edge.link.last_problem());
}

#[tokio::test]
async fn r20_a_question_under_way_is_finished_on_the_old_connection() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    node.fake.set(Mood::Slow);
    let asking = tokio::spawn({
        let link = Arc::clone(&edge.link);
        async move { link.about(about()).await }
    });
    until(|| node.fake.waiting.load(Ordering::SeqCst) == 1).await;
    edge.identity.replace(world.identity(Role::Edge(edge.id), Duration::from_hours(24)));
    until(|| edge.link.counts().connects == 2).await;
    assert_eq!(node.port.counts().links, 2, "the old one is kept for its question");
    node.fake.gate.add_permits(1);
    assert_eq!(within(asking).await.unwrap(), Ok(()));
    until(|| node.port.counts().links == 1).await;
}

#[tokio::test]
async fn r20_a_connection_ends_with_its_certificate() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    edge.identity.replace(world.identity(Role::Edge(edge.id), Duration::from_mins(1)));
    until(|| edge.link.counts().connects == 2).await;
    let (client, local) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:443".parse().unwrap());
    let mut splice = edge.link.splice(client, local).await.unwrap();
    world.hand.advance(Duration::from_secs(59));
    assert_eq!(edge.link.about(about()).await, Ok(()));
    world.hand.advance(Duration::from_secs(2));
    let state = edge.until(|state| matches!(state, LinkState::Away(_))).await;
    let LinkState::Away(why) = state else { panic!("{state:?}") };
    assert_eq!(why.code, "edge.certificate_expired", "{why:?}");
    drop(within(splice.read_u8()).await.unwrap_err());
    until(|| node.port.counts().links == 0 && node.port.counts().splices == 0).await;
    // With a new one it is back.
    edge.identity.replace(world.identity(Role::Edge(edge.id), Duration::from_mins(1)));
    edge.connected().await;
}

#[tokio::test]
async fn r20_a_link_moves_on_before_the_control_nodes_certificate_ends() {
    let world = World::new();
    let short = Duration::from_mins(20);
    let node = world.control_living(short).await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    // Control renews its own at half-life; the edge's lives on and is no reason for another link.
    world.hand.advance(short / 2);
    node.identity.replace(world.identity(node.identity.get().name().role, short));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(edge.link.counts().connects, 1, "nothing is about to end");
    world.hand.advance(short / 4 + Duration::from_secs(1));
    until(|| edge.link.counts().connects == 2).await;
    // The first one's end finds nobody on it.
    world.hand.advance(short / 4);
    assert_eq!(edge.link.about(about()).await, Ok(()));
    until(|| node.port.counts().links == 1).await;
    assert!(edge.link.last_problem().is_none(), "{:?}", edge.link.last_problem());
}

#[tokio::test]
async fn r20_a_link_between_two_cas_is_made_anew_until_both_ends_have_changed_over() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    let next = Issuing::create(&world.root, world.clock.now(), &world.entropy).unwrap();
    let day = Duration::from_hours(24);
    edge.identity.replace(world.identity_by(&next, Role::Edge(edge.id), day));
    until(|| edge.link.counts().connects == 2).await;
    // Control follows a moment later; nothing of it is told to the edge.
    node.identity.replace(world.identity_by(&next, node.identity.get().name().role, day));
    until(|| node.port.counts().links == 1 && edge.link.counts().connects >= 3).await;
    let connects = edge.link.counts().connects;
    // What the CA of before issued is refused from now on, and nothing of it is in use any more.
    let old = world.identity(Role::Edge(edge.id), day).leaf().issuer.unwrap();
    node.trust.replace(world.trust(&[]).with_retired([old]).unwrap());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!((edge.link.about(about()).await, edge.link.counts().connects), (Ok(()), connects));
    assert!(edge.link.last_problem().is_none(), "{:?}", edge.link.last_problem());
}

#[tokio::test]
async fn r20_links_and_splices_end_when_the_ca_behind_them_is_retired() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    let (client, local) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:443".parse().unwrap());
    let mut splice = edge.link.splice(client, local).await.unwrap();
    let issuer = edge.identity.get().leaf().issuer.expect("shown in the chain");
    node.trust.replace(world.trust(&[]).with_retired([issuer]).unwrap());
    // Not taken for an eviction: the edge may come back with another certificate.
    let state = edge.until(|state| matches!(state, LinkState::Away(_))).await;
    let LinkState::Away(why) = state else { panic!("{state:?}") };
    assert_eq!(why.code, CERTIFICATE_REFUSED, "{why:?}");
    drop(within(splice.read_u8()).await.unwrap_err());
    until(|| node.port.counts().links == 0 && node.port.counts().splices == 0).await;
}

#[tokio::test]
async fn r20_a_key_made_here_is_certified_over_the_link() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    let key = NodeKey::generate().unwrap();
    let csr = key.csr_der().unwrap();
    edge.link.certify(csr.clone()).await.unwrap();
    let asked = node.fake.asked();
    assert_eq!(asked, [(edge.id, format!("certify {csr:?}"))]);
    let chain = world.certify(&csr, Role::Edge(edge.id), Duration::from_hours(1));
    NodeIdentity::new(chain.into_iter().map(Into::into).collect(), key).unwrap();
}
