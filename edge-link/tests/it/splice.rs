//! Splices: octets both ways, the client's address, half-closing; headers that are none; control nodes that are none.

use std::net::SocketAddr;
use std::time::Duration;

use mezusphere_edge_link::client::SpliceError;
use mezusphere_edge_link::limits::NodeLimits;
use mezusphere_edge_link::{ALPN_SPLICE, proxy};
use mezusphere_pki::{CurrentIdentity, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::roles::{Raw, dial, with};
use crate::world::{Node, World, node_address, until, within};

fn addresses() -> (SocketAddr, SocketAddr) {
    ("[2001:db8::5]:50000".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap())
}

#[tokio::test]
async fn octets_go_both_ways_and_each_side_may_end_first() {
    let world = World::new();
    let node = world.control().await;
    let edge = world.link(&[node.at()]);
    let (client, local) = addresses();
    let mut splice = edge.link.splice(client, local).await.unwrap();
    let text: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let (mut read, mut write) = tokio::io::split(&mut splice);
    let mut echo = Vec::new();
    let (sent, received) = tokio::join!(
        async {
            write.write_all(&text).await.unwrap();
            write.shutdown().await
        },
        within(read.read_to_end(&mut echo)),
    );
    sent.unwrap();
    assert_eq!(received.unwrap(), text.len() + 1);
    let mut expected = text.to_ascii_uppercase();
    expected.push(b'!');
    assert!(echo == expected, "{} octets of {}", echo.len(), expected.len());
    assert_eq!(*node.fake.spliced.lock().unwrap(), [client], "who the client is comes from the edge");
    assert_eq!(edge.link.counts().answered, 0, "a splice is a connection of its own");
}

#[tokio::test]
async fn a_splice_passes_over_control_nodes_that_do_not_take_it() {
    let world = World::new();
    let (full, good) = (
        world.control_with(NodeLimits { splices_per_edge: 0, ..NodeLimits::default() }).await,
        world.control().await,
    );
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hole = (node_address(hole.local_addr().unwrap()), hole);
    let edge = world.link(&[full.at(), hole.0.clone(), good.at()]);
    edge.connected().await;
    let (client, local) = addresses();
    for _ in 0..5 {
        let begun = Instant::now();
        let mut splice = edge.link.splice(client, local).await.unwrap();
        splice.write_all(b"x").await.unwrap();
        assert_eq!(within(splice.read_u8()).await.unwrap(), b'X');
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert_eq!(good.fake.spliced.lock().unwrap().len(), 5);
    assert_eq!(full.fake.spliced.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_splice_without_control_fails_in_time() {
    let world = World::new();
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = world.link(&[node_address(hole.local_addr().unwrap())]);
    let begun = Instant::now();
    let (client, local) = addresses();
    let refused = edge.link.splice(client, local).await.err();
    assert!(
        matches!(&refused, Some(SpliceError::Away(why)) if why.code == "edge.control_silent"),
        "{refused:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

async fn raw(world: &World, node: &Node) -> Raw {
    let identity: CurrentIdentity = world.current(Role::Edge(world.edge()));
    dial(node, with(world, &identity, &[ALPN_SPLICE])).await.unwrap()
}

#[tokio::test]
async fn r24_what_is_no_header_ends_the_splice() {
    let world = World::new();
    let limits = NodeLimits { proxy_header: Duration::from_millis(300), ..NodeLimits::default() };
    let node = world.control_with(limits).await;
    let (client, local) = addresses();
    let good = proxy::encode(client, local);
    let mut long = good.clone();
    long[14..16].copy_from_slice(&600_u16.to_be_bytes());
    long.resize(16 + 600, 0);
    let mut version = good.clone();
    version[12] = 0x11;
    for bad in [
        b"GET / HTTP/1.1\r\nhost: login.example\r\n\r\n".to_vec(),
        long,
        version,
        good[..20].to_vec(),
        Vec::new(),
    ] {
        let mut stream = raw(&world, &node).await;
        stream.write_all(&bad).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        drop(within(stream.read_to_end(&mut rest)).await);
        assert_eq!(rest, b"", "{bad:?}");
    }
    assert_eq!(*node.fake.spliced.lock().unwrap(), []);
    until(|| node.port.counts().splices == 0).await;
}

#[tokio::test]
async fn r10_a_header_in_pieces_and_what_follows_at_once_are_told_apart() {
    let world = World::new();
    let node = world.control().await;
    let (client, local) = addresses();
    let mut octets = proxy::encode(client, local);
    octets.extend(b"hello");
    let mut stream = raw(&world, &node).await;
    for octet in octets {
        stream.write_all(&[octet]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut answer = [0; 6];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"1HELLO");
    assert_eq!(*node.fake.spliced.lock().unwrap(), [client]);
}

#[tokio::test]
async fn a_local_header_means_the_edge_itself() {
    let world = World::new();
    let node = world.control().await;
    let mut stream = raw(&world, &node).await;
    let here = stream.get_ref().0.local_addr().unwrap();
    stream.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(within(stream.read_u8()).await.unwrap(), b'1');
    until(|| !node.fake.spliced.lock().unwrap().is_empty()).await;
    assert_eq!(*node.fake.spliced.lock().unwrap(), [here]);
}
