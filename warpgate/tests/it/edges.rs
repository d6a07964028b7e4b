//! Many edges: one tunnel to each, kept as the bundle says, each for itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::edge::{Edge, Greeting, Order, Tunnel, head, read_answer};
use crate::support::link::Link;
use crate::support::upstream::{self, OK};
use crate::support::{Platform, allowed, until};
use mezusphere_model::bundle::EdgeAddress;
use mezusphere_model::id::EdgeId;
use tokio::time::{Instant, timeout};
use tunnel_proto::control::{RefusalCode, Refused};

/// Three edges and a warpgate with a tunnel to each.
struct Fleet {
    platform: Arc<Platform>,
    edges: Vec<Edge>,
    agent: Agent,
    tunnels: Vec<Arc<Tunnel>>,
}

impl Fleet {
    async fn start() -> Self {
        let platform = Platform::new();
        let edges: Vec<_> = (0..3).map(|_| Edge::start(&platform)).collect();
        let (address, _) = upstream::fixed(OK).await;
        let agent = Agent::start(&platform, &[address.to_string()]);
        let mut tunnels = Vec::new();
        for edge in &edges {
            tunnels.push(edge.tunnel(1).await);
        }
        agent.event("ready").await;
        Self { platform, edges, agent, tunnels }
    }

    /// Publishes another list of edges by way of the tunnel `by`.
    async fn list(&self, by: usize, edges: Vec<EdgeAddress>) {
        *self.platform.edges.lock().unwrap() = edges;
        self.tunnels[by].order(Order::Bundle(self.platform.publish(|_| {}))).await;
    }

    async fn serves(&self, nth: usize) {
        let status = self.tunnels[nth].get(&head("GET", "/", 1)).await.status;
        assert_eq!(status.map(|status| status.as_u16()), Some(200), "edge {nth}");
    }

    /// Waits until the number of edges was told, and is this.
    async fn count(&self, connected: u64, total: u64) {
        let told = || {
            let last = self.agent.events().into_iter().rev().find_map(|event| {
                let (edges, of) = match event["event"].as_str()? {
                    "ready" => (&event["edges"], &event["edges_total"]),
                    "edges" => (&event["connected"], &event["total"]),
                    _ => return None,
                };
                Some((edges.as_u64()?, of.as_u64()?))
            });
            last == Some((connected, total))
        };
        until("the number of edges", told).await;
    }
}

/// Whether the connection ends within this time.
async fn ends(tunnel: &Tunnel, within: Duration) -> bool {
    timeout(within, tunnel.connection.closed()).await.is_ok()
}

#[tokio::test]
async fn a_warpgate_keeps_one_tunnel_to_each_edge_and_tells_how_many() {
    let fleet = Fleet::start().await;
    for nth in 0..3 {
        fleet.serves(nth).await;
    }
    fleet.count(3, 3).await;
    assert_eq!(fleet.agent.named("edge_connected").len(), 3);
    assert!(fleet.edges.iter().all(|edge| edge.hellos().len() == 1));
    assert!(fleet.agent.named("edges").len() <= 1, "told once at most");
}

#[tokio::test]
async fn ready_waits_for_no_other_edge_than_the_first() {
    let platform = Platform::new();
    let good = Edge::start(&platform);
    for n in 0..2 {
        // Nobody listens, and nobody says so.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let entry = EdgeAddress { id: EdgeId::from_bits(70 + n), port, ..good.entry() };
        platform.edges.lock().unwrap().push(entry);
        std::mem::forget(silent);
    }
    let (address, _) = upstream::fixed(OK).await;
    let agent = Agent::start(&platform, &[address.to_string()]);
    let tunnel = good.tunnel(1).await;
    let connected = Instant::now();
    let ready = agent.event("ready").await;
    assert!(connected.elapsed() < Duration::from_millis(1500), "{:?}", connected.elapsed());
    assert_eq!((ready["edges"].as_u64(), ready["edges_total"].as_u64()), (Some(1), Some(3)));
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
}

#[tokio::test]
async fn an_edge_that_is_added_is_dialled_at_once_and_one_that_is_removed_finishes_and_goes() {
    let fleet = Fleet::start().await;
    let fourth = Edge::start(&fleet.platform);
    let with_fourth = fleet.platform.edges.lock().unwrap().clone();
    let start = Instant::now();
    fleet.list(0, with_fourth.clone()).await;
    let tunnel = fourth.tunnel(1).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    fleet.count(4, 4).await;

    fleet.list(0, with_fourth.into_iter().filter(|edge| edge.id != fleet.edges[1].id).collect()).await;
    until("it is told", || *fleet.tunnels[1].draining.lock().unwrap()).await;
    assert!(ends(&fleet.tunnels[1], Duration::from_secs(5)).await);
    let left = fleet.agent.event("edge_left").await;
    assert_eq!(left["edge"], fleet.edges[1].id.to_string());
    fleet.count(3, 3).await;
    fleet.serves(0).await;
    assert_eq!(fleet.edges[1].hellos().len(), 1, "it is not dialled again");
}

#[tokio::test]
async fn an_edge_that_moves_is_reached_at_its_new_address_before_the_old_tunnel_goes() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let agent = Agent::start(&platform, &[upstream::waiting(released).await.to_string()]);
    let first = edge.tunnel(1).await;
    agent.event("ready").await;
    let (_send, receive) = first.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));

    // A new name alone changes nothing.
    platform.edges.lock().unwrap()[0].name = "elsewhere".to_owned();
    first.order(Order::Bundle(platform.publish(|_| {}))).await;
    // To a place where nobody answers: what there is stays.
    let nowhere = Link::to(edge.address).await;
    nowhere.cut();
    platform.edges.lock().unwrap()[0].port = nowhere.address.port();
    first.order(Order::Bundle(platform.publish(|_| {}))).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(edge.hellos().len(), 1);
    assert_eq!(first.get(&head("GET", "/", 1)).await.status.unwrap(), 200);

    let moved = Edge::start_on(&platform, edge.id, edge.id, 0);
    platform.edges.lock().unwrap()[0].port = moved.address.port();
    first.order(Order::Bundle(platform.publish(|_| {}))).await;
    let second = moved.tunnel(1).await;
    assert_eq!(second.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    until("the old tunnel drains", || *first.draining.lock().unwrap()).await;
    release.send(()).unwrap();
    assert!(running.await.unwrap().complete, "what ran has finished");
    assert!(ends(&first, Duration::from_secs(5)).await);
    let connected = agent.named("edge_connected");
    assert_eq!(connected.len(), 2);
    assert_eq!(
        (connected[1]["name"].as_str(), connected[1]["replaced"].as_bool()),
        (Some("elsewhere"), Some(true))
    );
    assert!(agent.named("edge_left").is_empty(), "it never was away");
}

#[tokio::test]
async fn r20_an_edge_on_the_deny_list_is_closed_at_once_and_never_dialled_even_if_it_is_listed() {
    let fleet = Fleet::start().await;
    let listed = fleet.platform.edges.lock().unwrap().clone();
    let evicted = fleet.edges[2].identity.get().name().to_string();
    fleet.platform.denied.lock().unwrap().push(evicted);
    fleet.list(0, listed).await;
    assert!(ends(&fleet.tunnels[2], Duration::from_secs(5)).await);
    let left = fleet.agent.event("edge_left").await;
    assert!(left["message"].as_str().unwrap().contains("evicted"), "{left}");
    fleet.count(2, 2).await;
    fleet.tunnels[0].order(Order::Bundle(fleet.platform.publish(|_| {}))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fleet.edges[2].hellos().len(), 1, "it is not dialled");
    fleet.serves(0).await;
    fleet.serves(1).await;
}

#[tokio::test]
async fn an_edge_that_falls_silent_is_noticed_and_found_again_while_the_others_serve() {
    let platform = Platform::new();
    let (one, other) = (Edge::start(&platform), Edge::start(&platform));
    let link = Link::to(one.address).await;
    platform.edges.lock().unwrap()[0].port = link.address.port();
    let (address, _) = upstream::fixed(OK).await;
    let agent = Agent::start(&platform, &[address.to_string()]);
    let (_, good) = (one.tunnel(1).await, other.tunnel(1).await);
    agent.event("ready").await;
    link.cut();
    let start = Instant::now();
    let failed = agent.event("edge_failed").await;
    assert!(start.elapsed() <= allowed(Duration::from_secs(6)), "noticed after {:?}", start.elapsed());
    assert_eq!(
        (failed["code"].as_str(), failed["edge"].as_str()),
        (Some("tunnel.silent"), Some(&*one.id.to_string()))
    );
    assert_eq!(good.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    // Long enough for several dials to fail.
    tokio::time::sleep(Duration::from_secs(5)).await;
    link.heal();
    let healed = Instant::now();
    one.tunnel(2).await;
    assert!(healed.elapsed() <= allowed(Duration::from_secs(6)), "found after {:?}", healed.elapsed());
    assert_eq!(other.hellos().len(), 1, "the other edge was left in peace");
}

#[tokio::test]
async fn an_edge_that_stops_is_asked_again_when_it_advises_and_not_before() {
    let fleet = Fleet::start().await;
    let advised = Duration::from_millis(1500);
    let stopping = Refused {
        code: RefusalCode::Draining,
        message: "this edge is about to stop".to_owned(),
        retry_after_ms: Some(1500),
        do_not_retry: false,
    };
    *fleet.edges[0].greeting.lock().unwrap() = Greeting::Refuse(stopping);
    fleet.tunnels[0].order(Order::Drain(Duration::from_secs(20))).await;
    until("it was asked", || fleet.edges[0].hellos().len() == 2).await;
    let refused = Instant::now();
    *fleet.edges[0].greeting.lock().unwrap() = Greeting::Welcome;
    fleet.serves(1).await;
    fleet.serves(2).await;
    fleet.edges[0].tunnel(2).await;
    assert!(refused.elapsed() >= advised, "{:?}", refused.elapsed());
    let failed = fleet.agent.event("edge_failed").await;
    assert!(failed["retry_ms"].as_u64().unwrap() >= 1500, "{failed}");
    assert_eq!(fleet.platform.polled.load(Ordering::SeqCst), 0, "control need not be asked");
}

#[tokio::test]
async fn a_warpgate_whose_identity_runs_twice_gives_way_and_says_what_to_do() {
    let fleet = Fleet::start().await;
    // What an edge does when a copy of the warpgate connects.
    for tunnel in &fleet.tunnels {
        tunnel.order(Order::GiveWay).await;
    }
    let failed = fleet.agent.event("edge_failed").await;
    assert_eq!(failed["code"], "tunnel.replaced");
    assert!(failed["next"].as_str().unwrap().contains("state directory"), "{failed}");
    assert!(failed["retry_ms"].as_u64().unwrap() >= 30_000, "{failed}");
    fleet.count(0, 3).await;
    // A new bundle is no reason to fight either.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(fleet.edges.iter().all(|edge| edge.hellos().len() == 1), "nobody is pushed off in turn");
    assert_eq!(fleet.agent.named("edge_failed").len(), 1, "told once, not for each edge");
    assert!(!fleet.agent.task.is_finished());
}
