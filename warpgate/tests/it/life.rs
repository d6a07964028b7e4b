//! The life of a warpgate once it runs: edges come, go, stop and lie; certificates are renewed; signals drain.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::agent::{Agent, Scene};
use crate::support::edge::{Edge, Greeting, Order, head, read_answer};
use crate::support::upstream::{self, OK};
use crate::support::{Platform, allowed, refusal, until};
use mezusphere_model::id::EdgeId;
use mezusphere_pki::Role;
use tunnel_proto::codes::CloseCode;
use tunnel_proto::connect::refusal as codes;
use tunnel_proto::control::{RefusalCode, Refused};
use tunnel_proto::exchange::FailureCode;
use warpgate::exit::Exit;

const NO_UPSTREAM: [String; 0] = [];

#[tokio::test]
async fn connected_means_welcomed_by_the_very_edge_that_was_dialled() {
    // The certificate is another edge's.
    let platform = Platform::new();
    let edge = Edge::start_as(&platform, EdgeId::from_bits(5), EdgeId::from_bits(6));
    platform.edges.lock().unwrap().push(edge.entry());
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.exit_on_failure = true);
    assert_eq!(agent.exit().await, Exit::NoTransport);
    assert_eq!(agent.event("edge_failed").await["code"], "trust.edge_wrong_name");
    assert!(edge.hellos().is_empty(), "not a byte was said");

    // The certificate is right, the Welcome is another's.
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    *edge.greeting.lock().unwrap() = Greeting::WelcomeAs(EdgeId::from_bits(6));
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.exit_on_failure = true);
    assert_eq!(agent.exit().await, Exit::NoTransport);
    assert_eq!(agent.event("edge_failed").await["code"], "tunnel.wrong_edge");
    assert!(agent.named("edge_connected").is_empty());
}

#[tokio::test]
async fn an_edge_that_says_do_not_retry_is_left_alone_until_something_changes() {
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let refused = |do_not_retry| Refused {
        code: RefusalCode::Quota,
        message: "as many warpgates as it may".to_owned(),
        retry_after_ms: None,
        do_not_retry,
    };
    *edge.greeting.lock().unwrap() = Greeting::Refuse(refused(true));
    let other = Edge::start(&platform);
    let agent = Agent::start(&platform, &NO_UPSTREAM);
    let failed = agent.event("edge_failed").await;
    assert_eq!((failed["code"].as_str(), failed["retry_ms"].is_null()), (Some("tunnel.quota"), true));
    assert_eq!(failed["message"], "as many warpgates as it may");
    let tunnel = other.tunnel(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(edge.hellos().len(), 1);
    *edge.greeting.lock().unwrap() = Greeting::Welcome;
    tunnel.order(Order::Bundle(platform.publish(|site| site.routes.clear()))).await;
    edge.tunnel(1).await;
}

#[tokio::test]
async fn an_edge_that_dies_is_dialled_again_when_it_is_back() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    scene.edge.vanish();
    scene.agent.event("edge_failed").await;
    // The port is free once the endpoint has let go of its socket.
    let (id, port) = (scene.edge.id, scene.edge.address.port());
    drop((scene.edge, scene.tunnel));
    until("the port is free", || std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok()).await;
    let back = Edge::start_on(&scene.platform, id, id, port);
    let start = tokio::time::Instant::now();
    let tunnel = back.tunnel(1).await;
    assert!(start.elapsed() < allowed(Duration::from_secs(6)), "{:?}", start.elapsed());
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
}

#[tokio::test]
async fn r20_an_evicted_edge_loses_its_tunnel_at_once() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::new();
    let other = Edge::start(&platform);
    let scene = Scene::on(Arc::clone(&platform), address).await;
    let good = other.tunnel(1).await;
    let name = scene.edge.identity.get().name().to_string();
    platform.denied.lock().unwrap().push(name);
    platform.edges.lock().unwrap().retain(|edge| edge.id != scene.edge.id);
    good.order(Order::Bundle(platform.publish(|_| {}))).await;
    let closed = tokio::time::timeout(Duration::from_secs(5), scene.tunnel.connection.closed()).await;
    assert!(closed.is_ok(), "closed within five seconds");
    assert_eq!(good.get(&head("GET", "/", 1)).await.failure.map(|failure| failure.code), None);
}

#[tokio::test]
async fn a_new_bundle_brings_new_edges_and_lets_old_ones_go() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    let second = Edge::start(&scene.platform);
    scene.tunnel.order(Order::Bundle(scene.platform.publish(|_| {}))).await;
    let tunnel = second.tunnel(1).await;
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    scene.platform.edges.lock().unwrap().retain(|edge| edge.id == second.id);
    tunnel.order(Order::Bundle(scene.platform.publish(|_| {}))).await;
    until("the old edge is told", || *scene.tunnel.draining.lock().unwrap()).await;
    until("and left", || scene.tunnel.connection.close_reason().is_some()).await;
    scene.agent.event("edge_left").await;
}

#[tokio::test]
async fn an_edge_that_stops_is_left_in_order_and_dialled_again() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let scene = Scene::with_upstream(upstream::waiting(released).await).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    scene.tunnel.order(Order::Drain(Duration::from_secs(20))).await;
    // A new tunnel is up while the old one still works.
    let second = scene.edge.tunnel(2).await;
    assert_eq!(second.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    release.send(()).unwrap();
    assert!(running.await.unwrap().complete, "what ran has finished");
    until("the old tunnel is closed", || scene.tunnel.connection.close_reason().is_some()).await;
}

#[tokio::test]
async fn a_signal_drains_what_runs_finishes_and_the_exit_is_zero() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let mut scene = Scene::with_upstream(upstream::waiting(released).await).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    tokio::time::sleep(Duration::from_millis(50)).await;
    scene.agent.signal();
    until("the edge hears of it", || *scene.tunnel.draining.lock().unwrap()).await;
    assert_eq!(scene.agent.event("draining").await["exchanges"], 1);
    assert!(!scene.agent.task.is_finished());
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let late = scene.tunnel.get(&head("GET", "/", 1)).await.failure.unwrap();
    assert_eq!((late.code, late.started), (FailureCode::Draining, false));
    release.send(()).unwrap();
    let answer = running.await.unwrap();
    assert!(answer.complete && answer.body == b"hello");
    assert_eq!(scene.agent.exit().await, Exit::Done);
    assert_eq!(scene.agent.event("stopped").await["cut"], 0);
}

#[tokio::test]
async fn with_nothing_running_a_signal_ends_it_quickly_and_a_second_one_at_once() {
    let (address, _) = upstream::fixed(OK).await;
    let mut scene = Scene::with_upstream(address).await;
    let start = tokio::time::Instant::now();
    scene.agent.signal();
    assert_eq!(scene.agent.exit().await, Exit::Done);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());

    let (_release, released) = tokio::sync::oneshot::channel::<()>();
    let mut scene = Scene::with_upstream(upstream::waiting(released).await).await;
    let (_send, _receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    scene.agent.signal();
    scene.agent.event("draining").await;
    scene.agent.signal();
    let start = tokio::time::Instant::now();
    assert_eq!(scene.agent.exit().await, Exit::Interrupted);
    assert!(start.elapsed() < Duration::from_millis(200));
    assert_eq!(scene.agent.event("interrupted").await["cut"], 1);
}

#[tokio::test]
async fn a_second_signal_tells_the_edges_before_the_process_is_gone() {
    let (_release, released) = tokio::sync::oneshot::channel::<()>();
    let platform = Platform::new();
    let edge = Edge::start(&platform);
    let upstream = upstream::waiting(released).await;
    let mut agent = Agent::start_alone(&platform, &[upstream.to_string()]);
    let tunnel = edge.tunnel(1).await;
    agent.event("ready").await;
    let (_send, receive) = tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    tokio::time::sleep(Duration::from_millis(50)).await;
    agent.signal();
    agent.event("draining").await;
    agent.signal();
    let start = tokio::time::Instant::now();
    assert_eq!(agent.exit().await, Exit::Interrupted);
    let why = tokio::time::timeout(Duration::from_secs(1), tunnel.connection.closed()).await;
    let Ok(quinn::ConnectionError::ApplicationClosed(close)) = &why else { panic!("{why:?}") };
    assert_eq!(close.error_code.into_inner(), u64::from(CloseCode::Done.number()));
    assert!(!running.await.unwrap().complete, "what ran is cut, and known to be");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_signal_while_connecting_ends_it_with_zero() {
    let platform = Platform::new();
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| config.key.port = 9);
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.signal();
    assert_eq!(agent.exit().await, Exit::Done);
}

#[tokio::test]
async fn r20_a_renewal_drops_no_request_and_the_old_tunnel_ends_before_its_certificate() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let address = upstream::waiting(released).await;
    let platform = Platform::with_ttl(Duration::from_mins(1));
    let scene = Scene::on(Arc::clone(&platform), address).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    // Past half-life; the edge has renewed its own certificate by then.
    platform.hand.advance(Duration::from_secs(34));
    scene.edge.identity.replace(platform.leaf(Role::Edge(scene.edge.id)));
    let mut served = 0;
    while scene.edge.tunnels().len() < 2 {
        let newest = scene.edge.tunnels().pop().unwrap();
        let answer = newest.get(&head("GET", "/", 1)).await;
        assert_eq!(answer.status.map(|status| status.as_u16()), Some(200), "{answer:?}");
        served += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(served > 10, "requests went on during the renewal");
    scene.agent.event("renewed").await;
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 2);
    let second = scene.edge.tunnel(2).await;
    until("the old tunnel drains", || *scene.tunnel.draining.lock().unwrap()).await;
    assert!(scene.tunnel.connection.close_reason().is_none(), "what runs on it goes on");
    assert_eq!(second.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    let connected = scene.agent.named("edge_connected");
    assert_eq!(connected.last().unwrap()["replaced"], true);
    assert_eq!(scene.edge.hellos()[0].instance, scene.edge.hellos()[1].instance, "the same instance");
    // The edge says nothing more on the control stream of a tunnel it has replaced.
    scene.tunnel.order(Order::Mute).await;
    tokio::time::sleep(tunnel_proto::limits::SILENCE_MAX + Duration::from_secs(1)).await;
    assert!(scene.tunnel.connection.close_reason().is_none(), "what runs on it still goes on");
    release.send(()).unwrap();
    assert!(running.await.unwrap().complete);
    until("then it ends", || scene.tunnel.connection.close_reason().is_some()).await;
}

#[tokio::test]
async fn r20_what_runs_on_a_replaced_tunnel_may_take_until_its_certificate_ends() {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let platform = Platform::new();
    let scene = Scene::on(Arc::clone(&platform), upstream::waiting(released).await).await;
    let (_send, receive) = scene.tunnel.open(&head("GET", "/slow", 1), true).await;
    let running = tokio::spawn(read_answer(receive, |_| {}));
    // Certificates live 24 h; the renewal is due and ten hours are left.
    platform.hand.advance(Duration::from_hours(14));
    scene.edge.identity.replace(platform.leaf(Role::Edge(scene.edge.id)));
    scene.edge.tunnel(2).await;
    until("the old tunnel drains", || scene.tunnel.grace.lock().unwrap().is_some()).await;
    let grace = scene.tunnel.grace.lock().unwrap().unwrap();
    let (least, most) = (Duration::from_mins(9 * 60 + 50), Duration::from_hours(10));
    assert!((least..most).contains(&grace), "{grace:?}");
    assert!(scene.tunnel.connection.close_reason().is_none());
    release.send(()).unwrap();
    assert!(running.await.unwrap().complete, "what ran was not cut");
    until("then it ends", || scene.tunnel.connection.close_reason().is_some()).await;
}

#[tokio::test]
async fn r20_a_tunnel_does_not_outlive_the_certificate_it_was_made_with() {
    let (address, _) = upstream::fixed(OK).await;
    let platform = Platform::with_ttl(Duration::from_mins(1));
    let scene = Scene::on(Arc::clone(&platform), address).await;
    // Nobody renews anything: control is away, and the edge keeps its old certificate.
    *platform.twist.lock().unwrap() = Some(Box::new(|_| Some(refusal(codes::CONTROL_AWAY))));
    platform.hand.advance(Duration::from_secs(61));
    let closed = tokio::time::timeout(Duration::from_secs(5), scene.tunnel.connection.closed()).await;
    assert!(closed.is_ok(), "closed within five seconds");
    let failed = scene.agent.event("edge_failed").await;
    assert_eq!(failed["code"], "tunnel.certificate_ended");
}

#[tokio::test]
async fn r21_a_revoked_key_ends_a_running_warpgate_once_no_edge_serves_it() {
    let (address, _) = upstream::fixed(OK).await;
    let mut scene = Scene::with_upstream(address).await;
    *scene.platform.twist.lock().unwrap() = Some(Box::new(|_| Some(refusal(codes::KEY_REVOKED))));
    let refused = Refused {
        code: RefusalCode::KeyRevoked,
        message: "the key was revoked".to_owned(),
        retry_after_ms: None,
        do_not_retry: true,
    };
    *scene.edge.greeting.lock().unwrap() = Greeting::Refuse(refused.clone());
    scene.tunnel.order(Order::Refuse(refused)).await;
    let start = tokio::time::Instant::now();
    assert_eq!(scene.agent.exit().await, Exit::KeyRevoked);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(scene.agent.event("edge_failed").await["code"], "tunnel.key_revoked");
}

#[tokio::test]
async fn one_edges_word_does_not_stop_a_warpgate_that_is_served() {
    let (address, _) = upstream::fixed(OK).await;
    let scene = Scene::with_upstream(address).await;
    *scene.platform.twist.lock().unwrap() = Some(Box::new(|_| Some(refusal(codes::KEY_REVOKED))));
    scene.platform.hand.advance(Duration::from_hours(14)); // the renewal is due
    assert_eq!(scene.agent.event("control_failed").await["code"], codes::KEY_REVOKED);
    assert_eq!(scene.tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert!(!scene.agent.task.is_finished());
}
