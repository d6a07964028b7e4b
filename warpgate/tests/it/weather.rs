//! Tunnels over bad networks: a NAT that forgets, loss on a long way, a hole for large packets, a narrow link.

use std::sync::Arc;
use std::time::Duration;

use crate::support::Platform;
use crate::support::agent::Agent;
use crate::support::edge::{Edge, Order, Tunnel, head};
use crate::support::link::{Link, Weather};
use crate::support::upstream::{self, OK};
use tokio::time::{Instant, sleep, timeout};

/// A warpgate with a tunnel over QUIC to an edge behind a link.
struct Behind {
    _platform: Arc<Platform>,
    edge: Edge,
    link: Link,
    agent: Agent,
    tunnel: Arc<Tunnel>,
}

impl Behind {
    async fn with(answer: impl Into<Vec<u8>>, weather: impl FnOnce(&mut Weather)) -> Self {
        let platform = Platform::new();
        let edge = Edge::start(&platform);
        let link = Link::to(edge.address).await;
        link.change(weather);
        platform.edges.lock().unwrap()[0].port = link.address.port();
        let (address, _) = upstream::fixed(answer).await;
        let agent = Agent::start(&platform, &[address.to_string()]);
        let tunnel = timeout(Duration::from_secs(30), async {
            while edge.tunnels().is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
            edge.tunnel(1).await
        });
        let tunnel = tunnel.await.unwrap();
        agent.event("edge_connected").await;
        Self { _platform: platform, edge, link, agent, tunnel }
    }

    /// The tunnel is still the first one, and nothing was lost on the way here.
    fn has_held(&self) {
        let failed = self.agent.named("edge_failed");
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(self.edge.hellos().len(), 1);
        assert!(self.tunnel.connection.close_reason().is_none());
    }
}

fn answer_of(octets: usize) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {octets}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + octets, b'x');
    answer
}

#[tokio::test]
async fn a_nat_that_forgets_costs_neither_the_tunnel_nor_a_request() {
    let behind = Behind::with(OK, |_| {}).await;
    let before = behind.tunnel.connection.remote_address();
    behind.link.forget();
    let start = Instant::now();
    // It is sent into the dark, and answered on the new way.
    let answer = timeout(Duration::from_secs(6), behind.tunnel.get(&head("GET", "/", 1))).await.unwrap();
    assert_eq!(answer.status.unwrap(), 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_ne!(behind.tunnel.connection.remote_address(), before, "the same connection from another port");
    behind.has_held();
    // And again.
    sleep(Duration::from_secs(11)).await;
    behind.link.forget();
    let answer = timeout(Duration::from_secs(6), behind.tunnel.get(&head("GET", "/", 1))).await.unwrap();
    assert_eq!(answer.status.unwrap(), 200);
    behind.has_held();
}

#[tokio::test]
async fn a_long_way_that_loses_a_fifth_is_connected_over_quic_and_holds() {
    let behind = Behind::with(OK, |weather| {
        weather.delay = Duration::from_millis(375);
        weather.lost_per_mille = 50;
    })
    .await;
    assert_eq!(behind.agent.event("edge_connected").await["transport"], "quic");
    behind.link.change(|weather| weather.lost_per_mille = 200);
    let until = Instant::now() + Duration::from_secs(25);
    let mut served = 0;
    while Instant::now() < until {
        let answer = timeout(Duration::from_secs(20), behind.tunnel.get(&head("GET", "/", 1))).await.unwrap();
        assert_eq!(answer.status.map(|status| status.as_u16()), Some(200), "{answer:?}");
        served += 1;
    }
    assert!(served >= 8, "{served}");
    behind.has_held();
}

#[tokio::test]
async fn black_outs_of_two_seconds_in_five_do_not_end_a_tunnel() {
    let behind = Behind::with(OK, |_| {}).await;
    for _ in 0..3 {
        behind.link.cut();
        sleep(Duration::from_secs(2)).await;
        behind.link.heal();
        let answer = timeout(Duration::from_secs(3), behind.tunnel.get(&head("GET", "/", 1))).await.unwrap();
        assert_eq!(answer.status.unwrap(), 200);
        sleep(Duration::from_secs(1)).await;
    }
    behind.has_held();
}

#[tokio::test]
async fn a_hole_for_packets_over_1280_octets_is_found_at_the_start_and_in_mid_flight() {
    // 1280 octets of IPv4 leave 1252 to UDP.
    let big = 1024 * 1024;
    let behind = Behind::with(answer_of(big), |weather| weather.len_max = 1252).await;
    let answer = timeout(Duration::from_secs(10), behind.tunnel.get(&head("GET", "/", 1))).await.unwrap();
    assert!(answer.complete && answer.body.len() == big);
    behind.has_held();

    let behind = Behind::with(answer_of(big), |_| {}).await;
    // Long enough for larger packets to be found possible.
    assert!(behind.tunnel.get(&head("GET", "/", 1)).await.complete);
    sleep(Duration::from_millis(500)).await;
    behind.link.change(|weather| weather.len_max = 1252);
    let start = Instant::now();
    let answer = timeout(Duration::from_secs(30), behind.tunnel.get(&head("GET", "/", 1))).await.unwrap();
    assert!(answer.complete && answer.body.len() == big, "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    behind.has_held();
}

#[tokio::test]
async fn on_a_narrow_link_small_answers_do_not_wait_for_a_download() {
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let link = Link::to(edge.address).await;
    link.change(|weather| weather.delay = Duration::from_millis(10));
    platform.edges.lock().unwrap()[0].port = link.address.port();
    let (small, _) = upstream::fixed(answer_of(8_000)).await;
    let (big, _) = upstream::fixed(answer_of(20_000_000)).await;
    let agent = Agent::start(&platform, &[format!("default={small}"), format!("elsewhere={big}")]);
    let tunnel = edge.tunnel(1).await;
    agent.event("ready").await;
    link.change(|weather| weather.rate = 125_000);
    let downloads: Vec<_> = (0..4)
        .map(|_| {
            let tunnel = Arc::clone(&tunnel);
            tokio::spawn(async move { tunnel.get(&head("GET", "/elsewhere", 4)).await })
        })
        .collect();
    // Until the link is full.
    sleep(Duration::from_secs(6)).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let answer = timeout(Duration::from_secs(10), tunnel.get(&head("GET", "/", 1))).await.unwrap();
        assert!(answer.complete && answer.body.len() == 8_000);
        times.push(start.elapsed());
    }
    times.sort();
    // Alone it takes 64 ms and a round trip of 20; the link's own queue adds up to 200.
    assert!(times[times.len() / 2] < Duration::from_millis(700), "{times:?}");
    assert!(times[times.len() - 1] < Duration::from_millis(1_500), "{times:?}");
    assert!(downloads.iter().all(|download| !download.is_finished()), "they still go on");
    assert!(agent.named("edge_failed").is_empty());
    downloads.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_tunnel_through_which_no_probe_comes_back_any_more_is_replaced_and_what_runs_goes_on() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let agent = Agent::start(&platform, &[address.to_string()]);
    let tunnel = edge.tunnel(1).await;
    agent.event("ready").await;
    // The edge keeps the control stream going and forgets about probes.
    tunnel.order(Order::NoProbes).await;
    let start = Instant::now();
    while edge.tunnels().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(35));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(start.elapsed() > Duration::from_secs(20), "once is not enough: {:?}", start.elapsed());
    assert_eq!(agent.event("edge_failed").await["code"], "tunnel.unproven");
    assert_eq!(edge.tunnel(2).await.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
}
