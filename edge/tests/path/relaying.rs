//! Messages of warpgates that have no certificate yet: relayed to control unread, within limits.

use std::sync::atomic::Ordering;

use mezusphere_edge::tunnel::connect::{RelayError, serve_stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::world::World;

fn from() -> std::net::SocketAddr {
    "192.0.2.7:5555".parse().unwrap()
}

/// Sends octets as a client would; what came back, and how the relay ended.
async fn relay(world: &World, request: &[u8]) -> (Vec<u8>, Result<(), RelayError>) {
    let (mut client, edge): (DuplexStream, DuplexStream) = tokio::io::duplex(4 * 1024 * 1024);
    client.write_all(request).await.unwrap();
    let (recv, send) = tokio::io::split(edge);
    let result = serve_stream(&*world.link, from(), recv, send).await;
    let mut back = Vec::new();
    client.read_to_end(&mut back).await.unwrap();
    (back, result)
}

fn message(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

#[tokio::test]
async fn a_message_goes_to_control_and_its_answer_comes_back() {
    let world = World::new();
    let sent = message(b"{\"enroll\":1}");
    let (back, ended) = relay(&world, &sent).await;
    ended.unwrap();
    assert_eq!(back, sent, "control echoes here");
}

#[tokio::test(start_paused = true)]
async fn r23_a_stranger_cannot_hold_a_relay_or_make_it_large() {
    let world = World::new();
    let long = message(&vec![b'x'; 64 * 1024 + 1]);
    assert!(matches!(relay(&world, &long).await.1, Err(RelayError::TooLong(_))));
    assert!(matches!(relay(&world, &u32::MAX.to_be_bytes()).await.1, Err(RelayError::TooLong(_))));
    // Half a message: the clock runs out.
    let (mut client, edge) = tokio::io::duplex(1024);
    client.write_all(&message(b"{}")[..5]).await.unwrap();
    let (recv, send) = tokio::io::split(edge);
    assert!(matches!(serve_stream(&*world.link, from(), recv, send).await, Err(RelayError::Slow)));
    world.link.away.store(true, Ordering::SeqCst);
    let (back, ended) = relay(&world, &message(b"{}")).await;
    assert!(back.is_empty() && matches!(ended, Err(RelayError::Control(_))));
}
