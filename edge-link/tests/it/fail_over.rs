//! Several control nodes, of which some are dead in every way a node can be; and all of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mezusphere_edge_link::client::LinkState;
use mezusphere_edge_link::limits::NodeLimits;
use mezusphere_model::document::NodeAddress;
use mezusphere_model::link::{ControlLink, LinkError};
use mezusphere_store::feed::{FeedError, FeedSource};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::round_trip::about;
use crate::world::{World, node_address, within};

/// Within this a dead node is noticed and one that is back is found.
const BOUND: Duration = Duration::from_secs(6);

/// A listener that never says a word, and ends with the test.
async fn black_hole() -> (NodeAddress, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = node_address(listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    (at, task)
}

/// A listener that answers everything with the same words.
async fn babbler() -> (NodeAddress, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = node_address(listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await);
        }
    });
    (at, task)
}

/// A port nobody listens on.
async fn refusing() -> NodeAddress {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    node_address(listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_dead_control_node_is_passed_over_however_it_is_dead() {
    let world = World::new();
    let node = world.control().await;
    let (hole, _hole) = black_hole().await;
    let (words, _words) = babbler().await;
    let nowhere = NodeAddress { host: "no-such-host.invalid".to_owned(), port: 8444 };
    for dead in [refusing().await, hole, words, nowhere] {
        // Several edges, so that the dead one comes first for some.
        for _ in 0..4 {
            let begun = Instant::now();
            let edge = world.link(&[dead.clone(), node.at()]);
            assert_eq!(within(edge.link.about(about())).await, Ok(()), "{dead:?}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{dead:?}: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn when_all_are_away_the_answer_is_away_and_quick() {
    let world = World::new();
    let (hole, _hole) = black_hole().await;
    let edge = world.link(&[refusing().await]);
    let begun = Instant::now();
    assert_eq!(edge.link.about(about()).await, Err(LinkError::Away));
    assert!(matches!(edge.link.heads().await, Err(FeedError::Away(_))));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    let problem = edge.link.last_problem().unwrap();
    assert_eq!(problem.code, "edge.control_unreachable", "{problem:?}");

    let edge = world.link(&[hole]);
    let begun = Instant::now();
    assert_eq!(edge.link.about(about()).await, Err(LinkError::Away));
    assert!(begun.elapsed() < Duration::from_secs(4), "one look: {:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(edge.link.about(about()).await, Err(LinkError::Away));
    assert!(begun.elapsed() < Duration::from_millis(100), "known by now: {:?}", begun.elapsed());
    assert_eq!(edge.link.last_problem().unwrap().code, "edge.control_silent");

    let edge = world.link(&[]);
    assert_eq!(edge.link.about(about()).await, Err(LinkError::Away));
    assert_eq!(edge.link.last_problem().unwrap().code, "edge.no_control");
}

#[tokio::test]
async fn a_control_node_that_is_back_is_found_within_6_s() {
    let world = World::new();
    let node = world.control().await;
    let address = node.address;
    let (hole, _hole) = black_hole().await;
    let edge = world.link(&[node.at(), hole]);
    edge.connected().await;
    node.kill().await;
    edge.until(|state| matches!(state, LinkState::Away(_))).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let begun = Instant::now();
    let node = world.control_on(listener, NodeLimits::default());
    edge.connected().await;
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert_eq!(edge.link.about(about()).await, Ok(()));
    assert_eq!(node.fake.asked().len(), 1);
}

#[tokio::test]
async fn a_killed_control_node_costs_no_question_that_may_be_repeated() {
    let world = World::new();
    let (one, two) = (world.control().await, world.control().await);
    let edge = world.link(&[one.at()]);
    edge.connected().await;
    edge.controls.send_replace(vec![one.at(), two.at()]);
    one.kill().await;
    for _ in 0..50 {
        assert_eq!(within(edge.link.about(about())).await, Ok(()));
    }
    assert_eq!(two.fake.asked().len(), 50);
}

#[tokio::test]
async fn an_edge_sticks_to_its_control_node_while_that_answers() {
    let world = World::new();
    let (one, two) = (world.control().await, world.control().await);
    let edge = world.link(&[one.at(), two.at()]);
    edge.connected().await;
    for _ in 0..20 {
        assert_eq!(edge.link.about(about()).await, Ok(()));
    }
    let asked = (one.fake.asked().len(), two.fake.asked().len());
    assert!(asked == (20, 0) || asked == (0, 20), "{asked:?}");
}

#[tokio::test]
async fn an_edge_leaves_a_node_that_is_no_longer_listed_without_a_gap() {
    let world = World::new();
    let (one, two) = (world.control().await, world.control().await);
    let edge = world.link(&[one.at()]);
    edge.connected().await;
    edge.controls.send_replace(vec![two.at()]);
    edge.connected_to(&two.at()).await;
    assert!(edge.link.last_problem().is_none());
    assert_eq!(edge.link.about(about()).await, Ok(()));
    assert_eq!(two.fake.asked().len(), 1);
}

/// Copies octets to a control node until it is frozen: then it keeps the connections and moves nothing.
async fn freezer(to: SocketAddr) -> (NodeAddress, Arc<AtomicBool>, JoinHandle<()>) {
    async fn copy(
        from: &mut (impl tokio::io::AsyncRead + Unpin),
        to: &mut (impl tokio::io::AsyncWrite + Unpin),
        frozen: &AtomicBool,
    ) {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if frozen.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = node_address(listener.local_addr().unwrap());
    let frozen = Arc::new(AtomicBool::new(false));
    let is_frozen = Arc::clone(&frozen);
    let task = tokio::spawn(async move {
        let mut relays = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let frozen = Arc::clone(&is_frozen);
            relays.spawn(async move {
                let server = TcpStream::connect(to).await.unwrap();
                let ((mut cr, mut cw), (mut sr, mut sw)) = (client.into_split(), server.into_split());
                tokio::join!(copy(&mut cr, &mut sw, &frozen), copy(&mut sr, &mut cw, &frozen));
            });
        }
    });
    (at, frozen, task)
}

#[tokio::test]
async fn a_control_node_that_falls_silent_is_noticed_within_6_s() {
    let world = World::new();
    let (one, two) = (world.control().await, world.control().await);
    let (at, frozen, _relay) = freezer(one.address).await;
    let edge = world.link(std::slice::from_ref(&at));
    edge.connected().await;
    edge.controls.send_replace(vec![at, two.at()]);
    frozen.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    edge.connected_to(&two.at()).await;
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert!(begun.elapsed() > Duration::from_secs(1), "it was silence that told: {:?}", begun.elapsed());
    assert_eq!(edge.link.about(about()).await, Ok(()));
}
