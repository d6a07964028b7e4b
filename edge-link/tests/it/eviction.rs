//! An evicted edge: what it has open is closed within a second, and it is told why it does not get in again.

use std::time::Duration;

use mezusphere_edge_link::client::{EVICTED, LinkState, SpliceError};
use mezusphere_model::link::{ControlLink, LinkError};
use mezusphere_pki::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::round_trip::about;
use crate::world::{World, within};

#[tokio::test]
async fn r20_an_evicted_edge_loses_link_and_splices_within_a_second_and_hears_why() {
    let world = World::new();
    let node = world.control().await;
    let (evicted, other) = (world.link(&[node.at()]), world.link(&[node.at()]));
    evicted.connected().await;
    other.connected().await;
    let (client, local) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:443".parse().unwrap());
    let mut splice = evicted.link.splice(client, local).await.unwrap();
    let mut kept = other.link.splice(client, local).await.unwrap();

    let begun = Instant::now();
    node.trust.replace(world.trust(&[Role::Edge(evicted.id)]));
    let state = evicted.until(|state| matches!(state, LinkState::Away(why) if why.code == EVICTED)).await;
    let mut rest = Vec::new();
    drop(within(splice.read_to_end(&mut rest)).await);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}, back-off included", begun.elapsed());
    assert_eq!(rest, b"", "nothing more came");

    let LinkState::Away(why) = state else { panic!("{state:?}") };
    assert!(why.message.contains("evicted") && why.next.contains("join token"), "{why:?}");
    assert_eq!(evicted.link.about(about()).await, Err(LinkError::Away));
    let refused = evicted.link.splice(client, local).await.err();
    assert!(matches!(&refused, Some(SpliceError::Away(why)) if why.code == EVICTED), "{refused:?}");
    assert!(node.port.counts().closed >= 2);

    assert_eq!(other.link.about(about()).await, Ok(()), "others are not touched");
    kept.write_all(b"still here").await.unwrap();
    let mut echo = [0; 10];
    within(kept.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo, b"STILL HERE");
    assert_eq!(node.port.connected().iter().map(|edge| edge.edge).collect::<Vec<_>>(), [other.id]);
}

#[tokio::test]
async fn an_edge_that_is_let_in_again_comes_back_by_itself() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    node.trust.replace(world.trust(&[Role::Edge(edge.id)]));
    edge.until(|state| matches!(state, LinkState::Away(_))).await;
    node.trust.replace(world.trust(&[]));
    edge.connected().await;
    assert_eq!(edge.link.about(about()).await, Ok(()));
}
