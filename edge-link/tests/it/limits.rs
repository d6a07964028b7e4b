//! What is bounded at the node port: questions, batches in memory, readers that stop, strangers; and faults of control.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use mezusphere_edge_link::ALPN_LINK;
use mezusphere_edge_link::limits::{LinkLimits, NodeLimits};
use mezusphere_model::document::Partition;
use mezusphere_model::id::ProjectId;
use mezusphere_model::link::{ControlLink, LinkError};
use mezusphere_pki::Role;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::fake::Mood;
use crate::roles::{dial, with};
use crate::round_trip::about;
use crate::world::{Node, World, until, within};

const PROJECT: Partition = Partition::Project(ProjectId::from_bits(1));

/// An edge's own HTTP/2 client that reads only what the test reads.
pub(crate) async fn raw_link(
    world: &World,
    node: &Node,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let identity = world.current(Role::Edge(world.edge()));
    let stream = dial(node, with(world, &identity, &[ALPN_LINK])).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    (send.ready().await.unwrap(), driver)
}

fn snapshot_request() -> (http::Request<()>, Bytes) {
    let request = http::Request::post("https://control.mezu.internal/v1/feed/snapshot")
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    (request, Bytes::from(format!("{{\"partition\":\"{PROJECT}\",\"max\":1000}}")))
}

#[tokio::test]
async fn r23_a_follower_that_stops_reading_costs_one_batch_and_is_dropped() {
    let world = World::new();
    let limits = NodeLimits { stall: Duration::from_millis(900), ..NodeLimits::default() };
    let node = world.control_with(limits).await;
    // Repeats only beyond deflate's window of 32 KiB: a batch that stays large.
    let noise: String = (0..50_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761) >> 24)
        .map(|byte| char::from(b'!' + u8::try_from(byte).unwrap() % 90))
        .collect();
    let noise = noise.repeat(18);
    let body = serde_json::to_string(&noise).unwrap();
    for n in 0..4 {
        node.fake.publish(PROJECT, &format!("k/{n}"), Some(&body));
    }
    let (mut send, driver) = raw_link(&world, &node).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        let (request, question) = snapshot_request();
        send = within(send.ready()).await.unwrap();
        let (answer, mut stream) = send.send_request(request, false).unwrap();
        stream.send_data(question, true).unwrap();
        answers.push(tokio::spawn(answer));
    }
    let begun = Instant::now();
    // Windows are never given back, so the answers cannot be sent.
    until(|| node.port.counts().stalled == 1).await;
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(node.fake.batches.load(Ordering::SeqCst), 1, "one batch in memory, not 20");
    drop(within(driver).await);
    until(|| node.port.counts().links == 0).await;
}

#[tokio::test]
async fn r23_an_edge_that_is_gone_without_a_word_is_dropped() {
    let world = World::new();
    let limits = NodeLimits { stall: Duration::from_millis(600), ..NodeLimits::default() };
    let node = world.control_with(limits).await;
    let (send, driver) = raw_link(&world, &node).await;
    until(|| node.port.counts().links == 1).await;
    // The socket stays open, and nobody answers PINGs any more.
    let (frozen, thaw) = (send, driver);
    thaw.abort();
    drop(frozen);
    until(|| node.port.counts().links == 0).await;
}

#[tokio::test]
async fn r23_questions_beyond_the_limit_are_answered_busy() {
    let world = World::new();
    let node = world.control_with(NodeLimits { questions: 3, ..NodeLimits::default() }).await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    node.fake.set(Mood::Slow);
    let ask = || {
        let link = Arc::clone(&edge.link);
        tokio::spawn(async move { link.about(about()).await })
    };
    let slow: Vec<_> = (0..3).map(|_| ask()).collect();
    until(|| node.fake.waiting.load(Ordering::SeqCst) == 3).await;
    assert_eq!(within(ask()).await.unwrap(), Err(LinkError::Away));
    assert_eq!(node.port.counts().busy, 1);
    node.fake.gate.add_permits(3);
    for asked in slow {
        assert_eq!(within(asked).await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn r23_an_edge_asks_no_more_at_once_than_it_may() {
    let world = World::new();
    let node = world.control().await;
    let limits = LinkLimits { questions: 2, turn: Duration::from_millis(50), ..LinkLimits::default() };
    let edge = world.link_with(&[node.at()], limits);
    edge.connected().await;
    node.fake.set(Mood::Slow);
    let asked: Vec<_> = (0..10)
        .map(|_| {
            let link = Arc::clone(&edge.link);
            tokio::spawn(async move { link.about(about()).await })
        })
        .collect();
    until(|| asked.iter().filter(|asked| asked.is_finished()).count() == 8).await;
    assert_eq!(node.fake.asked().len(), 2);
    node.fake.gate.add_permits(2);
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(within(asked).await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
    assert_eq!(answers.iter().filter(|answer| **answer == Err(LinkError::Away)).count(), 8);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_away_and_in_time() {
    let world = World::new();
    let node = world.control().await;
    let limits = LinkLimits { question: Duration::from_millis(300), ..LinkLimits::default() };
    let edge = world.link_with(&[node.at()], limits);
    edge.connected().await;
    node.fake.set(Mood::Slow);
    let begun = Instant::now();
    assert_eq!(edge.link.about(about()).await, Err(LinkError::Away));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // Nobody waits for the answer, so control stops working on it.
    let limits = NodeLimits { answer: Duration::from_millis(200), ..NodeLimits::default() };
    let node = world.control_with(limits).await;
    let edge = world.link(&[node.at()]);
    node.fake.set(Mood::Slow);
    assert_eq!(edge.link.about(about()).await, Err(LinkError::Away));
}

#[tokio::test]
async fn r24_a_fault_of_control_ends_one_question_only() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    edge.connected().await;
    node.fake.set(Mood::Slow);
    let slow = tokio::spawn({
        let link = Arc::clone(&edge.link);
        async move { link.about(about()).await }
    });
    until(|| node.fake.waiting.load(Ordering::SeqCst) == 1).await;
    node.fake.set(Mood::Panicking);
    let code = mezusphere_model::link::RedeemCode {
        code: "c".to_owned(),
        host: mezusphere_model::host::Host::parse("shop.example").unwrap(),
        state_hash: "h".to_owned(),
        replaces: None,
    };
    assert_eq!(within(edge.link.redeem(code)).await.unwrap_err(), LinkError::Away);
    node.fake.gate.add_permits(1);
    assert_eq!(within(slow).await.unwrap(), Ok(()));
    assert_eq!(edge.link.counts().connects, 1);
}

#[tokio::test]
async fn r23_strangers_of_one_address_have_few_places_and_little_time() {
    let world = World::new();
    let limits = NodeLimits {
        strangers_per_address: 2,
        handshake: Duration::from_millis(300),
        ..NodeLimits::default()
    };
    let node = world.control_with(limits).await;
    let mut silent = [
        TcpStream::connect(node.address).await.unwrap(),
        TcpStream::connect(node.address).await.unwrap(),
        TcpStream::connect(node.address).await.unwrap(),
    ];
    until(|| node.port.counts().turned_away == 1).await;
    for stream in &mut silent {
        assert!(within(stream.read_u8()).await.is_err(), "closed without a word");
    }
    let edge = world.link(&[node.at()]);
    assert_eq!(edge.link.about(about()).await, Ok(()));
}

#[tokio::test]
async fn the_newest_links_of_an_edge_win() {
    let world = World::new();
    let node = world.control_with(NodeLimits { links_per_edge: 2, ..NodeLimits::default() }).await;
    let identity = world.current(Role::Edge(world.edge()));
    let mut drivers = Vec::new();
    for _ in 0..4 {
        let stream = dial(&node, with(&world, &identity, &[ALPN_LINK])).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let known = node.port.connected().first().map_or(0, |edge| edge.links);
        drivers.push((tokio::spawn(connection), send));
        until(|| node.port.connected().first().is_some_and(|edge| edge.links > known || edge.links == 2))
            .await;
    }
    until(|| drivers.iter().filter(|(driver, _)| driver.is_finished()).count() == 2).await;
    until(|| node.port.connected().first().is_some_and(|edge| edge.links == 2)).await;
    assert!(drivers[0].0.is_finished() && drivers[1].0.is_finished());
}
