//! Edges over TCP: where UDP is dropped, refused, or goes dark; the way back to QUIC; and a tunnel's whole life there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::edge::{Edge, Order, head};
use crate::support::link::{Link, NarrowTcp};
use crate::support::proxy::Proxy;
use crate::support::splice::Splice;
use crate::support::tcp::{TcpEdge, TcpTunnel, read_answer};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, allowed, until};
use mezusphere_model::id::ControlId;
use mezusphere_pki::Role;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, timeout};
use tunnel_proto::codes::ResetCode;
use tunnel_proto::exchange::FailureCode;
use warpgate::exit::Exit;
use warpgate::tunnel::ProxySettings;

/// An edge behind a link for UDP, with TCP at the same address.
struct Behind {
    platform: Arc<Platform>,
    edge: Edge,
    link: Link,
    tcp: TcpEdge,
}

impl Behind {
    async fn start() -> Self {
        let platform = Platform::new();
        let edge = Edge::start(&platform);
        // The same port must be free for both.
        let link = loop {
            let link = Link::to(edge.address).await;
            if std::net::TcpListener::bind(link.address).is_ok() {
                break link;
            }
        };
        let tcp = TcpEdge::beside(&platform, &edge, link.address);
        platform.edges.lock().unwrap()[0].port = link.address.port();
        Self { platform, edge, link, tcp }
    }
}

/// An edge that is reached over TCP alone, and a warpgate with a tunnel to it.
struct OverTcp {
    platform: Arc<Platform>,
    _edge: Edge,
    tcp: TcpEdge,
    agent: Agent,
    tunnel: Arc<TcpTunnel>,
}

impl OverTcp {
    async fn to(upstream: SocketAddr) -> Self {
        let (platform, edge, tcp) = udp_refused();
        let agent = Agent::start(&platform, &[upstream.to_string()]);
        let tunnel = tcp.tunnel(1).await;
        agent.event("ready").await;
        Self { platform, _edge: edge, tcp, agent, tunnel }
    }
}

/// An edge at whose address nobody listens on UDP: the system refuses it aloud.
fn udp_refused() -> (Arc<Platform>, Edge, TcpEdge) {
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let tcp = TcpEdge::beside(&platform, &edge, address);
    platform.edges.lock().unwrap()[0].port = address.port();
    (platform, edge, tcp)
}

#[tokio::test]
async fn where_udp_is_dropped_tcp_carries_the_tunnel_well_within_ten_seconds() {
    let behind = Behind::start().await;
    behind.link.cut();
    let (address, _) = upstream::fixed(OK).await;
    let start = Instant::now();
    let agent = Agent::start(&behind.platform, &[address.to_string()]);
    let tunnel = behind.tcp.tunnel(1).await;
    let connected = agent.event("edge_connected").await;
    assert_eq!(connected["transport"], "tcp");
    agent.event("ready").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(
        start.elapsed() >= Duration::from_millis(2_900),
        "QUIC has its head start: {:?}",
        start.elapsed()
    );
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert!(behind.edge.hellos().is_empty());
}

#[tokio::test]
async fn where_udp_is_refused_aloud_nobody_waits_for_it() {
    let (address, _) = upstream::fixed(OK).await;
    let (platform, edge, tcp) = udp_refused();
    let agent = Agent::start(&platform, &[address.to_string()]);
    agent.event("network").await;
    let start = Instant::now();
    let tunnel = tcp.tunnel(1).await;
    agent.event("edge_connected").await;
    assert!(start.elapsed() < Duration::from_millis(2_500), "{:?}", start.elapsed());
    let scene = OverTcp { platform, _edge: edge, tcp, agent, tunnel };
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert_eq!(scene.tcp.accepted(), 1);
}

#[tokio::test]
async fn where_quic_works_tcp_is_not_even_tried() {
    let behind = Behind::start().await;
    // Long enough that four round trips take most of the head start.
    behind.link.change(|weather| weather.delay = Duration::from_millis(300));
    let (address, _) = upstream::fixed(OK).await;
    let agent = Agent::start(&behind.platform, &[address.to_string()]);
    agent.event("ready").await;
    assert_eq!(agent.event("edge_connected").await["transport"], "quic");
    assert_eq!((behind.tcp.accepted(), behind.edge.hellos().len()), (0, 1));
}

#[tokio::test]
async fn a_tunnel_that_goes_dark_falls_back_to_tcp_and_returns_to_quic_when_udp_is_back() {
    let behind = Behind::start().await;
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let upstream = upstream::waiting(released).await;
    let agent = Agent::start(&behind.platform, &[upstream.to_string()]);
    behind.edge.tunnel(1).await;
    agent.event("ready").await;
    behind.link.cut();
    let dark = Instant::now();
    let over_tcp = behind.tcp.tunnel(1).await;
    until("it is proven", || agent.named("edge_connected").len() == 2).await;
    assert!(dark.elapsed() < Duration::from_secs(8), "{:?}", dark.elapsed());
    assert_eq!(agent.named("edge_connected")[1]["transport"], "tcp");
    let (_send, receive) = over_tcp.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));

    behind.link.heal();
    let healed = Instant::now();
    let back = timeout(Duration::from_secs(20), behind.edge.tunnel(2));
    let back = loop {
        // The helper waits ten seconds; the return may take more.
        if behind.edge.tunnels().len() == 2 {
            break back.await.unwrap();
        }
        assert!(healed.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(50)).await;
    };
    until("it is proven", || agent.named("edge_connected").len() == 3).await;
    let returned = agent.named("edge_connected").pop().unwrap();
    assert_eq!((returned["transport"].as_str(), returned["replaced"].as_bool()), (Some("quic"), Some(true)));
    assert_eq!(back.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    until("TCP takes nothing new", || *over_tcp.draining.lock().unwrap()).await;
    release.send(()).unwrap();
    assert!(running.await.unwrap().complete, "what ran over TCP has finished");
    assert!(over_tcp.is_gone(Duration::from_secs(5)).await);
    assert_eq!(agent.named("edge_failed").len(), 1, "{:?}", agent.named("edge_failed"));
}

#[tokio::test]
async fn an_edge_that_closes_the_tunnel_over_tcp_for_the_one_over_quic_is_not_taken_for_a_rival() {
    let behind = Behind::start().await;
    behind.link.cut();
    let (address, _) = upstream::fixed(OK).await;
    let agent = Agent::start(&behind.platform, &[address.to_string()]);
    let over_tcp = behind.tcp.tunnel(1).await;
    agent.event("ready").await;
    // The proof takes a while, so that the word about the old tunnel comes before it.
    behind.link.change(|weather| weather.delay = Duration::from_millis(250));
    behind.link.heal();
    let healed = Instant::now();
    while behind.edge.tunnels().is_empty() {
        assert!(healed.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(10)).await;
    }
    over_tcp.order(Order::GiveWay).await;
    until("QUIC is proven", || agent.named("edge_connected").len() == 2).await;
    assert_eq!(agent.named("edge_connected")[1]["transport"], "quic");
    assert!(agent.named("edge_failed").is_empty(), "{:?}", agent.named("edge_failed"));
    assert_eq!(behind.edge.tunnel(1).await.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
}

#[tokio::test]
async fn a_few_downloads_on_a_narrow_link_over_tcp_hold_up_neither_small_answers_nor_the_tunnel() {
    // A sample of timing, which needs a quiet machine; on a real narrow link the tests of networks judge it.
    if std::env::var_os("MEZU_FULL").is_none() {
        return;
    }
    let (platform, edge, tcp) = udp_refused();
    let narrow = NarrowTcp::to(tcp.address, 125_000);
    platform.edges.lock().unwrap()[0].port = narrow.address.port();
    let big = format!("HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n{}", "x".repeat(20_000_000));
    let (small, _) = upstream::fixed(OK).await;
    let (big, _) = upstream::fixed(big).await;
    let agent = Agent::start(&platform, &[format!("default={small}"), format!("elsewhere={big}")]);
    let tunnel = tcp.tunnel(1).await;
    agent.event("ready").await;
    let downloads: Vec<_> = (0..4)
        .map(|_| {
            let tunnel = Arc::clone(&tunnel);
            tokio::spawn(async move { tunnel.get(&head("GET", "/elsewhere", 4)).await })
        })
        .collect();
    // What was written before the link was known to be narrow has to leave first.
    sleep(Duration::from_secs(18)).await;
    let mut times = Vec::new();
    for _ in 0..6 {
        let start = Instant::now();
        let answer = timeout(Duration::from_secs(10), tunnel.get(&head("GET", "/", 1))).await.unwrap();
        assert!(answer.complete, "{answer:?} {:?}", agent.named("edge_failed"));
        times.push(start.elapsed());
    }
    times.sort();
    // This edge waits for the head of a stream before it writes to it: twice through what waits.
    assert!(times[times.len() / 2] < Duration::from_secs(3), "{times:?}");
    assert!(agent.named("edge_failed").is_empty(), "{:?}", agent.named("edge_failed"));
    assert_eq!(tcp.tunnels().len(), 1);
    downloads.iter().for_each(tokio::task::JoinHandle::abort);
    drop(edge);
}

#[tokio::test]
async fn requests_and_bodies_pass_over_tcp_in_both_directions() {
    let body = "x".repeat(3 * 1024 * 1024);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (address, seen) = upstream::start(move |mut conversation| {
        let answer = answer.clone();
        async move {
            if conversation.head.starts_with("POST") {
                upstream::read_exactly(&mut conversation, 2_000_000).await;
                conversation.stream.write_all(OK.as_bytes()).await.ok()?;
            } else {
                conversation.stream.write_all(answer.as_bytes()).await.ok()?;
            }
            Some(conversation.stream)
        }
    })
    .await;
    let scene = OverTcp::to(address).await;
    let downloads = futures_util::future::join_all(
        (0..8).map(|_| async { scene.tunnel.get(&head("GET", "/big", 1)).await }),
    );
    for answer in downloads.await {
        assert!(answer.complete && answer.body.len() == body.len(), "{:?}", answer.failure);
    }
    let piece = vec![b'y'; 200_000];
    let pieces: Vec<&[u8]> = (0..10).map(|_| piece.as_slice()).collect();
    let mut post = head("POST", "/up", 1);
    post.headers.insert("content-length", "2000000".parse().unwrap());
    let answer = scene.tunnel.send(&post, &pieces).await;
    assert!(answer.complete && answer.status.unwrap() == 200, "{answer:?}");
    assert!(seen.requests().iter().any(|request| request.starts_with("POST /up")));
}

#[tokio::test]
async fn r06_only_the_streams_of_the_protocol_are_taken_over_tcp() {
    let (address, seen) = upstream::fixed(OK).await;
    let scene = OverTcp::to(address).await;
    let before = seen.requests().len();
    for path in ["/control", "/", "/exchange/x", "/exchanges"] {
        assert_eq!(scene.tunnel.open_at(path).await, Err(Some(ResetCode::Protocol)), "{path}");
    }
    // The tunnel does not mind.
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert_eq!(seen.requests().len(), before + 1);
}

#[tokio::test]
async fn a_client_that_goes_away_over_tcp_cancels_the_upstream_request() {
    let (_release, released) = tokio::sync::oneshot::channel::<()>();
    let scene = OverTcp::to(upstream::waiting(released).await).await;
    let (mut send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    sleep(Duration::from_millis(100)).await;
    let before = Instant::now();
    send.send_reset(ResetCode::ClientGone.http2().into());
    drop(send);
    running.abort();
    // Nothing runs any more: a signal ends it at once.
    let mut scene = scene;
    sleep(Duration::from_millis(200)).await;
    scene.agent.signal();
    assert_eq!(scene.agent.event("draining").await["exchanges"], 0);
    assert_eq!(scene.agent.exit().await, Exit::Done);
    assert!(before.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn an_upload_nobody_wants_does_not_hold_up_the_answer_over_tcp() {
    // The upstream answers after the head and closes.
    let (address, _) = upstream::start(|mut conversation| async move {
        let answer = "HTTP/1.1 413 Too much\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!";
        conversation.stream.write_all(answer.as_bytes()).await.ok();
        // Closing with octets unread would reset the connection, and the answer with it.
        sleep(Duration::from_secs(10)).await;
        None
    })
    .await;
    let scene = OverTcp::to(address).await;
    let piece = vec![b'y'; 1_000_000];
    let pieces: Vec<&[u8]> = (0..8).map(|_| piece.as_slice()).collect();
    let mut post = head("POST", "/up", 1);
    post.headers.insert("content-length", "8000000".parse().unwrap());
    let answer = timeout(Duration::from_secs(5), scene.tunnel.send(&post, &pieces)).await.unwrap();
    assert_eq!(answer.status.map(|status| status.as_u16()), Some(413), "{answer:?}");
    assert!(answer.complete && answer.body == b"no!");
}

#[tokio::test]
async fn a_signal_drains_a_tunnel_over_tcp_and_says_why_it_closes() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let mut scene = OverTcp::to(upstream::waiting(released).await).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    sleep(Duration::from_millis(100)).await;
    scene.agent.signal();
    until("the edge hears of it", || *scene.tunnel.draining.lock().unwrap()).await;
    sleep(Duration::from_millis(1200)).await;
    let late = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
    assert_eq!((late.code, late.started), (FailureCode::Draining, false));
    release.send(()).unwrap();
    assert!(running.await.unwrap().complete);
    assert_eq!(scene.agent.exit().await, Exit::Done);
    assert_eq!(scene.agent.event("stopped").await["cut"], 0);
    until("it says why", || scene.tunnel.closed.lock().unwrap().is_some()).await;
    let why = scene.tunnel.closed.lock().unwrap().clone().unwrap();
    assert!(why.contains("done"), "{why}");
}

#[tokio::test]
async fn a_tunnel_over_tcp_that_another_took_the_place_of_gives_way() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = OverTcp::to(address).await;
    scene.tunnel.order(Order::GiveWay).await;
    let failed = scene.agent.event("edge_failed").await;
    assert_eq!(failed["code"], "tunnel.replaced");
    assert!(failed["retry_ms"].as_u64().unwrap() >= 30_000, "{failed}");
    let _keep = &scene.platform;
}

#[tokio::test]
async fn a_tunnel_over_tcp_whose_edge_falls_silent_is_noticed_within_six_seconds() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = OverTcp::to(address).await;
    scene.tunnel.order(Order::Mute).await;
    let start = Instant::now();
    let failed = scene.agent.event("edge_failed").await;
    assert_eq!(failed["code"], "tunnel.silent");
    assert!(start.elapsed() <= allowed(Duration::from_secs(6)), "{:?}", start.elapsed());
    scene.tcp.tunnel(2).await;
}

/// A platform whose every UDP is refused, and whose TCP is reached through a proxy alone.
async fn through_proxy(
    credentials: Option<&str>,
    given: &str,
    answer: Option<&'static str>,
) -> (Proxy, TcpEdge, Splice, Edge, Agent) {
    let (platform, edge, tcp) = udp_refused();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connect = listener.local_addr().unwrap();
    drop(listener);
    let control = platform.leaf(Role::Control(ControlId::from_bits(3)));
    let splice = Splice::start(&platform, connect, control);
    let proxy = Proxy::start(credentials, answer).await;
    let url = format!("http://{given}{}", proxy.address);
    let settings = ProxySettings::find(Some(&url), |_| None).unwrap();
    let (address, _) = upstream::fixed(OK).await;
    let agent = Agent::start_with(&platform, &[address.to_string()], move |config| {
        config.key.port = connect.port();
        config.proxy = settings;
    });
    (proxy, tcp, splice, edge, agent)
}

#[tokio::test]
async fn enrollment_and_tunnel_go_through_a_proxy_by_name_with_its_password() {
    let (proxy, tcp, splice, _edge, agent) = through_proxy(Some("ann:s@cret"), "ann:s%40cret@", None).await;
    let tunnel = tcp.tunnel(1).await;
    agent.event("ready").await;
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    let asked = proxy.asked();
    assert!(asked[0].starts_with("connect.mezu.localhost:"), "{asked:?}");
    assert!(asked[1].starts_with("edge.localhost:"), "{asked:?}");
    assert_eq!((splice.questions(), asked.len()), (1, 2));
    let printed = format!("{:?}", agent.events());
    assert!(!printed.contains("s@cret") && !printed.contains("YW5u"), "{printed}");
}

#[tokio::test]
async fn a_proxy_that_says_no_is_told_apart_from_an_edge_that_is_away() {
    let rows = [
        (Some("ann:right"), "ann:wrong@", None, "proxy.auth", "did not accept"),
        (Some("ann:right"), "", None, "proxy.auth", "wants a user"),
        (None, "", Some("HTTP/1.1 403 Forbidden\r\n\r\n"), "proxy.refused", "(403)"),
        (None, "", Some("HTTP/1.0 503 Busy\r\n\r\n"), "proxy.no_way", "(503)"),
        (None, "", Some("SSH-2.0-OpenSSH_9\r\n\r\n"), "proxy.bad_answer", "not HTTP"),
    ];
    for (credentials, given, answer, code, words) in rows {
        let (_proxy, _tcp, _splice, _edge, agent) = through_proxy(credentials, given, answer).await;
        let failed = agent.event("control_failed").await;
        assert_eq!(failed["code"], code, "{failed}");
        assert!(failed["message"].as_str().unwrap().contains(words), "{failed}");
        assert!(!failed.to_string().contains("wrong") || words == "did not accept");
    }
}
