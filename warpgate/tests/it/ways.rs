//! Ways to the connect service: over TCP where QUIC leads to none, and through known edges where its name leads nowhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::agent::{Agent, state};
use crate::support::edge::{Edge, head};
use crate::support::splice::Splice;
use crate::support::upstream::{self, OK};
use crate::support::{Platform, route, until};
use mezusphere_model::Host;
use mezusphere_model::id::{ControlId, EdgeId};
use mezusphere_model::route::AuthMode;
use mezusphere_pki::Role;
use tokio::time::Instant;
use warpgate::exit::Exit;

const NO_UPSTREAM: [String; 0] = [];

/// A split edge: tunnels over QUIC, and control's own TLS behind its TCP port.
fn split_edge(platform: &Arc<Platform>) -> (Edge, Splice) {
    let edge = Edge::start(platform);
    let control = Role::Control(ControlId::from_bits(3));
    let splice = Splice::start(platform, edge.address, platform.leaf(control));
    (edge, splice)
}

#[tokio::test]
async fn r19_an_edge_that_plays_control_over_quic_is_not_told_the_key() {
    let platform = Platform::new();
    let edge = platform.connect_service_as(Role::Edge(EdgeId::from_bits(3)));
    let port = edge.local_addr().unwrap().port();
    let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| {
        config.exit_on_failure = true;
        config.key.port = port;
    });
    assert_eq!(agent.exit().await, Exit::ControlUnreachable);
    assert_eq!(agent.event("error").await["code"], "trust.edge_wrong_name");
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 0);
}

fn at(address: SocketAddr) -> impl FnOnce(&mut warpgate::agent::Config) {
    move |config| config.key.port = address.port()
}

#[tokio::test]
async fn r19_where_an_edge_refuses_enrollment_over_quic_control_is_reached_over_tcp_at_once() {
    let platform = Platform::new();
    let (edge, splice) = split_edge(&platform);
    let (address, _) = upstream::fixed(OK).await;
    let start = Instant::now();
    let agent = Agent::start_with(&platform, &[address.to_string()], at(edge.address));
    let tunnel = edge.tunnel(1).await;
    assert!(start.elapsed() < Duration::from_secs(2), "no silence was waited for: {:?}", start.elapsed());
    assert_eq!(agent.event("control").await["transport"], "tcp");
    assert_eq!(tunnel.get(&head("GET", "/", 1)).await.status.unwrap(), 200);
    assert_eq!(edge.refused(), 1, "QUIC was tried first");
    assert_eq!(splice.names(), ["connect.mezu.localhost"], "the edge sees for whom the bytes are");

    // Renewal goes the same way, and QUIC is not tried again.
    platform.hand.advance(Duration::from_hours(14));
    agent.event("renewed").await;
    assert_eq!((edge.refused(), splice.names().len()), (1, 2));
    assert_eq!(platform.enrolled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn r19_over_tcp_only_a_control_node_of_the_keys_installation_is_told_the_key() {
    let platform = Platform::new();
    let stranger = Platform::new();
    let warpgate = platform.leaf(platform.warpgate_role());
    let foreign = stranger.leaf(Role::Control(ControlId::from_bits(3)));
    let edge = platform.leaf(Role::Edge(EdgeId::from_bits(3)));
    for (who, code) in [
        (warpgate, "trust.edge_certificate_purpose"),
        (foreign, "trust.edge_certificate_refused"),
        (edge, "trust.edge_wrong_name"),
    ] {
        let edge = Edge::start(&platform);
        let splice = Splice::start(&platform, edge.address, who);
        let mut agent = Agent::start_with(&platform, &NO_UPSTREAM, |config| {
            config.exit_on_failure = true;
            config.key.port = edge.address.port();
        });
        assert_eq!(agent.exit().await, Exit::ControlUnreachable);
        assert_eq!(agent.event("error").await["code"], code);
        assert_eq!((platform.enrolled.load(Ordering::SeqCst), splice.questions()), (0, 0));
    }
}

#[tokio::test]
async fn when_tcp_stops_working_quic_is_tried_again() {
    let platform = Platform::new();
    let (edge, splice) = split_edge(&platform);
    let agent = Agent::start_with(&platform, &NO_UPSTREAM, at(edge.address));
    edge.tunnel(1).await;
    assert_eq!(edge.refused(), 1);
    drop(splice);
    platform.hand.advance(Duration::from_hours(14));
    let failed = agent.event("control_failed").await;
    assert_eq!(failed["code"], "control.unreachable");
    assert!(failed["message"].as_str().unwrap().contains("over TCP: connection refused"), "{failed}");
    assert!(edge.refused() > 1, "QUIC was tried");
}

#[tokio::test]
async fn a_connect_host_that_does_not_resolve_stops_neither_renewal_nor_news() {
    let platform = Platform::new();
    let (edge, splice) = split_edge(&platform);
    let (address, _) = upstream::fixed(OK).await;
    let directory = tempfile::tempdir().unwrap();
    let start = |host: &str| {
        Agent::start_with(&platform, &[address.to_string()], |config| {
            config.key.host = Host::parse(host).unwrap();
            config.key.port = edge.address.port();
            config.state = Some(state(directory.path()));
        })
    };
    let mut first = start("connect.mezu.localhost");
    first.event("ready").await;
    first.signal();
    first.exit().await;

    // The same warpgate, and by now the name is gone.
    platform.publish(|site| site.routes.push(route(6, "/new", AuthMode::Public)));
    let second = start("connect.mezu.invalid");
    edge.tunnel(2).await;
    let changed = second.event("routes_changed").await;
    assert_eq!(changed["added"][0]["address"], "https://shop.localhost:8443/new");
    platform.hand.advance(Duration::from_hours(14));
    second.event("renewed").await;
    assert!(splice.names()[1..].iter().all(|name| name == "connect.mezu.invalid"), "{:?}", splice.names());
    assert!(second.named("control_failed").is_empty());
}

#[tokio::test]
async fn an_edge_that_lost_control_is_passed_over_for_one_that_has_it() {
    let platform = Platform::new();
    let (cut_off, broken) = split_edge(&platform);
    broken.lose_control();
    let (edge, _splice) = split_edge(&platform);
    let (address, _) = upstream::fixed(OK).await;
    let directory = tempfile::tempdir().unwrap();
    let start = |port: u16| {
        Agent::start_with(&platform, &[address.to_string()], |config| {
            config.key.port = port;
            config.state = Some(state(directory.path()));
        })
    };
    let mut first = start(edge.address.port());
    first.event("ready").await;
    first.signal();
    first.exit().await;
    let second = start(cut_off.address.port());
    second.event("ready").await;
    platform.hand.advance(Duration::from_hours(14));
    second.event("renewed").await;
    until("news are asked for", || platform.polled.load(Ordering::SeqCst) > 0).await;
}
