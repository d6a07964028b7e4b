//! A control node that stops: it tells its edges, lets open questions end, and returns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mezusphere_edge_link::limits::NodeLimits;
use mezusphere_model::link::{ControlLink, LinkError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::fake::Mood;
use crate::round_trip::about;
use crate::world::{World, until, within};

#[tokio::test]
async fn a_control_node_that_stops_finishes_what_it_was_asked_and_edges_move_on() {
    let world = World::new();
    let (mut one, two) = (world.control().await, world.control().await);
    let edge = world.link(&[one.at()]);
    edge.connected().await;
    edge.controls.send_replace(vec![one.at(), two.at()]);
    one.fake.set(Mood::Slow);
    let slow = tokio::spawn({
        let link = Arc::clone(&edge.link);
        async move { link.about(about()).await }
    });
    until(|| one.fake.waiting.load(Ordering::SeqCst) == 1).await;
    one.fake.set(Mood::Good);
    one.stop.cancel();
    for _ in 0..20 {
        assert_eq!(within(edge.link.about(about())).await, Ok(()));
    }
    edge.connected_to(&two.at()).await;
    one.fake.gate.add_permits(1);
    assert_eq!(within(slow).await.unwrap(), Ok(()), "what was under way was answered");
    assert_eq!(one.fake.asked().len() + two.fake.asked().len(), 21, "nothing was asked twice");
    let begun = Instant::now();
    one.stopped().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_splice_may_end_by_itself_while_the_port_stops() {
    let world = World::new();
    let mut node = world.control().await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    let mut splice =
        edge.link.splice("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap()).await.unwrap();
    node.stop.cancel();
    splice.write_all(b"abc").await.unwrap();
    splice.shutdown().await.unwrap();
    let mut echo = Vec::new();
    within(splice.read_to_end(&mut echo)).await.unwrap();
    assert_eq!(echo, b"ABC!");
    drop(splice);
    node.stopped().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_closed() {
    let world = World::new();
    let limits = NodeLimits { grace: Duration::from_millis(300), ..NodeLimits::default() };
    let mut node = world.control_with(limits).await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    node.fake.set(Mood::Slow);
    let slow = tokio::spawn({
        let link = Arc::clone(&edge.link);
        async move { link.about(about()).await }
    });
    until(|| node.fake.waiting.load(Ordering::SeqCst) == 1).await;
    let begun = Instant::now();
    node.stop.cancel();
    node.stopped().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(within(slow).await.unwrap(), Err(LinkError::Away));
}
