//! Handshakes that are begun and never ended, by the thousand, from many addresses, each begun again as soon as it is let
//! go: they hold a bounded memory, and whoever comes honestly is served at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use mezusphere_tests::system::Node;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{BASE, Scene};

/// More than there is room for: 64 MiB, of which each takes 20 KiB.
const ADDRESSES: u8 = 40;
const PER_ADDRESS: usize = 95;

/// How many were let go once the flood stands: most of those for whom there is no room.
const LET_GO: usize = 300;

/// Octets of a ClientHello that each sends: nearly as many as are kept, and never the last.
const HALF_HELLO: usize = 15_000;

/// What they may cost the server: the room before handshakes, and what their tasks and sockets weigh beyond what is counted.
const RISES_BY_MAX_KIB: u64 = 120 * 1024;

/// How soon whoever is let go comes again, and over how long they all come first: one after the other, because a thousand
/// in the same moment fill the kernel's queue, and then it is the kernel that has a client wait.
const AGAIN: Duration = Duration::from_secs(1);

/// What an honest client waits at most. The others have 5 s to say their hello: nobody is served only because they have
/// had their time.
const AT_ONCE: Duration = Duration::from_secs(4);

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

/// Begins a handshake again and again, for ever; counts how often the server had enough of it.
async fn keep_half_a_handshake(
    to: SocketAddr,
    from: IpAddr,
    first_after: Duration,
    let_go: watch::Sender<usize>,
) {
    sleep(first_after).await;
    loop {
        if let Ok(mut stream) = half_a_handshake(to, from).await {
            drop(stream.read(&mut [0]).await);
            let_go.send_modify(|count| *count += 1);
        }
        sleep(AGAIN).await;
    }
}

/// What the server holds now (`VmRSS`), or held at most (`VmHWM`).
fn memory_kib(node: &Node, which: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.server.pid()?))?;
    let line = status.lines().find(|line| line.starts_with(which)).context("a size")?;
    let number = line.split_whitespace().nth(1).context("a number")?;
    Ok(number.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_a_flood_of_half_handshakes_costs_bounded_memory_and_an_honest_client_is_served_at_once()
-> Result<()> {
    let scene = Scene::start().await?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, scene.node.port));
    let before = memory_kib(&scene.node, "VmRSS:")?;
    let (let_go, mut counted) = watch::channel(0);
    let mut flood = JoinSet::new();
    let apart = AGAIN / u32::try_from(usize::from(ADDRESSES) * PER_ADDRESS)?;
    let mut first_after = Duration::ZERO;
    for _ in 0..PER_ADDRESS {
        for n in 1..=ADDRESSES {
            let from = Ipv4Addr::new(127, 0, 1, n).into();
            flood.spawn(keep_half_a_handshake(to, from, first_after, let_go.clone()));
            first_after += apart;
        }
    }
    // There is room for no more: some have been let go.
    counted.wait_for(|count| *count >= LET_GO).await.context("the flood ended")?;
    // In the midst of it; a host that answers by itself, because an edge that has just begun waits for its warpgates.
    let host = format!("login.{BASE}");
    for _ in 0..10 {
        let (status, _) = timeout(AT_ONCE, scene.get(&host, "/")).await.context("it was kept out")??;
        ensure!(status == StatusCode::SEE_OTHER, "{status}");
    }
    let rose = memory_kib(&scene.node, "VmHWM:")?.saturating_sub(before);
    ensure!(rose < RISES_BY_MAX_KIB, "{rose} KiB more");
    flood.shutdown().await;
    Ok(())
}
