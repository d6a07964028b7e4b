//! Handshakes that are begun and never ended, by the thousand, from many addresses: they hold a bounded memory for a
//! bounded time, and whoever comes honestly is served.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use http::StatusCode;
use mezusphere_tests::client::h1;
use mezusphere_tests::system::Node;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::Scene;

/// More than the room there is for handshakes (2048), each address with less than it may have.
const ADDRESSES: u8 = 11;
const PER_ADDRESS: usize = 200;

/// Octets of a ClientHello that each sends: nearly as many as are kept, and never the last.
const HALF_HELLO: usize = 15_000;

/// What they may cost the server: 40 KiB for each that has room, and the sockets of all.
const RISES_BY_MAX_KIB: u64 = 120 * 1024;

async fn half_a_handshake(to: SocketAddr, from: IpAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(to).await?;
    let len = u16::try_from(HALF_HELLO)?.to_be_bytes();
    let mut octets = vec![22, 3, 1, len[0], len[1], 1, 0, 0x3f, 0xff];
    octets.resize(HALF_HELLO, 0);
    stream.write_all(&octets).await?;
    Ok(stream)
}

/// What the server holds now (`VmRSS`), or held at most (`VmHWM`).
fn memory_kib(node: &Node, which: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.server.pid()?))?;
    let line = status.lines().find(|line| line.starts_with(which)).context("a size")?;
    let number = line.split_whitespace().nth(1).context("a number")?;
    Ok(number.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_a_flood_of_half_handshakes_costs_bounded_memory_and_an_honest_client_is_served() -> Result<()> {
    let scene = Scene::start().await?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, scene.node.port));
    let before = memory_kib(&scene.node, "VmRSS:")?;
    let addresses = (0..ADDRESSES).map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 1, n + 1)));
    let all = addresses.flat_map(|from| std::iter::repeat_n(from, PER_ADDRESS));
    let flood = join_all(all.map(|from| half_a_handshake(to, from))).await;
    let flood = flood.into_iter().collect::<Result<Vec<_>>>()?;
    assert_eq!(flood.len(), usize::from(ADDRESSES) * PER_ADDRESS);

    // In the midst of it, or as soon as the first of them have had their 5 s. Nobody is behind the edge.
    let refused = |status| status == StatusCode::SERVICE_UNAVAILABLE;
    h1::until(&scene.target(&scene.host, "/"), &scene.tls, refused).await?;
    let rose = memory_kib(&scene.node, "VmHWM:")?.saturating_sub(before);
    assert!(rose < RISES_BY_MAX_KIB, "{rose} KiB more");
    drop(flood);
    Ok(())
}
